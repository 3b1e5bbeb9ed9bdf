#include "source/listing.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/limits.h"
#include "base/memory.h"

#define MANIFEST "manifest.json"
#define CAPACITY_AT_FIRST 64u

static json_t *parse(const char *bytes, size_t size, const char *what,
                     struct moult_error *error) {
    json_error_t fault;
    json_t *value = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &fault);
    if (value == NULL)
        moult_fail(error, MOULT_ERROR_INVALID, "%s is not JSON: line %d: %s.", what, fault.line,
                   fault.text);
    return value;
}

/* "" where the key is absent or holds something else than so many hex digits. */
static bool read_digest(const json_t *object, const char *key, size_t digits, char *digest) {
    const char *text = json_string_value(json_object_get(object, key));
    digest[0] = '\0';
    if (text == NULL || strlen(text) != digits || strspn(text, "0123456789abcdef") != digits)
        return false;
    memcpy(digest, text, digits + 1);
    return true;
}

static struct moult_listed_file *append(struct moult_listing *listing, const char *path,
                                        uint64_t size) {
    if (listing->count == listing->capacity) {
        listing->capacity = listing->capacity == 0 ? CAPACITY_AT_FIRST : 2 * listing->capacity;
        listing->files =
            moult_reallocate(listing->files, listing->capacity, sizeof *listing->files);
    }
    struct moult_listed_file *file = &listing->files[listing->count++];
    *file = (struct moult_listed_file){.path = moult_copy_string(path), .size = size};
    return file;
}

static struct moult_listed_file *add(struct moult_listing *listing, const json_t *object,
                                     const char *what, struct moult_error *error) {
    const json_t *path = json_object_get(object, "path");
    const json_t *size = json_object_get(object, "size");
    const char *text = json_string_value(path);
    if (text == NULL || strlen(text) != json_string_length(path) || !json_is_integer(size) ||
        json_integer_value(size) < 0) {
        moult_fail(error, MOULT_ERROR_INVALID, "%s lists a file without a path or a size.", what);
        return NULL;
    }
    if (!moult_source_path_safe(text)) {
        moult_fail(error, MOULT_ERROR_INVALID,
                   "%s lists \"%.200s\", which is not a path within a model's folder.", what,
                   text);
        return NULL;
    }
    if (listing->count == MOULT_LISTING_FILES_MAX) {
        moult_fail(error, MOULT_ERROR_LIMIT, "%s lists more than %d files.", what,
                   MOULT_LISTING_FILES_MAX);
        return NULL;
    }
    return append(listing, text, (uint64_t)json_integer_value(size));
}

static int fail_digest(const struct moult_listed_file *file, const char *what,
                       struct moult_error *error) {
    return moult_fail(error, MOULT_ERROR_INVALID, "%s gives no digest of %s.", what, file->path);
}

static int read_manifest(struct moult_listing *listing, const json_t *manifest,
                         struct moult_error *error) {
    const json_t *files = json_object_get(manifest, "files");
    size_t count = json_array_size(files);
    if (!json_is_array(files))
        return moult_fail(error, MOULT_ERROR_INVALID, MANIFEST " has no list of files.");
    for (size_t i = 0; i < count; i++) {
        const json_t *object = json_array_get(files, i);
        struct moult_listed_file *file = add(listing, object, MANIFEST, error);
        if (file == NULL)
            return -1;
        if (!read_digest(object, "sha256", MOULT_SHA256_HEX - 1, file->sha256))
            return fail_digest(file, MANIFEST, error);
    }
    return 0;
}

int moult_listing_add_manifest(struct moult_listing *listing, const char *bytes, size_t size,
                               struct moult_error *error) {
    json_t *manifest = parse(bytes, size, MANIFEST, error);
    int result = manifest != NULL ? read_manifest(listing, manifest, error) : -1;
    json_decref(manifest);
    return result;
}

static int read_tree(struct moult_listing *listing, const json_t *tree,
                     struct moult_error *error) {
    static const char what[] = "The hub's listing";
    size_t count = json_array_size(tree);
    if (!json_is_array(tree))
        return moult_fail(error, MOULT_ERROR_INVALID, "%s is not a list.", what);
    for (size_t i = 0; i < count; i++) {
        const json_t *object = json_array_get(tree, i);
        const char *type = json_string_value(json_object_get(object, "type"));
        if (type != NULL && strcmp(type, "file") != 0)
            continue;
        struct moult_listed_file *file = add(listing, object, what, error);
        if (file == NULL)
            return -1;
        /* The oid of a file in LFS is that of the note about it. */
        const json_t *lfs = json_object_get(object, "lfs");
        if (json_is_object(lfs) ? !read_digest(lfs, "oid", MOULT_SHA256_HEX - 1, file->sha256)
                                : !read_digest(object, "oid", MOULT_SHA1_HEX - 1, file->blob))
            return fail_digest(file, what, error);
    }
    return 0;
}

int moult_listing_add_tree(struct moult_listing *listing, const char *bytes, size_t size,
                           struct moult_error *error) {
    json_t *tree = parse(bytes, size, "The hub's listing", error);
    int result = tree != NULL ? read_tree(listing, tree, error) : -1;
    json_decref(tree);
    return result;
}

static int read_cached_tree(struct moult_listing *listing, const json_t *tree,
                            struct moult_error *error) {
    static const char what[] = "The cached listing";
    const json_t *files = json_object_get(tree, "files");
    const char *path;
    json_t *entry;
    if (json_integer_value(json_object_get(tree, "format_version")) != 1 || !json_is_object(files))
        return moult_fail(error, MOULT_ERROR_INVALID, "%s is of no version that is known.", what);
    json_object_foreach((json_t *)(uintptr_t)files, path, entry)
    {
        const json_t *size = json_object_get(entry, "size");
        struct moult_listed_file digests;
        json_int_t bytes = json_integer_value(size);
        if (!moult_source_path_safe(path) || !json_is_integer(size) || bytes < 0 ||
            listing->count == MOULT_LISTING_FILES_MAX)
            return moult_fail(error, MOULT_ERROR_INVALID, "%s lists what no hub has.", what);
        bool large = json_object_get(entry, "lfs_sha256") != NULL;
        if (large ? !read_digest(entry, "lfs_sha256", MOULT_SHA256_HEX - 1, digests.sha256)
                  : !read_digest(entry, "blob_id", MOULT_SHA1_HEX - 1, digests.blob))
            return moult_fail(error, MOULT_ERROR_INVALID, "%s gives no digest of %s.", what, path);
        moult_listing_add(listing, path, (uint64_t)bytes, large ? digests.sha256 : digests.blob);
    }
    return 0;
}

int moult_listing_add_cached_tree(struct moult_listing *listing, const char *bytes, size_t size,
                                  struct moult_error *error) {
    json_t *tree = parse(bytes, size, "The cached listing", error);
    int result = tree != NULL ? read_cached_tree(listing, tree, error) : -1;
    json_decref(tree);
    return result;
}

void moult_listing_add(struct moult_listing *listing, const char *path, uint64_t size,
                       const char *digest) {
    size_t digits = strlen(digest);
    bool large = digits == MOULT_SHA256_HEX - 1;
    if ((!large && digits != MOULT_SHA1_HEX - 1) ||
        strspn(digest, "0123456789abcdef") != digits || !moult_source_path_safe(path) ||
        listing->count == MOULT_LISTING_FILES_MAX)
        return;
    struct moult_listed_file *file = append(listing, path, size);
    memcpy(large ? file->sha256 : file->blob, digest, digits + 1);
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const struct moult_listed_file *)a)->path,
                  ((const struct moult_listed_file *)b)->path);
}

int moult_listing_sort(struct moult_listing *listing, struct moult_error *error) {
    if (listing->count > 0)
        qsort(listing->files, listing->count, sizeof *listing->files, by_path);
    for (unsigned i = 1; i < listing->count; i++)
        if (by_path(&listing->files[i - 1], &listing->files[i]) == 0)
            return moult_fail(error, MOULT_ERROR_INVALID, "The listing has %s twice.",
                              listing->files[i].path);
    return 0;
}

const struct moult_listed_file *moult_listing_find(const struct moult_listing *listing,
                                                   const char *path) {
    const struct moult_listed_file wanted = {.path = (char *)path};
    if (listing->count == 0)
        return NULL;
    return bsearch(&wanted, listing->files, listing->count, sizeof *listing->files, by_path);
}

void moult_listing_release(struct moult_listing *listing) {
    for (unsigned i = 0; i < listing->count; i++)
        free(listing->files[i].path);
    free(listing->files);
    *listing = (struct moult_listing){.count = 0};
}

int moult_hub_commit_parse(const char *bytes, size_t size, char commit[MOULT_SHA1_HEX],
                           struct moult_error *error) {
    json_t *answer = parse(bytes, size, "The hub's answer", error);
    bool good = read_digest(answer, "sha", MOULT_SHA1_HEX - 1, commit);
    bool parsed = answer != NULL;
    json_decref(answer);
    if (parsed && !good)
        moult_fail(error, MOULT_ERROR_INVALID, "The hub's answer names no commit.");
    return good ? 0 : -1;
}

char *moult_manifest_format(const struct moult_source_list *list, const char *version,
                            size_t *size) {
    struct moult_buffer out;
    moult_buffer_init(&out, MOULT_LISTING_BYTES_MAX);
    moult_buffer_text(&out, "{\"version\": ");
    moult_buffer_json_string(&out, version, strlen(version));
    moult_buffer_text(&out, ",\n \"files\": [");
    for (unsigned i = 0; i < list->count; i++) {
        const struct moult_source_file *file = &list->files[i];
        moult_buffer_format(&out, "%s\n  {\"path\": ", i == 0 ? "" : ",");
        moult_buffer_json_string(&out, file->path, strlen(file->path));
        moult_buffer_format(&out, ", \"size\": %" PRIu64 ", \"sha256\": \"%s\"}",
                            (uint64_t)file->status.st_size, file->sha256);
    }
    moult_buffer_text(&out, "]}\n");
    MOULT_REQUIRE(!out.overflowed);
    return moult_buffer_take(&out, size);
}
