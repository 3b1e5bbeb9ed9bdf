/* `moult embed`: texts in, vectors out, without a server. */
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/precision.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "cli/vectors.h"
#include "model/json.h"
#include "model/model.h"

/* One portion is read, encoded and written before the next is read: enough texts to
 * group by length and to fill all threads, and a bound for the memory. */
enum { PORTION_TEXTS_MAX = 1024 };
#define PORTION_BYTES_MAX (4 * MOULT_MIB)

struct options {
    const char *model;
    const char *input;      /* NULL: standard input. */
    const char *output;     /* NULL: standard output. */
    uint32_t threads;
    enum moult_precision precision;
    enum moult_prompt prompt;
    bool jsonl;
    bool help;
};

struct portion {
    struct moult_text texts[PORTION_TEXTS_MAX];
    size_t count;
    size_t bytes;
};

struct reader {
    FILE *file;
    const char *name;
    bool jsonl;
    char *line;
    size_t line_capacity;
    size_t line_number;
    uint64_t bytes_all;     /* 0 where nobody knows, as on a pipe. */
    uint64_t bytes_done;
    bool ended;
};

static const char usage[] =
    "Usage: moult embed MODEL [options] < TEXTS\n"
    "\n"
    "Turns texts, one a line, into vectors. MODEL is a folder in sentence-transformers layout.\n"
    "\n"
    "  --input FILE      read FILE instead of standard input\n"
    "  --jsonl           a line is a JSON string, or an object with a \"text\"\n"
    "  --output FILE     write FILE instead of standard output: an array of float32 for NumPy\n"
    "                    where it ends in .npy, else lines {\"index\", \"embedding\"}\n"
    "  --prompt NAME     put the model's prompt before each text: query or document (default:\n"
    "                    the model's default prompt, if it has one)\n"
    "  --precision RUNG  arithmetic: f32, int16, int8, or auto, the fastest here whose vectors\n"
    "                    stay within a cosine of 0.9999 of f32 (default: auto)\n"
    "  --threads N       compute threads (default: as many as this process may use)\n"
    "  --help            this text\n";

static int read_options(int argc, char **argv, struct options *options);
static int embed(const struct options *options, struct moult_error *error);

int moult_cli_embed(int argc, char **argv) {
    struct options options = {0};
    struct moult_error error = {0};

    if (read_options(argc, argv, &options) != 0)
        return 2;
    if (options.help) {
        fputs(usage, stdout);
        return 0;
    }
    if (embed(&options, &error) == 0)
        return 0;
    fprintf(stderr, "moult embed: %s\n", error.message);
    return 1;
}

static int refuse(const char *what, const char *value) {
    fprintf(stderr, "moult embed: %s%s See moult embed --help.\n", what, value);
    return -1;
}

static int read_threads(const char *value, uint32_t *threads) {
    char *end;
    unsigned long number = strtoul(value, &end, 10);

    if (*value < '0' || *value > '9' || *end != '\0' || number > MOULT_THREADS_MAX)
        return refuse("--threads takes a number from 0 to 256.", "");
    *threads = (uint32_t)number;
    return 0;
}

static int read_prompt(const char *value, enum moult_prompt *prompt) {
    if (strcmp(value, "query") == 0)
        *prompt = MOULT_PROMPT_QUERY;
    else if (strcmp(value, "document") == 0)
        *prompt = MOULT_PROMPT_DOCUMENT;
    else
        return refuse("--prompt takes query or document.", "");
    return 0;
}

static int read_options(int argc, char **argv, struct options *options) {
    static const struct option known[] = {
        {"input", required_argument, NULL, 'i'},  {"output", required_argument, NULL, 'o'},
        {"jsonl", no_argument, NULL, 'j'},        {"prompt", required_argument, NULL, 'p'},
        {"precision", required_argument, NULL, 'r'},
        {"threads", required_argument, NULL, 't'}, {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option, result = 0;

    optind = 1;
    while (result == 0 && (option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
        switch (option) {
        case 'i': options->input = optarg; break;
        case 'o': options->output = optarg; break;
        case 'j': options->jsonl = true; break;
        case 'h': options->help = true; break;
        case 'p': result = read_prompt(optarg, &options->prompt); break;
        case 'r':
            if (!moult_precision_parse(optarg, &options->precision))
                result = refuse("--precision takes auto, f32, int16 or int8.", "");
            break;
        case 't': result = read_threads(optarg, &options->threads); break;
        default: result = -1;
        }
    }
    if (result != 0 || options->help)
        return result;
    if (optind == argc)
        return refuse("Which model? Name its folder.", "");
    options->model = argv[optind];
    if (optind + 1 < argc)
        return refuse("One model at a time; too much: ", argv[optind + 1]);
    return 0;
}

/* Reading. */

static int open_reader(struct reader *reader, const struct options *options,
                       struct moult_error *error) {
    struct stat status;

    *reader = (struct reader){
        .file = stdin,
        .name = options->input ? options->input : "standard input",
        .jsonl = options->jsonl,
    };
    if (options->input != NULL)
        reader->file = fopen(options->input, "rbe");
    if (reader->file == NULL)
        return moult_fail_errno(error, "%s cannot be opened", options->input);
    if (fstat(fileno(reader->file), &status) == 0 && S_ISREG(status.st_mode))
        reader->bytes_all = (uint64_t)status.st_size;
    return 0;
}

static void close_reader(struct reader *reader) {
    if (reader->file != NULL && reader->file != stdin)
        fclose(reader->file);
    free(reader->line);
}

static int fail_line(const struct reader *reader, struct moult_error *error, const char *why) {
    return moult_fail(error, MOULT_ERROR_INVALID, "Line %zu of %s %s.", reader->line_number,
                      reader->name, why);
}

static void add_text(struct portion *portion, const char *bytes, size_t size) {
    portion->texts[portion->count++] = (struct moult_text){moult_copy_bytes(bytes, size), size};
    portion->bytes += size;
}

static int add_json(const struct reader *reader, struct portion *portion, size_t size,
                    struct moult_error *error) {
    json_t *value = moult_model_json_parse(reader->line, size, JSON_DECODE_ANY | JSON_ALLOW_NUL,
                                           "The line", error);
    const json_t *text = json_is_object(value) ? json_object_get(value, "text") : value;
    int result = 0;

    if (value == NULL)
        return moult_fail_within(error, "Line %zu of %s", reader->line_number, reader->name);
    if (json_is_string(text))
        add_text(portion, json_string_value(text), json_string_length(text));
    else
        result = fail_line(reader, error, "is neither a JSON string nor an object with a \"text\"");
    json_decref(value);
    return result;
}

/* Reads a line into the portion, or sets `ended`. */
static int read_line(struct reader *reader, struct portion *portion, struct moult_error *error) {
    ssize_t got = getline(&reader->line, &reader->line_capacity, reader->file);
    size_t size = (size_t)got;

    if (got < 0) {
        reader->ended = true;
        if (ferror(reader->file))
            return moult_fail_errno(error, "%s cannot be read", reader->name);
        return 0;
    }
    reader->line_number++;
    reader->bytes_done += size;
    if (size > 0 && reader->line[size - 1] == '\n')
        size--;
    if (size > 0 && reader->line[size - 1] == '\r')
        size--;
    if (size > MOULT_BODY_BYTES_MAX)
        return fail_line(reader, error, "is longer than 16 MiB");
    if (!moult_utf8_valid(reader->line, size))
        return fail_line(reader, error, "is not valid UTF-8");
    if (reader->jsonl)
        return add_json(reader, portion, size, error);
    add_text(portion, reader->line, size);
    return 0;
}

static int read_portion(struct reader *reader, struct portion *portion,
                        struct moult_error *error) {
    while (!reader->ended && portion->count < PORTION_TEXTS_MAX &&
           portion->bytes < PORTION_BYTES_MAX) {
        if (read_line(reader, portion, error) != 0)
            return -1;
    }
    return 0;
}

static void clear_portion(struct portion *portion) {
    for (size_t i = 0; i < portion->count; i++)
        free((char *)(uintptr_t)portion->texts[i].bytes);
    portion->count = portion->bytes = 0;
}

/* Embedding. */

static void advance_load(void *context, double done) {
    moult_progress_draw(context, done, "");
}

static struct moult_model *load(const struct options *options, struct moult_error *error) {
    int fd = open(options->model, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct moult_model_files *files = NULL;
    struct moult_model *model = NULL;
    struct moult_progress bar;
    struct moult_load_progress progress = {advance_load, &bar};

    if (fd < 0) {
        moult_fail_errno(error, "%s cannot be opened", options->model);
        return NULL;
    }
    moult_progress_begin(&bar, "loading  ");
    files = moult_model_files_open(fd, error);
    close(fd);
    if (files != NULL)
        model = moult_model_load(
            files, moult_kernels_best(),
            &(struct moult_model_options){.threads = options->threads,
                                          .precision = options->precision},
            &progress, error);
    moult_model_files_close(files);
    moult_progress_end(&bar);
    if (model == NULL)
        moult_fail_within(error, "%s", options->model);
    return model;
}

static void show(struct moult_progress *progress, const struct reader *reader, size_t texts) {
    double seconds = (double)(moult_clock_ns() - progress->began_ns) * 1e-9;
    double done = reader->bytes_all == 0
                      ? -1
                      : (double)reader->bytes_done / (double)reader->bytes_all;
    char note[64];

    snprintf(note, sizeof note, "%zu texts, %.0f/s", texts, (double)texts / seconds);
    moult_progress_draw(progress, done, note);
}

static int embed_all(const struct options *options, const struct moult_model *model,
                     struct reader *reader, struct moult_vector_writer *writer,
                     struct moult_error *error) {
    size_t C = moult_model_info(model)->dimensions, texts = 0;
    struct portion *portion = moult_allocate(1, sizeof *portion);
    float *vectors = moult_allocate(PORTION_TEXTS_MAX * C, sizeof *vectors);
    struct moult_progress progress;
    int result = 0;

    moult_progress_begin(&progress, "embedding");
    while (result == 0 && !reader->ended) {
        clear_portion(portion);
        result = read_portion(reader, portion, error);
        if (result == 0)
            result = moult_model_encode(model, portion->texts, portion->count, options->prompt,
                                        vectors, NULL, error);
        if (result == 0)
            result = moult_vector_writer_add(writer, vectors, portion->count, error);
        texts += portion->count;
        show(&progress, reader, texts);
    }
    moult_progress_end(&progress);
    clear_portion(portion);
    free(portion);
    free(vectors);
    return result;
}

static int embed(const struct options *options, struct moult_error *error) {
    struct moult_vector_writer *writer = NULL;
    struct moult_model *model = NULL;
    struct reader reader;
    int result = open_reader(&reader, options, error);

    if (result == 0 && (model = load(options, error)) == NULL)
        result = -1;
    if (result == 0) {
        writer = moult_vector_writer_open(options->output, moult_model_info(model)->dimensions,
                                          error);
        result = writer == NULL ? -1 : embed_all(options, model, &reader, writer, error);
    }
    if (writer != NULL && moult_vector_writer_close(writer, result == 0, error) != 0)
        result = -1;
    close_reader(&reader);
    moult_model_close(model);
    return result;
}
