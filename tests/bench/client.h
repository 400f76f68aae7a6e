/* tests/bench/client.h - one SMTP client of the load generator, as a state machine
 *
 * A client opens connections one after the other: connect, EHLO, perhaps STARTTLS, messages, QUIT. It never waits:
 * client_ready() does what can be done and says what to wait for. Only the thread that owns its epoll uses it.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BENCH_CLIENT_H
#define POSTERN_BENCH_CLIENT_H

#include <gnutls/gnutls.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "samples.h"

#define LOAD_SOURCES_MAX 64
#define LOAD_RECIPIENTS_MAX 64

enum load_tls { LOAD_PLAIN, LOAD_TLS_NEW, LOAD_TLS_RESUMED };

enum load_kind {
    LOAD_MESSAGES,
    LOAD_IDLE, /* greeted, then silent */
    LOAD_SLOW, /* sends one octet a second of a command that never ends */
};

/* What all clients share. Read-only except for `left`. */
struct load {
    struct sockaddr_storage target;
    socklen_t target_len;
    struct sockaddr_storage sources[LOAD_SOURCES_MAX];
    unsigned source_count;
    enum load_tls tls;
    enum load_kind kind;
    bool pipelining;
    unsigned recipients;
    unsigned per_connection; /* messages */
    const char *body;        /* with the dot at its end */
    size_t body_len;
    const char *sender;
    const char *to[LOAD_RECIPIENTS_MAX]; /* clients take turns */
    unsigned to_count;
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
    atomic_long left; /* messages still to be started */
    int64_t end_us;   /* none is started later; 0: no end */
};

/* The counters of one thread. */
struct tally {
    uint64_t messages, connections, resumed;
    uint64_t refused;               /* replies other than the expected one */
    uint64_t broken;                /* connections that failed or ended early */
    char first_error[200];          /* describes the first of them */
    struct samples message;         /* from connect() or MAIL to the reply to the end of data */
    struct samples after_handshake; /* from EHLO to its reply, the first under TLS */
    uint64_t waiting;               /* clients with nothing more to do */
};

struct client;

struct client *client_new(const struct load *load, struct tally *tally, unsigned number);
void client_free(struct client *client);
int client_fd(const struct client *client);
/* Connects. False if there is nothing (more) to do. */
bool client_start(struct client *client);
/* Does all that can be done without waiting (epoll watches the descriptor edge-triggered). False: the connection is
 * over and its descriptor closed. */
bool client_ready(struct client *client);
/* Called every second: slow clients send their octet. */
void client_tick(struct client *client);

int64_t now_us(void);

#endif
