/* The command line of one command: a table of options, read from arguments and
 * from the environment, and shown by --help. An option `--max-body` can also be
 * given as MOULT_MAX_BODY; the command line wins. Lists are given by repeating the
 * option, or with commas in the variable. */
#ifndef MOULT_CLI_OPTIONS_H
#define MOULT_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum moult_option_kind {
    MOULT_OPTION_FLAG,       /* bool */
    MOULT_OPTION_TEXT,       /* const char *, the argument's or the environment's own */
    MOULT_OPTION_LIST,       /* struct moult_text_list */
    MOULT_OPTION_NUMBER,     /* uint32_t */
    MOULT_OPTION_PORT,       /* uint16_t */
    MOULT_OPTION_SECONDS,    /* uint32_t: 90, 90s, 10m, 2h, 1d */
    MOULT_OPTION_BYTES       /* size_t: 1048576, 512K, 16M, 1G */
};

struct moult_text_list {
    const char **items;      /* [count]; moult_text_list_release(). */
    char **owned;            /* Those that came with commas, cut apart. */
    unsigned count, owned_count;
};
void moult_text_list_release(struct moult_text_list *list);

struct moult_option {
    const char *name;        /* "--host" */
    const char *argument;    /* "ADDRESS"; NULL for a flag. */
    const char *preset;      /* Its default, as one would write it; NULL: none. */
    const char *help;        /* May have several lines. NULL: between our own processes alone,
                                neither shown nor taken from the environment. */
    enum moult_option_kind kind;
    void *target;
    uint64_t least, most;    /* Of numbers; both 0: anything. */
};

struct moult_command_line {
    const char *usage;       /* "moult serve [OPTION …] [MODEL …]" */
    const char *purpose;     /* Sentences. */
    const struct moult_option *options;
    unsigned option_count;
    unsigned operands_max;
    const char *operand_needed;   /* "a model": at least one operand; NULL: none need be. */
};

enum moult_parsed { MOULT_PARSED_OK, MOULT_PARSED_HELP, MOULT_PARSED_WRONG };

/* Fills the targets and moves operands to argv[1], … argv[*operand_count]. Help
 * and complaints have been printed when it returns one of the other two. */
enum moult_parsed moult_options_parse(const struct moult_command_line *line, int argc, char **argv,
                                      unsigned *operand_count);

#endif
