#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/places.h"

struct arguments {
    struct moult_client client;
    const char *slot, *cutover, *swap, *revision;
    bool wait, no_wait, force, json;
};

static enum moult_parsed parse(struct arguments *arguments, int argc, char **argv,
                               unsigned *operand_count) {
    struct moult_option options[MOULT_CLIENT_OPTIONS + 8] = {
        [MOULT_CLIENT_OPTIONS] =
            {"--slot", "NAME", NULL, "which of the served models (default the first)",
             MOULT_OPTION_TEXT, &arguments->slot, 0, 0},
        {"--wait", NULL, NULL, "until the new model serves; this is the default",
         MOULT_OPTION_FLAG, &arguments->wait, 0, 0},
        {"--no-wait", NULL, NULL, "return as soon as the update has begun", MOULT_OPTION_FLAG,
         &arguments->no_wait, 0, 0},
        {"--cutover", "WHEN", NULL,
         "auto: it serves as soon as it can; manual: when moult\ncutover says so (default: as the "
         "server was started)",
         MOULT_OPTION_TEXT, &arguments->cutover, 0, 0},
        {"--swap", "HOW", NULL,
         "overlap: it loads beside the old model; wait: in its\nplace, while requests wait "
         "(default: as the server was started)",
         MOULT_OPTION_TEXT, &arguments->swap, 0, 0},
        {"--revision", "REVISION", NULL,
         "of a model on a hub: a branch, a tag or a commit", MOULT_OPTION_TEXT,
         &arguments->revision, 0, 0},
        {"--force", NULL, NULL, "load it even where it is the one that serves", MOULT_OPTION_FLAG,
         &arguments->force, 0, 0},
        {"--json", NULL, NULL, "print the server's answer as it is", MOULT_OPTION_FLAG,
         &arguments->json, 0, 0},
    };
    moult_client_options(&arguments->client, options);
    const struct moult_command_line line = {
        .usage = "moult update [OPTION …] [MODEL]",
        .purpose = "Lets a running server take a newer model over, without a failed request.\n"
                   "Without MODEL the served model's own source (folder, hub or model server) is\n"
                   "read anew; MODEL is a folder, org/name[@revision] or URL that the server was\n"
                   "allowed to take with --allow-model-from. Exits with 1 when the model is\n"
                   "refused; then the one that serves goes on.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .operands_max = 1,
    };
    return moult_options_parse(&line, argc, argv, operand_count);
}

int moult_cli_update(int argc, char **argv) {
    struct arguments arguments = {0};
    unsigned operand_count;
    enum moult_parsed parsed = parse(&arguments, argc, argv, &operand_count);
    if (parsed != MOULT_PARSED_OK)
        return parsed == MOULT_PARSED_HELP ? MOULT_EXIT_OK : MOULT_EXIT_USAGE;
    json_t *body = json_pack("{s:b, s:b, s:s*, s:s*, s:s*, s:s*}", "wait", !arguments.no_wait,
                             "force", arguments.force, "slot", arguments.slot, "cutover",
                             arguments.cutover, "swap", arguments.swap, "revision",
                             arguments.revision);
    if (operand_count == 1) {
        /* The server may have been started elsewhere. */
        struct moult_error error;
        char *source = moult_place_source(argv[1], &error);
        if (source == NULL) {
            fprintf(stderr, "moult update: %s\n", error.message);
            json_decref(body);
            return MOULT_EXIT_USAGE;
        }
        json_object_set_new(body, "model", json_string(source));
        free(source);
    }
    return moult_client_order(&arguments.client, "/update_model", body, arguments.json);
}
