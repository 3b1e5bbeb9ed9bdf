/* Installing from a plain HTTP model server: URL/manifest.json, and the files beside it.
 *
 * Whoever publishes puts the files there first, and the manifest last. Between the two,
 * the manifest that was read fits the files no more; then it is read again, and what
 * the new one lists is taken. One that stays as it was is at fault itself. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/limits.h"
#include "base/memory.h"
#include "source/remote.h"
#include "source/source.h"

#define ATTEMPTS_MAX 3
#define ATTEMPT_PAUSE_NS 300000000l

struct web {
    char *url;                      /* Without a slash at its end. */
    char *manifest;                 /* Its bytes, as they were read last. */
    size_t manifest_size;
    struct moult_listing listing;
    struct moult_transfer *transfer;
    const char *data_folder;
    struct moult_remote_progress progress;
    struct moult_error *error;
};

/* 1: it is another than before; 0: it is the same; -1: the error says why not. */
static int read_manifest(struct web *web) {
    char *bytes;
    size_t size;
    char *url = moult_format("%s/manifest.json", web->url);
    int result = moult_transfer_get(web->transfer, url, MOULT_LISTING_BYTES_MAX, &bytes, &size,
                                    NULL, web->error);
    free(url);
    if (result != 0) {
        if (moult_transfer_status(web->transfer) == 404)
            moult_fail(web->error, MOULT_ERROR_MISSING,
                       "%s has no manifest.json; `moult manifest FOLDER` writes one.", web->url);
        return -1;
    }
    bool same = web->manifest != NULL && size == web->manifest_size &&
                memcmp(bytes, web->manifest, size) == 0;
    free(web->manifest);
    web->manifest = bytes;
    web->manifest_size = size;
    return same ? 0 : 1;
}

static int list(struct web *web) {
    moult_listing_release(&web->listing);
    if (moult_listing_add_manifest(&web->listing, web->manifest, web->manifest_size,
                                   web->error) != 0 ||
        moult_listing_sort(&web->listing, web->error) != 0)
        return moult_fail_within(web->error, "%s", web->url);
    return 0;
}

static char *url_of(const void *context, const char *path) {
    const struct web *web = context;
    char *escaped = moult_remote_escape(path);
    char *url = moult_format("%s/%s", web->url, escaped);
    free(escaped);
    return url;
}

static int install(struct web *web, struct moult_installed *installed) {
    const struct timespec pause = {.tv_nsec = ATTEMPT_PAUSE_NS};
    const struct moult_remote remote = {
        .name = web->url,
        .source = web->url,
        .data_folder = web->data_folder,
        .listing = &web->listing,
        .transfer = web->transfer,
        .context = web,
        .url = url_of,
    };
    int changed = read_manifest(web);
    for (unsigned i = 0; changed == 1 && i < ATTEMPTS_MAX; i++) {
        if (list(web) != 0)
            return -1;
        if (moult_install_from_remote(&remote, &web->progress, installed, web->error) == 0)
            return 0;
        struct moult_error reason = *web->error;
        if (reason.code != MOULT_ERROR_MISSING && reason.code != MOULT_ERROR_INVALID)
            return -1;
        nanosleep(&pause, NULL);
        changed = read_manifest(web);
        *web->error = reason;
    }
    return -1;
}

int moult_install_from_web(const char *url, const char *data_folder,
                           const struct moult_install_progress *progress,
                           struct moult_installed *installed, struct moult_error *error) {
    struct moult_error unwanted;
    struct web web = {.data_folder = data_folder,
                      .progress = {.progress = progress},
                      .error = error != NULL ? error : &unwanted};
    size_t size = strlen(url);
    while (size > 0 && url[size - 1] == '/')
        size--;
    *installed = (struct moult_installed){.was_there = false};
    web.url = moult_copy_bytes(url, size);
    const struct moult_transfer_options options = {
        .base = web.url, .advance = moult_remote_advance, .context = &web.progress};
    web.transfer = moult_transfer_open(&options);
    int result = install(&web, installed);
    moult_transfer_close(web.transfer);
    moult_listing_release(&web.listing);
    free(web.manifest);
    free(web.url);
    return result;
}
