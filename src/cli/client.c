#include "cli/client.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/limits.h"
#include "base/memory.h"
#include "cli/cli.h"
#include "cli/places.h"
#include "cli/report.h"

#define ANSWER_BYTES_MAX (16 * MOULT_MIB)
#define CONNECT_SECONDS_MAX 10L

void moult_client_options(struct moult_client *client, struct moult_option *options) {
    options[0] = (struct moult_option){"--url", "URL", "http://127.0.0.1:8080",
                                       "where the server is",
                                       MOULT_OPTION_TEXT, &client->url, 0, 0};
    options[1] = (struct moult_option){"--api-key-file", "FILE", NULL,
                                       "a file with the key that the server wants",
                                       MOULT_OPTION_TEXT, &client->api_key_file, 0, 0};
}

static size_t on_bytes(char *bytes, size_t size, size_t count, void *context) {
    return moult_buffer_append(context, bytes, size * count) ? size * count : 0;
}

int moult_client_fail_to_connect(const char *url, struct moult_error *error) {
    return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                      "No server answers at %s: start one with moult serve, or name another "
                      "with --url.",
                      url);
}

/* An update may take minutes, in which nothing is said: only connecting has a limit. */
static int perform(CURL *curl, const char *url, struct curl_slist *headers, const char *body,
                   struct moult_buffer *answer, long *status, struct moult_error *error) {
    char reason[CURL_ERROR_SIZE] = "";
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS_MAX);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    if (body != NULL)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_COULDNT_CONNECT)
        return moult_client_fail_to_connect(url, error);
    if (code != CURLE_OK)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "Asking %s failed: %s.", url,
                          reason[0] != '\0' ? reason : curl_easy_strerror(code));
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status);
    return 0;
}

static json_t *read_answer(const struct moult_buffer *answer, const char *url, long status,
                           struct moult_error *error) {
    json_error_t fault;
    json_t *value = json_loadb(answer->bytes != NULL ? answer->bytes : "", answer->size, 0, &fault);
    if (value == NULL)
        moult_fail(error, MOULT_ERROR_INVALID,
                   "%s answered with status %ld and something that is not JSON; is it a moult?",
                   url, status);
    return value;
}

static struct curl_slist *add_header(struct curl_slist *headers, const char *name,
                                     const char *value) {
    char *line = moult_format("%s: %s", name, value);
    headers = curl_slist_append(headers, line);
    free(line);
    return headers;
}

struct curl_slist *moult_client_headers(const struct moult_client *client,
                                        struct moult_error *error) {
    struct curl_slist *headers = add_header(NULL, "Content-Type", "application/json");
    if (client->model != NULL)
        headers = add_header(headers, "x-moult-model", client->model);
    if (client->api_key_file == NULL)
        return headers;
    char *key = moult_key_read(client->api_key_file, error);
    if (key == NULL) {
        curl_slist_free_all(headers);
        return NULL;
    }
    char *bearer = moult_format("Bearer %s", key);
    headers = add_header(headers, "Authorization", bearer);
    free(bearer);
    free(key);
    return headers;
}

char *moult_client_url(const struct moult_client *client, const char *path) {
    size_t size = strlen(client->url);
    while (size > 0 && client->url[size - 1] == '/')
        size--;
    return moult_format("%.*s%s", (int)size, client->url, path);
}

char *moult_client_escape(const char *text) {
    struct moult_buffer escaped;
    moult_buffer_init(&escaped, 3 * strlen(text) + 1);
    for (const char *at = text; *at != '\0'; at++)
        moult_buffer_format(&escaped, isalnum((unsigned char)*at) || strchr("-._~", *at) != NULL
                                          ? "%c" : "%%%02X", (unsigned char)*at);
    return moult_buffer_take(&escaped, NULL);
}

char *moult_client_path(const char *collection, const char *what) {
    if (collection == NULL)
        return moult_copy_string(what);
    char *escaped = moult_client_escape(collection);
    char *path = moult_format("/collections/%s%s", escaped, what);
    free(escaped);
    return path;
}

json_t *moult_client_ask(const struct moult_client *client, const char *path, json_t *body,
                         long *status, struct moult_error *error) {
    struct curl_slist *headers = moult_client_headers(client, error);
    json_t *value = NULL;
    if (headers != NULL) {
        struct moult_buffer answer;
        moult_buffer_init(&answer, ANSWER_BYTES_MAX);
        char *url = moult_client_url(client, path);
        char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
        CURL *curl = curl_easy_init();
        MOULT_REQUIRE(curl != NULL);
        if (perform(curl, url, headers, text, &answer, status, error) == 0)
            value = read_answer(&answer, url, *status, error);
        curl_easy_cleanup(curl);
        curl_slist_free_all(headers);
        moult_buffer_release(&answer);
        free(text);
        free(url);
    }
    json_decref(body);
    curl_global_cleanup();
    return value;
}

static const char *text_in(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

int moult_client_fail_refused(const json_t *answer, long status, struct moult_error *error) {
    const json_t *reason = json_object_get(answer, "error");
    const char *message =
        json_is_object(reason) ? text_in(reason, "message") : text_in(answer, "error");
    if (message[0] != '\0')
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "%s", message);
    return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "The server answered with status %ld.",
                      status);
}

/* Orders. */

static int print_refusal(const json_t *answer, long status) {
    struct moult_error error;
    moult_client_fail_refused(answer, status, &error);
    fprintf(stderr, "moult: %s\n", error.message);
    return MOULT_EXIT_FAILED;
}

static int print_outcome(const json_t *answer) {
    const char *slot = text_in(answer, "slot");
    const char *outcome = text_in(answer, "status");
    const char *reason = text_in(answer, "reason");
    long long id = json_integer_value(json_object_get(answer, "id"));
    long long generation = json_integer_value(json_object_get(answer, "generation"));
    if (strcmp(outcome, "live") == 0)
        printf("%s: generation %lld is live.%s%s\n", slot, generation, reason[0] != '\0' ? " " : "",
               reason);
    else if (strcmp(outcome, "unchanged") == 0)
        printf("%s: nothing has changed; generation %lld goes on.\n", slot, generation);
    else if (strcmp(outcome, "ready") == 0)
        printf("%s: update %lld is ready as generation %lld; moult cutover lets it serve.\n", slot,
               id, generation);
    else if (strcmp(outcome, "running") == 0)
        printf("%s: update %lld is running; moult status shows how it goes.\n", slot, id);
    else {
        fprintf(stderr, "%s: %s. %s\n", slot, outcome, reason);
        return MOULT_EXIT_FAILED;
    }
    moult_report_print_summary(json_object_get(answer, "report"), "");
    return MOULT_EXIT_OK;
}

int moult_client_order(const struct moult_client *client, const char *path, json_t *body,
                       bool as_json) {
    struct moult_error error;
    long status = 0;
    json_t *answer = moult_client_ask(client, path, body, &status, &error);
    if (answer == NULL) {
        fprintf(stderr, "moult: %s\n", error.message);
        return MOULT_EXIT_FAILED;
    }
    bool ended = json_is_string(json_object_get(answer, "status"));
    int exit_code;
    if (as_json) {
        json_dumpf(answer, stdout, JSON_COMPACT);
        putchar('\n');
        exit_code = status >= 200 && status < 300 ? MOULT_EXIT_OK : MOULT_EXIT_FAILED;
    } else {
        exit_code = ended ? print_outcome(answer) : print_refusal(answer, status);
    }
    json_decref(answer);
    return exit_code;
}
