#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define HELP_COLUMN 26

/* Where a value was found, for complaints. */
struct found {
    const char *where;   /* "--port" or "MOULT_PORT" */
    const char *value;
};

static int complain(const struct moult_command_line *line, const char *format, const char *what) {
    const char *name = strchr(line->usage, ' ') + 1;
    fprintf(stderr, "moult %.*s: ", (int)strcspn(name, " "), name);
    fprintf(stderr, format, what);
    fprintf(stderr, " See moult %.*s --help.\n", (int)strcspn(name, " "), name);
    return -1;
}

static void variable_of(const struct moult_option *option, char variable[64]) {
    snprintf(variable, 64, "MOULT_%s", option->name + 2);
    for (char *at = variable; *at != '\0'; at++)
        *at = *at == '-' ? '_' : (char)toupper((unsigned char)*at);
}

/* Values. */

static bool unit_of(enum moult_option_kind kind, const char *suffix, uint64_t *unit) {
    static const struct {
        enum moult_option_kind kind;
        const char *suffix;
        uint64_t unit;
    } units[] = {
        {MOULT_OPTION_SECONDS, "s", 1},          {MOULT_OPTION_SECONDS, "m", 60},
        {MOULT_OPTION_SECONDS, "h", 3600},       {MOULT_OPTION_SECONDS, "d", 86400},
        {MOULT_OPTION_BYTES, "K", 1ull << 10},   {MOULT_OPTION_BYTES, "M", 1ull << 20},
        {MOULT_OPTION_BYTES, "G", 1ull << 30},   {MOULT_OPTION_BYTES, "KiB", 1ull << 10},
        {MOULT_OPTION_BYTES, "MiB", 1ull << 20}, {MOULT_OPTION_BYTES, "GiB", 1ull << 30},
    };
    *unit = 1;
    if (*suffix == '\0')
        return true;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (units[i].kind == kind && strcmp(units[i].suffix, suffix) == 0) {
            *unit = units[i].unit;
            return true;
        }
    return false;
}

static bool read_number(const struct moult_option *option, const char *text, uint64_t *number) {
    uint64_t most = option->most != 0 ? option->most
                    : option->kind == MOULT_OPTION_PORT ? UINT16_MAX
                    : option->kind == MOULT_OPTION_BYTES ? SIZE_MAX : UINT32_MAX;
    char *end;
    uint64_t unit;
    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && unit_of(option->kind, end, &unit) &&
           !__builtin_mul_overflow(*number, unit, number) && *number >= option->least &&
           *number <= most;
}

static void add_to_list(struct moult_text_list *list, const char *text) {
    list->items = moult_reallocate(list->items, list->count + 1, sizeof *list->items);
    list->items[list->count++] = text;
}

static void add_with_commas(struct moult_text_list *list, const char *text) {
    char *copy = moult_copy_string(text);
    list->owned = moult_reallocate(list->owned, list->owned_count + 1, sizeof *list->owned);
    list->owned[list->owned_count++] = copy;
    char *rest = copy;
    for (char *item; (item = strsep(&rest, ",")) != NULL;)
        if (*item != '\0')
            add_to_list(list, item);
}

void moult_text_list_release(struct moult_text_list *list) {
    for (unsigned i = 0; i < list->owned_count; i++)
        free(list->owned[i]);
    free(list->owned);
    free(list->items);
    *list = (struct moult_text_list){0};
}

static int take(const struct moult_command_line *line, const struct moult_option *option,
                const struct found *found) {
    uint64_t number = 0;
    char message[512];
    bool good = true;
    switch (option->kind) {
    case MOULT_OPTION_FLAG:
        good = strcmp(found->value, "1") == 0 || strcmp(found->value, "0") == 0;
        *(bool *)option->target = found->value[0] == '1';
        break;
    case MOULT_OPTION_TEXT:
        *(const char **)option->target = found->value;
        break;
    case MOULT_OPTION_LIST:
        add_to_list(option->target, found->value);
        break;
    case MOULT_OPTION_PORT:
        good = read_number(option, found->value, &number);
        *(uint16_t *)option->target = (uint16_t)number;
        break;
    case MOULT_OPTION_BYTES:
        good = read_number(option, found->value, &number);
        *(size_t *)option->target = (size_t)number;
        break;
    default:
        good = read_number(option, found->value, &number);
        *(uint32_t *)option->target = (uint32_t)number;
        break;
    }
    if (good)
        return 0;
    snprintf(message, sizeof message, "\"%.100s\" is no value for %s.", found->value, found->where);
    return complain(line, "%s", message);
}

/* Kubernetes sets MOULT_PORT=tcp://10.0.0.1:80 in each container beside a service that is called
 * moult. */
static bool is_meant(const struct moult_option *option, const char *value) {
    return value != NULL && value[0] != '\0' &&
           !(option->kind == MOULT_OPTION_PORT && strncmp(value, "tcp://", 6) == 0);
}

/* Presets first, then the environment; the command line comes last and wins. */
static int take_presets(const struct moult_command_line *line) {
    for (unsigned i = 0; i < line->option_count; i++) {
        const struct moult_option *option = &line->options[i];
        struct found preset = {option->name, option->preset};
        if (option->preset != NULL && option->kind != MOULT_OPTION_FLAG &&
            take(line, option, &preset) != 0)
            return -1;
        char variable[64];
        if (option->help == NULL)
            continue;
        variable_of(option, variable);
        struct found set = {variable, getenv(variable)};
        if (!is_meant(option, set.value))
            continue;
        if (option->kind == MOULT_OPTION_LIST)
            add_with_commas(option->target, set.value);
        else if (take(line, option, &set) != 0)
            return -1;
    }
    return 0;
}

/* Arguments. */

static void print_help(const struct moult_command_line *line) {
    printf("usage: %s\n\n%s\n\n"
           "Options, each also as an environment variable (--a-b: MOULT_A_B):\n\n",
           line->usage, line->purpose);
    for (unsigned i = 0; i < line->option_count; i++) {
        const struct moult_option *option = &line->options[i];
        char head[64];
        if (option->help == NULL)
            continue;
        snprintf(head, sizeof head, "  %s%s%s", option->name, option->argument != NULL ? " " : "",
                 option->argument != NULL ? option->argument : "");
        printf("%-*s", HELP_COLUMN, head);
        if (strlen(head) >= HELP_COLUMN)
            printf("\n%*s", HELP_COLUMN, "");
        for (const char *at = option->help;; at++) {
            size_t length = strcspn(at, "\n");
            printf("%.*s", (int)length, at);
            at += length;
            if (*at == '\0')
                break;
            printf("\n%*s", HELP_COLUMN, "");
        }
        printf(option->preset != NULL ? " (default %s)\n" : "\n", option->preset);
    }
    printf("%-*sthis text\n", HELP_COLUMN, "  --help");
}

static const struct moult_option *find(const struct moult_command_line *line, const char *argument,
                                       size_t size) {
    for (unsigned i = 0; i < line->option_count; i++)
        if (strlen(line->options[i].name) == size &&
            memcmp(line->options[i].name, argument, size) == 0)
            return &line->options[i];
    return NULL;
}

/* One option at argv[*at]; moves *at to its last argument. */
static int take_option(const struct moult_command_line *line, int argc, char **argv, int *at) {
    const char *argument = argv[*at];
    size_t size = strcspn(argument, "=");
    const char *value = argument[size] == '=' ? argument + size + 1 : NULL;
    const struct moult_option *option = find(line, argument, size);
    if (option == NULL)
        return complain(line, "there is no option \"%.64s\".", argument);
    if (option->kind == MOULT_OPTION_FLAG) {
        if (value != NULL)
            return complain(line, "%s takes no value.", option->name);
        *(bool *)option->target = true;
        return 0;
    }
    if (value == NULL && *at + 1 == argc)
        return complain(line, "%s needs a value.", option->name);
    struct found found = {option->name, value != NULL ? value : argv[++*at]};
    return take(line, option, &found);
}

enum moult_parsed moult_options_parse(const struct moult_command_line *line, int argc, char **argv,
                                      unsigned *operand_count) {
    bool only_operands = false;
    *operand_count = 0;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(line);
            return MOULT_PARSED_HELP;
        }
    if (take_presets(line) != 0)
        return MOULT_PARSED_WRONG;
    for (int i = 1; i < argc; i++) {
        bool option = !only_operands && argv[i][0] == '-' && argv[i][1] != '\0';
        if (option && strcmp(argv[i], "--") == 0) {
            only_operands = true;
        } else if (option) {
            if (take_option(line, argc, argv, &i) != 0)
                return MOULT_PARSED_WRONG;
        } else if (*operand_count == line->operands_max) {
            complain(line, "\"%.100s\" is one argument too many.", argv[i]);
            return MOULT_PARSED_WRONG;
        } else {
            argv[++*operand_count] = argv[i];
        }
    }
    if (line->operand_needed != NULL && *operand_count == 0) {
        complain(line, "%s must be named.", line->operand_needed);
        return MOULT_PARSED_WRONG;
    }
    return MOULT_PARSED_OK;
}
