/* `moult info`: what a model folder holds. */
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/precision.h"
#include "cli/cli.h"
#include "moult.h"

static const char usage[] =
    "Usage: moult info MODEL [options]\n"
    "\n"
    "Loads and verifies the model in the folder MODEL, and prints what it is.\n"
    "\n"
    "  --json            as one JSON object\n"
    "  --precision RUNG  load it in f32, int16, int8, or auto: what this CPU would take\n"
    "                    (default: auto)\n"
    "  --help            this text\n";

/* One list for both forms. */
static json_t *describe(const struct moult_model_info *info) {
    return json_pack("{s:s, s:s, s:s, s:s, s:f, s:s, s:i, s:i, s:i, s:i, s:b, s:s, s:s}",
                     "fingerprint", info->fingerprint, "architecture", info->architecture,
                     "pooling", info->pooling, "precision", info->precision, "fidelity",
                     info->fidelity, "kernels", info->kernels, "layers", (int)info->layers,
                     "dimensions", (int)info->dimensions, "tokens_max", (int)info->tokens_max,
                     "vocabulary_size", (int)info->vocabulary_size, "normalized",
                     info->normalized, "query_prompt", info->query_prompt, "document_prompt",
                     info->document_prompt);
}

/* Prompts are quoted, because the spaces at their ends count. */
static void print_lines(json_t *facts) {
    const char *name;
    json_t *value;

    json_object_foreach(facts, name, value) {
        char *text = json_dumps(value, JSON_ENCODE_ANY);

        if (json_is_string(value) && strstr(name, "prompt") == NULL)
            printf("%-16s %s\n", name, json_string_value(value));
        else
            printf("%-16s %s\n", name, text);
        free(text);
    }
}

static int show(const char *folder, enum moult_precision precision, bool as_json) {
    struct moult_error error = {0};
    struct moult_model *model = moult_model_open(folder, 1, precision, &error);
    json_t *facts;

    if (model == NULL) {
        fprintf(stderr, "moult info: %s\n", error.message);
        return 1;
    }
    facts = describe(moult_model_info(model));
    if (as_json) {
        json_dumpf(facts, stdout, JSON_INDENT(1));
        putchar('\n');
    } else {
        print_lines(facts);
    }
    json_decref(facts);
    moult_model_close(model);
    return 0;
}

int moult_cli_info(int argc, char **argv) {
    static const struct option known[] = {
        {"json", no_argument, NULL, 'j'}, {"precision", required_argument, NULL, 'r'},
        {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    enum moult_precision precision = MOULT_PRECISION_AUTO;
    bool as_json = false;
    int option;

    optind = 1;
    while ((option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
        if (option == 'h') {
            fputs(usage, stdout);
            return 0;
        }
        if (option == 'j') {
            as_json = true;
        } else if (option != 'r') {
            return 2;
        } else if (!moult_precision_parse(optarg, &precision)) {
            fputs("moult info: --precision takes auto, f32, int16 or int8.\n", stderr);
            return 2;
        }
    }
    if (optind + 1 != argc) {
        fputs("moult info: Name one model folder. See moult info --help.\n", stderr);
        return 2;
    }
    return show(argv[optind], precision, as_json);
}
