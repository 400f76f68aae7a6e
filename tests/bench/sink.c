/* tests/bench/sink.c - a cheap backend that accepts every message and discards it
 *
 * One thread, one epoll. It speaks PIPELINING, SIZE, 8BITMIME, SMTPUTF8, ENHANCEDSTATUSCODES and XCLIENT as Postfix
 * does (once, then back to the greeting), and reads PROXY headers with --proxy. --delay delays the reply to each RCPT
 * and each message. The reply to "VRFY count" is the number of messages so far.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IN_SIZE (256 * 1024) /* shared by all connections; each keeps only the rest of a line */
#define REST_SIZE 2048
#define OUT_SIZE 4096
#define TAIL 5

struct connection {
    int fd;
    bool in_data, proxied, introduced, over;
    char tail[TAIL]; /* the last octets of mail data so far */
    char rest[REST_SIZE];
    size_t rest_len;
    char out[OUT_SIZE];
    size_t out_len;
    int64_t due_ms; /* when `out` may be sent; 0: at once */
    struct connection *next_due;
};

struct sink {
    int epoll_fd, listen_fd;
    bool proxy;
    int64_t delay_ms;
    unsigned long messages, octets;
    struct connection *first_due, *last_due; /* already sorted, because the delay is always the same */
    char in[IN_SIZE];
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void put(struct connection *connection, const char *text)
{
    size_t len = strlen(text);
    if (connection->out_len + len > OUT_SIZE) {
        connection->over = true;
        return;
    }
    memcpy(connection->out + connection->out_len, text, len);
    connection->out_len += len;
}

static void flush(struct connection *connection)
{
    if (connection->out_len > 0 && send(connection->fd, connection->out, connection->out_len,
                                        MSG_NOSIGNAL) != (ssize_t)connection->out_len)
        connection->over = true;
    connection->out_len = 0;
}

/* Starts the delay of what is to be sent. Later output shares it. */
static void delay(struct sink *sink, struct connection *connection)
{
    if (sink->delay_ms == 0 || connection->due_ms != 0)
        return;
    connection->due_ms = now_ms() + sink->delay_ms;
    connection->next_due = NULL;
    *(sink->last_due != NULL ? &sink->last_due->next_due : &sink->first_due) = connection;
    sink->last_due = connection;
}

static void forget(struct sink *sink, struct connection *connection)
{
    struct connection **place = &sink->first_due, *before = NULL;
    for (; connection->due_ms != 0 && *place != connection; place = &(*place)->next_due)
        before = *place;
    if (connection->due_ms != 0) {
        *place = connection->next_due;
        if (sink->last_due == connection)
            sink->last_due = before;
    }
    close(connection->fd);
    free(connection);
}

static int release_due(struct sink *sink)
{
    int64_t now = now_ms();
    struct connection *first;
    while ((first = sink->first_due) != NULL && first->due_ms <= now) {
        sink->first_due = first->next_due;
        if (sink->first_due == NULL)
            sink->last_due = NULL;
        first->due_ms = 0;
        flush(first);
        if (first->over)
            forget(sink, first);
    }
    return first != NULL ? (int)(first->due_ms - now) : -1;
}

static bool is(const char *line, size_t len, const char *verb)
{
    size_t verb_len = strlen(verb);
    return len >= verb_len && strncasecmp(line, verb, verb_len) == 0;
}

static void hello(struct connection *connection)
{
    put(connection, "250-sink.example\r\n250-PIPELINING\r\n250-SIZE 1073741824\r\n");
    if (!connection->introduced)
        put(connection, "250-XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR "
                        "DESTPORT\r\n");
    put(connection, "250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n");
}

static void obey(struct sink *sink, struct connection *connection, const char *line, size_t len)
{
    char text[80];

    if (is(line, len, "EHLO")) {
        hello(connection);
    } else if (is(line, len, "HELO")) {
        put(connection, "250 sink.example\r\n");
    } else if (is(line, len, "XCLIENT")) {
        put(connection, connection->introduced ? "550 5.7.0 Error: insufficient authorization\r\n"
                                               : "220 sink.example ESMTP\r\n");
        connection->introduced = true;
    } else if (is(line, len, "RCPT")) {
        put(connection, "250 2.1.5 Ok\r\n");
        delay(sink, connection);
    } else if (is(line, len, "DATA")) {
        put(connection, "354 End data with <CR><LF>.<CR><LF>\r\n");
        connection->in_data = true;
        memcpy(connection->tail, "xxx\r\n", TAIL);
    } else if (is(line, len, "QUIT")) {
        put(connection, "221 2.0.0 Bye\r\n");
        connection->over = true;
    } else if (is(line, len, "VRFY")) {
        snprintf(text, sizeof text, "252 2.0.0 %lu messages %lu octets\r\n", sink->messages,
                 sink->octets);
        put(connection, text);
    } else if (is(line, len, "MAIL") || is(line, len, "RSET") || is(line, len, "NOOP")) {
        put(connection, "250 2.0.0 Ok\r\n");
    } else {
        put(connection, "500 5.5.2 Error: bad syntax\r\n");
    }
}

/* For an end of data that straddles two pieces: how much of the second belongs to it. */
static size_t straddles(const struct connection *connection, const char *bytes, size_t len)
{
    char both[2 * TAIL];
    size_t head = len < TAIL - 1 ? len : TAIL - 1;
    memcpy(both, connection->tail, TAIL);
    memcpy(both + TAIL, bytes, head);
    const char *end = memmem(both, TAIL + head, "\r\n.\r\n", 5);
    return end != NULL && end + 5 > both + TAIL ? (size_t)(end + 5 - both) - TAIL : 0;
}

static void keep_tail(struct connection *connection, const char *bytes, size_t len)
{
    if (len >= TAIL) {
        memcpy(connection->tail, bytes + len - TAIL, TAIL);
        return;
    }
    memmove(connection->tail, connection->tail + len, TAIL - len);
    memcpy(connection->tail + TAIL - len, bytes, len);
}

static size_t take_data(struct sink *sink, struct connection *connection, const char *bytes,
                        size_t len)
{
    size_t used = straddles(connection, bytes, len);
    const char *end = used == 0 ? memmem(bytes, len, "\r\n.\r\n", 5) : NULL;

    if (end != NULL)
        used = (size_t)(end + 5 - bytes);
    if (used == 0) {
        keep_tail(connection, bytes, len);
        sink->octets += len;
        return len;
    }
    connection->in_data = false;
    sink->messages++;
    sink->octets += used;
    put(connection, "250 2.0.0 Ok: taken\r\n");
    delay(sink, connection);
    return used;
}

/* The header's length, or 0 if it is incomplete. */
static size_t proxy_header(const char *bytes, size_t len)
{
    if (len >= 16 && memcmp(bytes, "\r\n\r\n\0\r\nQUIT\n", 12) == 0) {
        size_t all = 16 + ((size_t)(unsigned char)bytes[14] << 8 | (unsigned char)bytes[15]);
        return len >= all ? all : 0;
    }
    const char *lf = memchr(bytes, '\n', len);
    return lf != NULL && bytes[0] == 'P' ? (size_t)(lf + 1 - bytes) : 0;
}

/* Handles all input: mail data and lines. The rest is an incomplete line. */
static void take(struct sink *sink, struct connection *connection, const char *bytes, size_t len)
{
    while (len > 0) {
        size_t used;
        if (connection->proxied) {
            used = proxy_header(bytes, len);
            connection->proxied = used == 0;
        } else if (connection->in_data) {
            used = take_data(sink, connection, bytes, len);
        } else {
            const char *lf = memchr(bytes, '\n', len);
            used = lf != NULL ? (size_t)(lf + 1 - bytes) : 0;
            if (used > 0)
                obey(sink, connection, bytes, used);
        }
        if (used == 0)
            break;
        bytes += used;
        len -= used;
    }
    connection->over |= len > REST_SIZE;
    connection->rest_len = len <= REST_SIZE ? len : 0;
    memmove(connection->rest, bytes, connection->rest_len);
}

/* False once the connection is over. */
static bool readable(struct sink *sink, struct connection *connection)
{
    size_t rest = connection->rest_len;

    memcpy(sink->in, connection->rest, rest);
    ssize_t got = recv(connection->fd, sink->in + rest, IN_SIZE - rest, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (got <= 0)
        return false;
    take(sink, connection, sink->in, rest + (size_t)got);
    if (connection->due_ms != 0)
        return true;
    flush(connection);
    return !connection->over;
}

static void accept_all(struct sink *sink)
{
    int fd, on = 1;

    while ((fd = accept4(sink->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *connection = calloc(1, sizeof *connection);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        if (connection == NULL) {
            close(fd);
            continue;
        }
        connection->fd = fd;
        connection->proxied = sink->proxy;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        put(connection, "220 sink.example ESMTP\r\n");
        flush(connection);
        epoll_ctl(sink->epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

static int listen_on(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[64];
    unsigned port;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || sscanf(text, "%63[^:]:%u", host, &port) != 2 ||
        inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fputs("usage: sink [--proxy] [--delay=MS] ADDRESS:PORT\n", stderr);
        exit(2);
    }
    address.sin_port = htons((uint16_t)port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0) {
        perror("sink: cannot listen");
        exit(1);
    }
    return fd;
}

static void run(struct sink *sink)
{
    struct epoll_event events[256], event = {.events = EPOLLIN, .data.ptr = NULL};

    epoll_ctl(sink->epoll_fd, EPOLL_CTL_ADD, sink->listen_fd, &event);
    for (;;) {
        int count = epoll_wait(sink->epoll_fd, events, 256, release_due(sink));
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection == NULL)
                accept_all(sink);
            else if (!readable(sink, connection))
                forget(sink, connection);
        }
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"proxy", no_argument, NULL, 'p'},
                                            {"delay", required_argument, NULL, 'd'},
                                            {NULL, 0, NULL, 0}};
    static struct sink sink;
    struct rlimit files;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'p')
            sink.proxy = true;
        else if (option == 'd')
            sink.delay_ms = atol(optarg);
        else
            return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    sink.listen_fd = listen_on(optind < argc ? argv[optind] : "");
    sink.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    run(&sink);
    return 0;
}
