/* Which path belongs to whom: one table. */
#ifndef MOULT_FRONT_ROUTES_H
#define MOULT_FRONT_ROUTES_H

#include "front/http_error.h"

struct moult_route {
    const char *method;
    const char *path;           /* A prefix where it ends in "/" and is longer than that.
                                   "{name}" in it stands for one component. */
    enum moult_dialect dialect;
    bool of_documents;          /* May be asked while a newer program is about to take over. */
    bool open;                  /* Asks for no key: what load balancers probe. */
    bool changes;               /* Changes something: a body must be application/json,
                                   and nobody may be about to take over (but see above). */
    void (*handle)(struct moult_http_request *request);
};

/* What a path has that its route leaves open; both lead into the path. */
struct moult_route_part {
    const char *rest;           /* Behind a prefix; "" elsewhere. */
    const char *name;           /* What stands for "{name}"; NULL where the route has none. */
    size_t name_size;
};

/* NULL where there is none. Then *allowed is what an Allow header says, or NULL
 * where the path is nobody's. HEAD finds the routes of GET. */
const struct moult_route *moult_routes_find(const char *method, const char *path,
                                            struct moult_route_part *part, const char **allowed);

/* Where a route stands in the table, and back: NULL behind the last. */
unsigned moult_routes_index(const struct moult_route *route);
const struct moult_route *moult_routes_at(unsigned index);

/* Whose shape an error about an unrouted path takes. */
enum moult_dialect moult_routes_dialect(const char *path);

#endif
