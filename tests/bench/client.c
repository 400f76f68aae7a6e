/* tests/bench/client.c - one SMTP client of the load generator, as a state machine
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum step {
    STEP_CONNECT,
    STEP_GREETING,
    STEP_HELLO,
    STEP_STARTTLS,
    STEP_HANDSHAKE,
    STEP_HELLO_AGAIN,
    STEP_MAIL,
    STEP_RCPT,
    STEP_DATA,
    STEP_BODY,
    STEP_QUIT,
    STEP_REST, /* an idle or slow client is where it stays */
};

static const char *const step_names[] = {"connect",   "greeting",       "EHLO", "STARTTLS",
                                         "handshake", "EHLO under TLS", "MAIL", "RCPT",
                                         "DATA",      "message",        "QUIT", "rest"};
static const int wanted_codes[] = {0, 220, 250, 220, 0, 250, 250, 250, 354, 250, 221, 0};

struct client {
    const struct load *load;
    struct tally *tally;
    const struct sockaddr_storage *source;
    const char *to;
    int fd;
    enum step step;
    unsigned messages;   /* started on this connection */
    unsigned recipients; /* named in this transaction */
    gnutls_session_t tls;
    gnutls_datum_t ticket;
    int64_t message_began_us, hello_sent_us;
    size_t in_len;
    const char *out;
    size_t out_len;
    char commands[16384];
    char in[4096];
};

int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

struct client *client_new(const struct load *load, struct tally *tally, unsigned number)
{
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return NULL;
    client->load = load;
    client->tally = tally;
    client->fd = -1;
    if (load->source_count > 0)
        client->source = &load->sources[number % load->source_count];
    client->to = load->to[number % load->to_count];
    return client;
}

static void hang_up(struct client *client)
{
    if (client->tls != NULL)
        gnutls_deinit(client->tls);
    client->tls = NULL;
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
}

void client_free(struct client *client)
{
    if (client == NULL)
        return;
    hang_up(client);
    gnutls_free(client->ticket.data);
    free(client);
}

int client_fd(const struct client *client)
{
    return client->fd;
}

static bool give_up(struct client *client, uint64_t *count, const char *what)
{
    ++*count;
    if (client->tally->first_error[0] == '\0')
        snprintf(client->tally->first_error, sizeof client->tally->first_error, "%s: %.150s",
                 step_names[client->step], what);
    hang_up(client);
    return false;
}

static bool take_message(const struct load *load)
{
    if (load->end_us != 0 && now_us() >= load->end_us)
        return false;
    return atomic_fetch_sub((atomic_long *)&load->left, 1) > 0;
}

static socklen_t length_of(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

bool client_start(struct client *client)
{
    const struct load *load = client->load;
    int on = 1;

    if (load->kind == LOAD_MESSAGES && !take_message(load))
        return false;
    client->step = STEP_CONNECT;
    client->messages = 1;
    client->in_len = client->out_len = 0;
    client->message_began_us = now_us();
    client->tally->connections++;
    client->fd = socket(load->target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        return false;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (client->source != NULL)
        bind(client->fd, (const struct sockaddr *)client->source, length_of(client->source));
    if (connect(client->fd, (const struct sockaddr *)&load->target, load->target_len) == 0 ||
        errno == EINPROGRESS)
        return true;
    give_up(client, &client->tally->broken, strerror(errno));
    return false;
}

enum progress { DONE, WAIT, FAILED };

static enum progress send_some(struct client *client)
{
    while (client->out_len > 0) {
        ssize_t sent = client->tls != NULL
                           ? gnutls_record_send(client->tls, client->out, client->out_len)
                           : send(client->fd, client->out, client->out_len, MSG_NOSIGNAL);
        bool again = client->tls != NULL ? sent == GNUTLS_E_AGAIN || sent == GNUTLS_E_INTERRUPTED
                                         : sent < 0 && (errno == EAGAIN || errno == EINTR);
        if (again)
            return WAIT;
        if (sent < 0)
            return FAILED;
        client->out += sent;
        client->out_len -= (size_t)sent;
    }
    return DONE;
}

static bool socket_has_input(const struct client *client)
{
    char octet;
    return recv(client->fd, &octet, 1, MSG_PEEK) >= 0;
}

/* Returns the number of octets, 0 at the end, -1 if there are none now. GnuTLS also reports -1 after it has read a
 * session ticket, even if more is waiting in the socket. */
static ssize_t receive_some(struct client *client)
{
    size_t room = sizeof client->in - client->in_len;
    ssize_t got;

    if (client->tls == NULL) {
        got = recv(client->fd, client->in + client->in_len, room, 0);
        return got < 0 && (errno == EAGAIN || errno == EINTR) ? -1 : got < 0 ? 0 : got;
    }
    do {
        got = gnutls_record_recv(client->tls, client->in + client->in_len, room);
    } while (got == GNUTLS_E_INTERRUPTED || (got == GNUTLS_E_AGAIN && socket_has_input(client)));
    return got == GNUTLS_E_AGAIN ? -1 : got < 0 ? 0 : got;
}

static void say(struct client *client, const char *text)
{
    size_t len = strlen(text);
    memcpy(client->commands, text, len);
    client->out = client->commands;
    client->out_len = len;
}

static void say_hello(struct client *client, enum step step)
{
    client->step = step;
    client->hello_sent_us = now_us();
    say(client, "EHLO load.example\r\n");
}

static void say_recipient(struct client *client)
{
    client->step = STEP_RCPT;
    client->recipients++;
    client->out = client->commands;
    client->out_len =
        (size_t)snprintf(client->commands, sizeof client->commands, "RCPT TO:<%s>\r\n", client->to);
}

/* Sends MAIL; with pipelining, all commands up to DATA at once. */
static void begin_transaction(struct client *client)
{
    const struct load *load = client->load;
    size_t len = (size_t)snprintf(client->commands, sizeof client->commands, "MAIL FROM:<%s>\r\n",
                                  load->sender);
    client->step = STEP_MAIL;
    client->recipients = 0;
    if (load->pipelining) {
        for (unsigned i = 0; i < load->recipients; i++)
            len += (size_t)snprintf(client->commands + len, sizeof client->commands - len,
                                    "RCPT TO:<%s>\r\n", client->to);
        len += (size_t)snprintf(client->commands + len, sizeof client->commands - len, "DATA\r\n");
    }
    client->out = client->commands;
    client->out_len = len;
}

static void say_body(struct client *client)
{
    client->step = STEP_BODY;
    client->out = client->load->body;
    client->out_len = client->load->body_len;
}

static void settle_down(struct client *client)
{
    client->step = STEP_REST;
    client->tally->waiting++;
    if (client->load->kind == LOAD_SLOW)
        say(client, "NOOP ");
}

static void greeted(struct client *client)
{
    if (client->load->kind == LOAD_MESSAGES)
        begin_transaction(client);
    else
        settle_down(client);
}

static void delivered(struct client *client)
{
    int64_t now = now_us();
    client->tally->messages++;
    samples_add(&client->tally->message, now - client->message_began_us);
    if (client->messages < client->load->per_connection && take_message(client->load)) {
        client->messages++;
        client->message_began_us = now;
        begin_transaction(client);
    } else {
        client->step = STEP_QUIT;
        say(client, "QUIT\r\n");
    }
}

static enum progress handshake(struct client *client)
{
    int result = gnutls_handshake(client->tls);
    if (result == GNUTLS_E_AGAIN || result == GNUTLS_E_INTERRUPTED)
        return WAIT;
    if (result != 0)
        return FAILED;
    client->tally->resumed += gnutls_session_is_resumed(client->tls) != 0;
    say_hello(client, STEP_HELLO_AGAIN);
    return DONE;
}

static void begin_tls(struct client *client)
{
    const struct load *load = client->load;
    client->step = STEP_HANDSHAKE;
    client->in_len = 0;
    gnutls_init(&client->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    gnutls_priority_set(client->tls, load->priority);
    gnutls_credentials_set(client->tls, GNUTLS_CRD_CERTIFICATE, load->credentials);
    gnutls_transport_set_int(client->tls, client->fd);
    gnutls_handshake_set_timeout(client->tls, 0);
    if (load->tls == LOAD_TLS_RESUMED && client->ticket.data != NULL)
        gnutls_session_set_data(client->tls, client->ticket.data, client->ticket.size);
}

static void keep_ticket(struct client *client)
{
    if (client->tls == NULL || client->load->tls != LOAD_TLS_RESUMED)
        return;
    gnutls_free(client->ticket.data);
    client->ticket.data = NULL;
    gnutls_session_get_data2(client->tls, &client->ticket);
}

/* The next step after a good reply. */
static void go_on(struct client *client)
{
    switch (client->step) {
    case STEP_GREETING:
        say_hello(client, STEP_HELLO);
        break;
    case STEP_HELLO:
        if (client->load->tls == LOAD_PLAIN) {
            greeted(client);
        } else {
            client->step = STEP_STARTTLS;
            say(client, "STARTTLS\r\n");
        }
        break;
    case STEP_STARTTLS:
        begin_tls(client);
        break;
    case STEP_HELLO_AGAIN:
        samples_add(&client->tally->after_handshake, now_us() - client->hello_sent_us);
        greeted(client);
        break;
    case STEP_MAIL:
    case STEP_RCPT:
        if (client->recipients == client->load->recipients) {
            client->step = STEP_DATA;
            if (!client->load->pipelining)
                say(client, "DATA\r\n");
        } else if (client->load->pipelining) {
            client->step = STEP_RCPT;
            client->recipients++;
        } else {
            say_recipient(client);
        }
        break;
    case STEP_DATA:
        say_body(client);
        break;
    case STEP_BODY:
        delivered(client);
        break;
    default:
        break;
    }
}

/* Looks for a complete reply in the buffer: returns its code and sets its length; 0 if there is none. */
static int whole_reply(const struct client *client, size_t *len)
{
    const char *at = client->in, *end = client->in + client->in_len;
    while (at < end) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        if (lf == NULL)
            return 0;
        if (lf - at >= 4 && at[3] != '-') {
            *len = (size_t)(lf + 1 - client->in);
            return (at[0] - '0') * 100 + (at[1] - '0') * 10 + at[2] - '0';
        }
        at = lf + 1;
    }
    return 0;
}

/* True once the connection has ended. */
static bool take_replies(struct client *client)
{
    size_t len;
    int code;

    while (client->out_len == 0 && (code = whole_reply(client, &len)) != 0) {
        if (code != wanted_codes[client->step]) {
            char text[160];
            snprintf(text, sizeof text, "%.*s", (int)strcspn(client->in, "\r\n"), client->in);
            give_up(client, &client->tally->refused, text);
            return true;
        }
        client->in_len -= len;
        memmove(client->in, client->in + len, client->in_len);
        if (client->step == STEP_QUIT) {
            keep_ticket(client);
            hang_up(client);
            return true;
        }
        go_on(client);
        if (client->step == STEP_HANDSHAKE)
            return false;
    }
    return false;
}

bool client_ready(struct client *client)
{
    enum progress progress = DONE;

    if (client->step == STEP_CONNECT)
        client->step = STEP_GREETING;
    for (;;) {
        if (client->step == STEP_HANDSHAKE)
            progress = handshake(client);
        if (progress == DONE)
            progress = send_some(client);
        if (progress == FAILED)
            return give_up(client, &client->tally->broken, "cannot write");
        if (progress == WAIT)
            return true;
        ssize_t got = receive_some(client);
        if (got < 0)
            return true;
        if (got == 0)
            return give_up(client, &client->tally->broken, "closed");
        client->in_len += (size_t)got;
        if (client->in_len == sizeof client->in)
            return give_up(client, &client->tally->broken, "too much");
        if (take_replies(client))
            return false;
    }
}

void client_tick(struct client *client)
{
    if (client->fd >= 0 && client->step == STEP_REST && client->load->kind == LOAD_SLOW) {
        say(client, "x");
        send_some(client);
    }
}
