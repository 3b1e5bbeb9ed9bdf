#include "cli/records.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "cli/csv.h"

#define READ_BYTES (256 * MOULT_KIB)
static const char byte_order_mark[] = "\xEF\xBB\xBF";

/* A window of the file: bytes[begin … end), of which the first `scanned` belong to the record
 * that has not ended yet. Of one that is too long only the count is kept. */
struct moult_records {
    struct moult_record_options options;
    const char *name;
    int fd;
    bool regular, ended;
    uint64_t size;
    char *bytes;
    size_t capacity, begin, end, scanned;
    uint64_t dropped;
    uint64_t offset, line;            /* Where bytes[begin] lies in the file, with `dropped`. */
    struct moult_csv_scan scan;

    /* The record that was read last. */
    char *record;                     /* In `bytes`, or NULL where it was too long. */
    size_t record_size;               /* Without its line end. */
    uint64_t record_line;
    char made_id[MOULT_RECORD_ID_BYTES];
    char number_id[24];
    json_t *object;
    struct moult_csv_fields fields;
    json_t *metadata;

    /* Of CSV: the names in its header, and where in it the two fields are. */
    char *header;
    struct moult_csv_fields columns;
    size_t text_column, id_column;    /* SIZE_MAX: there is none. */
};

/* Reading. */

/* MOULT_RECORD_GOOD: there is more, or the file has ended. */
static enum moult_record_found read_more(struct moult_records *records, bool wait,
                                         struct moult_error *error) {
    struct pollfd ready = {.fd = records->fd, .events = POLLIN};
    if (records->begin > 0) {
        memmove(records->bytes, records->bytes + records->begin, records->end - records->begin);
        records->end -= records->begin;
        records->begin = 0;
    }
    if (records->capacity - records->end < READ_BYTES) {
        records->capacity = records->end + 2 * READ_BYTES;
        records->bytes = moult_reallocate(records->bytes, records->capacity, 1);
    }
    if (!wait && !records->regular && poll(&ready, 1, 0) == 0)
        return MOULT_RECORD_LATER;
    ssize_t got;
    do {
        got = read(records->fd, records->bytes + records->end, READ_BYTES);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        moult_fail_errno(error, "%s cannot be read", records->name);
        return MOULT_RECORD_FAILED;
    }
    records->ended = got == 0;
    records->end += (size_t)got;
    return MOULT_RECORD_GOOD;
}

/* How many of the next bytes belong to the record, and whether it ends with them. */
static size_t scan(struct moult_records *records, const char *bytes, size_t size, bool *whole) {
    if (records->options.format == MOULT_RECORDS_CSV)
        return moult_csv_scan(&records->scan, records->options.delimiter, bytes, size, whole);
    const char *end = size > 0 ? memchr(bytes, '\n', size) : NULL;
    *whole = end != NULL;
    return end != NULL ? (size_t)(end - bytes) + 1 : size;
}

static uint64_t count_lines(const char *bytes, size_t size) {
    uint64_t lines = 0;
    for (const char *at = bytes; (at = memchr(at, '\n', size - (size_t)(at - bytes))) != NULL; at++)
        lines++;
    return lines;
}

/* Ends the record, of which the last bytes are at `begin`. */
static void take_record(struct moult_records *records) {
    char *bytes = records->bytes + records->begin;
    size_t size = records->scanned;
    records->line += count_lines(bytes, size);
    records->offset += size;
    records->begin += size;
    records->scanned = 0;
    records->scan = (struct moult_csv_scan){0};
    records->record = records->dropped > 0 ? NULL : bytes;
    records->dropped = 0;
    if (size > 0 && bytes[size - 1] == '\n')
        size--;
    if (size > 0 && bytes[size - 1] == '\r')
        size--;
    records->record_size = size;
}

static void drop(struct moult_records *records) {
    records->line += count_lines(records->bytes + records->begin, records->scanned);
    records->offset += records->scanned;
    records->dropped += records->scanned;
    records->begin += records->scanned;
    records->scanned = 0;
}

static enum moult_record_found read_record(struct moult_records *records, bool wait,
                                           struct moult_error *error) {
    if (records->scanned == 0 && records->dropped == 0)
        records->record_line = records->line;
    for (;;) {
        bool whole;
        size_t at = records->begin + records->scanned;
        records->scanned += scan(records, records->bytes + at, records->end - at, &whole);
        if (whole)
            break;
        if (records->ended && records->scanned == 0 && records->dropped == 0)
            return MOULT_RECORD_NONE;
        if (records->ended && records->scan.state == MOULT_CSV_QUOTED) {
            moult_fail(error, MOULT_ERROR_INVALID,
                       "The record that begins on line %" PRIu64 " of %s opens a quote that is "
                       "never closed.",
                       records->record_line, records->name);
            return MOULT_RECORD_FAILED;
        }
        if (records->ended)
            break;
        if (records->scanned > MOULT_BODY_BYTES_MAX)
            drop(records);
        enum moult_record_found found = read_more(records, wait, error);
        if (found != MOULT_RECORD_GOOD)
            return found;
    }
    take_record(records);
    return MOULT_RECORD_GOOD;
}

/* A line that is empty means nothing, in either format. */
static bool is_blank(const struct moult_records *records) {
    for (size_t i = 0; i < records->record_size; i++)
        if (records->record == NULL || strchr(" \t\r", records->record[i]) == NULL ||
            records->record[i] == '\0')
            return false;
    return records->record != NULL;
}

/* Records. */

/* The same line of the same file has the same id each time, whatever its line end. */
static void make_id(struct moult_records *records, const char *bytes, size_t size) {
    struct moult_sha256 *hash = moult_sha256_open();
    char digest[MOULT_SHA256_HEX], line[32];
    int line_size = snprintf(line, sizeof line, "%" PRIu64 "\n", records->record_line);
    moult_sha256_add(hash, line, (size_t)line_size);
    moult_sha256_add(hash, bytes, size);
    moult_sha256_close(hash, digest);
    memcpy(records->made_id, digest, MOULT_RECORD_ID_BYTES - 1);
}

static void set_made_id(struct moult_records *records, struct moult_record *record) {
    record->id = records->made_id;
    record->id_size = MOULT_RECORD_ID_BYTES - 1;
}

static int take_id(struct moult_records *records, struct moult_record *record,
                   struct moult_error *error) {
    const json_t *id = json_object_get(records->object, records->options.id_field);
    if (id == NULL || json_is_null(id)) {
        make_id(records, records->record, records->record_size);
        set_made_id(records, record);
    } else if (json_is_integer(id)) {
        record->id = records->number_id;
        record->id_size = (size_t)snprintf(records->number_id, sizeof records->number_id,
                                           "%" JSON_INTEGER_FORMAT, json_integer_value(id));
    } else if (json_is_string(id) && json_string_length(id) > 0) {
        record->id = json_string_value(id);
        record->id_size = json_string_length(id);
    } else {
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "Its \"%s\" is neither a string with something in it nor a whole number.",
                          records->options.id_field);
    }
    return 0;
}

/* Keys that are neither id nor text: "metadata", and the rest, which does not win over it. */
static int take_metadata(struct moult_records *records, struct moult_record *record,
                         struct moult_error *error) {
    const struct moult_record_options *options = &records->options;
    json_t *given = json_object_get(records->object, "metadata");
    if (given != NULL && !json_is_object(given) && !json_is_null(given))
        return moult_fail(error, MOULT_ERROR_INVALID, "Its \"metadata\" is no JSON object.");
    record->metadata = json_is_object(given) ? given : NULL;
    const char *key;
    json_t *value;
    json_object_foreach (records->object, key, value) {
        if (strcmp(key, options->id_field) == 0 || strcmp(key, options->text_field) == 0 ||
            strcmp(key, "metadata") == 0)
            continue;
        if (!options->rest) {
            record->ignored = key;
            continue;
        }
        if (record->metadata == NULL)
            record->metadata = records->metadata = json_object();
        if (json_object_get(record->metadata, key) == NULL)
            json_object_set(record->metadata, key, value);
    }
    return 0;
}

static int read_json(struct moult_records *records, struct moult_record *record,
                     struct moult_error *error) {
    json_error_t fault;
    records->object = json_loadb(records->record, records->record_size,
                                 JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &fault);
    if (records->object == NULL)
        return moult_fail(error, MOULT_ERROR_INVALID, "It is not valid JSON: column %d: %s.",
                          fault.column, fault.text);
    if (!json_is_object(records->object))
        return moult_fail(error, MOULT_ERROR_INVALID, "It is no JSON object.");
    const json_t *text = json_object_get(records->object, records->options.text_field);
    if (!json_is_string(text))
        return moult_fail(error, MOULT_ERROR_INVALID, "Its \"%s\" is %s.",
                          records->options.text_field, text == NULL ? "missing" : "no string");
    record->text = json_string_value(text);
    record->text_size = json_string_length(text);
    if (take_id(records, record, error) != 0)
        return -1;
    return take_metadata(records, record, error);
}

/* A number as JSON writes it: 007 and 1. are texts. */
static json_t *number_of(const struct moult_csv_field *field) {
    if (field->size == 0 || strchr("-0123456789", field->bytes[0]) == NULL ||
        field->bytes[0] == '\0')
        return NULL;
    json_t *value = json_loadb(field->bytes, field->size, JSON_DECODE_ANY, NULL);
    if (json_is_number(value))
        return value;
    json_decref(value);
    return NULL;
}

/* Cells that are empty say nothing. */
static void take_cells(struct moult_records *records, struct moult_record *record) {
    for (size_t i = 0; i < records->fields.count; i++) {
        const struct moult_csv_field *cell = &records->fields.items[i];
        const struct moult_csv_field *name = &records->columns.items[i];
        if (i == records->text_column || i == records->id_column || cell->size == 0)
            continue;
        if (record->metadata == NULL)
            record->metadata = records->metadata = json_object();
        json_t *value = records->options.numbers ? number_of(cell) : NULL;
        if (value == NULL)
            value = json_stringn_nocheck(cell->bytes, cell->size);
        char *key = moult_copy_bytes(name->bytes, name->size);
        json_object_set_new_nocheck(record->metadata, key, value);
        free(key);
    }
}

static int read_cells(struct moult_records *records, struct moult_record *record,
                      struct moult_error *error) {
    if (!moult_utf8_valid(records->record, records->record_size))
        return moult_fail(error, MOULT_ERROR_INVALID, "It is not valid UTF-8.");
    make_id(records, records->record, records->record_size);
    if (moult_csv_cut(records->record, records->record_size, records->options.delimiter,
                      &records->fields, error) != 0)
        return -1;
    if (records->fields.count != records->columns.count)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "Its number of fields is %zu, the header's is %zu.",
                          records->fields.count, records->columns.count);
    const struct moult_csv_field *cells = records->fields.items;
    record->text = cells[records->text_column].bytes;
    record->text_size = cells[records->text_column].size;
    set_made_id(records, record);
    if (records->id_column != SIZE_MAX && cells[records->id_column].size > 0) {
        record->id = cells[records->id_column].bytes;
        record->id_size = cells[records->id_column].size;
    }
    take_cells(records, record);
    return 0;
}

static int read_one(struct moult_records *records, struct moult_record *record,
                    struct moult_error *error) {
    if (records->record == NULL || records->record_size > MOULT_BODY_BYTES_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT, "It is longer than %lu MiB.",
                          MOULT_BODY_BYTES_MAX / MOULT_MIB);
    int result = records->options.format == MOULT_RECORDS_CSV ? read_cells(records, record, error)
                                                              : read_json(records, record, error);
    if (result == 0 && record->text_size == 0)
        return moult_fail(error, MOULT_ERROR_INVALID, "Its text is empty.");
    return result;
}

static void forget(struct moult_records *records) {
    json_decref(records->object);
    json_decref(records->metadata);
    records->object = records->metadata = NULL;
}

enum moult_record_found moult_records_next(struct moult_records *records, bool wait,
                                           struct moult_record *record,
                                           struct moult_error *error) {
    enum moult_record_found found;
    forget(records);
    do {
        found = read_record(records, wait, error);
    } while (found == MOULT_RECORD_GOOD && is_blank(records));
    *record = (struct moult_record){.line = records->record_line,
                                    .line_end = records->line,
                                    .end = records->offset};
    if (found == MOULT_RECORD_GOOD && read_one(records, record, error) != 0)
        return MOULT_RECORD_BAD;
    return found;
}

/* Opening. */

static size_t find_column(const struct moult_records *records, const char *name) {
    for (size_t i = 0; i < records->columns.count; i++)
        if (records->columns.items[i].size == strlen(name) &&
            memcmp(records->columns.items[i].bytes, name, strlen(name)) == 0)
            return i;
    return SIZE_MAX;
}

static int check_header(const struct moult_records *records, struct moult_error *error) {
    const struct moult_csv_fields *columns = &records->columns;
    if (records->text_column == SIZE_MAX)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "The header of %s names no column \"%s\"; its first is \"%.*s\". "
                          "--text-field says which one has the text, --delimiter what stands "
                          "between columns.",
                          records->name, records->options.text_field,
                          (int)(columns->items[0].size < 80 ? columns->items[0].size : 80),
                          columns->items[0].bytes);
    for (size_t i = 0; i < columns->count; i++)
        for (size_t j = i + 1; j < columns->count; j++)
            if (columns->items[i].size == columns->items[j].size &&
                memcmp(columns->items[i].bytes, columns->items[j].bytes,
                       columns->items[i].size) == 0)
                return moult_fail(error, MOULT_ERROR_INVALID,
                                  "The header of %s names two columns \"%.*s\".", records->name,
                                  (int)columns->items[i].size, columns->items[i].bytes);
    for (size_t i = 0; i < columns->count; i++)
        if (memchr(columns->items[i].bytes, '\0', columns->items[i].size) != NULL)
            return moult_fail(error, MOULT_ERROR_INVALID, "The header of %s has a NUL in it.",
                              records->name);
    return 0;
}

static int read_header(struct moult_records *records, struct moult_error *error) {
    enum moult_record_found found;
    do {
        found = read_record(records, true, error);
    } while (found == MOULT_RECORD_GOOD && is_blank(records));
    if (found == MOULT_RECORD_FAILED)
        return -1;
    if (found == MOULT_RECORD_NONE || records->record == NULL)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s has no header: the first line of CSV names the columns.",
                          records->name);
    if (!moult_utf8_valid(records->record, records->record_size))
        return moult_fail(error, MOULT_ERROR_INVALID, "The header of %s is not valid UTF-8.",
                          records->name);
    records->header = moult_copy_bytes(records->record, records->record_size);
    if (moult_csv_cut(records->header, records->record_size, records->options.delimiter,
                      &records->columns, error) != 0)
        return moult_fail_within(error, "The header of %s", records->name);
    records->text_column = find_column(records, records->options.text_field);
    records->id_column = find_column(records, records->options.id_field);
    return check_header(records, error);
}

/* Some programs begin UTF-8 with a mark. */
static int skip_mark(struct moult_records *records, struct moult_error *error) {
    const size_t size = sizeof byte_order_mark - 1;
    while (records->end < size && !records->ended)
        if (read_more(records, true, error) == MOULT_RECORD_FAILED)
            return -1;
    if (records->end >= size && memcmp(records->bytes, byte_order_mark, size) == 0) {
        records->begin += size;
        records->offset += size;
    }
    return 0;
}

static int open_file(struct moult_records *records, const char *path, struct moult_error *error) {
    struct stat status;
    records->fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC)
                               : fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
    if (records->fd < 0 || fstat(records->fd, &status) != 0)
        return moult_fail_errno(error, "%s cannot be opened", records->name);
    if (S_ISDIR(status.st_mode))
        return moult_fail(error, MOULT_ERROR_INVALID, "%s is a folder.", records->name);
    records->regular = path != NULL && S_ISREG(status.st_mode);
    records->size = (uint64_t)status.st_size;
    return 0;
}

struct moult_records *moult_records_open(const char *path,
                                         const struct moult_record_options *options,
                                         struct moult_error *error) {
    struct moult_records *records = moult_allocate(1, sizeof *records);
    records->options = *options;
    records->name = path != NULL ? path : "Standard input";
    records->line = 1;
    records->id_column = records->text_column = SIZE_MAX;
    if (open_file(records, path, error) == 0 && skip_mark(records, error) == 0 &&
        (options->format != MOULT_RECORDS_CSV || read_header(records, error) == 0))
        return records;
    moult_records_close(records);
    return NULL;
}

void moult_records_close(struct moult_records *records) {
    if (records == NULL)
        return;
    forget(records);
    if (records->fd >= 0)
        close(records->fd);
    moult_csv_fields_release(&records->fields);
    moult_csv_fields_release(&records->columns);
    free(records->header);
    free(records->bytes);
    free(records);
}

int moult_records_seek(struct moult_records *records, uint64_t offset, uint64_t line,
                       struct moult_error *error) {
    if (lseek(records->fd, (off_t)offset, SEEK_SET) < 0)
        return moult_fail_errno(error, "%s cannot be read from byte %" PRIu64, records->name,
                                offset);
    records->begin = records->end = records->scanned = 0;
    records->dropped = 0;
    records->ended = false;
    records->scan = (struct moult_csv_scan){0};
    records->offset = offset;
    records->line = line;
    return 0;
}

bool moult_records_size(const struct moult_records *records, uint64_t *size) {
    *size = records->size;
    return records->regular;
}

int moult_records_fd(const struct moult_records *records) {
    return records->fd;
}

const char *moult_records_name(const struct moult_records *records) {
    return records->name;
}
