#include "front/fetch_line.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "front/json.h"

#define PAUSE_SECONDS_MAX 86400

/* NULL where there is no such string, or one with a NUL in it. */
static const char *text_of(const json_t *value) {
    const char *text = json_string_value(value);
    return text != NULL && strlen(text) == json_string_length(value) ? text : NULL;
}

static const char *text_in(const json_t *object, const char *key) {
    return text_of(json_object_get(object, key));
}

/* It goes back to a child as it came: a part of one would be another. */
static void take_validator(const json_t *object, char validator[MOULT_VALIDATOR_BYTES]) {
    const char *text = text_in(object, "validator");
    if (text != NULL && strlen(text) < MOULT_VALIDATOR_BYTES)
        snprintf(validator, MOULT_VALIDATOR_BYTES, "%s", text);
}

static void take_failure(struct moult_fetch_line *line, const json_t *object,
                         const char *sentence) {
    json_int_t code = json_integer_value(json_object_get(object, "code"));
    json_int_t pause_s = json_integer_value(json_object_get(object, "pause_s"));
    bool known = code > MOULT_OK && code <= MOULT_ERROR_UNAVAILABLE;
    moult_fail(&line->error, known ? (enum moult_error_code)code : MOULT_ERROR_SYSTEM, "%s",
               sentence);
    if (pause_s > 0)
        line->look.pause_s = pause_s < PAUSE_SECONDS_MAX ? (uint64_t)pause_s : PAUSE_SECONDS_MAX;
    line->kind = MOULT_FETCH_LINE_FAILED;
}

static void take_installed(struct moult_fetch_line *line, const json_t *object,
                           const char *revision) {
    json_int_t bytes = json_integer_value(json_object_get(object, "bytes"));
    json_int_t fetched = json_integer_value(json_object_get(object, "fetched"));
    if (strlen(revision) != MOULT_SHA256_HEX - 1 ||
        strspn(revision, "0123456789abcdef") != MOULT_SHA256_HEX - 1 || bytes < 0 || fetched < 0)
        return;
    memcpy(line->installed.revision, revision, MOULT_SHA256_HEX);
    line->installed.bytes = (uint64_t)bytes;
    line->installed.fetched = (uint64_t)fetched;
    line->installed.was_there = json_is_true(json_object_get(object, "was_there"));
    take_validator(object, line->installed.validator);
    line->kind = MOULT_FETCH_LINE_INSTALLED;
}

static void take_look(struct moult_fetch_line *line, const json_t *object, const char *result) {
    static const char *const names[] = {"unchanged", "changed", "incomplete"};
    const char *reason = text_in(object, "reason");
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(result, names[i]) == 0) {
            line->look.result = (enum moult_look_result)i;
            line->kind = MOULT_FETCH_LINE_LOOKED;
        }
    take_validator(object, line->look.validator);
    if (reason != NULL && reason[0] != '\0')
        moult_fail(&line->look.reason, MOULT_ERROR_UNAVAILABLE, "%s", reason);
}

static void take_paths(struct moult_fetch_line *line, const json_t *object) {
    const char *above = text_in(object, "above");
    const json_t *paths = json_object_get(object, "paths");
    if (above != NULL && above[0] == '/')
        line->look.above = moult_copy_string(above);
    for (size_t i = 0; i < json_array_size(paths); i++) {
        const char *path = text_of(json_array_get(paths, i));
        if (path != NULL && path[0] == '/' && line->look.path_count < MOULT_LOOK_PATHS_MAX)
            line->look.paths[line->look.path_count++] = moult_copy_string(path);
    }
}

void moult_fetch_line_parse(struct moult_fetch_line *line, const char *bytes, size_t size) {
    *line = (struct moult_fetch_line){.kind = MOULT_FETCH_LINE_NOTHING};
    json_t *object = moult_json_read_object(bytes, size, NULL);
    const char *revision = text_in(object, "revision");
    const char *sentence = text_in(object, "error");
    const char *look = text_in(object, "look");
    double all = json_number_value(json_object_get(object, "all"));
    double done = json_number_value(json_object_get(object, "done"));
    if (revision != NULL) {
        take_installed(line, object, revision);
    } else if (sentence != NULL) {
        take_failure(line, object, sentence);
    } else if (look != NULL) {
        take_look(line, object, look);
    } else if (all > 0) {
        line->kind = MOULT_FETCH_LINE_ADVANCE;
        line->progress = done < 0 ? 0 : done > all ? 1 : done / all;
    }
    take_paths(line, object);
    json_decref(object);
}

void moult_fetch_line_release(struct moult_fetch_line *line) {
    moult_look_release(&line->look);
}
