/* `moult manifest`: what a plain HTTP model server needs beside the files. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "source/source.h"

int moult_cli_manifest(int argc, char **argv) {
    const char *version = NULL;
    char revision[MOULT_SHA256_HEX];
    struct moult_error error;
    unsigned operand_count;
    const struct moult_option options[] = {
        {"--label", "TEXT", NULL, "what people call it (default its revision, a digest)",
         MOULT_OPTION_TEXT, &version, 0, 0},
    };
    const struct moult_command_line line = {
        .usage = "moult manifest [OPTION …] FOLDER",
        .purpose = "Writes FOLDER/manifest.json: the files that a model needs, with sizes and\n"
                   "SHA-256. Any web server that serves the folder is then a model server, and\n"
                   "`moult serve http://HOST/FOLDER` takes the model from it. To publish a newer\n"
                   "one, change the files first and write the manifest last.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .operands_max = 1,
        .operand_needed = "a folder",
    };
    enum moult_parsed parsed = moult_options_parse(&line, argc, argv, &operand_count);
    if (parsed != MOULT_PARSED_OK)
        return parsed == MOULT_PARSED_HELP ? MOULT_EXIT_OK : MOULT_EXIT_USAGE;
    if (moult_manifest_write(argv[1], version, revision, &error) != 0) {
        fprintf(stderr, "moult manifest: %s\n", error.message);
        return MOULT_EXIT_FAILED;
    }
    printf("%s/manifest.json lists revision %s\n", argv[1], revision);
    return MOULT_EXIT_OK;
}
