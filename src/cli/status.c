#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/report.h"

#define EVENTS_SHOWN 10

static const char *text_in(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static long long number_in(const json_t *object, const char *key) {
    return json_integer_value(json_object_get(object, key));
}

static double figure_in(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

/* What it took, as far as that was measured. */
static void print_figures(const json_t *event) {
    const json_t *memory = json_object_get(event, "memory");
    const json_t *latency = json_object_get(event, "latency");
    if (figure_in(event, "seconds") <= 0)
        return;
    printf("        took %.2f s", figure_in(event, "seconds"));
    if (figure_in(event, "fetched_bytes") > 0)
        printf(", %.1f MB fetched", figure_in(event, "fetched_bytes") / 1e6);
    if (figure_in(memory, "candidate_bytes") > 0)
        printf(", %.0f MiB of memory, %.0f MiB with the one before",
               figure_in(memory, "candidate_bytes") / 0x1p20,
               figure_in(memory, "both_bytes") / 0x1p20);
    if (figure_in(latency, "p99_before_ms") > 0 && figure_in(latency, "p99_during_ms") > 0)
        printf(", p99 %.2f ms before and %.2f ms meanwhile", figure_in(latency, "p99_before_ms"),
               figure_in(latency, "p99_during_ms"));
    putchar('\n');
}

static void print_event(const json_t *event) {
    char at[32] = "";
    time_t seconds = (time_t)number_in(event, "at");
    struct tm local;
    if (localtime_r(&seconds, &local) != NULL)
        strftime(at, sizeof at, "%Y-%m-%d %H:%M:%S", &local);
    printf("    %s  update %lld %s", at, number_in(event, "id"), text_in(event, "result"));
    if (text_in(event, "asked_by")[0] != '\0' && strcmp(text_in(event, "asked_by"), "person") != 0)
        printf(" (%s)", text_in(event, "asked_by"));
    if (number_in(event, "generation") != 0)
        printf(", generation %lld", number_in(event, "generation"));
    printf("%s%s\n", text_in(event, "reason")[0] != '\0' ? ": " : "", text_in(event, "reason"));
    print_figures(event);
}

/* While it embeds documents: ", 1200 of 5000 documents, 210/s, 18 s left" */
static void print_documents(const json_t *documents) {
    double per_second = json_number_value(json_object_get(documents, "per_second"));
    if (!json_is_object(documents))
        return;
    printf(", %lld of %lld documents", number_in(documents, "done"),
           number_in(documents, "total"));
    if (per_second > 0)
        printf(", %.0f/s, %.0f s left", per_second,
               json_number_value(json_object_get(documents, "seconds_left")));
    if (text_in(documents, "trouble")[0] != '\0')
        printf(": %s", text_in(documents, "trouble"));
}

/* Not null: one that runs. */
static void print_update(const json_t *update) {
    if (!json_is_object(update))
        return;
    double progress = json_number_value(json_object_get(update, "progress"));
    printf("    update %lld is %s", number_in(update, "id"), text_in(update, "phase"));
    if (strcmp(text_in(update, "status"), "ready") == 0)
        printf(" as generation %lld: moult cutover lets it serve", number_in(update, "generation"));
    else if (progress > 0)
        printf(", %.0f %%", 100 * progress);
    print_documents(json_object_get(update, "documents"));
    putchar('\n');
}

static void print_time(const char *what, long long at) {
    char text[32] = "";
    time_t seconds = (time_t)at;
    struct tm local;
    if (at != 0 && localtime_r(&seconds, &local) != NULL)
        strftime(text, sizeof text, "%H:%M:%S", &local);
    if (text[0] != '\0')
        printf(", %s %s", what, text);
}

static void print_poll(const json_t *poll) {
    printf("    looked at every %lld s%s: %s", number_in(poll, "every_s"),
           json_is_true(json_object_get(poll, "watched")) ? ", and watched" : "",
           text_in(poll, "state"));
    print_time("last", number_in(poll, "last_at"));
    print_time("next", number_in(poll, "next_at"));
    putchar('\n');
    if (number_in(poll, "failures") > 1)
        printf("    failed %lld times in a row: %s\n", number_in(poll, "failures"),
               text_in(poll, "error"));
    else if (number_in(poll, "failures") == 1)
        printf("    failed once: %s\n", text_in(poll, "error"));
    else if (text_in(poll, "error")[0] != '\0')
        printf("    %s\n", text_in(poll, "error"));
}

/* The report of the last update alone; with its id, others have theirs. */
static void print_slot(const json_t *slot) {
    const json_t *poll = json_object_get(slot, "poll");
    const json_t *update = json_object_get(slot, "update");
    const json_t *history = json_object_get(slot, "history");
    if (number_in(slot, "generation") == 0)
        printf("%s: not serving yet\n", text_in(slot, "name"));
    else
        printf("%s: generation %lld, %s@%.8s%s\n", text_in(slot, "name"),
               number_in(slot, "generation"), text_in(slot, "name"), text_in(slot, "fingerprint"),
               json_is_false(json_object_get(slot, "loaded")) ? ", unloaded" : "");
    printf("    source %s\n", text_in(slot, "source"));
    if (json_is_object(poll))
        print_poll(poll);
    print_update(update);
    print_update(json_object_get(slot, "next"));
    size_t count = json_array_size(history);
    for (size_t i = count > EVENTS_SHOWN ? count - EVENTS_SHOWN : 0; i < count; i++)
        print_event(json_array_get(history, i));
    if (count > 0)
        moult_report_print_summary(
            json_object_get(json_array_get(history, count - 1), "report"), "        ");
}

/* One that runs or has ended. */
static void print_one(const json_t *update) {
    const json_t *report = json_object_get(update, "report");
    const char *phase = text_in(update, "phase");
    printf("update %lld of %s is %s", number_in(update, "id"), text_in(update, "slot"),
           phase[0] != '\0' ? phase : text_in(update, "status"));
    if (number_in(update, "generation") != 0)
        printf(", generation %lld", number_in(update, "generation"));
    print_documents(json_object_get(update, "documents"));
    const char *reason = text_in(update, "reason");
    printf("%s%s\n", reason[0] != '\0' ? ": " : "", reason);
    if (report != NULL)
        moult_report_print(report);
}

/* `id` as it was given, or NULL: of all slots. */
static int print_status(const struct moult_client *client, const char *id, bool as_json) {
    struct moult_error error;
    long status = 0;
    char path[64];
    snprintf(path, sizeof path, "/update_model%s%s", id != NULL ? "/" : "", id != NULL ? id : "");
    json_t *answer = moult_client_ask(client, path, NULL, &status, &error);
    if (answer == NULL) {
        fprintf(stderr, "moult: %s\n", error.message);
        return MOULT_EXIT_FAILED;
    }
    const json_t *slots = json_object_get(answer, "slots");
    bool is_one = id != NULL && json_is_string(json_object_get(answer, "status"));
    int exit_code = is_one || json_is_array(slots) ? MOULT_EXIT_OK : MOULT_EXIT_FAILED;
    if (as_json) {
        json_dumpf(answer, stdout, JSON_COMPACT);
        putchar('\n');
    } else if (exit_code != MOULT_EXIT_OK) {
        const char *message = text_in(json_object_get(answer, "error"), "message");
        fprintf(stderr, "moult: %s\n",
                message[0] != '\0' ? message : "The server does not say what it serves.");
    }
    if (is_one && !as_json)
        print_one(answer);
    for (size_t i = 0; !as_json && i < json_array_size(slots); i++)
        print_slot(json_array_get(slots, i));
    json_decref(answer);
    return exit_code;
}

int moult_cli_status(int argc, char **argv) {
    struct moult_client client = {0};
    bool json = false;
    unsigned operand_count;
    struct moult_option options[MOULT_CLIENT_OPTIONS + 1] = {
        [MOULT_CLIENT_OPTIONS] = {"--json", NULL, NULL, "print the server's answer as it is",
                                  MOULT_OPTION_FLAG, &json, 0, 0},
    };
    moult_client_options(&client, options);
    const struct moult_command_line line = {
        .usage = "moult status [OPTION …] [ID]",
        .purpose = "Shows what a running server serves, and what became of its last updates; with\n"
                   "ID, one update, and all that is known of what it changes.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .operands_max = 1,
    };
    enum moult_parsed parsed = moult_options_parse(&line, argc, argv, &operand_count);
    if (parsed != MOULT_PARSED_OK)
        return parsed == MOULT_PARSED_HELP ? MOULT_EXIT_OK : MOULT_EXIT_USAGE;
    if (operand_count > 0 && (argv[1][0] == '\0' || strlen(argv[1]) > 20 ||
                              strspn(argv[1], "0123456789") != strlen(argv[1]))) {
        fprintf(stderr, "moult status: ID is the number of an update, not \"%.40s\".\n", argv[1]);
        return MOULT_EXIT_USAGE;
    }
    return print_status(&client, operand_count > 0 ? argv[1] : NULL, json);
}
