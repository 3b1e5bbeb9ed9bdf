#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "moult.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *purpose;   /* NULL: not for people. */
};

static const struct command commands[] = {
    {"serve", moult_cli_serve, "serve models over HTTP"},
    {"update", moult_cli_update, "let a running server take a newer model over"},
    {"cutover", moult_cli_cutover, "let a model serve that waits for it"},
    {"rollback", moult_cli_rollback, "let a running server go back to the model before"},
    {"status", moult_cli_status, "what a running server serves, and what became of its updates"},
    {"pull", moult_cli_pull, "fetch a model into a data folder"},
    {"manifest", moult_cli_manifest, "list a model folder's files for a model server to serve"},
    {"import", moult_cli_import, "send the documents of a file to a running server"},
    {"export", moult_cli_export, "write the documents of a running server into a file"},
    {"search", moult_cli_search, "what a running server finds"},
    {"rescue", moult_cli_rescue, "save what can be read of damaged documents"},
    {"embed", moult_cli_embed, "turn texts into vectors, without a server"},
    {"bench", moult_cli_bench, "what this machine makes of a model, in each precision"},
    {"info", moult_cli_info, "what a model folder holds, and what this machine makes of it"},
    {"worker", moult_cli_worker, NULL},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(FILE *out) {
    fputs("usage: moult COMMAND [OPTION …]\n\n"
          "Serves sentence-embedding models, and replaces them while serving.\n\n", out);
    for (unsigned i = 0; i < COMMANDS; i++)
        if (commands[i].purpose != NULL)
            fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].purpose);
    fputs("\nmoult COMMAND --help shows the options of a command; moult --version the version.\n",
          out);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return MOULT_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("moult %s\n", MOULT_VERSION);
        return MOULT_EXIT_OK;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return MOULT_EXIT_OK;
    }
    for (unsigned i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "moult: there is no command \"%.64s\"; moult --help lists them.\n", argv[1]);
    return MOULT_EXIT_USAGE;
}
