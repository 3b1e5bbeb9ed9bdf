/* `moult import`: the documents of a file into a running server. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/figures.h"
#include "cli/given.h"
#include "cli/importing.h"
#include "cli/interrupt.h"
#include "cli/resume.h"

struct arguments {
    struct moult_import_options import;
    const char *collection, *format, *delimiter, *resume_file, *vectors;
    bool restart;
};

static int complain(const char *format, const char *what) {
    fprintf(stderr, "moult import: ");
    fprintf(stderr, format, what);
    fprintf(stderr, " See moult import --help.\n");
    return -1;
}

/* What the options mean together. */

static bool ends_with(const char *text, const char *end) {
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

static const char *format_of(const struct arguments *arguments) {
    const char *file = arguments->import.file;
    if (arguments->format != NULL)
        return arguments->format;
    if (file == NULL || ends_with(file, ".jsonl") || ends_with(file, ".ndjson"))
        return "jsonl";
    return ends_with(file, ".tsv") ? "tsv" : ends_with(file, ".csv") ? "csv" : NULL;
}

static int settle_format(struct arguments *arguments) {
    struct moult_record_options *reading = &arguments->import.reading;
    const char *format = format_of(arguments);
    if (format == NULL)
        return complain("what is in %s? --format says it: jsonl, csv or tsv.",
                        arguments->import.file);
    if (strcmp(format, "jsonl") != 0 && strcmp(format, "csv") != 0 && strcmp(format, "tsv") != 0)
        return complain("--format is jsonl, csv or tsv, not \"%.40s\".", format);
    reading->format =
        strcmp(format, "jsonl") == 0 ? MOULT_RECORDS_JSONL : MOULT_RECORDS_CSV;
    reading->delimiter = strcmp(format, "tsv") == 0 ? '\t' : ',';
    const char *delimiter = arguments->delimiter;
    if (delimiter == NULL)
        return 0;
    if (strcmp(delimiter, "tab") == 0 || strcmp(delimiter, "\\t") == 0)
        delimiter = "\t";
    if (strlen(delimiter) != 1 || strchr("\"\r\n", delimiter[0]) != NULL ||
        (unsigned char)delimiter[0] >= 0x80)
        return complain("--delimiter is one ASCII character, or tab, not \"%.40s\".", delimiter);
    reading->delimiter = delimiter[0];
    return 0;
}

/* A sentence that tells one import from others: a repeat of it goes on, another one does not. */
static char *task_of(const struct arguments *arguments) {
    const struct moult_import_options *import = &arguments->import;
    const struct moult_record_options *reading = &import->reading;
    char *url = moult_client_url(&import->client, import->path);
    char *task = moult_format(
        "import of %s (text \"%s\", id \"%s\"%s%s, delimiter %d) into %s",
        reading->format == MOULT_RECORDS_CSV ? "CSV" : "JSONL", reading->text_field,
        reading->id_field, reading->rest ? ", metadata of the rest" : "",
        reading->numbers ? ", numbers" : "", reading->delimiter, url);
    free(url);
    return task;
}

static int settle_arguments(struct arguments *arguments, const char *operand) {
    struct moult_import_options *import = &arguments->import;
    import->file = strcmp(operand, "-") == 0 ? NULL : operand;
    if (settle_format(arguments) != 0)
        return -1;
    if (strcmp(import->reading.text_field, import->reading.id_field) == 0)
        return complain("text and id are one field: \"%.40s\".", import->reading.id_field);
    if (import->file == NULL && arguments->vectors != NULL)
        return complain("%s is read once; --vectors is for files.", "standard input");
    if (import->file == NULL && arguments->resume_file != NULL)
        return complain("%s cannot be gone on with where it broke off; --resume-file is for "
                        "files.", "standard input");
    return 0;
}

/* What came of it. */

static uint64_t documents_of(const struct moult_import_place *place) {
    return place->records - place->skipped;
}

static void print_left_out(const struct moult_import_result *result) {
    uint64_t count = result->reached.skipped;
    char text[MOULT_FIGURE_BYTES];
    if (count == 0)
        return;
    if (count == 1)
        fprintf(stderr, "One record was left out:\n");
    else
        fprintf(stderr, "%s records were left out:\n", moult_figure_count(text, count));
    for (unsigned i = 0; i < result->bad_count; i++)
        fprintf(stderr, "  line %" PRIu64 ": %s\n", result->bad[i].line, result->bad[i].why);
    if (count > result->bad_count)
        fprintf(stderr, "  …\n");
}

static void print_done(const struct arguments *arguments,
                       const struct moult_import_result *result) {
    uint64_t count = documents_of(&result->reached) - documents_of(&result->resumed);
    char documents[MOULT_FIGURE_BYTES], seconds[MOULT_FIGURE_BYTES], before[MOULT_FIGURE_BYTES];
    printf("imported %s into %s in %s (%.0f/s)", moult_figure_documents(documents, count),
           arguments->collection != NULL ? arguments->collection : "default",
           moult_figure_seconds(seconds, result->seconds), (double)count / result->seconds);
    if (arguments->import.vector != NULL)
        printf(", %s with the vectors that were there",
               moult_figure_count(before, result->vectors));
    if (result->resumed.records > 0)
        printf(", after %s before", moult_figure_documents(before, documents_of(&result->resumed)));
    printf(".\n");
    if (result->ignored != NULL)
        fprintf(stderr, "Only id, text and metadata were taken, not \"%s\"; --metadata-rest takes "
                "such keys into the metadata.\n", result->ignored);
}

/* How to go on. */
static void print_broken_off(const struct arguments *arguments,
                             const struct moult_import_result *result) {
    char documents[MOULT_FIGURE_BYTES];
    moult_figure_documents(documents, documents_of(&result->reached));
    if (arguments->import.resume_path == NULL)
        fprintf(stderr, "%s imported. Imported again, they replace themselves.\n", documents);
    else if (result->reached.records == 0)
        fprintf(stderr, "Nothing is imported yet.\n");
    else
        fprintf(stderr, "%s imported, up to line %" PRIu64 "; the same command goes on from "
                "there%s.\n", documents, result->reached.line - 1,
                result->bad_line != 0 ? ", once that is mended" : "");
    if (result->bad_line != 0 && !arguments->import.skip_bad)
        fprintf(stderr, "--skip-bad leaves such records out.\n");
}

/* Compares the vectors that were given, and imports. */
static int compare_and_import(struct arguments *arguments, struct moult_import_result *result,
                              struct moult_error *error) {
    struct moult_import_options *import = &arguments->import;
    const volatile int *stop = moult_interrupt_watch();
    struct moult_given_figures figures;
    if (arguments->vectors == NULL)
        return moult_import(import, stop, result, error);
    struct moult_given *given =
        moult_given_open(arguments->vectors, &import->client, arguments->collection, import->file,
                         &import->reading, import->retry_s, stop, &figures, error);
    if (given == NULL) {
        result->interrupted = *stop != 0;
        return -1;
    }
    fprintf(stderr, "The vectors fit: of %u documents that were encoded again, the lowest cosine "
            "is %.5f, the mean %.5f.\n", figures.rows, figures.least, figures.mean);
    import->vector = moult_given_vector;
    import->vector_context = given;
    import->C = moult_given_dimensions(given);
    import->fingerprint = moult_given_fingerprint(given);
    int ended = moult_import(import, stop, result, error);
    moult_given_close(given);
    return ended;
}

static int run(struct arguments *arguments) {
    struct moult_import_options *import = &arguments->import;
    struct moult_import_result result = {.seconds = 0};
    struct moult_error error;
    char *path = moult_client_path(arguments->collection, "/documents");
    import->path = path;
    char *task = task_of(arguments);
    char *resume = import->file == NULL ? NULL
                   : arguments->resume_file != NULL ? moult_copy_string(arguments->resume_file)
                                                    : moult_resume_path(import->file);
    import->task = task;
    import->resume_path = resume;
    int ended = 0;
    if (!moult_utf8_valid(task, strlen(task)))
        ended = moult_fail(&error, MOULT_ERROR_INVALID, "The names of files, fields and "
                           "collections must be UTF-8.");
    if (ended == 0 && arguments->restart && resume != NULL)
        ended = moult_resume_remove(resume, &error);
    if (ended == 0)
        ended = compare_and_import(arguments, &result, &error);
    if (ended == 0)
        print_done(arguments, &result);
    else
        fprintf(stderr, "moult import: %s\n", error.message);
    print_left_out(&result);
    if (ended != 0 && result.seconds > 0)
        print_broken_off(arguments, &result);
    if (result.interrupted)
        moult_interrupt_end();
    moult_import_result_release(&result);
    free(resume);
    free(task);
    free(path);
    return ended == 0 ? MOULT_EXIT_OK : MOULT_EXIT_FAILED;
}

int moult_cli_import(int argc, char **argv) {
    struct arguments arguments = {.restart = false};
    struct moult_import_options *import = &arguments.import;
    struct moult_record_options *reading = &import->reading;
    unsigned operand_count;
    struct moult_option options[] = {
        {.name = NULL}, {.name = NULL},
        {"--collection", "NAME", NULL, "where they go; it is made where there is none",
         MOULT_OPTION_TEXT, &arguments.collection, 0, 0},
        {"--model", "NAME", NULL,
         "the model that a new collection belongs to, where the server has several",
         MOULT_OPTION_TEXT, &import->client.model, 0, 0},
        {"--format", "FORMAT", NULL,
         "jsonl, csv or tsv (default by the file's name: .jsonl, .ndjson,\n"
         ".csv, .tsv; jsonl from standard input)",
         MOULT_OPTION_TEXT, &arguments.format, 0, 0},
        {"--text-field", "NAME", "text", "the key or column of the text", MOULT_OPTION_TEXT,
         &reading->text_field, 0, 0},
        {"--id-field", "NAME", "id", "the key or column of the id", MOULT_OPTION_TEXT,
         &reading->id_field, 0, 0},
        {"--metadata-rest", NULL, NULL, "of JSONL, take other keys into the metadata",
         MOULT_OPTION_FLAG, &reading->rest, 0, 0},
        {"--numbers", NULL, NULL, "of CSV, make numbers of what is written as JSON writes them",
         MOULT_OPTION_FLAG, &reading->numbers, 0, 0},
        {"--delimiter", "C", NULL, "of CSV, what stands between columns (default a comma)",
         MOULT_OPTION_TEXT, &arguments.delimiter, 0, 0},
        {"--skip-bad", NULL, NULL,
         "leave out records that are wrong; without, the first one ends it",
         MOULT_OPTION_FLAG, &import->skip_bad, 0, 0},
        {"--batch", "N", "256", "documents of one request", MOULT_OPTION_NUMBER, &import->batch, 1,
         MOULT_PARCEL_DOCUMENTS_MAX},
        {"--batch-bytes", "BYTES", "1M", "and about so many bytes", MOULT_OPTION_BYTES,
         &import->batch_bytes, 1, MOULT_BODY_BYTES_MAX},
        {"--vectors", "FILE", NULL,
         "vectors of these documents that exist already, as numpy.save writes\n"
         "them, a row for each; taken over if the server's model makes the same",
         MOULT_OPTION_TEXT, &arguments.vectors, 0, 0},
        {"--resume-file", "FILE", NULL,
         "where it is put down how far it came (default FILE.moult-progress,\n"
         "beside FILE)",
         MOULT_OPTION_TEXT, &arguments.resume_file, 0, 0},
        {"--restart", NULL, NULL, "begin anew", MOULT_OPTION_FLAG, &arguments.restart, 0, 0},
        {"--retry-for", "TIME", "5m", "how long to try a server that is lost or busy",
         MOULT_OPTION_SECONDS, &import->retry_s, 0, 0},
    };
    moult_client_options(&import->client, options);
    const struct moult_command_line line = {
        .usage = "moult import [OPTION …] FILE",
        .purpose =
            "Sends the documents of FILE (-: standard input) to a running server: lines\n"
            "{\"id\"?, \"text\", \"metadata\"?}, or CSV with a header, of which all columns but\n"
            "id and text become metadata. What was broken off goes on where it was. A\n"
            "document without an id gets one that is the same each time, so that a repeat\n"
            "replaces it.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .operands_max = 1,
        .operand_needed = "a file",
    };
    enum moult_parsed parsed = moult_options_parse(&line, argc, argv, &operand_count);
    if (parsed != MOULT_PARSED_OK)
        return parsed == MOULT_PARSED_HELP ? MOULT_EXIT_OK : MOULT_EXIT_USAGE;
    if (settle_arguments(&arguments, argv[1]) != 0)
        return MOULT_EXIT_USAGE;
    return run(&arguments);
}
