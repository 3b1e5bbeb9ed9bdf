#include "source/header.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define ETAG_BYTES_MAX 128
#define PAUSE_SECONDS_MAX 86400
#define DATE_BYTES_MAX 64
#define NUMBER_DIGITS_MAX 19

static bool read_number(const char *text, uint64_t *number) {
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > NUMBER_DIGITS_MAX)
        return false;
    *number = strtoull(text, NULL, 10);
    return true;
}

int64_t moult_header_date_s(const char *date) {
    if (date == NULL || strlen(date) > DATE_BYTES_MAX || !isalpha((unsigned char)date[0]))
        return -1;
    for (const char *at = date; *at != '\0'; at++)
        if (*at < 0x20 || *at >= 0x7F)
            return -1;
    time_t seconds = curl_getdate(date, NULL);
    return seconds >= 0 ? (int64_t)seconds : -1;
}

static const char *parameter(const char *value, const char *name) {
    const char *found = value != NULL ? strstr(value, name) : NULL;
    return found != NULL ? found + strlen(name) : "";
}

uint64_t moult_header_pause_ms(const char *retry_after, const char *ratelimit, int64_t now_s) {
    uint64_t seconds = 0;
    int64_t date_s = moult_header_date_s(retry_after);
    if (retry_after == NULL)
        read_number(parameter(ratelimit, ";t="), &seconds);
    else if (date_s > now_s)
        seconds = (uint64_t)(date_s - now_s);
    else
        read_number(retry_after, &seconds);
    return (seconds > PAUSE_SECONDS_MAX ? PAUSE_SECONDS_MAX : seconds) * 1000;
}

uint64_t moult_header_range_first(const char *content_range) {
    static const char unit[] = "bytes ";
    uint64_t first;
    if (content_range == NULL || strncmp(content_range, unit, strlen(unit)) != 0)
        return UINT64_MAX;
    const char *number = content_range + strlen(unit);
    if (!read_number(number, &first) || number[strspn(number, "0123456789")] != '-')
        return UINT64_MAX;
    return first;
}

/* "https://host:port" of a URL; its whole size where nothing follows. */
static size_t origin_size(const char *url) {
    const char *slashes = strstr(url, "://");
    size_t start = slashes != NULL ? (size_t)(slashes + 3 - url) : 0;
    return start + strcspn(url + start, "/?#");
}

char *moult_header_next_page(const char *link, const char *url) {
    while (link != NULL && (link = strchr(link, '<')) != NULL) {
        const char *end = strchr(++link, '>');
        if (end == NULL)
            return NULL;
        const char *rel = strstr(end, "rel=\"next\"");
        if (rel == NULL || rel >= end + strcspn(end, ",")) {
            link = end;
            continue;
        }
        char *target = moult_copy_bytes(link, (size_t)(end - link));
        if (target[0] != '/' || target[1] == '/')
            return target;
        char *whole = moult_format("%.*s%s", (int)origin_size(url), url, target);
        free(target);
        return whole;
    }
    return NULL;
}

bool moult_header_etag_usable(const char *etag) {
    size_t size = etag != NULL ? strlen(etag) : 0;
    if (size > ETAG_BYTES_MAX)
        return false;
    for (size_t i = 0; i < size; i++)
        if (etag[i] <= 0x20 || etag[i] >= 0x7F)
            return false;
    const char *quoted = size > 2 && strncmp(etag, "W/", 2) == 0 ? etag + 2 : etag;
    return size > 2 && strlen(quoted) >= 2 && quoted[0] == '"' &&
           strchr(quoted + 1, '"') == etag + size - 1;
}
