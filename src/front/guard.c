#include "front/guard.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const own_hosts[] = {"localhost", "127.0.0.1", "[::1]"};

bool moult_guard_is_loopback(const char *host) {
    return strcasecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
           strcmp(host, "::1") == 0;
}

/* A port, or nothing, behind the name. */
static bool is_port(const char *text) {
    if (text[0] == '\0')
        return true;
    size_t digits = strspn(text + 1, "0123456789");
    return text[0] == ':' && digits <= 5 && text[1 + digits] == '\0' &&
           strtoul(text + 1, NULL, 10) <= UINT16_MAX;
}

/* The bytes of a Host header without its port. */
static size_t host_name_size(const char *host) {
    if (host[0] == '[') {
        const char *end = strchr(host, ']');
        return end != NULL ? (size_t)(end - host) + 1 : strlen(host);
    }
    return strcspn(host, ":");
}

/* What no name of a host has in it could make two programs read two names. */
static bool host_is_well_formed(const char *host) {
    size_t size = host_name_size(host);
    if (host[0] == '\0')
        return true;   /* A request of no host in particular. */
    if (host[0] == '[' && host[size - 1] != ']')
        return false;
    return size > 0 && strcspn(host, " \t/\\@?#,") >= size && is_port(host + size);
}

static bool is_name(const char *name, const char *host, size_t size) {
    return strlen(name) == size && strncasecmp(name, host, size) == 0;
}

static bool host_is_allowed(const struct moult_serve_options *options, const char *host) {
    size_t size = host_name_size(host);
    for (unsigned i = 0; i < sizeof own_hosts / sizeof own_hosts[0]; i++)
        if (is_name(own_hosts[i], host, size))
            return true;
    for (unsigned i = 0; i < options->allowed_host_count; i++)
        if (is_name(options->allowed_hosts[i], host, size))
            return true;
    return is_name(options->host, host, size);
}

bool moult_guard_allows_origin(const struct moult_serve_options *options, const char *origin) {
    for (unsigned i = 0; i < options->cors_origin_count; i++)
        if (strcmp(options->cors_origins[i], "*") == 0 ||
            strcasecmp(options->cors_origins[i], origin) == 0)
            return true;
    return false;
}

/* An Origin is the server's own when what follows "scheme://" is its Host. */
static bool origin_is_own(const char *origin, const char *host) {
    const char *authority = strstr(origin, "://");
    return authority != NULL && host != NULL && strcasecmp(authority + 3, host) == 0;
}

/* Takes as long for a nearly right key as for a wrong one: every byte of the
 * given one is looked at, whatever the expected one says. */
static bool key_equals(const char *expected, const char *given) {
    size_t expected_size = strlen(expected), given_size = strlen(given);
    volatile unsigned char difference = expected_size != given_size;
    for (size_t i = 0; i < given_size; i++) {
        char wanted = expected[expected_size > 0 ? i % expected_size : 0];
        difference |= (unsigned char)(given[i] ^ wanted);
    }
    return difference == 0;
}

static bool key_is_right(const char *key, const char *authorization) {
    static const char scheme[] = "Bearer ";
    if (authorization == NULL || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return false;
    authorization += sizeof scheme - 1;
    authorization += strspn(authorization, " ");
    return key_equals(key, authorization);
}

static bool is_json(const char *content_type) {
    static const char json[] = "application/json";
    if (content_type == NULL || strncasecmp(content_type, json, sizeof json - 1) != 0)
        return false;
    char next = content_type[sizeof json - 1];
    return next == '\0' || next == ';' || next == ' ' || next == '\t';
}

int moult_guard_check(const struct moult_serve_options *options,
                      const struct moult_guard_request *request, const struct moult_route *route,
                      enum moult_http_error *kind, struct moult_error *error) {
    *kind = MOULT_HTTP_MALFORMED;
    if (request->host != NULL && !host_is_well_formed(request->host))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "The Host \"%.80s\" is not a name with, or without, a port.",
                          request->host);
    *kind = MOULT_HTTP_FORBIDDEN;
    bool keyless = options->api_key == NULL;
    const char *bound_to = request->bound_to != NULL ? request->bound_to : options->host;
    if (keyless && moult_guard_is_loopback(bound_to) && request->host != NULL &&
        !host_is_allowed(options, request->host))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "The Host \"%.80s\" is not one of this server's; --allowed-host adds "
                          "names.", request->host);
    if (request->origin != NULL && !origin_is_own(request->origin, request->host) &&
        !moult_guard_allows_origin(options, request->origin))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "Pages of the origin \"%.80s\" may not use this server; --cors-origin "
                          "lets them.", request->origin);
    bool preflight = request->origin != NULL && strcmp(request->method, "OPTIONS") == 0;
    *kind = MOULT_HTTP_UNAUTHORIZED;
    if (!keyless && !preflight && !(route != NULL && route->open) &&
        !key_is_right(options->api_key, request->authorization))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          request->authorization == NULL
                              ? "This server wants its key: Authorization: Bearer KEY."
                              : "The key in the Authorization header is not this server's.");
    *kind = MOULT_HTTP_MEDIA_TYPE;
    if (route != NULL && route->changes && request->has_body && !is_json(request->content_type))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s %s wants its body as Content-Type: application/json.",
                          request->method, route->path);
    return 0;
}
