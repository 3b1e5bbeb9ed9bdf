/* What headers of HTTP answers say. Of outside bytes: whatever cannot be understood counts as
 * not said. All of them take the header's value, NULL where the answer has no such header. */
#ifndef MOULT_SOURCE_HEADER_H
#define MOULT_SOURCE_HEADER_H

#include <stdbool.h>
#include <stdint.h>

/* How long a busy server wants to be left alone, at most a day: `Retry-After: 5`, the same as a
 * date, or `ratelimit: "api";r=0;t=5`. 0 where it says nothing. */
uint64_t moult_header_pause_ms(const char *retry_after, const char *ratelimit, int64_t now_s);
/* The first byte of `bytes 5000-9999/10000`; UINT64_MAX where there is none. */
uint64_t moult_header_range_first(const char *content_range);
/* The URL of the page that follows `url`: `<URL>; rel="next"`, absolute or from the root;
 * malloc'ed, and NULL where there is none. Whether it may be asked is for the caller to judge. */
char *moult_header_next_page(const char *link, const char *url);
/* The tag can be sent back as it is: `"…"` or `W/"…"`, printable, and no longer than one is. */
bool moult_header_etag_usable(const char *etag);
/* Seconds since the epoch of a date; -1 where it is none. */
int64_t moult_header_date_s(const char *date);

#endif
