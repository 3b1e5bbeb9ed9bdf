/* See answer.h. The JSON is read by a strict scanner of its own: a body that is
 * not JSON to the last byte is wrong, and numbers go through strtof(), so that
 * no second rounding hides or makes a difference of bits. */
#include "answer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct scanner {
    const char *at, *end;
    bool bad;
};

struct check {
    const struct expectation *expectations;
    unsigned expectation_count;
    const struct expectation *named;
    const struct question *question;
    float *vector;               /* [C], the one just read. */
    unsigned vectors_seen;
    enum verdict verdict;
    char *why;
    size_t why_size;
};

static void read_embed(struct check *check, struct scanner *scanner);
static void read_openai(struct check *check, struct scanner *scanner);
static void blame(struct check *check, enum verdict verdict, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

enum verdict answer_check(const struct expectation *expectations, unsigned expectation_count,
                          const struct question *question, const char *fingerprint,
                          const char *body, size_t size, char *why, size_t why_size) {
    struct check check = {.expectations = expectations, .expectation_count = expectation_count,
                          .question = question, .verdict = VERDICT_RIGHT,
                          .why = why, .why_size = why_size};
    struct scanner scanner = {.at = body, .end = body + size};

    for (unsigned i = 0; i < expectation_count; i++)
        if (strcmp(expectations[i].fingerprint, fingerprint) == 0)
            check.named = &expectations[i];
    if (!check.named) {
        blame(&check, VERDICT_WRONG, "the answer names the unknown fingerprint \"%s\"",
              fingerprint);
        return check.verdict;
    }
    check.vector = malloc((check.named->C + 1) * sizeof(float));
    if (question->dialect == DIALECT_EMBED)
        read_embed(&check, &scanner);
    else
        read_openai(&check, &scanner);
    free(check.vector);

    if (scanner.bad || scanner.at != scanner.end)
        blame(&check, VERDICT_WRONG, "not the JSON that was expected, at byte %zu of %zu",
              (size_t)(scanner.at - body), size);
    else if (check.vectors_seen != question->count)
        blame(&check, VERDICT_WRONG, "%u vectors for %u texts", check.vectors_seen,
              question->count);
    return check.verdict;
}

/* The first blame counts. */
static void blame(struct check *check, enum verdict verdict, const char *format, ...) {
    va_list arguments;

    if (check->verdict != VERDICT_RIGHT)
        return;
    check->verdict = verdict;
    va_start(arguments, format);
    vsnprintf(check->why, check->why_size, format, arguments);
    va_end(arguments);
}

/* Compares check->vector with what the named model gives for the text at
 * `position` of the question; where it differs, looks for who gives it. */
static void judge(struct check *check, size_t position) {
    uint32_t text;

    if (position != check->vectors_seen++ || position >= check->question->count) {
        blame(check, VERDICT_WRONG, "index %zu as vector %u of an answer to %u texts", position,
              check->vectors_seen, check->question->count);
        return;
    }
    text = check->question->texts[position];
    for (unsigned i = 0; i <= check->expectation_count; i++) {
        const struct expectation *model = i ? &check->expectations[i - 1] : check->named;
        if (model->C == check->named->C
            && memcmp(check->vector, model->vectors + text * model->C,
                      model->C * sizeof(float)) == 0) {
            if (model != check->named)
                blame(check, VERDICT_MIXED, "text %u has the vector of %s in an answer of %s", text,
                      model->fingerprint, check->named->fingerprint);
            return;
        }
    }
    blame(check, VERDICT_WRONG, "text %u has a vector that no model gives (%a %a…, not %a %a…)",
          text, (double)check->vector[0], (double)check->vector[1],
          (double)check->named->vectors[text * check->named->C],
          (double)check->named->vectors[text * check->named->C + 1]);
}

/* ---- The scanner ---- */

static void skip_space(struct scanner *scanner) {
    while (scanner->at < scanner->end && strchr(" \t\r\n", *scanner->at) && *scanner->at)
        scanner->at++;
}

static bool take(struct scanner *scanner, char c) {
    skip_space(scanner);
    if (scanner->bad || scanner->at >= scanner->end || *scanner->at != c)
        return false;
    scanner->at++;
    return true;
}

static void expect(struct scanner *scanner, char c) {
    if (!take(scanner, c))
        scanner->bad = true;
}

/* A string, raw: escapes stay as they are. */
static const char *read_string(struct scanner *scanner, size_t *size) {
    const char *begin;

    expect(scanner, '"');
    begin = scanner->at;
    while (!scanner->bad && scanner->at < scanner->end && *scanner->at != '"') {
        if ((unsigned char)*scanner->at < 0x20)
            scanner->bad = true;
        scanner->at += *scanner->at == '\\' ? 2 : 1;
    }
    if (scanner->at >= scanner->end) {
        scanner->bad = true;
        *size = 0;
        return "";
    }
    *size = (size_t)(scanner->at - begin);
    scanner->at++;
    return begin;
}

static float read_number(struct scanner *scanner) {
    char *after;
    float value;

    skip_space(scanner);
    if (scanner->bad || !strchr("-0123456789", *scanner->at) || !*scanner->at) {
        scanner->bad = true;
        return 0;
    }
    value = strtof(scanner->at, &after);
    scanner->at = after;
    return value;
}

static void skip_value(struct scanner *scanner) {
    size_t size;

    skip_space(scanner);
    if (scanner->bad || scanner->at >= scanner->end) {
        scanner->bad = true;
    } else if (*scanner->at == '"') {
        read_string(scanner, &size);
    } else if (take(scanner, '[')) {
        if (take(scanner, ']'))
            return;
        do
            skip_value(scanner);
        while (!scanner->bad && take(scanner, ','));
        expect(scanner, ']');
    } else if (take(scanner, '{')) {
        if (take(scanner, '}'))
            return;
        do {
            read_string(scanner, &size);
            expect(scanner, ':');
            skip_value(scanner);
        } while (!scanner->bad && take(scanner, ','));
        expect(scanner, '}');
    } else if (strncmp(scanner->at, "null", 4) == 0 || strncmp(scanner->at, "true", 4) == 0) {
        scanner->at += 4;
    } else if (strncmp(scanner->at, "false", 5) == 0) {
        scanner->at += 5;
    } else {
        read_number(scanner);
    }
}

static bool is(const char *string, size_t size, const char *word) {
    return size == strlen(word) && memcmp(string, word, size) == 0;
}

/* ---- Vectors ---- */

/* [1.5,-2,…], exactly C numbers. */
static void read_decimal(struct check *check, struct scanner *scanner) {
    size_t n = 0;

    expect(scanner, '[');
    do {
        float value = read_number(scanner);
        if (n < check->named->C)
            check->vector[n] = value;
        n++;
    } while (!scanner->bad && take(scanner, ','));
    expect(scanner, ']');
    if (n != check->named->C)
        blame(check, VERDICT_WRONG, "a vector of %zu numbers, not %zu", n, check->named->C);
}

static int base64_value(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static void read_base64(struct check *check, struct scanner *scanner) {
    size_t size, bytes_wanted = check->named->C * sizeof(float), n = 0;
    const char *string = read_string(scanner, &size);
    unsigned char *out = (unsigned char *)check->vector;
    unsigned bits = 0, held = 0;

    if (size != (bytes_wanted + 2) / 3 * 4) {
        blame(check, VERDICT_WRONG, "%zu digits of base64 for %zu numbers", size, check->named->C);
        return;
    }
    while (size && string[size - 1] == '=')
        size--;
    for (size_t i = 0; i < size; i++) {
        int value = base64_value(string[i]);
        if (value < 0) {
            blame(check, VERDICT_WRONG, "a character outside base64 at %zu", i);
            return;
        }
        bits = bits << 6 | (unsigned)value;
        held += 6;
        if (held >= 8 && n < bytes_wanted) {
            held -= 8;
            out[n++] = (unsigned char)(bits >> held);
        }
    }
    if (n != bytes_wanted)
        blame(check, VERDICT_WRONG, "base64 of %zu bytes, not %zu", n, bytes_wanted);
}

/* ---- Dialects ---- */

/* [[…],…] */
static void read_embed(struct check *check, struct scanner *scanner) {
    size_t position = 0;

    expect(scanner, '[');
    do {
        read_decimal(check, scanner);
        if (!scanner->bad)
            judge(check, position++);
    } while (!scanner->bad && take(scanner, ','));
    expect(scanner, ']');
    skip_space(scanner);
}

/* {"object":"embedding","embedding":…,"index":0}; its fields in any order. */
static void read_openai_item(struct check *check, struct scanner *scanner) {
    bool has_vector = false;
    float index = -1;

    expect(scanner, '{');
    do {
        size_t size;
        const char *key = read_string(scanner, &size);
        expect(scanner, ':');
        if (is(key, size, "embedding")) {
            has_vector = true;
            if (check->question->dialect == DIALECT_OPENAI_BASE64)
                read_base64(check, scanner);
            else
                read_decimal(check, scanner);
        } else if (is(key, size, "index")) {
            index = read_number(scanner);
        } else {
            skip_value(scanner);
        }
    } while (!scanner->bad && take(scanner, ','));
    expect(scanner, '}');
    if (scanner->bad)
        return;
    if (!has_vector || index < 0)
        blame(check, VERDICT_WRONG, "an item without embedding or index");
    else
        judge(check, (size_t)index);
}

/* The name in an answer ends in "@fp8" of the header's fingerprint. */
static void check_model_name(struct check *check, const char *name, size_t size) {
    const char *at = memrchr(name, '@', size);

    if (!at || size - (size_t)(at + 1 - name) != 8
        || memcmp(at + 1, check->named->fingerprint, 8) != 0)
        blame(check, VERDICT_MIXED, "the header says %s, the body says \"%.*s\"",
              check->named->fingerprint, (int)size, name);
}

static void read_openai(struct check *check, struct scanner *scanner) {
    bool has_model = false;

    expect(scanner, '{');
    do {
        size_t size;
        const char *key = read_string(scanner, &size);
        expect(scanner, ':');
        if (is(key, size, "data")) {
            expect(scanner, '[');
            do
                read_openai_item(check, scanner);
            while (!scanner->bad && take(scanner, ','));
            expect(scanner, ']');
        } else if (is(key, size, "model")) {
            key = read_string(scanner, &size);
            has_model = true;
            check_model_name(check, key, size);
        } else {
            skip_value(scanner);
        }
    } while (!scanner->bad && take(scanner, ','));
    expect(scanner, '}');
    skip_space(scanner);
    if (!scanner->bad && !has_model)
        blame(check, VERDICT_WRONG, "an answer that names no model");
}

/* ---- The head ---- */

static const char *header_value(const char *line, const char *name) {
    size_t size = strlen(name);

    if (strncasecmp(line, name, size) != 0 || line[size] != ':')
        return NULL;
    line += size + 1;
    return line + strspn(line, " \t");
}

int answer_head_read(struct answer_head *head, const char *bytes, size_t size) {
    const char *end = size ? strstr(bytes, "\r\n\r\n") : NULL;
    const char *value;

    memset(head, 0, sizeof(*head));
    if (!end)
        return size > 65536 ? -1 : 0;
    if (sscanf(bytes, "HTTP/1.1 %3u", &head->status) != 1 || head->status > 599)
        return -1;
    head->head_size = (size_t)(end + 4 - bytes);
    for (const char *line = strchr(bytes, '\n'); line && line < end; line = strchr(line, '\n')) {
        line++;
        if ((value = header_value(line, "content-length"))) {
            head->has_length = true;
            head->body_size = strtoull(value, NULL, 10);
        } else if ((value = header_value(line, "x-moult-generation"))) {
            head->generation = strtoull(value, NULL, 10);
        } else if ((value = header_value(line, "x-moult-fingerprint"))) {
            snprintf(head->fingerprint, sizeof(head->fingerprint), "%.16s", value);
        } else if ((value = header_value(line, "connection"))) {
            head->closes = strncasecmp(value, "close", 5) == 0;
        } else if ((value = header_value(line, "retry-after"))) {
            head->has_retry_after = strtoul(value, NULL, 10) >= 1;
        }
    }
    if (!head->has_length)
        return -1;
    return size >= head->head_size + head->body_size;
}

/* ---- Expectations ---- */

static _Noreturn void die(const char *format, const char *name) {
    fprintf(stderr, format, name);
    exit(2);
}

/* NumPy's format, version 1 or 2: magic, version, length, a dictionary in ASCII, rows. */
void expectation_open(struct expectation *expectation, const char *argument) {
    const char *file_name = strchr(argument, '=');
    unsigned char start[12];
    char dictionary[1024];
    const char *shape;
    size_t length;
    FILE *file;

    if (!file_name || file_name - argument < FINGERPRINT_HEAD)
        die("load: \"%s\" is not FINGERPRINT=FILE.npy.\n", argument);
    memcpy(expectation->fingerprint, argument, FINGERPRINT_HEAD);
    expectation->fingerprint[FINGERPRINT_HEAD] = 0;
    file = fopen(++file_name, "rb");
    if (!file || fread(start, 1, 10, file) != 10 || memcmp(start, "\x93NUMPY", 6) != 0)
        die("load: %s is not a .npy file.\n", file_name);
    length = start[8] | (size_t)start[9] << 8;
    if (start[6] > 1 && fread(start + 10, 1, 2, file) == 2)
        length |= (size_t)start[10] << 16 | (size_t)start[11] << 24;
    if (length >= sizeof(dictionary) || fread(dictionary, 1, length, file) != length)
        die("load: %s has no usable header.\n", file_name);
    dictionary[length] = 0;
    shape = strstr(dictionary, "'shape': (");
    if (!strstr(dictionary, "'<f4'") || !strstr(dictionary, "False") || !shape
        || sscanf(shape, "'shape': (%zu, %zu)", &expectation->rows, &expectation->C) != 2)
        die("load: %s is not a matrix of little-endian f32 by rows.\n", file_name);
    expectation->vectors = malloc(expectation->rows * expectation->C * sizeof(float));
    if (fread(expectation->vectors, expectation->C * sizeof(float), expectation->rows, file)
        != expectation->rows)
        die("load: %s is shorter than its header says.\n", file_name);
    fclose(file);
}
