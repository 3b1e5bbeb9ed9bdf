/* Installing from a plain HTTP model server: URL/manifest.json, and the files beside it.
 *
 * Whoever publishes puts the files there first, and the manifest last. Between the two,
 * the manifest that was read fits the files no more; then it is read again, and what
 * the new one lists is taken. One that stays as it was is at fault itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/limits.h"
#include "base/memory.h"
#include "source/header.h"
#include "source/remote.h"
#include "source/source.h"

#define ATTEMPTS_MAX 3
#define ATTEMPT_PAUSE_NS 300000000l
#define QUIET_SECONDS 2

struct web {
    char *url;                      /* Without a slash at its end. */
    char *manifest;                 /* Its bytes, as they were read last. */
    size_t manifest_size;
    char validator[MOULT_VALIDATOR_BYTES];   /* Of the manifest that was read last. */
    struct moult_listing listing;
    struct moult_transfer *transfer;
    const char *data_folder;
    struct moult_remote_progress progress;
    struct moult_error *error;
};

static void format_validator(struct web *web) {
    char digest[MOULT_SHA256_HEX];
    const char *etag = moult_transfer_header(web->transfer, "ETag");
    const char *changed = moult_transfer_header(web->transfer, "Last-Modified");
    int64_t changed_s = moult_header_date_s(changed);
    int64_t now_s = moult_header_date_s(moult_transfer_header(web->transfer, "Date"));
    bool quiet = changed_s >= 0 && now_s >= changed_s + QUIET_SECONDS;
    moult_sha256_of(web->manifest, web->manifest_size, digest);
    if (moult_header_etag_usable(etag) && (changed == NULL || quiet))
        snprintf(web->validator, sizeof web->validator, "%s E%s", digest, etag);
    else if (quiet)
        snprintf(web->validator, sizeof web->validator, "%s D%s", digest, changed);
    else
        snprintf(web->validator, sizeof web->validator, "%s", digest);
}

static int fail_to_read(struct web *web) {
    if (moult_transfer_status(web->transfer) == 404)
        moult_fail(web->error, MOULT_ERROR_MISSING,
                   "%s has no manifest.json; `moult manifest FOLDER` writes one.", web->url);
    return -1;
}

/* 1: it is another than before, or than what had the validator `unless`; 0: it is the same;
 * -1: the error says why not. */
static int read_manifest(struct web *web, const char *unless) {
    char *bytes;
    size_t size;
    const char *told = strlen(unless) > MOULT_SHA256_HEX ? unless + MOULT_SHA256_HEX : "";
    bool by_etag = told[0] == 'E' && moult_header_etag_usable(told + 1);
    bool by_date = told[0] == 'D' && moult_header_date_s(told + 1) >= 0;
    char *url = moult_format("%s/manifest.json", web->url);
    int result = moult_transfer_get_news(
        web->transfer, url, MOULT_LISTING_BYTES_MAX, by_etag ? told + 1 : NULL,
        by_date ? told + 1 : NULL, &bytes, &size, web->error);
    free(url);
    if (result != 0)
        return fail_to_read(web);
    if (bytes == NULL) {
        snprintf(web->validator, sizeof web->validator, "%s", unless);
        return 0;
    }
    char before[MOULT_VALIDATOR_BYTES];
    snprintf(before, sizeof before, "%s", web->manifest != NULL ? web->validator : unless);
    free(web->manifest);
    web->manifest = bytes;
    web->manifest_size = size;
    format_validator(web);
    return strncmp(before, web->validator, MOULT_SHA256_HEX - 1) == 0 ? 0 : 1;
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
    int changed = read_manifest(web, "");
    for (unsigned i = 0; changed == 1 && i < ATTEMPTS_MAX; i++) {
        if (list(web) != 0)
            return -1;
        if (moult_install_from_remote(&remote, &web->progress, installed, web->error) == 0)
            return 0;
        struct moult_error reason = *web->error;
        if (reason.code != MOULT_ERROR_MISSING && reason.code != MOULT_ERROR_INVALID)
            return -1;
        nanosleep(&pause, NULL);
        changed = read_manifest(web, "");
        *web->error = reason;
    }
    return -1;
}

static void open_web(struct web *web, const char *url, bool once) {
    size_t size = strlen(url);
    while (size > 0 && url[size - 1] == '/')
        size--;
    web->url = moult_copy_bytes(url, size);
    const struct moult_transfer_options options = {.base = web->url,
                                                   .advance = moult_remote_advance,
                                                   .context = &web->progress,
                                                   .once = once};
    web->transfer = moult_transfer_open(&options);
}

static void close_web(struct web *web) {
    moult_transfer_close(web->transfer);
    moult_listing_release(&web->listing);
    free(web->manifest);
    free(web->url);
}

int moult_install_from_web(const char *url, const char *data_folder,
                           const struct moult_install_progress *progress,
                           struct moult_installed *installed, struct moult_error *error) {
    struct moult_error unwanted;
    struct web web = {.data_folder = data_folder,
                      .progress = {.progress = progress},
                      .error = error != NULL ? error : &unwanted};
    *installed = (struct moult_installed){.was_there = false};
    open_web(&web, url, false);
    int result = install(&web, installed);
    if (result == 0)
        memcpy(installed->validator, web.validator, sizeof installed->validator);
    close_web(&web);
    return result;
}

/* A manifest that is none does not count as something newer. */
int moult_look_at_web(const char *url, const char *unless, struct moult_look *look,
                      struct moult_error *error) {
    struct moult_error unwanted;
    struct web web = {.error = error != NULL ? error : &unwanted};
    open_web(&web, url, true);
    int changed = read_manifest(&web, unless);
    if (changed < 0)
        look->pause_s = moult_transfer_pause_ms(web.transfer) / 1000;
    else if (changed == 1 && list(&web) != 0)
        changed = -1;
    look->result = changed == 1 ? MOULT_LOOK_CHANGED : MOULT_LOOK_UNCHANGED;
    memcpy(look->validator, web.validator, sizeof look->validator);
    close_web(&web);
    return changed < 0 ? -1 : 0;
}
