/* tests/unit/test-transaction.c - smtp/transaction with a scripted next hop
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "smtp/transaction.h"
#include "stream-peer.h"

#define BIG_OCTETS (16 << 20) /* more than the buffers of a connection ever hold */
#define MID_OCTETS 200000     /* the next hop replies in mid-data after this many */
#define LATE_OCTETS 300000    /* all of the data, if it replies before the end */

/* The next hop's reply to each command; NULL: the usual one. "close" closes without a reply. Before a
 * reply, "bye " closes after it, "reset " does so with RST, "deaf " then reads nothing. */
struct script {
    const char *mail, *rcpt[3], *data, *mid, *end, *rset;
};

struct peer {
    struct script script;
    int fd;
    pthread_t thread;
    unsigned rcpts;
    GString *commands; /* the verbs, one letter each */
    size_t octets;     /* of mail data */
    bool ended;        /* an end of data arrived */
};

static bool peer_say(struct peer *peer, const char *said, const char *usual)
{
    const char *text = said != NULL ? said : usual;
    const char *words[] = {"bye ", "reset ", "deaf "};
    struct linger linger = {.l_onoff = 1};
    int how = -1;

    if (strcmp(text, "close") == 0)
        return false;
    for (int i = 0; i < 3; i++) {
        if (g_str_has_prefix(text, words[i])) {
            text += strlen(words[i]);
            how = i;
        }
    }
    g_autofree char *line = g_strconcat(text, "\r\n", NULL);
    for (size_t sent = 0; sent < strlen(line);) {
        ssize_t got = send(peer->fd, line + sent, strlen(line + sent), MSG_NOSIGNAL);
        if (got < 0)
            return false;
        sent += (size_t)got;
    }
    if (how == 1)
        setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    if (how == 2) { /* until the other side closes */
        struct pollfd poll_fd = {.fd = peer->fd, .events = POLLRDHUP};
        poll(&poll_fd, 1, 30000);
    }
    return how < 0;
}

/* Reads a line. False at the end. */
static bool peer_line(struct peer *peer, GString *line)
{
    char octet;
    g_string_truncate(line, 0);
    while (recv(peer->fd, &octet, 1, 0) == 1) {
        g_string_append_c(line, octet);
        if (octet == '\n')
            return true;
    }
    return false;
}

static bool peer_data(struct peer *peer)
{
    char block[65536], last[5] = "\r\n";

    while (peer->script.mid == NULL || peer->octets < MID_OCTETS) {
        ssize_t got = recv(peer->fd, block, sizeof block, 0);
        if (got <= 0)
            return false;
        peer->octets += (size_t)got;
        g_autoptr(GString) tail = g_string_new_len(last, (gssize)strlen(last));
        g_string_append_len(tail, block, got);
        if (g_str_has_suffix(tail->str, "\r\n.\r\n")) {
            peer->ended = true;
            return peer_say(peer, peer->script.end, "250 2.0.0 taken");
        }
        g_strlcpy(last, tail->str + (tail->len > 4 ? tail->len - 4 : 0), sizeof last);
    }
    return peer_say(peer, peer->script.mid, "");
}

static bool peer_chunk(struct peer *peer, const char *line)
{
    char block[4096];
    size_t left = (size_t)atoi(line + 5);
    bool last = strstr(line, "LAST") != NULL;

    while (left > 0) {
        ssize_t got = recv(peer->fd, block, left < sizeof block ? left : sizeof block, 0);
        if (got <= 0)
            return false;
        left -= (size_t)got;
        peer->octets += (size_t)got;
    }
    peer->ended |= last;
    return peer_say(peer, last ? peer->script.end : peer->script.mid, "250 2.0.0 chunk");
}

/* Does mail data follow this reply to DATA? */
static bool peer_begins(const char *said)
{
    const char *last = said != NULL ? strrchr(said, '\n') : NULL;
    return said == NULL || (last != NULL ? last[1] : said[0]) == '3';
}

static bool peer_answer(struct peer *peer, const char *line)
{
    const struct script *script = &peer->script;
    g_string_append_c(peer->commands, line[0] == 'R' && line[1] == 'S' ? 'X' : line[0]);
    switch (line[0]) {
    case 'M':
        return peer_say(peer, script->mail, "250 2.1.0 ok");
    case 'D':
        return peer_say(peer, script->data, "354 go") &&
               (!peer_begins(script->data) || peer_data(peer));
    case 'B':
        return peer_chunk(peer, line);
    default:
        if (line[1] == 'S')
            return peer_say(peer, script->rset, "250 2.0.0 ok");
        return peer_say(peer, script->rcpt[peer->rcpts++], "250 2.1.5 ok");
    }
}

static void *peer_run(void *argument)
{
    struct peer *peer = argument;
    g_autoptr(GString) line = g_string_new(NULL);
    while (peer_line(peer, line) && peer_answer(peer, line->str))
        ;
    close(peer->fd);
    return NULL;
}

static void peer_start(struct peer *peer, const struct script *script, int fd)
{
    *peer = (struct peer){.script = *script, .fd = fd, .commands = g_string_new(NULL)};
    pthread_create(&peer->thread, NULL, peer_run, peer);
}

/* One transaction, its owner, and up to two connections. */
struct world {
    struct transaction transaction;
    struct reply final_reply;
    struct nexthop hop;
    struct stream_buffers buffers;
    struct peer peers[2];
    unsigned peer_count, closed, lost;
    unsigned extensions;
    const struct script *fresh; /* for a connection that replaces a kept one */
    GString *line;              /* in the log */
    const char *step;
    struct client_identity client;
    struct envelope envelope;
    struct recipient recipients[3];
};

static struct world *world_of(struct transaction *transaction)
{
    return (struct world *)transaction; /* its first member */
}

static void world_connect(struct world *world, const struct script *script)
{
    int fds[2];
    tcp_pair(fds);
    peer_start(&world->peers[world->peer_count++], script, fds[1]);
    nexthop_init(&world->hop, fds[0], &world->buffers);
    world->hop.capabilities.extensions = world->extensions;
    world->transaction.connected = true;
}

static void world_lost_at(struct transaction *transaction, const char *step, enum io_result result,
                          const char *line)
{
    struct world *world = world_of(transaction);
    g_assert_cmpstr(transaction_lost_reason(result), !=, "");
    world->lost++;
    world->step = step;
    g_string_assign(world->line, line);
}

static void world_closed(struct transaction *transaction)
{
    world_of(transaction)->closed++;
}

static bool world_renew(struct transaction *transaction)
{
    struct world *world = world_of(transaction);
    if (world->fresh == NULL)
        return false;
    if (transaction->connected)
        nexthop_quit(&world->hop);
    transaction->decided = false;
    world_connect(world, world->fresh);
    return true;
}

static const struct transaction_owner owner = {
    .lost = REPLY_REMOTE_LOST,
    .lost_at = world_lost_at,
    .closed = world_closed,
    .renew = world_renew,
};

static void world_open(struct world *world, const struct script *script, unsigned extensions)
{
    memset(world, 0, sizeof *world);
    world->line = g_string_new(NULL);
    world->extensions = extensions;
    world->client.session_id = "SESSION";
    world->envelope = (struct envelope){.client = &world->client, .id = "SESSION.1"};
    strcpy(world->envelope.sender.mailbox, "s@sender.example");
    for (int i = 0; i < 3; i++)
        snprintf(world->recipients[i].path.mailbox, sizeof world->recipients[i].path.mailbox,
                 "r%d@example.com", i);
    g_assert_cmpint(stream_buffers_init(&world->buffers, 8192, 16384), ==, 0);
    world->transaction = (struct transaction){.owner = &owner,
                                              .hop = &world->hop,
                                              .reply_ms = 5000,
                                              .block_ms = 5000,
                                              .final_reply = &world->final_reply};
    world_connect(world, script);
    transaction_begin(&world->transaction, &world->envelope);
}

static void world_close(struct world *world)
{
    if (world->transaction.connected)
        stream_close(&world->hop.stream);
    for (unsigned i = 0; i < world->peer_count; i++) {
        pthread_join(world->peers[i].thread, NULL);
        g_string_free(world->peers[i].commands, TRUE);
    }
    stream_buffers_free(&world->buffers);
    g_string_free(world->line, TRUE);
}

static void world_write(struct world *world, size_t octets)
{
    static char block[32768];
    struct iovec iov = {block, sizeof block};

    for (size_t i = 0; i < sizeof block; i++)
        block[i] = i % 64 == 62 ? '\r' : i % 64 == 63 ? '\n' : 'x';
    for (size_t sent = 0; sent < octets; sent += iov.iov_len) {
        iov.iov_len = octets - sent < sizeof block ? octets - sent : sizeof block;
        if (transaction_write(&world->transaction, &iov, 1) != 0)
            break;
    }
}

/* Sends recipients, DATA or BDAT, `octets` of data and the end. Returns the replies: "250 250 / 354 / 250". */
static char *world_transact(struct world *world, size_t recipients, enum courier_data data,
                            size_t octets)
{
    struct transaction *transaction = &world->transaction;
    GString *codes = g_string_new(NULL);
    struct reply reply;

    transaction_begin_batch(transaction);
    for (size_t i = 0; i < recipients; i++)
        transaction_add(transaction, &world->recipients[i]);
    transaction_send_batch(transaction, data);
    for (size_t i = 0; i < recipients; i++) {
        transaction_recipient_reply(transaction, &reply);
        g_string_append_printf(codes, "%d ", reply.code);
    }
    transaction_data_reply(transaction, &reply);
    g_string_append_printf(codes, "/ %d", reply.code);
    if (reply.code == 354 && transaction->accepted > 0) {
        world_write(world, octets);
        if (octets == LATE_OCTETS)
            g_assert_cmpint(
                poll(&(struct pollfd){.fd = world->hop.stream.fd, .events = POLLIN}, 1, 30000), ==,
                1);
        transaction_send_end(transaction);
        transaction_read_final_reply(transaction, deadline_in_ms(5000));
        g_assert_true(transaction->decided);
        g_string_append_printf(codes, " / %d", transaction->final_reply->code);
    }
    return g_string_free(codes, FALSE);
}

/* clang-format off */
static const struct {
    const char *name;
    struct script script;
    const char *codes, *enhanced; /* of the verdict, "" where there is none */
    const char *lost_at;          /* the step in the log; NULL: nothing went wrong */
    bool connected;
    size_t octets;
    const char *line; /* the reply in the log */
} cases[] = {
    {"all well", {0}, "250 250 / 354 / 250", "2.0.0", NULL, true, 640, NULL},
    {"big", {0}, "250 250 / 354 / 250", "2.0.0", NULL, true, BIG_OCTETS, NULL},
    {"MAIL refused", {.mail = "550 5.7.1 no", .rcpt = {"503 no", "503 no"}, .data = "503 no"},
     "550 550 / 550", "5.7.1", NULL, true, 0, NULL},
    {"MAIL refused, but not what follows", {.mail = "550 5.7.1 no"}, "550 550 / 550", "5.7.1", NULL,
     false, 0, NULL},
    {"MAIL refused, and gone", {.mail = "bye 550 5.7.1 no"}, "550 550 / 550", "5.7.1", NULL, false,
     0, NULL},
    {"MAIL refused by 421", {.mail = "421 4.7.0 later"}, "421 421 / 421", "4.7.0", NULL, false, 0,
     NULL},
    {"no reply to MAIL", {.mail = "close"}, "451 451 / 451", "4.4.2", "MAIL", false, 0, ""},
    {"354 to MAIL", {.mail = "354 go"}, "500 500 / 500", "5.5.0", "MAIL", false, 0, "354 go"},
    {"a recipient refused", {.rcpt = {"550 5.1.1 no"}}, "550 250 / 354 / 250", "2.0.0", NULL, true,
     640, NULL},
    {"a recipient refused, of two codes", {.rcpt = {"550-5.1.1 no\r\n554 5.1.1 no"}},
     "554 250 / 354 / 250", "2.0.0", NULL, true, 640, NULL},
    {"421 at a recipient", {.rcpt = {NULL, "421 4.7.0 enough"}}, "250 421 / 421", "4.7.0", NULL,
     false, 0, NULL},
    {"gone at a recipient", {.rcpt = {NULL, "close"}}, "250 451 / 451", "4.4.2", "RCPT", false, 0,
     ""},
    {"354 to a recipient", {.rcpt = {"354 go"}}, "500 451 / 451", "4.4.2", "RCPT", false, 0,
     "354 go"},
    {"lines that are no reply", {.data = "what?\r\n\r\n354-go\r\n\x1b[2J\r\n354 go"},
     "250 250 / 354 / 250", "2.0.0", NULL, true, 640, NULL},
    {"nothing but such lines, and gone", {.mail = "bye \x1b[2Jwhat?"}, "451 451 / 451", "4.4.2",
     "MAIL", false, 0, "?[2Jwhat?"},
    {"DATA refused", {.data = "451 4.3.0 no"}, "250 250 / 451", "4.3.0", NULL, true, 0, NULL},
    {"DATA answered by 250", {.data = "250 2.0.0 thanks"}, "250 250 / 500", "5.5.0", "DATA", false,
     0, "250 2.0.0 thanks"},
    {"DATA answered by 300", {.data = "300 go"}, "250 250 / 354 / 250", "2.0.0", NULL, true, 640,
     NULL},
    {"refused in mid-data, FIN", {.mid = "bye 552 5.3.4 big"}, "250 250 / 354 / 552", "5.3.4", NULL,
     false, BIG_OCTETS, NULL},
    {"refused in mid-data, RST", {.mid = "reset 552 5.3.4 big"}, "250 250 / 354 / 552", "5.3.4",
     NULL, false, BIG_OCTETS, NULL},
    {"refused in mid-data, and read no more", {.mid = "deaf 554 5.7.1 spam"}, "250 250 / 354 / 554",
     "5.7.1", NULL, false, BIG_OCTETS, NULL},
    {"refused before the end", {.mid = "deaf 554 5.7.1 spam"}, "250 250 / 354 / 554", "5.7.1", NULL,
     false, LATE_OCTETS, NULL},
    {"421 in mid-data", {.mid = "bye 421 4.3.2 going down"}, "250 250 / 354 / 421", "4.3.2", NULL,
     false, BIG_OCTETS, NULL},
    {"250 in mid-data", {.mid = "bye 250 2.0.0 what"}, "250 250 / 354 / 451", "4.4.2", "mail data",
     false, BIG_OCTETS, NULL},
    {"gone in mid-data", {.mid = "close"}, "250 250 / 354 / 451", "4.4.2", "mail data", false,
     BIG_OCTETS, NULL},
    {"refused in the end", {.end = "550 5.7.1 spam"}, "250 250 / 354 / 550", "5.7.1", NULL, true,
     640, NULL},
    {"refused in the end, and gone", {.end = "bye 554 5.7.1 spam"}, "250 250 / 354 / 554", "5.7.1",
     NULL, true, 640, NULL},
    {"taken: no text", {.end = "250"}, "250 250 / 354 / 250", "", NULL, true, 640, NULL},
    {"taken: another 2xx", {.end = "299 5.0.0 yes"}, "250 250 / 354 / 299", "", NULL, true, 640,
     NULL},
    {"taken: a tab", {.end = "250\tyes"}, "250 250 / 354 / 250", "", NULL, true, 640, NULL},
    {"taken: lines that are no reply", {.end = "hm\r\n25\r\n250-2.0.0 yes\r\nhm\r\n250 2.0.0 yes"},
     "250 250 / 354 / 250", "2.0.0", NULL, true, 640, NULL},
    {"taken: the last line says it", {.end = "550-5.7.1 no\r\n250 2.0.0 yes"},
     "250 250 / 354 / 250", "", NULL, true, 640, NULL},
    {"no reply in the end", {.end = "close"}, "250 250 / 354 / 451", "4.4.2", "end of data", false,
     640, ""},
    {"354 in the end", {.end = "354 go on"}, "250 250 / 354 / 500", "5.5.0", "end of data", false,
     640, "354 go on"},
};
/* clang-format on */

static void check_case(size_t i, unsigned extensions)
{
    struct world world;
    world_open(&world, &cases[i].script, extensions);
    const struct transaction *transaction = &world.transaction;

    g_autofree char *codes = world_transact(&world, 2, COURIER_DATA, cases[i].octets);
    g_assert_cmpstr(codes, ==, cases[i].codes);
    g_assert_cmpstr(transaction->final_reply->enhanced, ==, cases[i].enhanced);
    g_assert_cmpint(world.lost, ==, cases[i].lost_at != NULL);
    if (cases[i].lost_at != NULL)
        g_assert_cmpstr(world.step, ==, cases[i].lost_at);
    if (cases[i].line != NULL)
        g_assert_cmpstr(world.line->str, ==, cases[i].line);
    /* A hang-up after the discarded reply is only noticed at the next step. */
    if (cases[i].connected || extensions != 0)
        g_assert_cmpint(transaction->connected, ==, cases[i].connected);
    g_assert_cmpint(world.closed, ==, !transaction->connected);
    g_assert_cmpint(transaction->unconfirmed, ==,
                    strcmp(cases[i].name, "no reply in the end") == 0);
    world_close(&world);
    /* Promise 2: no end of data but ours, and none after a refusal. */
    bool whole = strstr(cases[i].codes, "354 /") != NULL && cases[i].script.mid == NULL;
    g_assert_cmpint(world.peers[0].ended, ==, whole);
}

static void test_case(gconstpointer data)
{
    check_case((size_t)data, EXTENSION_PIPELINING);
    check_case((size_t)data, 0);
}

/* An overlong reply is cut, which is not a failure. */
static void test_long_reply(void)
{
    g_autofree char *filler = g_strnfill(20000, 'x');
    g_autofree char *one = g_strconcat("250 2.0.0 ", filler, NULL);
    GString *many = g_string_new(NULL);
    for (int i = 0; i < 5000; i++)
        g_string_append_printf(many, "250-2.0.0 line %d\r\n", i);
    g_string_append(many, "250 2.0.0 end");
    const char *const ends[] = {one, many->str};
    for (size_t i = 0; i < G_N_ELEMENTS(ends); i++) {
        struct world world;
        world_open(&world, &(struct script){.end = ends[i]}, EXTENSION_PIPELINING);
        g_autofree char *codes = world_transact(&world, 1, COURIER_DATA, 64);
        g_assert_cmpstr(codes, ==, "250 / 354 / 250");
        g_assert_cmpstr(world.transaction.final_reply->enhanced, ==, "2.0.0");
        g_assert_false(stream_has_input(&world.hop.stream));
        world_close(&world);
    }
    g_string_free(many, TRUE);
}

/* The same with BDAT, each with PIPELINING and without. */
static void test_chunks(void)
{
    static const struct {
        const char *name;
        struct script script;
        const char *codes;
        bool ended;
    } tries[] = {
        {"taken", {0}, "250 / 354 / 250", true},
        {"refused at a chunk", {.mid = "552 5.3.4 big"}, "250 / 354 / 552", false},
        {"refused at a chunk, and gone", {.mid = "bye 552 5.3.4 big"}, "250 / 354 / 552", false},
        {"gone at a chunk", {.mid = "close"}, "250 / 354 / 451", false},
        {"refused in the end", {.end = "550 5.7.1 spam"}, "250 / 354 / 550", true},
        {"MAIL refused", {.mail = "550 5.7.1 no"}, "550 / 550", false},
    };
    for (size_t i = 0; i < 2 * G_N_ELEMENTS(tries); i++) {
        struct world world;
        g_test_message("%s", tries[i / 2].name);
        world_open(&world, &tries[i / 2].script,
                   EXTENSION_CHUNKING | (i % 2 == 0 ? EXTENSION_PIPELINING : 0));
        g_autofree char *codes =
            world_transact(&world, 1, COURIER_CHUNKED_DATA, i % 4 < 2 ? BIG_OCTETS : 4000000);
        g_assert_cmpstr(codes, ==, tries[i / 2].codes);
        world_close(&world);
        g_assert_cmpint(world.peers[0].ended, ==, tries[i / 2].ended);
    }
}

/* A slow client's message goes on to the next hop while the client is waited for, without buffers. */
static void test_slow_client(void)
{
    enum { PIECE = 4096, PIECES = 2 * STREAM_UNSENT_MAX / PIECE };

    for (int i = 0; i < 2; i++) {
        struct world world;
        struct reply reply;
        struct transaction *transaction = &world.transaction;
        struct stream *stream = &world.hop.stream;

        world_open(&world, &(struct script){0}, i == 0 ? 0 : EXTENSION_CHUNKING);
        transaction_begin_batch(transaction);
        transaction_add(transaction, &world.recipients[0]);
        transaction_send_batch(transaction, i == 0 ? COURIER_DATA : COURIER_CHUNKED_DATA);
        transaction_recipient_reply(transaction, &reply);
        transaction_data_reply(transaction, &reply);
        g_assert_cmpint(reply.code, ==, 354);
        for (int k = 0; k < PIECES; k++) {
            world_write(&world, PIECE);
            g_assert_cmpint(stream_park(stream), ==, 0);
            g_assert_cmpuint(stream->unsent_len, <, world.buffers.out_size);
            stream_lend(stream, &world.buffers);
        }
        transaction_send_end(transaction);
        transaction_read_final_reply(transaction, deadline_in_ms(5000));
        g_assert_cmpint(transaction->final_reply->code, ==, 250);
        world_close(&world);
        g_assert_true(world.peers[0].ended);
        g_assert_cmpuint(world.peers[0].octets, ==, (size_t)PIECES * PIECE + (i == 0 ? 3 : 0));
    }
}

/* A kept connection may be dead, and must prove that it is not. */
static void test_renew(void)
{
    static const struct {
        const char *name;
        struct script kept, fresh;
        const char *codes;
        const char *asked[2]; /* [0] if it stays on the kept connection */
    } tries[] = {
        {"a line that is no reply, of several",
         {.mail = "hm\r\n250 2.1.0 ok"},
         {.mail = "hm\r\n250 2.1.0 ok", .rcpt = {"hm\r\n250 2.1.5 ok"}},
         "250 250 / 354 / 250",
         {NULL, "MRRD"}},
        {"proves itself", {0}, {0}, "250 250 / 354 / 250", {"MRRD", NULL}},
        {"takes one recipient a transaction",
         {.rcpt = {NULL, "452 4.5.3 too many"}},
         {0},
         "250 452 / 354 / 250",
         {"MRRD", NULL}},
        {"452 at the first recipient",
         {.rcpt = {"452 4.5.3 too many"}},
         {0},
         "250 250 / 354 / 250",
         {NULL, "MRRD"}},
        {"421 at MAIL",
         {.mail = "421 4.7.0 one is enough"},
         {0},
         "250 250 / 354 / 250",
         {NULL, "MRRD"}},
        {"550 at MAIL",
         {.mail = "550 5.7.1 one is enough"},
         {0},
         "250 250 / 354 / 250",
         {NULL, "MRRD"}},
        {"gone at MAIL", {.mail = "close"}, {0}, "250 250 / 354 / 250", {NULL, "MRRD"}},
        {"refused by both",
         {.mail = "421 4.7.0 no"},
         {.mail = "550 5.7.1 no"},
         "550 550 / 550",
         {NULL, "MRRD"}},
        {"450 at the first recipient",
         {.rcpt = {"450 4.2.0 no"}},
         {0},
         "250 250 / 354 / 250",
         {NULL, "MRRD"}},
        {"450 at the second",
         {.rcpt = {NULL, "450 4.2.0 no"}},
         {0},
         "250 250 / 354 / 250",
         {NULL, "MRRD"}},
        {"450 at the second by both",
         {.rcpt = {NULL, "450 4.2.0 no"}},
         {.rcpt = {NULL, "550 5.1.1 no"}},
         "250 550 / 354 / 250",
         {NULL, "MRRD"}},
        /* The client was told that the first was accepted; whether it still is, is unknown. */
        {"accepted, and no longer",
         {.rcpt = {NULL, "421 4.7.0 no"}},
         {.rcpt = {"550 5.1.1 no"}},
         "250 451 / 451",
         {NULL, NULL}},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(tries); i++) {
        struct world world;
        g_test_message("%s", tries[i].name);
        world_open(&world, &tries[i].kept, EXTENSION_PIPELINING);
        world.transaction.kept = i > 0;
        world.fresh = &tries[i].fresh;
        g_autofree char *codes = world_transact(&world, 2, COURIER_DATA, 64);
        g_assert_cmpstr(codes, ==, tries[i].codes);
        g_assert_cmpint(world.peer_count, ==, tries[i].asked[0] != NULL ? 1 : 2);
        if (world.transaction.connected)
            stream_close(&world.hop.stream);
        world.transaction.connected = false;
        for (unsigned k = 0; k < world.peer_count; k++) {
            pthread_join(world.peers[k].thread, NULL);
            if (tries[i].asked[k] != NULL)
                g_assert_cmpstr(world.peers[k].commands->str, ==, tries[i].asked[k]);
            g_string_free(world.peers[k].commands, TRUE);
        }
        world.peer_count = 0;
        world_close(&world);
    }
}

/* A kept connection that the next hop has reset by the time MAIL is written. */
static void test_renew_after_reset(void)
{
    static const struct script usual;
    const struct linger at_once = {.l_onoff = 1};

    for (int i = 0; i < 2; i++) {
        struct world world;
        world_open(&world, &usual, i == 0 ? EXTENSION_PIPELINING : 0);
        world.transaction.kept = true;
        world.fresh = &usual;
        setsockopt(world.peers[0].fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        shutdown(world.peers[0].fd, SHUT_RDWR);
        pthread_join(world.peers[0].thread, NULL);
        struct pollfd ours = {.fd = world.hop.stream.fd};
        g_assert_cmpint(poll(&ours, 1, 30000), ==, 1);
        g_autofree char *codes = world_transact(&world, 2, COURIER_DATA, 64);
        g_assert_cmpstr(codes, ==, "250 250 / 354 / 250");
        g_assert_cmpstr(world.peers[1].commands->str, ==, "MRRD");
        g_string_free(world.peers[0].commands, TRUE);
        world.peers[0] = world.peers[1];
        world.peer_count = 1;
        world_close(&world);
    }
}

/* Only the first batch tests a kept connection, and refused recipients are not asked again. */
static void test_batches(void)
{
    struct world world;
    struct reply reply;
    static const struct script fresh;

    world_open(&world, &(struct script){.rcpt = {NULL, "550 5.1.1 no"}}, EXTENSION_PIPELINING);
    world.transaction.kept = true;
    world.fresh = &fresh;
    for (size_t i = 0; i < 2; i++) {
        transaction_begin_batch(&world.transaction);
        transaction_add(&world.transaction, &world.recipients[i]);
        transaction_send_batch(&world.transaction, COURIER_NOTHING);
        transaction_recipient_reply(&world.transaction, &reply);
        g_assert_cmpint(reply.code, ==, i == 0 ? 250 : 550);
    }
    g_assert_cmpint(world.peer_count, ==, 1);
    g_assert_cmpuint(world.transaction.accepted, ==, 1);
    g_assert_true(transaction_is_clean(&world.transaction));
    g_assert_true(transaction_reset(&world.transaction));
    g_assert_false(world.transaction.open);
    world_close(&world);
}

/* A next hop that cannot accept the mail is not asked to. */
static void test_lacks(void)
{
    static const struct {
        const char *name;
        unsigned has;
        uint64_t limit;
        struct envelope wants;
        int code;
    } tries[] = {
        {"nothing",
         0,
         0,
         {.size = 1000, .ret = MAIL_RET_FULL, .envid = "x", .body = MAIL_BODY_8BITMIME},
         250},
        {"SMTPUTF8", 0, 0, {.smtputf8 = true, .is_utf8 = true}, 553},
        {"SMTPUTF8 asked for, and not needed", 0, 0, {.smtputf8 = true}, 250},
        {"SMTPUTF8 is there", EXTENSION_SMTPUTF8, 0, {.smtputf8 = true, .is_utf8 = true}, 250},
        {"BINARYMIME", EXTENSION_BINARYMIME, 0, {.body = MAIL_BODY_BINARYMIME}, 554},
        {"BINARYMIME is there",
         EXTENSION_BINARYMIME | EXTENSION_CHUNKING,
         0,
         {.body = MAIL_BODY_BINARYMIME},
         250},
        {"REQUIRETLS", EXTENSION_REQUIRETLS, 0, {.requiretls = true}, 550},
        {"SIZE", EXTENSION_SIZE, 999, {.size = 1000}, 552},
        {"SIZE is enough", EXTENSION_SIZE, 1000, {.size = 1000}, 250},
        {"SIZE without a limit", EXTENSION_SIZE, 0, {.size = 1000}, 250},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(tries); i++) {
        struct world world;
        struct reply reply;
        g_test_message("%s", tries[i].name);
        world_open(&world, &(struct script){0}, tries[i].has);
        world.hop.capabilities.size_limit = tries[i].limit;
        world.envelope = tries[i].wants;
        world.envelope.client = &world.client;
        transaction_add(&world.transaction, &world.recipients[0]);
        transaction_send_batch(&world.transaction, COURIER_NOTHING);
        transaction_recipient_reply(&world.transaction, &reply);
        g_assert_cmpint(reply.code, ==, tries[i].code);
        g_assert_true(world.transaction.connected);
        g_assert_cmpint(world.transaction.open, ==, tries[i].code == 250);
        world_close(&world);
    }
}

/* DATA does not go with recipients that the next hop cannot have, unless others were accepted before. */
static void test_nobody_for_data(void)
{
    struct world world;
    struct reply reply;
    const enum courier_data with[] = {COURIER_DATA, COURIER_NOTHING, COURIER_DATA};

    world_open(&world, &(struct script){0}, EXTENSION_PIPELINING);
    world.recipients[0].path.is_utf8 = world.recipients[2].path.is_utf8 = true;
    for (int i = 0; i < 3; i++) {
        transaction_begin_batch(&world.transaction);
        transaction_add(&world.transaction, &world.recipients[i]);
        transaction_send_batch(&world.transaction, with[i]);
        transaction_recipient_reply(&world.transaction, &reply);
        g_assert_cmpint(reply.code, ==, i == 1 ? 250 : 553);
        g_assert_cmpint(world.transaction.data, ==,
                        i == 0   ? TRANSACTION_DATA_DUE
                        : i == 1 ? TRANSACTION_NO_DATA
                                 : TRANSACTION_DATA_SENT);
    }
    transaction_data_reply(&world.transaction, &reply);
    g_assert_cmpint(reply.code, ==, 354);
    world_close(&world);
}

/* Nor does it go behind their replies, to a next hop without PIPELINING for one; then others can follow. */
static void test_nobody_for_late_data(void)
{
    static const struct {
        unsigned has;
        enum courier_data with;
        bool is_utf8;
        const char *asked;
    } tries[] = {
        {0, COURIER_DATA, false, "MRRD"},
        {0, COURIER_DATA, true, "MRD"},
        {EXTENSION_PIPELINING, COURIER_DATA, true, "MRD"},
        {EXTENSION_PIPELINING | EXTENSION_CHUNKING, COURIER_CHUNKED_DATA, false, "MRRD"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(tries); i++) {
        const bool is_utf8 = tries[i].is_utf8;
        struct script script = {.data = "452 4.3.1 full"};
        struct world world;
        struct reply reply;

        script.rcpt[0] = is_utf8 ? NULL : "550 5.1.1 no";
        world_open(&world, &script, tries[i].has);
        world.recipients[0].path.is_utf8 = is_utf8;
        for (size_t k = 0; k < 2; k++) {
            transaction_begin_batch(&world.transaction);
            transaction_add(&world.transaction, &world.recipients[k]);
            transaction_send_batch(&world.transaction, k == 0 ? tries[i].with : COURIER_DATA);
            transaction_recipient_reply(&world.transaction, &reply);
            g_assert_cmpint(reply.code, ==, k == 1 ? 250 : is_utf8 ? 553 : 550);
            transaction_data_reply(&world.transaction, &reply);
            g_assert_cmpint(reply.code, ==, k == 0 ? 554 : 452);
            g_assert_true(world.transaction.connected);
        }
        stream_close(&world.hop.stream);
        world.transaction.connected = false;
        pthread_join(world.peers[0].thread, NULL);
        g_assert_cmpstr(world.peers[0].commands->str, ==, tries[i].asked);
        g_string_free(world.peers[0].commands, TRUE);
        world.peer_count = 0;
        world_close(&world);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strdup_printf("/transaction/replies/%s", cases[i].name);
        g_test_add_data_func(path, (gconstpointer)i, test_case);
    }
    g_test_add_func("/transaction/long reply", test_long_reply);
    g_test_add_func("/transaction/chunks", test_chunks);
    g_test_add_func("/transaction/slow client", test_slow_client);
    g_test_add_func("/transaction/renew", test_renew);
    g_test_add_func("/transaction/renew-after-reset", test_renew_after_reset);
    g_test_add_func("/transaction/batches", test_batches);
    g_test_add_func("/transaction/lacks", test_lacks);
    g_test_add_func("/transaction/nobody for DATA", test_nobody_for_data);
    g_test_add_func("/transaction/nobody for late DATA", test_nobody_for_late_data);
    return g_test_run();
}
