/* Who may ask: the API key, the Host, the Origin.
 *
 * A server without a key on a loopback address is protected by the machine's
 * borders alone, and a browser carries foreign pages across them. So there the
 * Host must be a name of this machine (a page whose own name was made to point
 * to 127.0.0.1 is stopped by that), and an Origin that is not the server's own is
 * refused unless --cors-origin names it. */
#ifndef MOULT_FRONT_GUARD_H
#define MOULT_FRONT_GUARD_H

#include <stdbool.h>

#include "front/http_error.h"
#include "front/routes.h"

/* What the guard looks at, apart from libmicrohttpd so that it can be tested. NULL: absent. */
struct moult_guard_request {
    const char *method, *host, *origin, *authorization, *content_type;
    const char *bound_to;   /* The address that the server listens on. NULL: its --host. */
    bool has_body;
};

/* Returns 0, or -1 with the kind of refusal and its sentence. `route` may be NULL. */
int moult_guard_check(const struct moult_serve_options *options,
                      const struct moult_guard_request *request, const struct moult_route *route,
                      enum moult_http_error *kind, struct moult_error *error);

/* True where answers to this Origin carry the CORS headers. */
bool moult_guard_allows_origin(const struct moult_serve_options *options, const char *origin);

bool moult_guard_is_loopback(const char *host);

#endif
