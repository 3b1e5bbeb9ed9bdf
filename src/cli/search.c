/* `moult search`: what a running server finds, to be read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/client.h"

#define COLUMNS 100u          /* Where nobody says how many there are. */
#define COLUMNS_LEAST 40u
#define SCORE_COLUMNS 8u      /* "0.1234  ", under which passages stand. */

struct arguments {
    struct moult_client client;
    const char *collection, *filter, *mode, *min_score;
    uint32_t k;
    bool json;
};

static int complain(const char *what, const char *value) {
    fprintf(stderr, "moult search: %s, not \"%.100s\". See moult search --help.\n", what, value);
    return -1;
}

/* What is asked. */

static int add_filter(json_t *body, const char *text) {
    json_error_t fault;
    json_t *filter = json_loads(text, JSON_REJECT_DUPLICATES, &fault);
    if (json_is_object(filter)) {
        json_object_set_new(body, "filter", filter);
        return 0;
    }
    json_decref(filter);
    return complain("--filter is a JSON object, such as '{\"year\": {\"$gte\": 1990}}'", text);
}

static int add_min_score(json_t *body, const char *text) {
    char *end;
    double score = strtod(text, &end);
    if (end == text || *end != '\0' || !(score >= -1e9 && score <= 1e9))
        return complain("--min-score is a number", text);
    json_object_set_new(body, "min_score", json_real(score));
    return 0;
}

/* NULL: something is wrong with the command line, and that has been said. */
static json_t *make_body(const struct arguments *arguments, const char *query) {
    json_t *body = json_object();
    int result = 0;
    if (!moult_utf8_valid(query, strlen(query)))
        result = complain("a query is UTF-8", "this");
    json_object_set_new(body, "query", json_string(query));
    json_object_set_new(body, "k", json_integer(arguments->k));
    if (arguments->mode != NULL)
        json_object_set_new(body, "mode", json_string(arguments->mode));
    if (result == 0 && arguments->filter != NULL)
        result = add_filter(body, arguments->filter);
    if (result == 0 && arguments->min_score != NULL)
        result = add_min_score(body, arguments->min_score);
    if (result == 0)
        return body;
    json_decref(body);
    return NULL;
}

/* What was found. Texts are other people's: what would steer a terminal is shown as U+FFFD, and
 * what divides lines as a blank. */

static unsigned terminal_columns(void) {
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return COLUMNS;
    return size.ws_col > COLUMNS_LEAST ? size.ws_col : COLUMNS_LEAST;
}

/* Prints at most so many characters of a line that does not begin blank. */
static void print_line(const char *text, size_t size, unsigned columns) {
    const char *at = text, *end = text + size;
    unsigned used = 0;
    bool blank = true;
    while (at < end && used + 1 < columns) {
        const char *from = at;
        uint32_t c = moult_utf8_next(&at);
        if (c == ' ' || (c >= '\t' && c <= '\r') || c == 0x85 || c == 0x2028 || c == 0x2029) {
            if (!blank)
                putchar(' ');
            used += !blank;
            blank = true;
            continue;
        }
        blank = false;
        used++;
        if (c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x202A && c <= 0x202E) ||
            (c >= 0x2066 && c <= 0x2069))
            fputs("\xEF\xBF\xBD", stdout);
        else
            fwrite(from, 1, (size_t)(at - from), stdout);
    }
    if (at < end)
        fputs("…", stdout);
    putchar('\n');
}

static void print_string(const json_t *string, unsigned columns) {
    if (json_is_string(string))
        print_line(json_string_value(string), json_string_length(string), columns);
    else
        putchar('\n');
}

static void print_hit(const json_t *hit, unsigned columns) {
    const json_t *chunk = json_object_get(hit, "chunk");
    const json_t *passage = json_object_get(chunk, "text");
    printf("%.4f  ", json_number_value(json_object_get(hit, "score")));
    print_string(json_object_get(hit, "id"), columns - SCORE_COLUMNS);
    printf("%*s", (int)SCORE_COLUMNS, "");
    print_string(passage != NULL ? passage : json_object_get(hit, "text"),
                 columns - SCORE_COLUMNS);
}

static int print_answer(const struct arguments *arguments, const json_t *answer, long status) {
    const json_t *results = json_object_get(answer, "results");
    bool good = status == 200 && json_is_array(results);
    struct moult_error error;
    size_t index;
    const json_t *hit;
    if (arguments->json) {
        json_dumpf(answer, stdout, JSON_COMPACT);
        putchar('\n');
    } else if (!good) {
        moult_client_fail_refused(answer, status, &error);
        fprintf(stderr, "moult search: %s\n", error.message);
    } else if (json_array_size(results) == 0) {
        printf("Nothing was found.\n");
    }
    unsigned columns = terminal_columns();
    if (good && !arguments->json)
        json_array_foreach (results, index, hit)
            print_hit(hit, columns);
    return good ? MOULT_EXIT_OK : MOULT_EXIT_FAILED;
}

static int search(const struct arguments *arguments, const char *query) {
    struct moult_error error;
    long status = 0;
    json_t *body = make_body(arguments, query);
    if (body == NULL)
        return MOULT_EXIT_USAGE;
    char *path = moult_client_path(arguments->collection, "/search");
    json_t *answer = moult_client_ask(&arguments->client, path, body, &status, &error);
    free(path);
    if (answer == NULL) {
        fprintf(stderr, "moult search: %s\n", error.message);
        return MOULT_EXIT_FAILED;
    }
    int exit_code = print_answer(arguments, answer, status);
    json_decref(answer);
    return exit_code;
}

int moult_cli_search(int argc, char **argv) {
    struct arguments arguments = {.k = 0};
    unsigned operand_count;
    struct moult_option options[] = {
        {.name = NULL}, {.name = NULL},
        {"--collection", "NAME", NULL, "where to search (default in the default one)",
         MOULT_OPTION_TEXT, &arguments.collection, 0, 0},
        {"--k", "N", "10", "at most so many documents", MOULT_OPTION_NUMBER, &arguments.k, 1,
         100000},
        {"--filter", "JSON", NULL, "only among those with such metadata: {\"field\": value}, $eq\n"
         "$ne $in $nin $gt $gte $lt $lte $exists $and $or",
         MOULT_OPTION_TEXT, &arguments.filter, 0, 0},
        {"--mode", "MODE", NULL, "vector, text or hybrid (default vector)", MOULT_OPTION_TEXT,
         &arguments.mode, 0, 0},
        {"--min-score", "X", NULL, "only those with such a score or a better one",
         MOULT_OPTION_TEXT, &arguments.min_score, 0, 0},
        {"--json", NULL, NULL, "print the server's answer as it is", MOULT_OPTION_FLAG,
         &arguments.json, 0, 0},
    };
    moult_client_options(&arguments.client, options);
    const struct moult_command_line line = {
        .usage = "moult search [OPTION …] QUERY",
        .purpose = "Searches the documents of a running server: their scores and ids, and the\n"
                   "first line of the passage that was found in each.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .operands_max = 1,
        .operand_needed = "what to search for",
    };
    enum moult_parsed parsed = moult_options_parse(&line, argc, argv, &operand_count);
    if (parsed != MOULT_PARSED_OK)
        return parsed == MOULT_PARSED_HELP ? MOULT_EXIT_OK : MOULT_EXIT_USAGE;
    if (arguments.mode != NULL && strcmp(arguments.mode, "vector") != 0 &&
        strcmp(arguments.mode, "text") != 0 && strcmp(arguments.mode, "hybrid") != 0)
        return complain("--mode is vector, text or hybrid", arguments.mode), MOULT_EXIT_USAGE;
    return search(&arguments, argv[1]);
}
