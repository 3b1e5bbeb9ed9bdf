/* load: asks for one vector after the other, at times that are fixed before the
 * first one is sent, and says how long the answers took.
 *
 * A client that waits for an answer before it asks again takes part in every
 * stall: while the server stands, nobody asks, and the stall counts once. Here
 * the times of the requests are drawn from a seed and nothing that the server does
 * moves them (an open loop); the time of an answer counts from when its request
 * was due, not from when it could be sent. So a stall of 50 ms at 600 requests
 * a second is found in 30 of them. A request that finds no connection free waits
 * here, and that counts too.
 *
 * With --closed it is the other kind: every connection asks again at once. That
 * finds the highest rate, and nothing about latencies.
 *
 * Commands come on standard input, a line each:
 *   window NAME [NS]   what is due from now, or from that time of CLOCK_MONOTONIC, on
 *   report             prints the JSON line so far
 *   stop               waits for the answers, prints, ends
 * The end of standard input means stop, unless --seconds ends it.
 *
 * It shares the CPUs with what it measures: one thread, all requests written
 * beforehand, nothing allocated on the way; it says how much CPU it took. */
#include "latency.h"
#include "request.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    ANSWER_BYTES_MAX = 1 << 20,
    BACKLOG_MAX = 1 << 20,       /* Requests that are due and wait for a connection. */
    SAMPLES_MAX = 1 << 27,
    GENERATIONS_MAX = 1 << 16,
    EVENTS_MAX = 64
};
static const uint64_t second = 1000000000;

/* A request that is due, or under way. */
struct errand {
    uint64_t due_ns;
    uint32_t request;            /* Which of the prepared ones. */
};

struct connection {
    int fd;                      /* -1: none. */
    bool busy;
    struct errand errand;
    uint64_t sent_ns;
    uint32_t lag_ns;
    uint64_t generation_least;   /* The newest that had answered when this was sent. */
    size_t sent, in_size;
    char *in;                    /* [ANSWER_BYTES_MAX] */
    struct connection *next_idle;
};

static struct {
    struct sockaddr_in address;
    struct request_form form;
    const char *samples_file;
    unsigned connections, texts_per_request;
    double rate, seconds, timeout_s;
    uint64_t seed;
    enum dialect dialect;
    bool closed, constant;
} options = {.connections = 128, .texts_per_request = 1, .timeout_s = 30, .seed = 1,
             .dialect = DIALECT_OPENAI_BASE64};

static struct texts texts;
static struct expectation expectations[EXPECTATIONS_MAX];
static unsigned expectation_count;
static struct bytes *requests;           /* [texts.count] */
static struct question *questions;       /* [texts.count] */
static struct connection *connections;   /* [options.connections] */
static struct connection *idle;
static struct errand backlog[BACKLOG_MAX];
static uint64_t backlog_first, backlog_end, backlog_most;
static struct errand next;               /* The next one to become due. */
static uint64_t start_ns, generation_newest;
static uint64_t fingerprint_of[GENERATIONS_MAX];   /* The first 16 digits; 0: not known. */
static unsigned busy_count;
static bool stopping;
static int epoll_fd;

static struct {
    uint64_t due, answered, failed, wrong, mixed, stale;
    char first_trouble[512];
} counts;

static void read_options(int argc, char **argv);
static void prepare(void);
static void run(void);
static void obey(void);
static void send_what_is_due(uint64_t now_ns);
static void progress(struct connection *connection);
static void finish(struct connection *connection, const struct answer_head *head);
static void report(void);

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1);
    read_options(argc, argv);
    prepare();
    run();
    report();
    if (options.samples_file && latency_write(options.samples_file, start_ns) < 0) {
        perror(options.samples_file);
        return 2;
    }
    return counts.failed || counts.wrong || counts.mixed || counts.stale;
}

static uint64_t now(void) {
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * second + (uint64_t)time.tv_nsec;
}

static _Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void die(const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    fprintf(stderr, "load: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    exit(2);
}

/* ---- The loop ---- */

static void wait_until(uint64_t ns, uint64_t now_ns) {
    struct epoll_event events[EVENTS_MAX];
    uint64_t left = ns > now_ns ? ns - now_ns : 0;
    struct timespec timeout = {(time_t)(left / second), (long)(left % second)};
    int n = epoll_pwait2(epoll_fd, events, EVENTS_MAX, &timeout, NULL);

    if (n < 0 && errno != EINTR)
        die("epoll_pwait2: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        if (events[i].data.ptr)
            progress(events[i].data.ptr);
        else
            obey();
    }
}

static void give_up_on_the_late(uint64_t now_ns);

static void run(void) {
    uint64_t look_ns = 0;

    start_ns = now();
    latency_mark("unmarked", start_ns);
    next.due_ns = start_ns;
    while (!stopping || busy_count || backlog_first < backlog_end) {
        uint64_t now_ns = now(), wake_ns = look_ns;
        if (options.seconds > 0 && (double)(now_ns - start_ns) >= options.seconds * 1e9)
            stopping = true;
        if (now_ns >= look_ns) {
            give_up_on_the_late(now_ns);
            wake_ns = look_ns = now_ns + second / 10;
        }
        send_what_is_due(now_ns);
        if (!stopping && !options.closed && next.due_ns < wake_ns)
            wake_ns = next.due_ns;
        wait_until(wake_ns, now_ns);
    }
}

static void obey_line(char *line) {
    unsigned long long at_ns;
    char name[WINDOW_NAME_MAX];
    int found = sscanf(line, "window %31[a-z-] %llu", name, &at_ns);

    if (found >= 1) {
        if (!latency_mark(name, found == 2 ? at_ns : now()))
            die("more than %d windows", MARKS_MAX);
    } else if (strcmp(line, "report") == 0) {
        report();
        return;
    } else if (strcmp(line, "stop") == 0) {
        stopping = true;
        return;
    } else {
        die("no such command: %s", line);
    }
    printf("ok\n");
    fflush(stdout);
}

static void obey(void) {
    static char held[4096];
    static size_t size;
    ssize_t n = read(0, held + size, sizeof(held) - 1 - size);

    if (n == 0) {
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, 0, NULL);
        stopping = stopping || options.seconds <= 0;
    }
    if (n <= 0)
        return;
    size += (size_t)n;
    held[size] = 0;
    for (char *end; (end = memchr(held, '\n', size)); ) {
        *end = 0;
        obey_line(held);
        size -= (size_t)(end + 1 - held);
        memmove(held, end + 1, size);
    }
}

/* ---- What is due ---- */

static uint64_t draw(void) {
    options.seed ^= options.seed << 13;
    options.seed ^= options.seed >> 7;
    options.seed ^= options.seed << 17;
    return options.seed;
}

static uint32_t draw_request(void) {
    return (uint32_t)((draw() >> 11) % texts.count);
}

/* The gaps of a Poisson process are exponential. */
static void draw_next(void) {
    double gap = 1;

    if (!options.constant)
        gap = -log(((double)(draw() >> 11) + 1) * 0x1p-53);
    next.due_ns += (uint64_t)(gap / options.rate * 1e9);
    next.request = draw_request();
}

static void begin(struct connection *connection, struct errand errand, uint64_t now_ns,
                  bool waited);

static void send_what_is_due(uint64_t now_ns) {
    bool waited = backlog_first < backlog_end;

    while (!stopping && !options.closed && next.due_ns <= now_ns) {
        if (backlog_end - backlog_first == BACKLOG_MAX)
            die("%d requests are due and no connection is free", BACKLOG_MAX);
        backlog[backlog_end++ % BACKLOG_MAX] = next;
        counts.due++;
        draw_next();
    }
    if (backlog_end - backlog_first > backlog_most)
        backlog_most = backlog_end - backlog_first;
    /* One that fails at once is idle again: each has one turn. */
    for (unsigned turn = 0; idle && turn < options.connections; turn++) {
        struct connection *connection = idle;
        if (options.closed ? stopping : backlog_first == backlog_end)
            break;
        idle = idle->next_idle;
        if (options.closed)
            begin(connection, (struct errand){now_ns, draw_request()}, now_ns, false);
        else
            begin(connection, backlog[backlog_first++ % BACKLOG_MAX], now_ns, waited);
    }
}

/* ---- A request ---- */

static void trouble(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void trouble(const char *format, ...) {
    size_t size = 0;
    va_list arguments;

    if (counts.first_trouble[0])
        return;
    size = (size_t)snprintf(counts.first_trouble, sizeof(counts.first_trouble), "at %.3f s: ",
                            (double)(now() - start_ns) * 1e-9);
    va_start(arguments, format);
    vsnprintf(counts.first_trouble + size, sizeof(counts.first_trouble) - size, format, arguments);
    va_end(arguments);
}

static void watch(struct connection *connection, uint32_t what, int operation) {
    struct epoll_event event = {.events = what, .data.ptr = connection};

    if (epoll_ctl(epoll_fd, operation, connection->fd, &event) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

/* Whether it succeeds is seen when something is sent. */
static void connect_to_server(struct connection *connection) {
    int one = 1;

    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        die("socket: %s", strerror(errno));
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    watch(connection, EPOLLIN, EPOLL_CTL_ADD);
    if (connect(connection->fd, (struct sockaddr *)&options.address, sizeof(options.address)) < 0
        && errno != EINPROGRESS)
        trouble("connect: %s", strerror(errno));
}

static void hang_up(struct connection *connection) {
    if (connection->fd >= 0)
        close(connection->fd);
    connection->fd = -1;
}

static void end_errand(struct connection *connection, uint64_t generation) {
    struct sample sample = {.due_ns = connection->errand.due_ns,
                            .took_ns = now() - connection->errand.due_ns,
                            .lag_ns = connection->lag_ns,
                            .generation = (uint32_t)generation};

    if (!latency_keep(sample))
        die("no room for more than %d answers", SAMPLES_MAX);
    connection->busy = false;
    busy_count--;
    connection->next_idle = idle;
    idle = connection;
}

static void fail(struct connection *connection) {
    counts.failed++;
    hang_up(connection);
    end_errand(connection, 0);
}

static void send_more(struct connection *connection) {
    const struct bytes *request = &requests[connection->errand.request];
    ssize_t n = send(connection->fd, request->at + connection->sent,
                     request->size - connection->sent, MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN) {
        trouble("send: %s", strerror(errno));
        fail(connection);
        return;
    }
    connection->sent += n > 0 ? (size_t)n : 0;
    if (connection->sent < request->size)
        watch(connection, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
}

static void begin(struct connection *connection, struct errand errand, uint64_t now_ns,
                  bool waited) {
    uint64_t lag = waited ? 0 : now_ns - errand.due_ns;

    connection->errand = errand;
    connection->busy = true;
    connection->sent_ns = now_ns;
    connection->lag_ns = lag < UINT32_MAX ? (uint32_t)lag : UINT32_MAX;
    connection->sent = connection->in_size = 0;
    connection->generation_least = generation_newest;
    busy_count++;
    if (connection->fd < 0)
        connect_to_server(connection);
    send_more(connection);
}

static void give_up_on_the_late(uint64_t now_ns) {
    for (unsigned i = 0; i < options.connections; i++)
        if (connections[i].busy
            && (double)(now_ns - connections[i].sent_ns) > options.timeout_s * 1e9) {
            trouble("no answer in %g s", options.timeout_s);
            fail(&connections[i]);
        }
}

/* ---- An answer ---- */

static void read_more(struct connection *connection) {
    struct answer_head head;
    ssize_t n = recv(connection->fd, connection->in + connection->in_size,
                     ANSWER_BYTES_MAX - 1 - connection->in_size, 0);
    int complete;

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        trouble("the connection ended %zu bytes into an answer: %s", connection->in_size,
                n ? strerror(errno) : "closed");
        fail(connection);
        return;
    }
    connection->in_size += (size_t)n;
    connection->in[connection->in_size] = 0;
    complete = answer_head_read(&head, connection->in, connection->in_size);
    if (complete < 0 || (complete && connection->in_size != head.head_size + head.body_size)
        || (!complete && connection->in_size == ANSWER_BYTES_MAX - 1)) {
        trouble("not one HTTP answer of at most %d bytes: %.80s", ANSWER_BYTES_MAX,
                connection->in);
        fail(connection);
    } else if (complete) {
        finish(connection, &head);
    }
}

static void progress(struct connection *connection) {
    if (!connection->busy) {
        /* The server has closed it while nothing was asked: the next one opens another. */
        hang_up(connection);
        return;
    }
    if (connection->sent < requests[connection->errand.request].size) {
        send_more(connection);
        if (!connection->busy || connection->sent < requests[connection->errand.request].size)
            return;
        watch(connection, EPOLLIN, EPOLL_CTL_MOD);
    }
    read_more(connection);
}

/* Without expectations: as many vectors as texts, and the model's name agrees with the header. */
static void check_shape(const struct question *question, const struct answer_head *head,
                        const char *body) {
    static const char mark[] = "\"embedding\":";
    unsigned vectors = 0;
    const char *name;

    if (question->dialect == DIALECT_EMBED) {
        for (const char *at = body; (at = strchr(at, '[')); at++)
            vectors++;
        vectors -= vectors > 0;
    } else {
        for (const char *at = body; (at = strstr(at, mark)); at += strlen(mark))
            vectors++;
        name = strstr(body, "\"model\":\"");
        name = name ? strchr(name, '@') : NULL;
        if (!name || memcmp(name + 1, head->fingerprint, 8) != 0) {
            counts.mixed++;
            trouble("the header says %s, the body says \"%.9s\"", head->fingerprint,
                    name ? name : "");
        }
    }
    if (vectors != question->count) {
        counts.wrong++;
        trouble("%u vectors for %u texts", vectors, question->count);
    }
}

static void check_bits(const struct question *question, const struct answer_head *head,
                       const char *body) {
    char why[256];
    enum verdict verdict = answer_check(expectations, expectation_count, question,
                                        head->fingerprint, body, head->body_size, why, sizeof(why));

    if (verdict == VERDICT_RIGHT)
        return;
    *(verdict == VERDICT_MIXED ? &counts.mixed : &counts.wrong) += 1;
    trouble("%s", why);
}

/* A generation has one fingerprint for ever, and none answers after a newer one has. */
static void check_generation(const struct connection *connection, const struct answer_head *head) {
    uint64_t fingerprint = strtoull(head->fingerprint, NULL, 16);
    uint64_t *known = &fingerprint_of[head->generation % GENERATIONS_MAX];

    if (!*known)
        *known = fingerprint;
    if (*known != fingerprint) {
        counts.mixed++;
        trouble("generation %llu has two fingerprints", (unsigned long long)head->generation);
    }
    if (head->generation < connection->generation_least) {
        counts.stale++;
        trouble("generation %llu answered after generation %llu had",
                (unsigned long long)head->generation,
                (unsigned long long)connection->generation_least);
    }
    if (head->generation > generation_newest)
        generation_newest = head->generation;
}

static void finish(struct connection *connection, const struct answer_head *head) {
    const struct question *question = &questions[connection->errand.request];
    const char *body = connection->in + head->head_size;

    if (head->status != 200 || !head->generation) {
        trouble("status %u: %.150s", head->status, body);
        counts.failed++;
        end_errand(connection, 0);
        if (head->closes)
            hang_up(connection);
        return;
    }
    /* What follows takes time that the server does not answer for. */
    end_errand(connection, head->generation);
    counts.answered++;
    check_generation(connection, head);
    if (expectation_count)
        check_bits(question, head, body);
    else
        check_shape(question, head, body);
    if (head->closes)
        hang_up(connection);
}

/* ---- The report ---- */

static void report(void) {
    uint64_t end_ns = now();
    double seconds = (double)(end_ns - start_ns) * 1e-9;
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    printf("{\"seconds\":%.3f,\"rate\":%.3f,\"due\":%llu,\"answered\":%llu", seconds,
           (double)counts.answered / seconds, (unsigned long long)counts.due,
           (unsigned long long)counts.answered);
    printf(",\"failed\":%llu,\"wrong\":%llu,\"mixed\":%llu,\"stale\":%llu,\"first_trouble\":\"",
           (unsigned long long)counts.failed, (unsigned long long)counts.wrong,
           (unsigned long long)counts.mixed, (unsigned long long)counts.stale);
    for (const char *c = counts.first_trouble; *c; c++)
        putchar(*c == '"' || *c == '\\' || (unsigned char)*c < 0x20 ? '\'' : *c);
    printf("\",\"backlog_most\":%llu,\"lag_ms\":{\"p50\":%.3f,\"p99\":%.3f,\"p999\":%.3f}",
           (unsigned long long)backlog_most, latency_lag_ms(0.5), latency_lag_ms(0.99),
           latency_lag_ms(0.999));
    printf(",\"cpu_seconds\":%.3f,\"windows\":",
           (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
               + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6);
    latency_print_windows(stdout, end_ns);
    printf("}\n");
    fflush(stdout);
}

/* ---- Before the start ---- */

static void prepare_requests(void) {
    requests = calloc(texts.count, sizeof(*requests));
    questions = calloc(texts.count, sizeof(*questions));
    for (uint32_t i = 0; i < texts.count; i++) {
        uint32_t *rows = calloc(options.texts_per_request, sizeof(*rows));
        for (uint32_t j = 0; j < options.texts_per_request; j++)
            rows[j] = (i + j) % (uint32_t)texts.count;
        questions[i] = (struct question){options.dialect, options.texts_per_request, rows};
        request_write(&requests[i], &options.form, &texts, &questions[i], false);
    }
}

static void prepare(void) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

    latency_open(SAMPLES_MAX);
    prepare_requests();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    /* A file or /dev/null as standard input cannot be watched: then there are no commands. */
    if (fcntl(0, F_SETFL, O_NONBLOCK) < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &event) < 0)
        if (options.seconds <= 0)
            die("without --seconds, commands must come on standard input");
    connections = calloc(options.connections, sizeof(*connections));
    for (unsigned i = options.connections; i--; ) {
        connections[i].in = malloc(ANSWER_BYTES_MAX);
        connect_to_server(&connections[i]);
        connections[i].next_idle = idle;
        idle = &connections[i];
    }
}

static _Noreturn void usage(void) {
    fprintf(stderr,
            "load --port PORT --texts FILE (--rate R | --closed) [--seconds S]\n"
            "     [--connections 128] [--constant] [--seed 1] [--texts-per-request 1]\n"
            "     [--dialect base64|float|embed] [--model NAME] [--key KEY] [--timeout 30]\n"
            "     [--expect FINGERPRINT=FILE.npy]… [--samples FILE]\n");
    exit(2);
}

static enum dialect read_dialect(const char *name) {
    if (strcmp(name, "base64") == 0)
        return DIALECT_OPENAI_BASE64;
    if (strcmp(name, "float") == 0)
        return DIALECT_OPENAI_FLOAT;
    if (strcmp(name, "embed") != 0)
        usage();
    return DIALECT_EMBED;
}

static void check_options(void) {
    if (!options.address.sin_port || !texts.count || !options.connections || !options.seed
        || !options.texts_per_request || options.closed == (options.rate > 0))
        usage();
    for (unsigned i = 0; i < expectation_count; i++)
        if (expectations[i].rows != texts.count)
            die("%zu texts, but %zu vectors of %s.", texts.count, expectations[i].rows,
                expectations[i].fingerprint);
}

static void read_options(int argc, char **argv) {
    static const struct option known[] = {
        {"port", 1, 0, 'p'}, {"texts", 1, 0, 't'}, {"rate", 1, 0, 'r'}, {"closed", 0, 0, 'l'},
        {"seconds", 1, 0, 's'}, {"connections", 1, 0, 'c'}, {"constant", 0, 0, 'i'},
        {"seed", 1, 0, 'z'}, {"texts-per-request", 1, 0, 'n'}, {"dialect", 1, 0, 'd'},
        {"model", 1, 0, 'm'}, {"key", 1, 0, 'k'}, {"timeout", 1, 0, 'o'}, {"expect", 1, 0, 'e'},
        {"samples", 1, 0, 'f'}, {0, 0, 0, 0}};

    options.form.host = "127.0.0.1";
    options.address.sin_family = AF_INET;
    options.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1; ) {
        switch (c) {
        case 'p': options.address.sin_port = htons((uint16_t)strtoul(optarg, NULL, 10)); break;
        case 't': texts_read(&texts, optarg); break;
        case 'r': options.rate = strtod(optarg, NULL); break;
        case 'l': options.closed = true; break;
        case 's': options.seconds = strtod(optarg, NULL); break;
        case 'c': options.connections = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'i': options.constant = true; break;
        case 'z': options.seed = strtoull(optarg, NULL, 10); break;
        case 'n': options.texts_per_request = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'd': options.dialect = read_dialect(optarg); break;
        case 'm': options.form.model_name = optarg; break;
        case 'k': options.form.key = optarg; break;
        case 'o': options.timeout_s = strtod(optarg, NULL); break;
        case 'e':
            if (expectation_count == EXPECTATIONS_MAX)
                usage();
            expectation_open(&expectations[expectation_count++], optarg);
            break;
        case 'f': options.samples_file = optarg; break;
        default: usage();
        }
    }
    check_options();
}
