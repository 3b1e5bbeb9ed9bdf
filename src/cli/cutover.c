#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli/cli.h"
#include "cli/client.h"

static const char *text_in(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

/* The update that waits in that slot, or, where no slot is named, in any; 0 and a sentence where
 * that is not exactly one. */
static long long find_waiting(const json_t *slots, const char *name, struct moult_error *error) {
    long long id = 0;
    unsigned count = 0;
    for (size_t i = 0; i < json_array_size(slots); i++) {
        const json_t *slot = json_array_get(slots, i);
        const json_t *update = json_object_get(slot, "update");
        if (name != NULL && strcmp(text_in(slot, "name"), name) != 0)
            continue;
        if (strcmp(text_in(update, "status"), "ready") != 0)
            continue;
        id = json_integer_value(json_object_get(update, "id"));
        count++;
    }
    if (count == 1)
        return id;
    if (count == 0)
        moult_fail(error, MOULT_ERROR_MISSING,
                   "No update waits for its cut-over: moult status shows what runs.");
    else
        moult_fail(error, MOULT_ERROR_INVALID,
                   "%u updates wait for their cut-over: name one of them, or its slot with --slot; "
                   "moult status lists them.",
                   count);
    return 0;
}

static long long ask_for_waiting(const struct moult_client *client, const char *slot,
                                 struct moult_error *error) {
    long status = 0;
    json_t *answer = moult_client_ask(client, "/update_model", NULL, &status, error);
    if (answer == NULL)
        return 0;
    const json_t *slots = json_object_get(answer, "slots");
    long long id = 0;
    if (json_is_array(slots))
        id = find_waiting(slots, slot, error);
    else
        moult_fail(error, MOULT_ERROR_UNAVAILABLE, "The server answered with status %ld. %s",
                   status, text_in(json_object_get(answer, "error"), "message"));
    json_decref(answer);
    return id;
}

/* 0: it is no number of an update. */
static long long read_id(const char *text) {
    char *end;
    errno = 0;
    long long id = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0' && id > 0 ? id : 0;
}

int moult_cli_cutover(int argc, char **argv) {
    struct moult_client client = {0};
    const char *slot = NULL;
    bool json = false;
    unsigned operand_count;
    struct moult_option options[MOULT_CLIENT_OPTIONS + 2] = {
        [MOULT_CLIENT_OPTIONS] =
            {"--slot", "NAME", NULL, "the update that waits in this slot", MOULT_OPTION_TEXT, &slot,
             0, 0},
        {"--json", NULL, NULL, "print the server's answer as it is", MOULT_OPTION_FLAG, &json, 0,
         0},
    };
    moult_client_options(&client, options);
    const struct moult_command_line line = {
        .usage = "moult cutover [OPTION …] [UPDATE]",
        .purpose = "Lets a model serve that is ready and waits for a person, after moult update\n"
                   "--cutover manual or under moult serve --cutover manual. UPDATE is its number;\n"
                   "without it, the one that waits. One that still loads serves as soon as it can.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .operands_max = 1,
    };
    enum moult_parsed parsed = moult_options_parse(&line, argc, argv, &operand_count);
    if (parsed != MOULT_PARSED_OK)
        return parsed == MOULT_PARSED_HELP ? MOULT_EXIT_OK : MOULT_EXIT_USAGE;
    struct moult_error error;
    long long id = operand_count == 1 ? read_id(argv[1]) : ask_for_waiting(&client, slot, &error);
    if (id == 0 && operand_count == 1) {
        fprintf(stderr, "moult cutover: \"%.40s\" is not the number of an update.\n", argv[1]);
        return MOULT_EXIT_USAGE;
    }
    if (id == 0) {
        fprintf(stderr, "moult cutover: %s\n", error.message);
        return MOULT_EXIT_FAILED;
    }
    char *path = moult_format("/update_model/%lld/cutover", id);
    int exit_code = moult_client_order(&client, path, json_pack("{s:b}", "wait", true), json);
    free(path);
    return exit_code;
}
