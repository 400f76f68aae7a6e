/* tests/bench/load.c - a load generator for SMTP servers
 *
 * Many clients in few threads. The loop is closed: a client sends its next message once the previous one was
 * accepted, so --connections is the number of messages under way. The result is printed as text or JSON. --idle and
 * --slow only open connections and keep them until standard input ends.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <pthread.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "client.h"

#define THREADS_MAX 64
#define STALL_MS 20000 /* without an event: the server is stuck */

struct worker {
    pthread_t thread;
    struct load *load;
    struct client **clients;
    unsigned first, count; /* the range of its clients */
    struct tally tally;
    int epoll_fd;
    bool stalled;
};

struct settings {
    unsigned connections, threads;
    long messages;
    size_t size;
    double seconds; /* no message is started later; 0: until all have been sent */
    bool json;
};

static atomic_bool ending;

static void die(const char *what)
{
    fprintf(stderr, "load: %s\n", what);
    exit(2);
}

/* Parses "192.0.2.1:25" or "[2001:db8::1]:25"; the port is 0 if none is given. */
static void parse_endpoint(const char *text, struct sockaddr_storage *out, socklen_t *len)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    char host[64];
    unsigned port = 0;

    memset(out, 0, sizeof *out);
    if (sscanf(text, "[%63[^]]]:%u", host, &port) >= 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        *len = sizeof *v6;
        if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1)
            return;
    } else if (sscanf(text, "%63[^:]:%u", host, &port) >= 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        *len = sizeof *v4;
        if (inet_pton(AF_INET, host, &v4->sin_addr) == 1)
            return;
    }
    die("an address is wanted, like 192.0.2.1:25 or [2001:db8::1]:25");
}

/* Makes a header, lines of 78 octets and the dot, together at most `size` octets unless that is tiny. */
static void make_body(struct load *load, size_t size)
{
    static const char header[] = "From: <s@load.example>\r\nTo: <a@example.com>\r\n"
                                 "Subject: load\r\nMessage-ID: <1@load.example>\r\n\r\n";
    size_t used = sizeof header - 1;
    char *body = malloc(size + sizeof header + 100);

    if (body == NULL)
        die("out of memory");
    memcpy(body, header, used);
    while (used + 78 + 3 <= size) {
        memset(body + used, 'a' + (int)(used / 78 % 26), 76);
        memcpy(body + used + 76, "\r\n", 2);
        used += 78;
    }
    memcpy(body + used, ".\r\n", 3);
    load->body = body;
    load->body_len = used + 3;
}

/* Retries until the client connects or all work is done. False: this client has finished. */
static bool start(struct worker *worker, struct client *client)
{
    while (client_start(client)) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = client};
        if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, client_fd(client), &event) == 0)
            return true;
    }
    return false;
}

static void tick(struct worker *worker)
{
    for (unsigned i = 0; i < worker->count; i++)
        client_tick(worker->clients[i]);
}

/* False once the client has finished. */
static bool serve(struct worker *worker, struct client *client)
{
    return client_ready(client) || (worker->load->kind == LOAD_MESSAGES && start(worker, client));
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct epoll_event events[256];
    unsigned active = 0;
    bool hold = worker->load->kind != LOAD_MESSAGES;
    int64_t last_us = now_us();

    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < worker->count; i++)
        active += start(worker, worker->clients[i]);
    while (active > 0 && !atomic_load(&ending)) {
        int count = epoll_wait(worker->epoll_fd, events, 256, hold ? 1000 : STALL_MS);
        for (int i = 0; i < count; i++) {
            if (!serve(worker, events[i].data.ptr))
                active--;
        }
        if (count == 0 && !hold) {
            worker->stalled = true;
            break;
        }
        if (hold && now_us() - last_us >= 1000000) {
            last_us = now_us();
            tick(worker);
        }
    }
    close(worker->epoll_fd);
    return NULL;
}

static struct worker *make_workers(struct load *load, const struct settings *settings)
{
    struct worker *workers = calloc(settings->threads, sizeof *workers);
    unsigned first = 0;

    for (unsigned i = 0; workers != NULL && i < settings->threads; i++) {
        struct worker *worker = &workers[i];
        worker->load = load;
        worker->first = first;
        worker->count = settings->connections / settings->threads +
                        (i < settings->connections % settings->threads);
        first += worker->count;
        worker->clients = calloc(worker->count + 1, sizeof(struct client *));
        for (unsigned j = 0; worker->clients != NULL && j < worker->count; j++) {
            worker->clients[j] = client_new(load, &worker->tally, worker->first + j);
            if (worker->clients[j] == NULL)
                die("out of memory");
        }
    }
    return workers;
}

static void add(struct tally *sum, const struct tally *part)
{
    sum->messages += part->messages;
    sum->connections += part->connections;
    sum->resumed += part->resumed;
    sum->refused += part->refused;
    sum->broken += part->broken;
    sum->waiting += part->waiting;
    samples_merge(&sum->message, &part->message);
    samples_merge(&sum->after_handshake, &part->after_handshake);
    if (sum->first_error[0] == '\0')
        memcpy(sum->first_error, part->first_error, sizeof sum->first_error);
}

static void report(const struct tally *tally, const struct settings *settings, double seconds)
{
    const char *format =
        settings->json
            ? "{\"messages\": %lu, \"seconds\": %.3f, \"rate\": %.1f, \"connections\": %lu, "
              "\"resumed\": %lu, \"refused\": %lu, \"broken\": %lu, \"p50_ms\": %.3f, "
              "\"p95_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f, "
              "\"after_handshake_p50_ms\": %.3f, \"after_handshake_p99_ms\": %.3f}\n"
            : "%lu messages in %.3f s: %.1f/s on %lu connections (%lu resumed), %lu refused, "
              "%lu broken\nmessage: p50 %.3f, p95 %.3f, p99 %.3f, longest %.3f ms\n"
              "first reply after the handshake: p50 %.3f, p99 %.3f ms\n";
    printf(format, tally->messages, seconds, (double)tally->messages / seconds, tally->connections,
           tally->resumed, tally->refused, tally->broken,
           samples_percentile_ms(&tally->message, 50), samples_percentile_ms(&tally->message, 95),
           samples_percentile_ms(&tally->message, 99), (double)tally->message.largest_us / 1000,
           samples_percentile_ms(&tally->after_handshake, 50),
           samples_percentile_ms(&tally->after_handshake, 99));
    if (tally->first_error[0] != '\0')
        fprintf(stderr, "load: %s\n", tally->first_error);
}

/* Reports when all connections stand, and waits for the end of standard input. */
static void hold(struct worker *workers, const struct settings *settings)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char byte;
    uint64_t waiting = 0, broken = 0;
    int64_t until = now_us() + 60 * 1000000;

    do {
        poll(NULL, 0, 50);
        waiting = broken = 0;
        for (unsigned i = 0; i < settings->threads; i++) {
            waiting += workers[i].tally.waiting;
            broken += workers[i].tally.broken + workers[i].tally.refused;
        }
    } while (waiting + broken < settings->connections && now_us() < until);
    printf("%lu stand, %lu broken\n", waiting, broken);
    fflush(stdout);
    while (poll(&input, 1, -1) < 0 || read(STDIN_FILENO, &byte, 1) > 0)
        ;
    atomic_store(&ending, true);
}

static void usage(void)
{
    fputs("usage: load [OPTION...] ADDRESS:PORT\n"
          "  -n, --messages=N         messages in all (1000)\n"
          "  -T, --seconds=S          and no message begun later than that (no end)\n"
          "  -c, --connections=N      clients at one time (10)\n"
          "  -k, --per-connection=N   messages on a connection (1)\n"
          "  -s, --size=N             octets of a message (4096)\n"
          "  -r, --recipients=N       of a message (1)\n"
          "  -P, --pipelining         MAIL, RCPT and DATA in one write\n"
          "  -t, --tls=none|new|resume  STARTTLS, with a new or a resumed session (none)\n"
          "      --idle, --slow       greeted clients that say nothing, or an octet a second\n"
          "  -j, --threads=N          (1)\n"
          "  -b, --source=ADDRESS     may stand several times; clients take turns\n"
          "  -f, --from=ADDRESS       sender (s@load.example)\n"
          "  -a, --to=ADDRESS         recipient (a@example.com); likewise\n"
          "      --json               report as JSON\n",
          stderr);
    exit(2);
}

static enum load_tls parse_tls(const char *text)
{
    static const char *const names[] = {"none", "new", "resume"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, names[i]) == 0)
            return (enum load_tls)i;
    }
    usage();
    return LOAD_PLAIN;
}

static unsigned number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*end != '\0' || value == 0 || value > 1000000000)
        usage();
    return (unsigned)value;
}

static void parse_options(int argc, char **argv, struct load *load, struct settings *settings)
{
    static const struct option options[] = {{"messages", required_argument, NULL, 'n'},
                                            {"seconds", required_argument, NULL, 'T'},
                                            {"connections", required_argument, NULL, 'c'},
                                            {"per-connection", required_argument, NULL, 'k'},
                                            {"size", required_argument, NULL, 's'},
                                            {"recipients", required_argument, NULL, 'r'},
                                            {"pipelining", no_argument, NULL, 'P'},
                                            {"tls", required_argument, NULL, 't'},
                                            {"idle", no_argument, NULL, 'I'},
                                            {"slow", no_argument, NULL, 'S'},
                                            {"threads", required_argument, NULL, 'j'},
                                            {"source", required_argument, NULL, 'b'},
                                            {"from", required_argument, NULL, 'f'},
                                            {"to", required_argument, NULL, 'a'},
                                            {"json", no_argument, NULL, 'J'},
                                            {NULL, 0, NULL, 0}};
    socklen_t len;
    int option;

    while ((option = getopt_long(argc, argv, "n:T:c:k:s:r:Pt:j:b:f:a:", options, NULL)) != -1) {
        switch (option) {
        case 'n':
            settings->messages = (long)number(optarg);
            break;
        case 'T':
            settings->seconds = strtod(optarg, NULL);
            break;
        case 'c':
            settings->connections = number(optarg);
            break;
        case 'k':
            load->per_connection = number(optarg);
            break;
        case 's':
            settings->size = number(optarg);
            break;
        case 'r':
            load->recipients = number(optarg);
            break;
        case 'P':
            load->pipelining = true;
            break;
        case 't':
            load->tls = parse_tls(optarg);
            break;
        case 'I':
        case 'S':
            load->kind = option == 'I' ? LOAD_IDLE : LOAD_SLOW;
            break;
        case 'j':
            settings->threads = number(optarg);
            break;
        case 'b':
            if (load->source_count < LOAD_SOURCES_MAX)
                parse_endpoint(optarg, &load->sources[load->source_count++], &len);
            break;
        case 'f':
            load->sender = optarg;
            break;
        case 'a':
            if (load->to_count < LOAD_RECIPIENTS_MAX)
                load->to[load->to_count++] = optarg;
            break;
        case 'J':
            settings->json = true;
            break;
        default:
            usage();
        }
    }
    if (optind + 1 != argc || settings->threads > THREADS_MAX || load->recipients > 100)
        usage();
    parse_endpoint(argv[optind], &load->target, &load->target_len);
}

int main(int argc, char **argv)
{
    static struct load load = {.recipients = 1, .per_connection = 1, .sender = "s@load.example"};
    struct settings settings = {.connections = 10, .threads = 1, .messages = 1000, .size = 4096};
    static struct tally sum;
    struct rlimit files;
    bool stalled = false;

    parse_options(argc, argv, &load, &settings);
    if (load.to_count == 0)
        load.to[load.to_count++] = "a@example.com";
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    make_body(&load, settings.size);
    atomic_init(&load.left, settings.messages);
    gnutls_certificate_allocate_credentials(&load.credentials);
    gnutls_priority_init(&load.priority, "NORMAL", NULL);

    struct worker *workers = make_workers(&load, &settings);
    int64_t began_us = now_us();
    if (settings.seconds > 0)
        load.end_us = began_us + (int64_t)(settings.seconds * 1e6);
    for (unsigned i = 0; i < settings.threads; i++) {
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            die("cannot start a thread");
    }
    if (load.kind != LOAD_MESSAGES)
        hold(workers, &settings);
    for (unsigned i = 0; i < settings.threads; i++) {
        pthread_join(workers[i].thread, NULL);
        add(&sum, &workers[i].tally);
        stalled |= workers[i].stalled;
    }
    if (load.kind == LOAD_MESSAGES)
        report(&sum, &settings, (double)(now_us() - began_us) / 1e6);
    for (unsigned i = 0; i < settings.threads; i++) {
        for (unsigned j = 0; j < workers[i].count; j++)
            client_free(workers[i].clients[j]);
        free(workers[i].clients);
    }
    free(workers);
    free((void *)load.body);
    gnutls_priority_deinit(load.priority);
    gnutls_certificate_free_credentials(load.credentials);
    if (stalled)
        fputs("load: nothing happened for 20 s\n", stderr);
    return stalled || sum.refused + sum.broken > 0 ? 1 : 0;
}
