/* load: keeps N connections busy with embedding requests and checks every answer.
 *
 * Counted are, besides the answers of each generation:
 *   failed    no answer, or one with a status that was not allowed
 *   wrong     an answer that is not what any model gives for these texts
 *   mixed     the bits of another model than the one that the answer names
 *   stale     an answer of an older generation than one that had already
 *             answered, or than the least one allowed, when the request began
 * Requests of all dialects, with one or several texts, are drawn from a seed.
 *
 * Commands come on standard input, a line each:
 *   min-generation G   requests that begin from now on must not be answered by less than G
 *   mark NAME          answers from now on belong to the phase NAME: latencies by phase
 *   report             prints the JSON line so far
 *   stop               begins no more requests, waits for the answers, prints, ends
 * The end of standard input means stop, unless --seconds or --requests end it.
 *
 * One thread and epoll: the server that is watched shares the CPUs with this. */
#include "request.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { GENERATIONS_MAX = 65536, PHASES_MAX = 64, TEXTS_PER_REQUEST_MAX = 2048, STATUSES_MAX = 8 };

enum state { STATE_RESTING, STATE_CONNECTING, STATE_SENDING, STATE_READING, STATE_ENDED };

struct connection {
    enum state state;
    int fd;                      /* -1: none. */
    double rest_until, began;    /* Seconds. */
    struct question question;
    uint32_t *texts;             /* The question's. */
    uint64_t generation_least;   /* No older one may answer this request. */
    struct bytes out;
    char *in;
    size_t out_sent, in_size, in_capacity;
    bool told_to_close;          /* The last answer said Connection: close. */
    uint64_t answers;
};

struct sample {
    float began, took;           /* Seconds; began since the start. */
    uint32_t generation;
    uint32_t phase;
};

static struct {
    struct sockaddr_in address;
    struct request_form form;
    const char *samples_file;
    unsigned connections, texts_max, statuses[STATUSES_MAX], status_count;
    double seconds, rate, timeout_s, backoff_s;
    uint64_t requests, seed, renew;   /* renew: a new connection after so many; 0: never. */
    bool until_refused, patient;
    bool dialects[DIALECTS];
} options = {.connections = 16, .texts_max = 4, .timeout_s = 30, .backoff_s = 0.01, .seed = 1,
             .dialects = {true, true, true}};

static struct {
    uint64_t begun, answered, texts, failed, wrong, mixed, stale, allowed, closed, retry_after,
        absent;
    uint64_t by_status[600];
    uint64_t by_generation[GENERATIONS_MAX];
    char fingerprint_of[GENERATIONS_MAX][FINGERPRINT_HEAD + 1];
    char first_trouble[512];
} counts;

static struct expectation expectations[EXPECTATIONS_MAX];
static unsigned expectation_count;
static struct texts texts;
static struct sample *samples;
static size_t sample_count, sample_capacity;
static char phase_names[PHASES_MAX][32] = {"start"};
static unsigned phase;           /* The present one. */
static unsigned phase_count = 1;
static uint64_t generation_least, generation_newest;
static double start_time;
static bool stopping;
static int epoll_fd;

static void read_options(int argc, char **argv);
static void run(struct connection *connections);
static void obey(void);
static void begin_request(struct connection *connection);
static void progress(struct connection *connection);
static void finish(struct connection *connection, const struct answer_head *head);
static void fail(struct connection *connection, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void report(void);
static void write_samples(void);

int main(int argc, char **argv) {
    struct connection *connections;

    signal(SIGPIPE, SIG_IGN);
    read_options(argc, argv);
    connections = calloc(options.connections, sizeof(*connections));
    for (unsigned i = 0; i < options.connections; i++) {
        connections[i].fd = -1;
        connections[i].texts = calloc(options.texts_max, sizeof(uint32_t));
    }
    run(connections);
    report();
    write_samples();
    return counts.failed || counts.wrong || counts.mixed || counts.stale;
}

static double now(void) {
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* ---- The loop ---- */

static void tick(struct connection *connections, double *wake, unsigned *busy) {
    double time = now();

    *wake = time + 0.1;
    *busy = 0;
    if (options.seconds > 0 && time - start_time >= options.seconds)
        stopping = true;
    for (unsigned i = 0; i < options.connections; i++) {
        struct connection *connection = &connections[i];
        if (options.requests && counts.begun >= options.requests)
            stopping = true;
        if (connection->state == STATE_RESTING) {
            if (stopping)
                connection->state = STATE_ENDED;
            else if (time >= connection->rest_until)
                begin_request(connection);
            else if (connection->rest_until < *wake)
                *wake = connection->rest_until;
        } else if (connection->state != STATE_ENDED
                   && time - connection->began > options.timeout_s) {
            fail(connection, "no answer in %g s", options.timeout_s);
        }
        *busy += connection->state != STATE_ENDED;
    }
}

static void run(struct connection *connections) {
    struct epoll_event events[64];
    unsigned busy = 1;

    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    events[0].events = EPOLLIN;
    events[0].data.ptr = NULL;
    /* A file or /dev/null as standard input cannot be watched: then there are no commands. */
    if (fcntl(0, F_SETFL, O_NONBLOCK) < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &events[0]) < 0)
        if (options.seconds <= 0 && !options.requests)
            stopping = true;
    start_time = now();
    for (unsigned i = 0; i < options.connections && options.rate > 0; i++)
        connections[i].rest_until = start_time + i / options.rate;
    while (busy) {
        double wake;
        int n;
        tick(connections, &wake, &busy);
        if (!busy)
            break;
        wake -= now();
        n = epoll_wait(epoll_fd, events, 64, wake <= 0 ? 0 : (int)(wake * 1000) + 1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr)
                progress(events[i].data.ptr);
            else
                obey();
        }
    }
}

static void obey_line(char *line) {
    unsigned long long generation;
    char name[32];

    if (sscanf(line, "min-generation %llu", &generation) == 1) {
        generation_least = generation;
    } else if (sscanf(line, "mark %31s", name) == 1) {
        for (phase = 0; phase < phase_count && strcmp(phase_names[phase], name) != 0; phase++)
            ;
        if (phase == phase_count && phase_count < PHASES_MAX)
            memcpy(phase_names[phase_count++], name, sizeof(name));
        phase = phase < PHASES_MAX ? phase : PHASES_MAX - 1;
    } else if (strcmp(line, "report") == 0) {
        report();
        return;
    } else if (strcmp(line, "stop") == 0) {
        stopping = true;
        return;
    } else {
        fprintf(stderr, "load: no such command: %s\n", line);
        exit(2);
    }
    /* Says that it holds from now on. */
    printf("ok\n");
    fflush(stdout);
}

static void obey(void) {
    static char held[4096];
    static size_t size;
    ssize_t n = read(0, held + size, sizeof(held) - 1 - size);

    if (n == 0) {
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, 0, NULL);
        if (options.seconds <= 0 && !options.requests)
            stopping = true;
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

/* ---- A request ---- */

static uint64_t draw(uint64_t below) {
    options.seed ^= options.seed << 13;
    options.seed ^= options.seed >> 7;
    options.seed ^= options.seed << 17;
    return options.seed % below;
}

/* Half of the requests have one text. */
static void draw_question(struct connection *connection) {
    struct question *question = &connection->question;

    do
        question->dialect = (enum dialect)draw(DIALECTS);
    while (!options.dialects[question->dialect]);
    question->count = draw(2) ? 1 : 1 + (unsigned)draw(options.texts_max);
    question->texts = connection->texts;
    for (unsigned i = 0; i < question->count; i++)
        connection->texts[i] = (uint32_t)draw(texts.count);
}

static void watch(struct connection *connection, uint32_t what, int operation) {
    struct epoll_event event = {.events = what, .data.ptr = connection};

    epoll_ctl(epoll_fd, operation, connection->fd, &event);
}

static void rest(struct connection *connection, double pause);

static bool connect_to_server(struct connection *connection) {
    int one = 1;

    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0) {
        perror("load: socket");
        exit(2);
    }
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    connection->state = STATE_CONNECTING;
    if (connect(connection->fd, (struct sockaddr *)&options.address, sizeof(options.address)) < 0
        && errno != EINPROGRESS)
        return false;
    watch(connection, EPOLLOUT, EPOLL_CTL_ADD);
    return true;
}

static void hang_up(struct connection *connection) {
    if (connection->fd >= 0)
        close(connection->fd);
    connection->fd = -1;
}

/* A server that said it would close, and is gone, refuses nobody; and one that was
 * killed is waited for by who is patient. */
static void fail_to_connect(struct connection *connection, int error) {
    if (options.until_refused && connection->told_to_close) {
        hang_up(connection);
        counts.begun--;
        connection->state = STATE_ENDED;
        return;
    }
    if (options.patient) {
        hang_up(connection);
        counts.begun--;
        counts.absent++;
        rest(connection, options.backoff_s);
        return;
    }
    fail(connection, "connect: %s", strerror(error));
}

/* An exact name is answered by one model, whatever came after it. */
static bool pinned(void) {
    return options.form.model_name && strchr(options.form.model_name, '@');
}

static void begin_request(struct connection *connection) {
    draw_question(connection);
    request_write(&connection->out, &options.form, &texts, &connection->question, draw(2));
    connection->out_sent = connection->in_size = 0;
    counts.begun++;
    connection->began = now();
    connection->generation_least =
        pinned() ? 0
        : generation_least > generation_newest ? generation_least : generation_newest;
    if (connection->fd >= 0) {
        connection->state = STATE_SENDING;
        progress(connection);
    } else if (!connect_to_server(connection)) {
        fail_to_connect(connection, errno);
    }
}

static void rest(struct connection *connection, double pause) {
    connection->state = STATE_RESTING;
    if (options.rate > 0)
        connection->rest_until += options.connections / options.rate;
    if (options.rate <= 0 || connection->rest_until < now() + pause)
        connection->rest_until = pause > 0 ? now() + pause : connection->rest_until;
}

static void trouble(const char *what) {
    if (!counts.first_trouble[0])
        snprintf(counts.first_trouble, sizeof(counts.first_trouble), "at %.3f s: %s",
                 now() - start_time, what);
}

static void fail(struct connection *connection, const char *format, ...) {
    char what[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    counts.failed++;
    trouble(what);
    hang_up(connection);
    rest(connection, options.backoff_s);
}

/* ---- An answer ---- */

static void progress_reading(struct connection *connection) {
    struct answer_head head;
    ssize_t n;

    do {
        int complete;
        if (connection->in_capacity - connection->in_size < 16384) {
            connection->in_capacity = connection->in_capacity * 2 + 32768;
            connection->in = realloc(connection->in, connection->in_capacity);
        }
        n = recv(connection->fd, connection->in + connection->in_size,
                 connection->in_capacity - connection->in_size - 1, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            fail(connection, "the connection ended %zu bytes into an answer: %s",
                 connection->in_size, n ? strerror(errno) : "closed");
            return;
        }
        if (n < 0)
            return;
        connection->in_size += (size_t)n;
        connection->in[connection->in_size] = 0;
        complete = answer_head_read(&head, connection->in, connection->in_size);
        if (complete < 0) {
            fail(connection, "not an HTTP answer with a length: %.80s", connection->in);
            return;
        }
        if (complete) {
            finish(connection, &head);
            return;
        }
    } while (n > 0);
}

static void progress(struct connection *connection) {
    int error = 0;
    socklen_t size = sizeof(error);
    ssize_t n;

    if (connection->state == STATE_CONNECTING) {
        getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            fail_to_connect(connection, error);
            return;
        }
        connection->state = STATE_SENDING;
    }
    if (connection->state == STATE_SENDING) {
        n = send(connection->fd, connection->out.at + connection->out_sent,
                 connection->out.size - connection->out_sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            fail(connection, "send: %s", strerror(errno));
            return;
        }
        connection->out_sent += n > 0 ? (size_t)n : 0;
        if (connection->out_sent < connection->out.size) {
            watch(connection, EPOLLOUT, EPOLL_CTL_MOD);
            return;
        }
        connection->state = STATE_READING;
        watch(connection, EPOLLIN, EPOLL_CTL_MOD);
        return;
    }
    if (connection->state == STATE_READING) {
        progress_reading(connection);
        return;
    }
    /* At rest, and the server has closed it without saying so before. */
    if (options.until_refused) {
        hang_up(connection);
        connection->told_to_close = true;
        return;
    }
    fail(connection, "the server closed or wrote to a connection at rest");
}

static void keep_sample(const struct connection *connection, const struct answer_head *head) {
    if (sample_count == sample_capacity) {
        sample_capacity = sample_capacity * 2 + 65536;
        samples = realloc(samples, sample_capacity * sizeof(*samples));
    }
    samples[sample_count++] = (struct sample){
        .began = (float)(connection->began - start_time),
        .took = (float)(now() - connection->began),
        .generation = (uint32_t)head->generation,
        .phase = phase,
    };
}

/* A generation has one fingerprint for ever, and none answers after a newer one has. */
static void check_generation(const struct connection *connection, const struct answer_head *head) {
    char what[160];
    char *known;

    if (head->generation == 0 || head->generation >= GENERATIONS_MAX) {
        counts.wrong++;
        trouble("an answer that names no generation");
        return;
    }
    counts.by_generation[head->generation]++;
    known = counts.fingerprint_of[head->generation];
    if (!known[0])
        memcpy(known, head->fingerprint, sizeof(head->fingerprint));
    if (strcmp(known, head->fingerprint) != 0) {
        counts.mixed++;
        trouble("a generation with two fingerprints");
    }
    if (head->generation < connection->generation_least) {
        counts.stale++;
        snprintf(what, sizeof(what), "generation %llu answered a request that began under %llu",
                 (unsigned long long)head->generation,
                 (unsigned long long)connection->generation_least);
        trouble(what);
    }
    if (head->generation > generation_newest && !pinned())
        generation_newest = head->generation;
}

static void check_answer(struct connection *connection, const struct answer_head *head) {
    char why[256];
    enum verdict verdict;

    counts.answered++;
    counts.texts += connection->question.count;
    keep_sample(connection, head);
    check_generation(connection, head);
    verdict = answer_check(expectations, expectation_count, &connection->question,
                           head->fingerprint, connection->in + head->head_size, head->body_size,
                           why, sizeof(why));
    if (verdict == VERDICT_RIGHT)
        return;
    *(verdict == VERDICT_MIXED ? &counts.mixed : &counts.wrong) += 1;
    trouble(why);
}

static void finish(struct connection *connection, const struct answer_head *head) {
    bool allowed = false;

    if (connection->in_size > head->head_size + head->body_size) {
        fail(connection, "bytes behind the end of the answer");
        return;
    }
    counts.by_status[head->status]++;
    counts.retry_after += head->has_retry_after;
    for (unsigned i = 0; i < options.status_count; i++)
        allowed |= options.statuses[i] == head->status;
    if (head->status == 200) {
        check_answer(connection, head);
    } else if (allowed) {
        counts.allowed++;
    } else {
        fail(connection, "status %u: %.150s", head->status, connection->in + head->head_size);
        return;
    }
    connection->told_to_close = head->closes;
    if (head->closes) {
        counts.closed++;
        hang_up(connection);
    } else if (options.renew > 0 && ++connection->answers % options.renew == 0) {
        hang_up(connection);
    }
    rest(connection, head->status == 200 ? 0 : options.backoff_s);
}

/* ---- The report ---- */

static int compare_took(const void *one, const void *other) {
    float a = *(const float *)one, b = *(const float *)other;

    return a < b ? -1 : a > b;
}

/* phase_wanted -1: all. */
static void print_latencies(int phase_wanted) {
    float *took = malloc((sample_count + 1) * sizeof(*took));
    size_t n = 0;

    for (size_t i = 0; i < sample_count; i++)
        if (phase_wanted < 0 || samples[i].phase == (uint32_t)phase_wanted)
            took[n++] = samples[i].took * 1000;
    qsort(took, n, sizeof(*took), compare_took);
    printf("{\"count\":%zu", n);
    if (n)
        printf(",\"p50\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f", (double)took[n / 2],
               (double)took[n * 99 / 100], (double)took[n * 999 / 1000], (double)took[n - 1]);
    printf("}");
    free(took);
}

static void print_string(const char *string) {
    putchar('"');
    for (; *string; string++) {
        if (*string == '"' || *string == '\\')
            putchar('\\');
        putchar((unsigned char)*string < 0x20 ? ' ' : *string);
    }
    putchar('"');
}

static void report(void) {
    const char *comma = "";

    printf("{\"seconds\":%.3f,\"begun\":%llu,\"answered\":%llu,\"texts\":%llu", now() - start_time,
           (unsigned long long)counts.begun, (unsigned long long)counts.answered,
           (unsigned long long)counts.texts);
    printf(",\"failed\":%llu,\"wrong\":%llu,\"mixed\":%llu,\"stale\":%llu",
           (unsigned long long)counts.failed, (unsigned long long)counts.wrong,
           (unsigned long long)counts.mixed, (unsigned long long)counts.stale);
    printf(",\"allowed\":%llu,\"closed\":%llu,\"retry_after\":%llu,\"absent\":%llu",
           (unsigned long long)counts.allowed, (unsigned long long)counts.closed,
           (unsigned long long)counts.retry_after, (unsigned long long)counts.absent);
    printf(",\"statuses\":{");
    for (unsigned i = 0; i < 600; i++)
        if (counts.by_status[i]) {
            printf("%s\"%u\":%llu", comma, i, (unsigned long long)counts.by_status[i]);
            comma = ",";
        }
    comma = "";
    printf("},\"generations\":{");
    for (unsigned i = 0; i < GENERATIONS_MAX; i++)
        if (counts.by_generation[i]) {
            printf("%s\"%u\":%llu", comma, i, (unsigned long long)counts.by_generation[i]);
            comma = ",";
        }
    printf("},\"first_trouble\":");
    print_string(counts.first_trouble);
    printf(",\"latency_ms\":{\"all\":");
    print_latencies(-1);
    for (unsigned i = 0; i < phase_count; i++) {
        printf(",\"%s\":", phase_names[i]);
        print_latencies((int)i);
    }
    printf("}}\n");
    fflush(stdout);
}

/* A line per answer: when it began, how long it took, which generation, which phase. */
static void write_samples(void) {
    FILE *file;

    if (!options.samples_file)
        return;
    file = fopen(options.samples_file, "w");
    for (size_t i = 0; file && i < sample_count; i++)
        fprintf(file, "%.6f %.6f %u %s\n", (double)samples[i].began, (double)samples[i].took,
                samples[i].generation, phase_names[samples[i].phase]);
    if (!file || fclose(file) != 0) {
        perror(options.samples_file);
        exit(2);
    }
}

/* ---- Options ---- */

static _Noreturn void usage(void) {
    fprintf(stderr,
            "load --port PORT --texts FILE --expect FINGERPRINT=FILE.npy [--expect …]\n"
            "     [--connections 16] [--texts-max 4] [--seconds S | --requests N] [--rate R]\n"
            "     [--dialects embed,float,base64] [--model NAME] [--key KEY] [--allow STATUS]…\n"
            "     [--timeout 30] [--backoff 0.01] [--until-refused | --patient] [--samples FILE]\n"
            "     [--seed 1]\n");
    exit(2);
}

static void read_dialects(const char *names) {
    options.dialects[DIALECT_EMBED] = strstr(names, "embed");
    options.dialects[DIALECT_OPENAI_FLOAT] = strstr(names, "float");
    options.dialects[DIALECT_OPENAI_BASE64] = strstr(names, "base64");
    if (!options.dialects[0] && !options.dialects[1] && !options.dialects[2])
        usage();
}

static void check_options(void) {
    if (!options.address.sin_port || !texts.count || !expectation_count || !options.connections
        || !options.texts_max || options.texts_max > TEXTS_PER_REQUEST_MAX || !options.seed)
        usage();
    for (unsigned i = 0; i < expectation_count; i++)
        if (expectations[i].rows != texts.count) {
            fprintf(stderr, "load: %zu texts, but %zu vectors of %s.\n", texts.count,
                    expectations[i].rows, expectations[i].fingerprint);
            exit(2);
        }
}

static void read_options(int argc, char **argv) {
    static const struct option known[] = {
        {"port", 1, 0, 'p'}, {"texts", 1, 0, 't'}, {"expect", 1, 0, 'e'},
        {"connections", 1, 0, 'c'}, {"texts-max", 1, 0, 'x'}, {"seconds", 1, 0, 's'},
        {"requests", 1, 0, 'n'}, {"rate", 1, 0, 'r'}, {"dialects", 1, 0, 'd'},
        {"model", 1, 0, 'm'}, {"key", 1, 0, 'k'}, {"allow", 1, 0, 'a'}, {"timeout", 1, 0, 'o'},
        {"backoff", 1, 0, 'b'}, {"renew", 1, 0, 'w'},
        {"until-refused", 0, 0, 'u'}, {"patient", 0, 0, 'i'}, {"samples", 1, 0, 'l'},
        {"seed", 1, 0, 'z'}, {0, 0, 0, 0}};

    options.form.host = "127.0.0.1";
    options.address.sin_family = AF_INET;
    options.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1; ) {
        switch (c) {
        case 'p': options.address.sin_port = htons((uint16_t)strtoul(optarg, NULL, 10)); break;
        case 't': texts_read(&texts, optarg); break;
        case 'e':
            if (expectation_count == EXPECTATIONS_MAX)
                usage();
            expectation_open(&expectations[expectation_count++], optarg);
            break;
        case 'c': options.connections = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'x': options.texts_max = (unsigned)strtoul(optarg, NULL, 10); break;
        case 's': options.seconds = strtod(optarg, NULL); break;
        case 'n': options.requests = strtoull(optarg, NULL, 10); break;
        case 'r': options.rate = strtod(optarg, NULL); break;
        case 'd': read_dialects(optarg); break;
        case 'm': options.form.model_name = optarg; break;
        case 'k': options.form.key = optarg; break;
        case 'a':
            if (options.status_count == STATUSES_MAX)
                usage();
            options.statuses[options.status_count++] = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'o': options.timeout_s = strtod(optarg, NULL); break;
        case 'b': options.backoff_s = strtod(optarg, NULL); break;
        case 'w': options.renew = strtoull(optarg, NULL, 10); break;
        case 'u': options.until_refused = true; break;
        case 'i': options.patient = true; break;
        case 'l': options.samples_file = optarg; break;
        case 'z': options.seed = strtoull(optarg, NULL, 10); break;
        default: usage();
        }
    }
    check_options();
}
