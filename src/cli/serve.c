/* `moult serve`: from the command line to front/options.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/precision.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/places.h"
#include "front/hook.h"
#include "front/server.h"
#include "front/state.h"
#include "source/source.h"

struct arguments {
    struct moult_serve_options serve;
    const char *api_key_file, *overlong, *cutover, *swap, *hook_secret_file, *precision;
    const char *store, *chunk_tokens, *reembed_share;
    struct moult_text_list allowed_hosts, allowed_sources, cors_origins, hook_urls;
    const char *hub_cache;
    const char *gate, *gate_min;
    struct moult_judgements *judgements;
    char *api_key;
    char **real_sources;   /* [allowed_sources.count] */
};

static int complete(struct arguments *arguments, char **models, unsigned model_count,
                    struct moult_error *error);

static void release(struct arguments *arguments) {
    struct moult_serve_options *serve = &arguments->serve;
    for (unsigned i = 0; i < serve->model_count; i++) {
        free(serve->models[i].name);
        free(serve->models[i].source);
    }
    free(serve->models);
    for (unsigned i = 0; i < serve->allowed_source_count; i++)
        free(arguments->real_sources[i]);
    free(arguments->real_sources);
    free(arguments->api_key);
    moult_judgements_free(arguments->judgements);
    free(serve->command);
    moult_text_list_release(&arguments->allowed_hosts);
    moult_text_list_release(&arguments->allowed_sources);
    moult_text_list_release(&arguments->cors_origins);
    moult_text_list_release(&arguments->hook_urls);
}

static enum moult_parsed parse(struct arguments *arguments, int argc, char **argv,
                               unsigned *operand_count) {
    struct moult_serve_options *serve = &arguments->serve;
    const struct moult_option options[] = {
        {"--host", "ADDRESS", "127.0.0.1", "address to listen on", MOULT_OPTION_TEXT,
         &serve->host, 0, 0},
        {"--port", "PORT", "8080", "port to listen on", MOULT_OPTION_PORT, &serve->port, 1, 65535},
        {"--data", "FOLDER", "./moult-data", "where models and state are kept", MOULT_OPTION_TEXT,
         &serve->data, 0, 0},
        {"--take-over", NULL, NULL,
         "take over from the moult that serves from --data, so\nthat no connection is refused",
         MOULT_OPTION_FLAG, &serve->take_over, 0, 0},
        {"--threads", "N", "0", "threads that compute; 0: what the machine or its\ncontainer gives",
         MOULT_OPTION_NUMBER, &serve->threads, 0, MOULT_THREADS_MAX},
        {"--precision", "RUNG", "auto",
         "arithmetic of the models: f32, int16 or int8, or auto, the fastest\nhere whose vectors "
         "stay within a cosine of 0.9999 of f32",
         MOULT_OPTION_TEXT, &arguments->precision, 0, 0},
        {"--keep-warm", "TIME", "10m", "how long a replaced model keeps its worker",
         MOULT_OPTION_SECONDS, &serve->keep_warm_s, 0, 366 * 86400},
        {"--cutover", "WHEN", NULL, "a new model serves as soon as it can (auto), or when a\n"
         "person says so with moult cutover (manual); auto, unless\nthere is --store none",
         MOULT_OPTION_TEXT, &arguments->cutover, 0, 0},
        {"--swap", "HOW", "overlap",
         "a new model loads beside the old one (overlap), or in its\nplace, where two do not fit: "
         "requests wait meanwhile (wait)",
         MOULT_OPTION_TEXT, &arguments->swap, 0, 0},
        {"--update-every", "TIME", "0",
         "look that often whether a model's source has a newer one, and\ntake it; folders are "
         "watched besides; 0: only when asked",
         MOULT_OPTION_SECONDS, &serve->update_every_s, 0, 366 * 86400},
        {"--hub-cache", "WHAT", "read", "the cache in HF_HOME: read, or fill it, too, for others",
         MOULT_OPTION_TEXT, &arguments->hub_cache, 0, 0},
        {"--keep", "N", "3",
         "older models of each slot that stay installed, beside the\ncurrent and the previous one, "
         "to be called by name@fp8",
         MOULT_OPTION_NUMBER, &serve->keep_models, 0, MOULT_KEEP_MAX},
        {"--retire-after", "TIME", "1h", "how long before its end the end of an older one is told",
         MOULT_OPTION_SECONDS, &serve->retire_after_s, 0, 366 * 86400},
        {"--idle-unload", "TIME", "0",
         "a model that nobody has asked for so long is unloaded\nuntil somebody does; 0: never",
         MOULT_OPTION_SECONDS, &serve->idle_unload_s, 0, 366 * 86400},
        {"--memory", "BYTES", "0", "what all models together may take; 0: what the machine or\nits "
         "container has",
         MOULT_OPTION_BYTES, &serve->memory_bytes, 0, 0},
        {"--max-waiting", "N", "512", "texts that may wait; more are told to come again (429)",
         MOULT_OPTION_NUMBER, &serve->waiting_texts_max, 1, 1000000},
        {"--max-body", "BYTES", "16M", "largest body of a request", MOULT_OPTION_BYTES,
         &serve->body_bytes_max, MOULT_KIB, MOULT_BODIES_BYTES_MAX},
        {"--overlong", "WHAT", "truncate", "texts beyond the model's length: truncate or error",
         MOULT_OPTION_TEXT, &arguments->overlong, 0, 0},
        {"--strict-models", NULL, NULL, "refuse model names that are not served",
         MOULT_OPTION_FLAG, &serve->strict_models, 0, 0},
        {"--api-key-file", "FILE", NULL, "a file with the key that clients must show",
         MOULT_OPTION_TEXT, &arguments->api_key_file, 0, 0},
        {"--allowed-host", "NAME", NULL, "one more Host that browsers may use; repeatable",
         MOULT_OPTION_LIST, &arguments->allowed_hosts, 0, 0},
        {"--allow-model-from", "PLACE", NULL,
         "clients may have models from it loaded: a folder, org/ or\norg/name of a hub, or the URL "
         "of a model server; repeatable", MOULT_OPTION_LIST,
         &arguments->allowed_sources, 0, 0},
        {"--cors-origin", "ORIGIN", NULL, "a web page that may ask; repeatable", MOULT_OPTION_LIST,
         &arguments->cors_origins, 0, 0},
        {"--store", "WHAT", "sqlite",
         "documents are kept in the data folder (sqlite), or not at all:\nvectors are somebody "
         "else's (none)", MOULT_OPTION_TEXT, &arguments->store, 0, 0},
        {"--chunk-tokens", "N", "auto",
         "longer texts are cut into chunks of so many tokens: a number,\nas many as the model "
         "takes (auto), or never (off)", MOULT_OPTION_TEXT, &arguments->chunk_tokens, 0, 0},
        {"--chunk-overlap", "N", "0", "tokens of a chunk that the one before has, too",
         MOULT_OPTION_NUMBER, &serve->chunk_overlap, 0, MOULT_TOKENS_PER_TEXT_MAX},
        {"--reembed-share", "N%", "10%",
         "what embedding documents for a new model takes of a busy CPU,\n0% to 50%",
         MOULT_OPTION_TEXT, &arguments->reembed_share, 0, 0},
        {"--report", "N", "200",
         "what an update changes is found out with the last N distinct\ntexts that were asked, "
         "which are kept in memory alone; 0: not", MOULT_OPTION_NUMBER, &serve->report_texts, 0,
         MOULT_ASKED_TEXTS_MAX},
        {"--gate", "FILE", NULL,
         "queries with the documents that they should find, which an update\nasks of both models: "
         "lines {\"query\": TEXT, \"relevant\": [ID, …]}", MOULT_OPTION_TEXT,
         &arguments->gate, 0, 0},
        {"--gate-min", "NDCG", NULL,
         "refuse a model whose nDCG@10 is below that (0.4), or worse than\nthe present model's "
         "by more (-2%)", MOULT_OPTION_TEXT, &arguments->gate_min, 0, 0},
        {"--hook-url", "URL", NULL, "who is told by POST how updates go; repeatable",
         MOULT_OPTION_LIST, &arguments->hook_urls, 0, 0},
        {"--hook-secret-file", "FILE", NULL,
         "secrets that this is signed with, one a line: base64, as\n`openssl rand -base64 32` "
         "makes one", MOULT_OPTION_TEXT, &arguments->hook_secret_file, 0, 0},
    };
    const struct moult_command_line line = {
        .usage = "moult serve [OPTION …] [MODEL …]",
        .purpose = "Serves models over HTTP. MODEL is a folder in sentence-transformers layout,\n"
                   "org/name[@revision] on a Hugging Face hub, or the URL of a model server, with\n"
                   "the files and a manifest.json; NAME=MODEL serves it under another name than\n"
                   "its last component. With no MODEL, what the data folder served last is\n"
                   "served again, or else " MOULT_DEFAULT_MODEL ".\n"
                   "The hub is that of HF_ENDPOINT, with HF_TOKEN; HF_HOME's cache is read.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .operands_max = MOULT_SLOTS_MAX,
    };
    return moult_options_parse(&line, argc, argv, operand_count);
}

/* As it was typed: the parser moves the operands. */
static char **copy_command(int argc, char **argv) {
    char **command = moult_allocate((size_t)argc + 2, sizeof *command);
    command[0] = program_invocation_name;
    memcpy(command + 1, argv, (size_t)argc * sizeof *command);
    return command;
}

int moult_cli_serve(int argc, char **argv) {
    struct arguments arguments = {.serve.command = copy_command(argc, argv)};
    struct moult_error error;
    unsigned operand_count;
    int exit_code = MOULT_EXIT_OK;
    enum moult_parsed parsed = parse(&arguments, argc, argv, &operand_count);
    if (parsed == MOULT_PARSED_WRONG) {
        exit_code = MOULT_EXIT_USAGE;
    } else if (parsed == MOULT_PARSED_OK && complete(&arguments, argv + 1, operand_count, &error)) {
        fprintf(stderr, "moult serve: %s\n", error.message);
        exit_code = error.code == MOULT_ERROR_INVALID ? MOULT_EXIT_USAGE : MOULT_EXIT_FAILED;
    } else if (parsed == MOULT_PARSED_OK) {
        exit_code = moult_serve(&arguments.serve);
    }
    release(&arguments);
    return exit_code;
}

/* Models. */

static int add_model(struct moult_serve_options *serve, const char *operand,
                     struct moult_error *error) {
    char *name = NULL;
    char *source = NULL;
    if (moult_place_parse(operand, &name, &source, error) != 0)
        return -1;
    for (unsigned i = 0; i < serve->model_count; i++)
        if (strcmp(serve->models[i].name, name) == 0) {
            moult_fail(error, MOULT_ERROR_INVALID,
                       "Two models would be called %s: name one of them with NAME=%s.", name,
                       source);
            free(name);
            free(source);
            return -1;
        }
    serve->models =
        moult_reallocate(serve->models, serve->model_count + 1, sizeof *serve->models);
    serve->models[serve->model_count++] = (struct moult_serve_model){name, source};
    return 0;
}

/* As front/allowed.h has them: malloc'ed, or NULL. A folder that exists is meant before a hub's. */
static char *allowed_source(const char *item, struct moult_error *error) {
    char *real = realpath(item, NULL);
    bool hub = item[0] != '.' && moult_source_kind_of(item) == MOULT_SOURCE_HUB &&
               strchr(item, '/') != NULL;
    if (real != NULL)
        return real;
    if (!hub && moult_source_kind_of(item) != MOULT_SOURCE_WEB) {
        moult_fail_errno(error, "--allow-model-from %s", item);
        return NULL;
    }
    /* Of "org/" any name will do. */
    char *example = moult_format("%s%s", item, hub && item[strlen(item) - 1] == '/' ? "name" : "");
    int wrong = moult_source_check(example, error);
    free(example);
    if (wrong != 0)
        moult_fail_within(error, "--allow-model-from");
    return wrong == 0 ? moult_copy_string(item) : NULL;
}

static int allow_sources(struct arguments *arguments, struct moult_error *error) {
    struct moult_serve_options *serve = &arguments->serve;
    arguments->real_sources =
        moult_allocate(arguments->allowed_sources.count, sizeof *arguments->real_sources);
    for (unsigned i = 0; i < arguments->allowed_sources.count; i++) {
        char *real = allowed_source(arguments->allowed_sources.items[i], error);
        if (real == NULL)
            return -1;
        arguments->real_sources[serve->allowed_source_count++] = real;
    }
    serve->allowed_sources = (const char **)arguments->real_sources;
    return 0;
}

static int complete_gate(struct arguments *arguments, struct moult_error *error) {
    struct moult_serve_options *serve = &arguments->serve;
    if (arguments->gate_min != NULL && arguments->gate == NULL)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "--gate-min needs --gate FILE, with the queries that it is about.");
    if (arguments->gate != NULL && serve->no_store)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "--gate asks for documents of this server, and --store none keeps "
                          "none.");
    if (arguments->gate_min != NULL && serve->swap_wait)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "--gate-min and --swap wait exclude each other: a model that is judged "
                          "is loaded beside the one that serves.");
    if (arguments->gate_min != NULL &&
        moult_gate_limit_parse(arguments->gate_min, &serve->gate_limit, error) != 0)
        return -1;
    if (arguments->gate == NULL)
        return 0;
    serve->judgements = arguments->judgements = moult_judgements_read(arguments->gate, error);
    return serve->judgements != NULL ? 0 : moult_fail_within(error, "--gate");
}

#define SECRET_FILE_BYTES_MAX (16 * MOULT_KIB)

static int read_secrets(const char *file, struct moult_signing_keys *keys,
                        struct moult_error *error) {
    char *bytes;
    size_t size;
    if (moult_file_read(AT_FDCWD, file, SECRET_FILE_BYTES_MAX, &bytes, &size, error) != 0)
        return -1;
    int result = moult_signing_keys_read(bytes, size, keys, error);
    explicit_bzero(bytes, size);
    free(bytes);
    return result == 0 ? 0 : moult_fail_within(error, "--hook-secret-file %s", file);
}

static int complete_hooks(struct arguments *arguments, struct moult_error *error) {
    struct moult_serve_options *serve = &arguments->serve;
    const struct moult_text_list *urls = &arguments->hook_urls;
    if (urls->count > MOULT_HOOKS_MAX)
        return moult_fail(error, MOULT_ERROR_INVALID, "There may be %d --hook-url at most.",
                          MOULT_HOOKS_MAX);
    for (unsigned i = 0; i < urls->count; i++)
        if (moult_hook_url_check(urls->items[i], error) != 0)
            return moult_fail_within(error, "--hook-url");
    serve->hook_urls = urls->items;
    serve->hook_count = urls->count;
    if (arguments->hook_secret_file == NULL)
        return 0;
    return read_secrets(arguments->hook_secret_file, &serve->hook_keys, error);
}

/* Documents. */

static bool read_number(const char *text, const char *end, uint32_t most, uint32_t *number) {
    char *rest;
    unsigned long value = strtoul(text, &rest, 10);
    if (text[0] < '0' || text[0] > '9' || strcmp(rest, end) != 0 || value > most)
        return false;
    *number = (uint32_t)value;
    return true;
}

/* What Linux gives threads of each nice value, where one of nice 0 has 1,024: the first that gets
 * no more than that share beside it. */
static unsigned nice_of_share(uint32_t percent) {
    static const unsigned weights[] = {1024, 820, 655, 526, 423, 335, 272, 215, 172, 137,
                                       110,  87,  70,  56,  45,  36,  29,  23,  18,  15};
    unsigned nice = 1;
    while (nice < 20 && weights[nice] * 100 > percent * (1024 + weights[nice]))
        nice++;
    return nice;
}

static int complete_documents(struct arguments *arguments, struct moult_error *error) {
    struct moult_serve_options *serve = &arguments->serve;
    uint32_t percent;
    serve->no_store = strcmp(arguments->store, "none") == 0;
    if (!serve->no_store && strcmp(arguments->store, "sqlite") != 0)
        return moult_fail(error, MOULT_ERROR_INVALID, "--store is sqlite or none, not \"%.40s\".",
                          arguments->store);
    serve->chunk_tokens = MOULT_CHUNK_TOKENS_AUTO;
    bool is_word = strcmp(arguments->chunk_tokens, "auto") == 0;
    if (strcmp(arguments->chunk_tokens, "off") == 0) {
        serve->chunk_tokens = 0;
        is_word = true;
    }
    if (!is_word && (!read_number(arguments->chunk_tokens, "", MOULT_TOKENS_PER_TEXT_MAX,
                                  &serve->chunk_tokens) ||
                     serve->chunk_tokens < MOULT_CHUNK_TOKENS_MIN))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "--chunk-tokens is auto, off, or a number from %d to %d, not \"%.40s\".",
                          MOULT_CHUNK_TOKENS_MIN, MOULT_TOKENS_PER_TEXT_MAX,
                          arguments->chunk_tokens);
    if (!read_number(arguments->reembed_share, "%", 50, &percent) &&
        !read_number(arguments->reembed_share, "", 50, &percent))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "--reembed-share is 0%% to 50%%, not \"%.40s\".",
                          arguments->reembed_share);
    serve->follow_nice = nice_of_share(percent);
    return 0;
}

/* Vectors that are somebody else's do not follow the model: he has to say when. */
static int complete_cutover(struct arguments *arguments, struct moult_error *error) {
    struct moult_serve_options *serve = &arguments->serve;
    const char *when = arguments->cutover;
    serve->swap_wait = strcmp(arguments->swap, "wait") == 0;
    if (!serve->swap_wait && strcmp(arguments->swap, "overlap") != 0)
        return moult_fail(error, MOULT_ERROR_INVALID, "--swap is overlap or wait, not \"%.40s\".",
                          arguments->swap);
    if (when == NULL)
        when = serve->no_store && !serve->swap_wait ? "manual" : "auto";
    serve->cutover_manual = strcmp(when, "manual") == 0;
    if (!serve->cutover_manual && strcmp(when, "auto") != 0)
        return moult_fail(error, MOULT_ERROR_INVALID, "--cutover is auto or manual, not \"%.40s\".",
                          when);
    if (serve->swap_wait && serve->cutover_manual)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "--swap wait and --cutover manual exclude each other: a model that waits "
                          "for a person is loaded beside the one that serves.");
    return 0;
}

static int complete(struct arguments *arguments, char **models, unsigned model_count,
                    struct moult_error *error) {
    struct moult_serve_options *serve = &arguments->serve;
    for (unsigned i = 0; i < model_count; i++)
        if (add_model(serve, models[i], error) != 0)
            return -1;
    if (moult_place_use_hub_cache(arguments->hub_cache, error) != 0)
        return -1;
    if (!moult_precision_parse(arguments->precision, &serve->precision))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "--precision is auto, f32, int16 or int8, not \"%.40s\".",
                          arguments->precision);
    serve->overlong_error = strcmp(arguments->overlong, "error") == 0;
    if (!serve->overlong_error && strcmp(arguments->overlong, "truncate") != 0)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "--overlong is truncate or error, not \"%.40s\".", arguments->overlong);
    if (complete_documents(arguments, error) != 0 || complete_cutover(arguments, error) != 0)
        return -1;
    if (arguments->api_key_file != NULL &&
        (arguments->api_key = moult_key_read(arguments->api_key_file, error)) == NULL)
        return -1;
    if (complete_gate(arguments, error) != 0)
        return -1;
    serve->api_key = arguments->api_key;
    serve->allowed_hosts = arguments->allowed_hosts.items;
    serve->allowed_host_count = arguments->allowed_hosts.count;
    serve->cors_origins = arguments->cors_origins.items;
    serve->cors_origin_count = arguments->cors_origins.count;
    return complete_hooks(arguments, error) != 0 ? -1 : allow_sources(arguments, error);
}
