#include "cli/cli.h"
#include "cli/client.h"

int moult_cli_rollback(int argc, char **argv) {
    struct moult_client client = {0};
    const char *slot = NULL;
    bool json = false;
    unsigned operand_count;
    struct moult_option options[MOULT_CLIENT_OPTIONS + 2] = {
        [MOULT_CLIENT_OPTIONS] =
            {"--slot", "NAME", NULL, "which of the served models (default the first)",
             MOULT_OPTION_TEXT, &slot, 0, 0},
        {"--json", NULL, NULL, "print the server's answer as it is", MOULT_OPTION_FLAG, &json, 0,
         0},
    };
    moult_client_options(&client, options);
    const struct moult_command_line line = {
        .usage = "moult rollback [OPTION …]",
        .purpose = "Lets a running server go back to the model before, under a new generation\n"
                   "number: from its worker, if that is still warm, or from its installed files.\n"
                   "A second rollback returns.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .operands_max = 0,
    };
    enum moult_parsed parsed = moult_options_parse(&line, argc, argv, &operand_count);
    if (parsed != MOULT_PARSED_OK)
        return parsed == MOULT_PARSED_HELP ? MOULT_EXIT_OK : MOULT_EXIT_USAGE;
    return moult_client_order(&client, "/rollback",
                              json_pack("{s:b, s:s*}", "wait", true, "slot", slot), json);
}
