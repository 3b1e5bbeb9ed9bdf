/* `moult export`: the documents of a running server as lines that `moult import` takes. It goes
 * through them page by page and holds nothing up, so it is no picture of one moment: a document
 * that is changed meanwhile may come as it was, or as it is now. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/exchange.h"
#include "cli/figures.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/resume.h"

#define PAGE_DOCUMENTS 500u
#define LINES_BYTES_MAX (256 * MOULT_MIB)   /* Of a page. */
#define SAVE_EVERY_NS 1000000000u
#define LOOK_EVERY_MS 100

struct export {
    struct moult_client client;
    const char *collection, *output;
    bool restart;
    uint32_t retry_s;

    char *path;                  /* Of the requests. */
    char *incomplete, *resume;   /* NULL: standard output. */
    char *task;
    int fd;
    struct moult_exchange *exchange;
    char *cursor;                /* Behind what is written; NULL: the beginning, or the end. */
    bool ended;
    uint64_t bytes, documents, documents_before;
    uint64_t total;              /* 0: nobody says. */
    struct moult_progress bar;
    uint64_t saved_ns;
};

/* What is on record. */

static int save(struct export *export, struct moult_error *error) {
    if (export->resume == NULL || export->cursor == NULL)
        return 0;
    export->saved_ns = moult_clock_ns();
    if (fdatasync(export->fd) != 0)
        return moult_fail_errno(error, "%s cannot be written", export->incomplete);
    json_t *state = json_pack("{s:s, s:I, s:I}", "cursor", export->cursor, "bytes",
                              (json_int_t)export->bytes, "documents",
                              (json_int_t)export->documents);
    MOULT_REQUIRE(state != NULL);
    return moult_resume_write(export->resume, export->task, state, error);
}

static int read_state(struct export *export, const json_t *state) {
    json_int_t bytes, documents;
    const char *cursor;
    struct stat status;
    if (json_unpack((json_t *)(uintptr_t)state, "{s:s, s:I, s:I}", "cursor", &cursor, "bytes",
                    &bytes, "documents", &documents) != 0 ||
        bytes < 0 || documents < 0 || fstat(export->fd, &status) != 0 || status.st_size < bytes)
        return -1;
    export->cursor = moult_copy_string(cursor);
    export->bytes = (uint64_t)bytes;
    export->documents = export->documents_before = (uint64_t)documents;
    return 0;
}

static int go_on(struct export *export, struct moult_error *error) {
    if (export->restart && moult_resume_remove(export->resume, error) != 0)
        return -1;
    json_t *state = moult_resume_read(export->resume, export->task, error);
    if (state == NULL && error->code != MOULT_OK)
        return -1;
    int result = state != NULL ? read_state(export, state) : 0;
    json_decref(state);
    if (result != 0)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s and %s do not fit together: begin anew with --restart.",
                          export->resume, export->incomplete);
    if (ftruncate(export->fd, (off_t)export->bytes) != 0 ||
        lseek(export->fd, 0, SEEK_END) < 0)
        return moult_fail_errno(error, "%s cannot be written", export->incomplete);
    return 0;
}

static int open_output(struct export *export, struct moult_error *error) {
    export->fd = STDOUT_FILENO;
    if (export->output == NULL)
        return 0;
    export->incomplete = moult_format("%s.incomplete", export->output);
    export->resume = moult_resume_path(export->output);
    export->fd = open(export->incomplete, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (export->fd < 0)
        return moult_fail_errno(error, "%s cannot be written", export->incomplete);
    return go_on(export, error);
}

static int close_output(struct export *export, struct moult_error *error) {
    if (export->output == NULL)
        return 0;
    if (fdatasync(export->fd) != 0 || rename(export->incomplete, export->output) != 0)
        return moult_fail_errno(error, "%s cannot be written", export->output);
    return moult_resume_remove(export->resume, error);
}

/* Pages. */

static void send_next(struct export *export) {
    struct moult_buffer path;
    moult_buffer_init(&path, MOULT_URL_BYTES_MAX);
    moult_buffer_format(&path, "%s?limit=%u", export->path, PAGE_DOCUMENTS);
    if (export->cursor != NULL) {
        char *escaped = moult_client_escape(export->cursor);
        moult_buffer_format(&path, "&cursor=%s", escaped);
        free(escaped);
    }
    moult_exchange_send(export->exchange, 0, path.bytes, NULL, 0);
    moult_buffer_release(&path);
}

static int add_line(struct moult_buffer *lines, const json_t *document, struct moult_error *error) {
    static const char *const keys[] = {"id", "text", "metadata"};
    json_t *kept = json_object();
    for (unsigned i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        json_t *value = json_object_get(document, keys[i]);
        if (value != NULL && !json_is_null(value))
            json_object_set(kept, keys[i], value);
    }
    bool whole = json_is_string(json_object_get(kept, "id")) &&
                 json_is_string(json_object_get(kept, "text"));
    char *text = json_dumps(kept, JSON_COMPACT);
    json_decref(kept);
    if (whole) {
        moult_buffer_text(lines, text);
        moult_buffer_text(lines, "\n");
    }
    free(text);
    if (lines->overflowed)
        return moult_fail(error, MOULT_ERROR_LIMIT, "A page of documents is longer than %lu MiB.",
                          LINES_BYTES_MAX / MOULT_MIB);
    return whole ? 0
                 : moult_fail(error, MOULT_ERROR_INVALID,
                              "The server gave a document without id or text; is it a moult?");
}

/* Asks for the page behind it before this one is written. */
static int take_page(struct export *export, const json_t *page, struct moult_error *error) {
    const json_t *documents = json_object_get(page, "documents");
    const json_t *cursor = json_object_get(page, "cursor");
    struct moult_buffer lines;
    size_t index;
    const json_t *document;
    int result = 0;
    if (!json_is_array(documents))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "The server answered without a list of documents; is it a moult?");
    free(export->cursor);
    export->cursor = json_is_string(cursor) ? moult_copy_string(json_string_value(cursor)) : NULL;
    export->ended = export->cursor == NULL;
    if (!export->ended)
        send_next(export);
    moult_buffer_init(&lines, LINES_BYTES_MAX);
    json_array_foreach (documents, index, document)
        if (result == 0)
            result = add_line(&lines, document, error);
    if (result == 0 && lines.size > 0)
        result = moult_write_exact(export->fd, lines.bytes, lines.size,
                                   export->output != NULL ? export->incomplete : "Standard output",
                                   error);
    export->bytes += lines.size;
    export->documents += json_array_size(documents);
    moult_buffer_release(&lines);
    return result;
}

static int await_page(struct export *export, struct moult_error *error) {
    struct moult_reply reply;
    if (moult_exchange_wait(export->exchange, LOOK_EVERY_MS, &reply) < 0)
        return 0;
    int result = reply.error.code == MOULT_OK
                     ? take_page(export, reply.value, error)
                     : moult_fail(error, reply.error.code, "%s", reply.error.message);
    moult_reply_release(&reply);
    return result;
}

static void draw(struct export *export) {
    char count[MOULT_FIGURE_BYTES], left[MOULT_FIGURE_BYTES], note[160];
    const char *trouble = moult_exchange_trouble(export->exchange);
    double seconds = (double)(moult_clock_ns() - export->bar.began_ns) * 1e-9;
    double rate = (double)(export->documents - export->documents_before) / seconds;
    int used = snprintf(note, sizeof note, "%s, %.0f/s",
                        moult_figure_documents(count, export->documents), rate);
    if (trouble != NULL)
        snprintf(note + used, sizeof note - (size_t)used, "; waiting: %.90s", trouble);
    else if (export->total > export->documents && rate > 0 && seconds > 1)
        snprintf(note + used, sizeof note - (size_t)used, ", %s left",
                 moult_figure_seconds(left, (double)(export->total - export->documents) / rate));
    moult_progress_draw(&export->bar,
                        export->total > 0 ? (double)export->documents / (double)export->total : -1,
                        note);
}

/* How many there are, for the bar alone. */
static int ask_total(struct export *export, const volatile int *stop, struct moult_error *error) {
    struct moult_reply reply;
    char *path = moult_client_path(export->collection != NULL ? export->collection : "default", "");
    int result = moult_exchange_ask(export->exchange, path, NULL, 0, stop, &reply);
    free(path);
    if (result != 0)
        return 0;
    if (reply.status == 0)
        result = moult_fail(error, reply.error.code, "%s", reply.error.message);
    json_int_t total = json_integer_value(json_object_get(reply.value, "documents"));
    export->total = total > 0 ? (uint64_t)total : 0;
    moult_reply_release(&reply);
    return result;
}

static int export_all(struct export *export, const volatile int *stop, struct moult_error *error) {
    export->exchange = moult_exchange_open(&export->client, 1, export->retry_s, error);
    if (export->exchange == NULL)
        return -1;
    export->saved_ns = moult_clock_ns();
    moult_progress_begin(&export->bar, "exporting");
    export->bar.shown = isatty(STDERR_FILENO) && (export->output != NULL || !isatty(STDOUT_FILENO));
    int result = ask_total(export, stop, error);
    if (result == 0 && *stop == 0)
        send_next(export);
    while (result == 0 && !export->ended && *stop == 0) {
        result = await_page(export, error);
        if (result == 0 && moult_clock_ns() - export->saved_ns > SAVE_EVERY_NS)
            result = save(export, error);
        draw(export);
    }
    moult_progress_end(&export->bar);
    if (result == 0 && export->ended)
        return close_output(export, error);
    if (result == 0)
        result = moult_fail(error, MOULT_ERROR_UNAVAILABLE, "Broken off.");
    return result;
}

/* The command. */

static void print_broken_off(struct export *export) {
    char count[MOULT_FIGURE_BYTES];
    struct moult_error error;
    if (save(export, &error) != 0)
        fprintf(stderr, "%s\n", error.message);
    else if (export->resume != NULL && export->cursor != NULL)
        fprintf(stderr, "%s exported; the same command goes on from there.\n",
                moult_figure_documents(count, export->documents));
}

static int run(struct export *export) {
    const volatile int *stop = moult_interrupt_watch();
    struct moult_error error = {.code = MOULT_OK};
    char count[MOULT_FIGURE_BYTES], seconds[MOULT_FIGURE_BYTES];
    export->path = moult_client_path(export->collection, "/documents");
    char *url = moult_client_url(&export->client, export->path);
    export->task = moult_format("export of %s", url);
    free(url);
    int result = 0;
    if (!moult_utf8_valid(export->task, strlen(export->task)))
        result = moult_fail(&error, MOULT_ERROR_INVALID, "The name of a collection is UTF-8.");
    if (result == 0 && (result = open_output(export, &error)) == 0)
        result = export_all(export, stop, &error);
    if (result != 0) {
        fprintf(stderr, "moult export: %s\n", error.message);
        print_broken_off(export);
    } else if (export->output != NULL) {
        double took = (double)(moult_clock_ns() - export->bar.began_ns) * 1e-9;
        printf("exported %s into %s in %s.\n", moult_figure_documents(count, export->documents),
               export->output, moult_figure_seconds(seconds, took));
    }
    if (result != 0 && *stop != 0)
        moult_interrupt_end();
    moult_exchange_close(export->exchange);
    if (export->fd > STDERR_FILENO)
        close(export->fd);
    free(export->path);
    free(export->incomplete);
    free(export->resume);
    free(export->task);
    free(export->cursor);
    return result == 0 ? MOULT_EXIT_OK : MOULT_EXIT_FAILED;
}

int moult_cli_export(int argc, char **argv) {
    struct export export = {.fd = -1};
    unsigned operand_count;
    struct moult_option options[] = {
        {.name = NULL}, {.name = NULL},
        {"--collection", "NAME", NULL, "whose documents (default those of the default one)",
         MOULT_OPTION_TEXT, &export.collection, 0, 0},
        {"--output", "FILE", NULL,
         "write FILE instead of standard output; what was broken off goes on\nwhere it was",
         MOULT_OPTION_TEXT, &export.output, 0, 0},
        {"--restart", NULL, NULL, "begin anew", MOULT_OPTION_FLAG, &export.restart, 0, 0},
        {"--retry-for", "TIME", "5m", "how long to try a server that is lost or busy",
         MOULT_OPTION_SECONDS, &export.retry_s, 0, 0},
    };
    moult_client_options(&export.client, options);
    const struct moult_command_line line = {
        .usage = "moult export [OPTION …]",
        .purpose =
            "Writes the documents of a running server as lines {\"id\", \"text\", \"metadata\"},\n"
            "which moult import takes. It holds nothing up, and is no picture of one moment:\n"
            "of a document that is changed meanwhile it may have either version.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
    };
    enum moult_parsed parsed = moult_options_parse(&line, argc, argv, &operand_count);
    if (parsed != MOULT_PARSED_OK)
        return parsed == MOULT_PARSED_HELP ? MOULT_EXIT_OK : MOULT_EXIT_USAGE;
    return run(&export);
}
