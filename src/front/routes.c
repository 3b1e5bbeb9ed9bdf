#include "front/routes.h"

#include <stdio.h>
#include <string.h>

#include "front/api.h"
#include "front/metrics.h"

/* `POST /` is TEI's because huggingface_hub posts to the URL that it is given. */
static const struct moult_route routes[] = {
    {"GET", "/", MOULT_DIALECT_OWN, .open = false, .changes = false, moult_own_query},
    {"POST", "/", MOULT_DIALECT_TEI, .open = false, .changes = false, moult_tei_embed},
    {"POST", "/embed", MOULT_DIALECT_TEI, .open = false, .changes = false, moult_tei_embed},
    {"POST", "/invocations", MOULT_DIALECT_TEI, .open = false, .changes = false, moult_tei_embed},
    {"GET", "/info", MOULT_DIALECT_TEI, .open = false, .changes = false, moult_info_show},
    {"GET", "/health", MOULT_DIALECT_TEI, .open = true, .changes = false, moult_info_health},
    {"GET", "/ping", MOULT_DIALECT_TEI, .open = true, .changes = false, moult_info_health},
    {"GET", "/v2/health/live", MOULT_DIALECT_OWN, .open = true, .changes = false, moult_info_live},
    {"GET", "/v2/health/ready", MOULT_DIALECT_OWN, .open = true, .changes = false,
     moult_info_ready},
    {"POST", "/v1/embeddings", MOULT_DIALECT_OPENAI, .open = false, .changes = false,
     moult_openai_embeddings},
    {"GET", "/metrics", MOULT_DIALECT_OWN, .open = false, .changes = false, moult_metrics_show},
    {"GET", "/v1/models", MOULT_DIALECT_OPENAI, .open = false, .changes = false,
     moult_openai_models},
    {"GET", "/v1/models/", MOULT_DIALECT_OPENAI, .open = false, .changes = false,
     moult_openai_model},
    {"GET", "/update_model", MOULT_DIALECT_OWN, .open = false, .changes = false, moult_own_updates},
    {"GET", "/update_model/", MOULT_DIALECT_OWN, .open = false, .changes = false, moult_own_update},
    {"POST", "/update_model", MOULT_DIALECT_OWN, .open = false, .changes = true,
     moult_own_update_start},
    {"POST", "/update_model/", MOULT_DIALECT_OWN, .open = false, .changes = true,
     moult_own_update_cut_over},
    {"DELETE", "/update_model/", MOULT_DIALECT_OWN, .open = false, .changes = true,
     moult_own_update_cancel},
    {"GET", "/leases", MOULT_DIALECT_OWN, .open = false, .changes = false, moult_leases_list},
    {"POST", "/leases", MOULT_DIALECT_OWN, .open = false, .changes = true, moult_leases_make},
    {"GET", "/leases/", MOULT_DIALECT_OWN, .open = false, .changes = false, moult_leases_show},
    {"POST", "/leases/", MOULT_DIALECT_OWN, .open = false, .changes = true, moult_leases_renew},
    {"DELETE", "/leases/", MOULT_DIALECT_OWN, .open = false, .changes = true, moult_leases_end},
    {"POST", "/rollback", MOULT_DIALECT_OWN, .open = false, .changes = true, moult_own_rollback},
    {"GET", "/documents", MOULT_DIALECT_OWN, .open = false, .changes = false, moult_documents_list},
    {"POST", "/documents", MOULT_DIALECT_OWN, .of_documents = true, .changes = true,
     moult_documents_put},
    {"GET", "/documents/", MOULT_DIALECT_OWN, .open = false, .changes = false,
     moult_documents_show},
    {"DELETE", "/documents/", MOULT_DIALECT_OWN, .of_documents = true, .changes = true,
     moult_documents_delete_one},
    {"POST", "/documents/delete", MOULT_DIALECT_OWN, .of_documents = true, .changes = true,
     moult_documents_delete},
    {"GET", "/collections/{collection}/documents", MOULT_DIALECT_OWN,
     .open = false, .changes = false, moult_documents_list},
    {"POST", "/collections/{collection}/documents", MOULT_DIALECT_OWN,
     .of_documents = true, .changes = true, moult_documents_put},
    {"GET", "/collections/{collection}/documents/", MOULT_DIALECT_OWN,
     .open = false, .changes = false, moult_documents_show},
    {"DELETE", "/collections/{collection}/documents/", MOULT_DIALECT_OWN,
     .of_documents = true, .changes = true, moult_documents_delete_one},
    {"POST", "/collections/{collection}/documents/delete", MOULT_DIALECT_OWN,
     .of_documents = true, .changes = true, moult_documents_delete},
    {"POST", "/search", MOULT_DIALECT_OWN, .open = false, .changes = false, moult_search_ask},
    {"POST", "/collections/{collection}/search", MOULT_DIALECT_OWN, .open = false, .changes = false,
     moult_search_ask},
    {"GET", "/collections", MOULT_DIALECT_OWN, .open = false, .changes = false,
     moult_collections_list},
    {"GET", "/collections/{collection}", MOULT_DIALECT_OWN, .open = false, .changes = false,
     moult_collections_show},
    {"DELETE", "/collections/{collection}", MOULT_DIALECT_OWN,
     .of_documents = true, .changes = true, moult_collections_drop},
};

enum { ROUTES = sizeof routes / sizeof routes[0] };
_Static_assert(ROUTES < MOULT_METRICS_ROUTES_MAX, "Each is counted, and what is nobody's.");

/* The path up to `size` bytes of the pattern, or NULL where they differ. */
static const char *match_up_to(const char *pattern, size_t size, const char *path,
                               struct moult_route_part *part) {
    const char *open = memchr(pattern, '{', size);
    size_t before = open != NULL ? (size_t)(open - pattern) : size;
    if (strncmp(path, pattern, before) != 0)
        return NULL;
    if (open == NULL)
        return path + size;
    size_t name = strcspn(open, "}") + 1;
    part->name = path + before;
    part->name_size = strcspn(part->name, "/");
    if (part->name_size == 0)
        return NULL;
    const char *behind = part->name + part->name_size;
    size_t left = size - before - name;
    return strncmp(behind, open + name, left) == 0 ? behind + left : NULL;
}

static bool match(const struct moult_route *route, const char *path,
                  struct moult_route_part *part) {
    size_t size = strlen(route->path);
    bool prefix = size > 1 && route->path[size - 1] == '/';
    *part = (struct moult_route_part){.rest = ""};
    const char *rest = match_up_to(route->path, size, path, part);
    if (rest == NULL || (*rest != '\0') != prefix)
        return false;
    part->rest = rest;
    return true;
}

/* At most three methods share a path; GET brings HEAD. */
static const char *methods_of(const char *path) {
    static char allowed[64];
    struct moult_route_part part;
    size_t size = 0;
    allowed[0] = '\0';
    for (unsigned i = 0; i < ROUTES; i++) {
        if (!match(&routes[i], path, &part))
            continue;
        const char *method = routes[i].method;
        size += (size_t)snprintf(allowed + size, sizeof allowed - size, "%s%s",
                                 size > 0 ? ", " : "",
                                 strcmp(method, "GET") == 0 ? "GET, HEAD" : method);
    }
    return size > 0 ? allowed : NULL;
}

const struct moult_route *moult_routes_find(const char *method, const char *path,
                                            struct moult_route_part *part, const char **allowed) {
    if (strcmp(method, "HEAD") == 0)
        method = "GET";
    for (unsigned i = 0; i < ROUTES; i++)
        if (strcmp(routes[i].method, method) == 0 && match(&routes[i], path, part))
            return &routes[i];
    *allowed = methods_of(path);
    *part = (struct moult_route_part){.rest = ""};
    return NULL;
}

unsigned moult_routes_index(const struct moult_route *route) {
    return (unsigned)(route - routes);
}

const struct moult_route *moult_routes_at(unsigned index) {
    return index < ROUTES ? &routes[index] : NULL;
}

enum moult_dialect moult_routes_dialect(const char *path) {
    struct moult_route_part part;
    for (unsigned i = 0; i < ROUTES; i++)
        if (strcmp(path, "/") != 0 && match(&routes[i], path, &part))
            return routes[i].dialect;
    return strncmp(path, "/v1/", 4) == 0 ? MOULT_DIALECT_OPENAI : MOULT_DIALECT_OWN;
}
