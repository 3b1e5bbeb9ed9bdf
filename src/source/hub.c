/* Installing from a Hugging Face hub.
 *
 *     GET /api/models/org/name/revision/main        → the commit that main is now
 *     GET /api/models/org/name/tree/COMMIT?…        → paths, sizes, digests; in pages
 *     GET /org/name/resolve/COMMIT/config.json …    → the bytes, perhaps by a redirect to
 *                                                     another host, which gets no token
 *
 * The branch may move at any moment, so it is asked once; if the commit is gone when its files
 * are asked for (a force-push), it is asked again. What the ecosystem's own client has
 * cached is used (hub_cache.h), and not believed: bytes count only when their digest is the listed
 * one. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/log.h"
#include "source/hub_cache.h"
#include "source/installed.h"
#include "source/remote.h"
#include "source/source.h"

#define PUBLIC_ENDPOINT "https://huggingface.co"
#define ANSWER_BYTES_MAX MOULT_LISTING_BYTES_MAX
#define TOKEN_BYTES_MAX 4096
#define ATTEMPTS_MAX 3

struct hub {
    char *endpoint;                 /* Without a slash at its end. */
    char *token;                    /* NULL: none. */
    struct moult_hub_cache cache;
    char *repo;                     /* "org/name" */
    char *branch;                   /* What was asked for: a branch, a tag, a commit. */
    char commit[MOULT_SHA1_HEX];
    struct moult_listing listing;
    struct moult_transfer *transfer;
    const char *data_folder;
    struct moult_remote_progress progress;
    struct moult_error *error;
};

static int open_hub(struct hub *hub, const char *source, bool once);
static void close_hub(struct hub *hub);
static int install(struct hub *hub, struct moult_installed *installed);
static void fill_cache(struct hub *hub, const struct moult_installed *installed);
static int resolve(struct hub *hub);
static bool is_commit(const char *text);
static int list(struct hub *hub);
static int fetch(struct hub *hub, struct moult_installed *installed);

static void format_validator(const struct hub *hub, char validator[MOULT_VALIDATOR_BYTES]) {
    snprintf(validator, MOULT_VALIDATOR_BYTES, "commit %s", hub->commit);
}

int moult_install_from_hub(const char *source, const char *data_folder,
                           const struct moult_install_progress *progress,
                           struct moult_installed *installed, struct moult_error *error) {
    struct moult_error unwanted;
    struct hub hub = {.data_folder = data_folder,
                      .progress = {.progress = progress},
                      .error = error != NULL ? error : &unwanted};
    *installed = (struct moult_installed){.was_there = false};
    *hub.error = (struct moult_error){.code = MOULT_OK};
    int result = open_hub(&hub, source, false) == 0 ? install(&hub, installed) : -1;
    if (result == 0) {
        format_validator(&hub, installed->validator);
        fill_cache(&hub, installed);
    }
    close_hub(&hub);
    return result;
}

/* The commit alone, by one small request; one that is named needs none. */
int moult_look_at_hub(const char *source, const char *unless, struct moult_look *look,
                      struct moult_error *error) {
    struct moult_error unwanted;
    struct hub hub = {.error = error != NULL ? error : &unwanted};
    int result = open_hub(&hub, source, true);
    if (result == 0 && is_commit(hub.branch))
        memcpy(hub.commit, hub.branch, sizeof hub.commit);
    else if (result == 0)
        result = resolve(&hub);
    if (result == 0) {
        format_validator(&hub, look->validator);
        look->result = strcmp(look->validator, unless) == 0 ? MOULT_LOOK_UNCHANGED
                                                            : MOULT_LOOK_CHANGED;
    } else if (hub.transfer != NULL) {
        look->pause_s = moult_transfer_pause_ms(hub.transfer) / 1000;
    }
    close_hub(&hub);
    return result;
}

static void close_hub(struct hub *hub) {
    if (hub->transfer != NULL)
        moult_transfer_close(hub->transfer);
    moult_listing_release(&hub->listing);
    free(hub->endpoint);
    free(hub->token);
    moult_hub_cache_release(&hub->cache);
    free(hub->repo);
    free(hub->branch);
}

/* What the environment says, as the ecosystem's own programs read it. */

static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static char *read_token_file(const char *path) {
    struct moult_error ignored;
    char *bytes;
    size_t size;
    if (moult_file_read(AT_FDCWD, path, TOKEN_BYTES_MAX, &bytes, &size, &ignored) != 0)
        return NULL;
    bytes[strcspn(bytes, " \r\n")] = '\0';
    return bytes;
}

/* A token becomes part of a header: nothing else may come with it. */
static int take_token(struct hub *hub, const char *home) {
    const char *given = environment("HF_TOKEN");
    if (given != NULL) {
        hub->token = moult_copy_string(given);
    } else if (home != NULL || environment("HF_TOKEN_PATH") != NULL) {
        char *path = environment("HF_TOKEN_PATH") != NULL
                         ? moult_copy_string(environment("HF_TOKEN_PATH"))
                         : moult_format("%s/token", home);
        hub->token = read_token_file(path);
        free(path);
    }
    for (const char *at = hub->token; at != NULL && *at != '\0'; at++)
        if (*at <= 0x20 || *at >= 0x7F)
            return moult_fail(hub->error, MOULT_ERROR_INVALID,
                              "HF_TOKEN has a character that no token has.");
    if (hub->token != NULL && hub->token[0] == '\0') {
        free(hub->token);
        hub->token = NULL;
    }
    return 0;
}

static int take_endpoint(struct hub *hub) {
    const char *given = environment("HF_ENDPOINT");
    const char *endpoint = given != NULL ? given : PUBLIC_ENDPOINT;
    size_t size = strlen(endpoint);
    while (size > 0 && endpoint[size - 1] == '/')
        size--;
    hub->endpoint = moult_copy_bytes(endpoint, size);
    if (moult_source_kind_of(hub->endpoint) == MOULT_SOURCE_WEB &&
        moult_source_check(hub->endpoint, hub->error) == 0)
        return 0;
    return moult_fail(hub->error, MOULT_ERROR_INVALID,
                      "HF_ENDPOINT must be the URL of a hub, such as " PUBLIC_ENDPOINT
                      ", not \"%.200s\".",
                      endpoint);
}

static int open_hub(struct hub *hub, const char *source, bool once) {
    const char *at = strchr(source, '@');
    hub->repo = moult_copy_bytes(source, at != NULL ? (size_t)(at - source) : strlen(source));
    hub->branch = moult_copy_string(at != NULL ? at + 1 : "main");
    char *home = moult_hub_home();
    int result = take_endpoint(hub) == 0 ? take_token(hub, home) : -1;
    free(home);
    moult_hub_cache_open(&hub->cache, hub->repo);
    const struct moult_transfer_options options = {
        .base = hub->endpoint, .token = hub->token, .advance = moult_remote_advance,
        .context = &hub->progress, .once = once};
    if (result == 0 && !hub->cache.offline)
        hub->transfer = moult_transfer_open(&options);
    return result;
}

/* The way. */

/* A page that people can open, too. */
static char *exact_source(const struct hub *hub) {
    return moult_format("%s/%s/tree/%s", hub->endpoint, hub->repo, hub->commit);
}

/* A commit is what it is for ever: where it is installed, nothing needs to be asked. */
static bool is_installed(const struct hub *hub, struct moult_installed *installed) {
    struct moult_error ignored;
    char *source = exact_source(hub);
    installed->was_there =
        moult_installed_find(hub->data_folder, source, installed->revision, &installed->bytes) &&
        moult_installed_verify(hub->data_folder, installed->revision, &ignored) == 0;
    free(source);
    return installed->was_there;
}

static bool is_commit(const char *text) {
    return strlen(text) == MOULT_SHA1_HEX - 1 &&
           strspn(text, "0123456789abcdef") == MOULT_SHA1_HEX - 1;
}

static int install(struct hub *hub, struct moult_installed *installed) {
    char commit_before[MOULT_SHA1_HEX] = "";
    if (is_commit(hub->branch)) {
        memcpy(hub->commit, hub->branch, sizeof hub->commit);
        if (is_installed(hub, installed))
            return 0;
    }
    for (unsigned i = 0; i < ATTEMPTS_MAX; i++) {
        struct moult_error before = *hub->error;
        if (resolve(hub) != 0)
            return -1;
        if (strcmp(hub->commit, commit_before) == 0) {
            *hub->error = before;
            return -1;
        }
        memcpy(commit_before, hub->commit, sizeof commit_before);
        if (is_installed(hub, installed) ||
            (list(hub) == 0 && fetch(hub, installed) == 0))
            return 0;
        if (hub->error->code != MOULT_ERROR_MISSING)
            return -1;
    }
    return -1;
}

/* Puts into a sentence what the hub's status and X-Error-Code mean. */
static int fail_for_hub(struct hub *hub) {
    long status = moult_transfer_status(hub->transfer);
    const char *code = moult_transfer_error_code(hub->transfer);
    if (status == 0)
        return moult_fail_within(hub->error, "The hub at %s cannot be reached", hub->endpoint);
    if (strcmp(code, "GatedRepo") == 0)
        return moult_fail(hub->error, MOULT_ERROR_INVALID,
                          "%s is gated: accept its conditions at %s/%s, and set HF_TOKEN to a "
                          "token of that account.",
                          hub->repo, hub->endpoint, hub->repo);
    if (strcmp(code, "RevisionNotFound") == 0)
        return moult_fail(hub->error, MOULT_ERROR_MISSING, "%s has no revision %s.", hub->repo,
                          hub->branch);
    if (strcmp(code, "EntryNotFound") == 0)
        return moult_fail_within(hub->error, "%s lacks a file that its listing has", hub->repo);
    if (strcmp(code, "RepoNotFound") == 0 || status == 401 || status == 403 || status == 404)
        return moult_fail(hub->error, status == 404 ? MOULT_ERROR_MISSING : MOULT_ERROR_INVALID,
                          "The hub at %s has no model %s, or shows it to nobody%s: check the "
                          "name, or set HF_TOKEN to a token that may read it.",
                          hub->endpoint, hub->repo,
                          hub->token != NULL ? " with this token" : " without a token");
    return moult_fail_within(hub->error, "The hub at %s", hub->endpoint);
}

/* HF_HUB_OFFLINE: nobody is asked, and what the cache has is what there is. */

static int resolve_offline(struct hub *hub) {
    /* A commit that is named stands there already. */
    if (is_commit(hub->branch) ||
        moult_hub_cache_resolve(&hub->cache, hub->branch, hub->commit) == 0)
        return 0;
    return moult_fail(hub->error, MOULT_ERROR_UNAVAILABLE,
                      "HF_HUB_OFFLINE is set, and the hub's cache does not know the revision %s "
                      "of %s.",
                      hub->branch, hub->repo);
}

static int list_offline(struct hub *hub) {
    if (moult_hub_cache_list(&hub->cache, hub->commit, &hub->listing) == 0)
        return 0;
    return moult_fail(hub->error, MOULT_ERROR_UNAVAILABLE,
                      "HF_HUB_OFFLINE is set, and the hub's cache has no files of %s at %.12s.",
                      hub->repo, hub->commit);
}

static int resolve(struct hub *hub) {
    char *bytes;
    size_t size;
    if (hub->cache.offline)
        return resolve_offline(hub);
    char *branch = moult_remote_escape(hub->branch);
    /* A branch may have a slash in its name, which must not become one of the path. */
    for (char *slash; (slash = strchr(branch, '/')) != NULL;) {
        char *escaped = moult_format("%.*s%%2F%s", (int)(slash - branch), branch, slash + 1);
        free(branch);
        branch = escaped;
    }
    char *url = moult_format("%s/api/models/%s/revision/%s", hub->endpoint, hub->repo, branch);
    int result = moult_transfer_get(hub->transfer, url, ANSWER_BYTES_MAX, &bytes, &size, NULL,
                                    hub->error);
    if (result != 0) {
        fail_for_hub(hub);
    } else {
        result = moult_hub_commit_parse(bytes, size, hub->commit, hub->error);
        free(bytes);
    }
    free(url);
    free(branch);
    return result;
}

/* One page; *url becomes that of the next, or NULL. */
static int list_page(struct hub *hub, char **url) {
    char *bytes, *next;
    size_t size;
    int result = moult_transfer_get(hub->transfer, *url, MOULT_LISTING_BYTES_MAX, &bytes, &size,
                                    &next, hub->error);
    free(*url);
    *url = NULL;
    if (result != 0)
        return moult_transfer_status(hub->transfer) == 200 ? -1 : fail_for_hub(hub);
    *url = next;
    result = moult_listing_add_tree(&hub->listing, bytes, size, hub->error);
    free(bytes);
    return result;
}

static int list(struct hub *hub) {
    char *url = moult_format("%s/api/models/%s/tree/%s?recursive=true", hub->endpoint, hub->repo,
                             hub->commit);
    int result = 0;
    moult_listing_release(&hub->listing);
    if (hub->cache.offline) {
        free(url);
        return list_offline(hub);
    }
    for (unsigned page = 0; result == 0 && url != NULL; page++)
        result = page < MOULT_LISTING_PAGES_MAX
                     ? list_page(hub, &url)
                     : moult_fail(hub->error, MOULT_ERROR_LIMIT,
                                  "The hub lists %s on more than %d pages.", hub->repo,
                                  MOULT_LISTING_PAGES_MAX);
    free(url);
    if (result == 0 && hub->listing.count == 0)
        return moult_fail(hub->error, MOULT_ERROR_INVALID, "The hub lists no files of %s.",
                          hub->repo);
    return result == 0 ? moult_listing_sort(&hub->listing, hub->error) : -1;
}

/* Files. */

static char *url_of(const void *context, const char *path) {
    const struct hub *hub = context;
    char *escaped = moult_remote_escape(path);
    char *url = moult_format("%s/%s/resolve/%s/%s", hub->endpoint, hub->repo, hub->commit, escaped);
    free(escaped);
    return url;
}

static char *cached(const void *context, const struct moult_listed_file *file, unsigned n) {
    const struct hub *hub = context;
    return moult_hub_cache_path(&hub->cache, hub->commit, file, n);
}

static int fetch(struct hub *hub, struct moult_installed *installed) {
    char *source = exact_source(hub);
    const struct moult_remote remote = {
        .name = hub->repo,
        .source = source,
        .data_folder = hub->data_folder,
        .listing = &hub->listing,
        .transfer = hub->transfer,
        .context = hub,
        .url = url_of,
        .cached = cached,
    };
    int result = moult_install_from_remote(&remote, &hub->progress, installed, hub->error);
    if (result != 0 && hub->transfer != NULL && (moult_transfer_status(hub->transfer) == 0 ||
                        moult_transfer_error_code(hub->transfer)[0] != '\0'))
        fail_for_hub(hub);
    free(source);
    return result;
}

/* For the ecosystem's own programs. What is installed stays so where that cannot be done. */
static void fill_cache(struct hub *hub, const struct moult_installed *installed) {
    struct moult_error error;
    if (!hub->cache.fill || hub->cache.offline)
        return;
    hub->error = &error;
    char *folder = moult_format("%s/models/%s", hub->data_folder, installed->revision);
    if ((hub->listing.count == 0 && list(hub) != 0) ||
        moult_hub_cache_fill(&hub->cache, folder, is_commit(hub->branch) ? "" : hub->branch,
                             hub->commit, &hub->listing, &error) != 0)
        moult_log_warning("%s is installed, but not shared: %s", hub->repo, error.message);
    free(folder);
}
