/* tests/unit/test-tls.c - net/tls, and net/stream under TLS
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "net/stream.h"
#include "net/tls.h"
#include "stream-peer.h"

/* A client that uses net/tls, in its own thread. */
struct visitor {
    int fd;
    const char *text;
    enum { VISIT_CLOSE, VISIT_ABORT, VISIT_CUT, VISIT_SILENT } end;
    bool verify;
    const char *name;
    const struct tls_judge *judge;
    enum io_result result;
    unsigned segments; /* sent up to the end of `text` */
};

static void *visit(void *argument)
{
    struct visitor *visitor = argument;
    struct stream stream;
    struct stream_buffers buffers;
    struct error err;
    g_autofree char *ca = certificates_path("ec.crt");
    struct tls_client_config config = {.verify = visitor->verify,
                                       .ca_file = visitor->verify ? ca : NULL};
    struct tls_client *client = tls_client_new(&config, &err);
    stream_buffers_init(&buffers, 4096, 4096);
    stream_init(&stream, visitor->fd);
    stream_lend(&stream, &buffers);
    if (visitor->end == VISIT_SILENT) {
        struct pollfd hang_up = {.fd = visitor->fd, .events = POLLRDHUP};
        poll(&hang_up, 1, 10000);
    } else {
        visitor->result = stream_start_tls_client(&stream, client, visitor->name, visitor->judge,
                                                  deadline_in_ms(5000), &err);
        if (visitor->result == IO_OK && visitor->text != NULL) {
            stream_put(&stream, visitor->text, strlen(visitor->text), deadline_in_ms(1000));
            stream_flush(&stream, deadline_in_ms(1000));
            visitor->segments = segments_sent(stream.fd);
        }
    }
    if (visitor->end == VISIT_CUT) {
        shutdown(stream.fd, SHUT_RDWR);
        g_usleep(100000);
    }
    if (visitor->end == VISIT_ABORT)
        stream_abort(&stream);
    else
        stream_close(&stream);
    tls_client_free(client);
    stream_buffers_free(&buffers);
    return NULL;
}

/* Runs a handshake, reads `text`, and returns the result of one more read. */
static enum io_result meet(struct tls_server *server, struct visitor *visitor,
                           enum io_result *handshake, struct tls_info *info)
{
    struct stream stream;
    struct stream_buffers buffers;
    struct error err = {""};
    struct line line;
    pthread_t thread;
    int fds[2];
    enum io_result result = IO_FAILED;

    tcp_pair(fds);
    visitor->fd = fds[1];
    stream_buffers_init(&buffers, 4096, 4096);
    stream_init(&stream, fds[0]);
    stream_lend(&stream, &buffers);
    pthread_create(&thread, NULL, visit, visitor);
    *handshake = stream_start_tls_server(
        &stream, server, deadline_in_ms(visitor->end == VISIT_SILENT ? 100 : 5000), &err);
    if (*handshake == IO_OK) {
        stream_tls_info(&stream, info);
        while ((result = stream_read_line(&stream, &line, 512, deadline_in_ms(2000))) == IO_OK)
            g_assert_cmpuint(line.len, ==, 5);
    } else {
        g_assert_cmpstr(err.text, !=, "");
        shutdown(fds[0], SHUT_RDWR);
    }
    pthread_join(thread, NULL);
    stream_close(&stream);
    stream_buffers_free(&buffers);
    return result;
}

static void test_tls_ends(void)
{
    struct error err = {""};
    struct tls_server *server = server_with("ec.crt", "ec.key", TLS_CLIENT_NONE, NULL, &err);
    struct tls_info info;
    enum io_result handshake;
    g_assert_cmpstr(err.text, ==, "");
    struct visitor orderly = {
        .text = "hello\r\nworld\r\n", .end = VISIT_CLOSE, .verify = true, .name = "mail.example"};
    g_assert_cmpint(meet(server, &orderly, &handshake, &info), ==, IO_EOF);
    g_assert_cmpstr(info.version, ==, "TLSv1.3");
    g_assert_cmpstr(info.cipher, ==, "TLS_AES_128_GCM_SHA256");
    struct visitor cut = {.text = "hello\r\n", .end = VISIT_CUT};
    g_assert_cmpint(meet(server, &cut, &handshake, &info), ==, IO_FAILED);
    struct visitor aborted = {.text = "hello\r\n", .end = VISIT_ABORT};
    g_assert_cmpint(meet(server, &aborted, &handshake, &info), ==, IO_FAILED);
    struct visitor silent = {.end = VISIT_SILENT};
    meet(server, &silent, &handshake, &info);
    g_assert_cmpint(handshake, ==, IO_TIMEOUT);
    struct visitor wrong_name = {.verify = true, .name = "other.example"};
    meet(server, &wrong_name, &handshake, &info);
    g_assert_cmpint(wrong_name.result, ==, IO_FAILED);
    tls_server_unref(server);
}

/* Records what a judge is shown; its decision must count. */
struct judge {
    bool accept;
    const char *name; /* for tls_peer_check() */
    enum tls_trust trust;
    size_t shown, modern;
};

static bool judge(void *context, const struct tls_peer *peer, struct error *err)
{
    struct judge *own = context;
    own->shown = peer->count > 0 ? peer->chain[0].len : 0;
    own->modern = tls_peer_is_modern(peer);
    own->trust = tls_peer_check(peer, own->name, err);
    if (!own->accept)
        error_set(err, "not what was wanted");
    return own->accept;
}

static void test_tls_judged(void)
{
    static const struct {
        bool verify, accept;
        const char *name;
        enum tls_trust trust;
    } cases[] = {
        {true, true, "mail.example", TLS_TRUSTED},
        {true, false, "mail.example", TLS_TRUSTED},
        {true, true, "other.example", TLS_WRONG_NAME},
        {false, true, "mail.example", TLS_NOT_TRUSTED},
    };
    struct error err = {""};
    struct tls_server *server = server_with("ec.crt", "ec.key", TLS_CLIENT_NONE, NULL, &err);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct judge own = {.accept = cases[i].accept, .name = cases[i].name};
        const struct tls_judge asked = {judge, &own};
        struct visitor visitor = {.verify = cases[i].verify,
                                  .name = "mail.example",
                                  .judge = &asked,
                                  .text = "hello\r\n"};
        struct tls_info info;
        enum io_result handshake;
        meet(server, &visitor, &handshake, &info);
        g_assert_cmpint(visitor.result, ==, cases[i].accept ? IO_OK : IO_FAILED);
        g_assert_cmpint(own.trust, ==, cases[i].trust);
        g_assert_cmpuint(own.shown, >, 100);
        g_assert_true(own.modern);
    }
    tls_server_unref(server);
}

static void test_tls_client_certificates(void)
{
    struct error err = {""};
    struct tls_info info;
    enum io_result handshake;
    struct tls_server *request = server_with("ec.pem", NULL, TLS_CLIENT_REQUEST, NULL, &err);
    g_assert_cmpstr(err.text, ==, "");
    struct visitor without = {.text = "hello\r\n"};
    meet(request, &without, &handshake, &info);
    g_assert_cmpint(handshake, ==, IO_OK);
    g_assert_cmpstr(info.peer_subject, ==, "");
    g_assert_false(info.peer_verified);
    tls_server_unref(request);
    struct tls_server *require = server_with("ec.pem", NULL, TLS_CLIENT_REQUIRE, NULL, &err);
    struct visitor refused = {.text = "hello\r\n"};
    meet(require, &refused, &handshake, &info);
    g_assert_cmpint(handshake, ==, IO_FAILED);
    tls_server_unref(require);
}

/* The server's side of a call: greets with a put and a writev, then waits for the end. */
static enum io_result receive_call(struct tls_server *server, struct caller *caller,
                                   struct tls_info *info, struct error *err)
{
    struct iovec rest[] = {{(char *)"mail ", 5}, {(char *)"ready\r\n", 7}};
    struct stream stream;
    struct stream_buffers buffers;
    struct line line;
    pthread_t thread;
    int fds[2];

    memset(info, 0, sizeof *info);
    err->text[0] = '\0';
    tcp_pair(fds);
    caller->fd = fds[1];
    stream_buffers_init(&buffers, 4096, 4096);
    stream_init(&stream, fds[0]);
    stream_lend(&stream, &buffers);
    pthread_create(&thread, NULL, caller_run, caller);
    enum io_result result = stream_start_tls_server(&stream, server, deadline_in_ms(5000), err);
    if (result == IO_OK) {
        stream_tls_info(&stream, info);
        stream_put(&stream, "220 ", 4, deadline_in_ms(1000));
        g_assert_cmpint(stream_writev(&stream, rest, 2, deadline_in_ms(1000)), ==, IO_OK);
        g_assert_cmpint(stream_read_line(&stream, &line, 512, deadline_in_ms(2000)), ==, IO_EOF);
    } else {
        g_assert_true(stream.broken);
        g_assert_cmpstr(err->text, !=, "");
        g_assert_cmpint(stream_put(&stream, "plain", 5, deadline_in_ms(1000)), ==, IO_FAILED);
    }
    stream_close(&stream);
    pthread_join(thread, NULL);
    close(fds[1]);
    stream_buffers_free(&buffers);
    return result;
}

/* RSA and ECDSA for one name, a second name, and wildcards. The first pair is the default. */
static void test_tls_pairs(void)
{
    static const struct {
        const char *what, *name, *priority, *subject, *cipher;
    } cases[] = {
        {"no name", NULL, NULL, "rsa", "TLS_AES_256_GCM_SHA384"},
        {"unknown name", "unknown.example", NULL, "rsa", "TLS_AES_256_GCM_SHA384"},
        {"first name", "mail.example", NULL, "rsa", "TLS_AES_256_GCM_SHA384"},
        {"second name", "other.example", NULL, "other", "TLS_AES_256_GCM_SHA384"},
        {"one name of a wildcard's", "x.wild.example", NULL, "one", "TLS_AES_256_GCM_SHA384"},
        {"wildcard", "mx.wild.example", NULL, "wild-ec", "TLS_AES_256_GCM_SHA384"},
        {"wildcard in other letters", "MX.Wild.example", NULL, "wild-ec", "TLS_AES_256_GCM_SHA384"},
        {"wildcard, RSA only", "mx.wild.example", TLS12 ":-ECDHE-ECDSA", "wild-rsa",
         "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
        {"below a wildcard's label", "a.mx.wild.example", NULL, "rsa", "TLS_AES_256_GCM_SHA384"},
        {"a wildcard's parent", "wild.example", NULL, "rsa", "TLS_AES_256_GCM_SHA384"},
        {"ECDSA only, 1.3", "mail.example", "NORMAL:-SIGN-ALL:+SIGN-ECDSA-SECP256R1-SHA256", "ec",
         "TLS_AES_256_GCM_SHA384"},
        {"ECDSA only, 1.2", "mail.example", TLS12 ":-RSA:-DHE-RSA:-ECDHE-RSA", "ec",
         "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
        {"RSA only, 1.2", "mail.example", TLS12 ":-ECDHE-ECDSA", "rsa",
         "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
        {"finite field only, no RFC 7919 groups", NULL, TLS12 ":-KX-ALL:+DHE-RSA:-GROUP-DH-ALL",
         "rsa", "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384"},
        {"version below the minimum", NULL, "NORMAL:-VERS-ALL:+VERS-TLS1.1", NULL, NULL},
    };
    g_autofree char *rsa = certificates_path("rsa.pem"), *ec = certificates_path("ec.pem");
    g_autofree char *other = certificates_path("other.pem");
    g_autofree char *one = certificates_path("one.pem");
    g_autofree char *wild_ec = certificates_path("wild-ec.pem");
    g_autofree char *wild_rsa = certificates_path("wild-rsa.pem");
    struct tls_pair pairs[] = {{rsa, NULL}, {ec, NULL},      {other, NULL},
                               {one, NULL}, {wild_ec, NULL}, {wild_rsa, NULL}};
    struct tls_server_config config = {
        pairs, G_N_ELEMENTS(pairs), "NORMAL", TLS_MIN_1_2, TLS_CLIENT_NONE, NULL, NULL};
    struct error err = {""};
    struct tls_server *server = tls_server_new(&config, NULL, &err);
    g_assert_cmpstr(err.text, ==, "");
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct caller caller = {.name = cases[i].name, .priority = cases[i].priority};
        struct tls_info info;
        g_test_message("%s", cases[i].what);
        enum io_result result = receive_call(server, &caller, &info, &err);
        g_assert_cmpint(result, ==, cases[i].subject != NULL ? IO_OK : IO_FAILED);
        if (cases[i].subject == NULL)
            continue;
        g_assert_cmpstr(caller.subject, ==, cases[i].subject);
        g_assert_cmpstr(info.cipher, ==, cases[i].cipher);
        g_assert_cmpstr(info.version, ==, strstr(info.cipher, "WITH") ? "TLSv1.2" : "TLSv1.3");
        /* The put and the writev came in one record. */
        g_assert_cmpstr(caller.first, ==, "220 mail ready\r\n");
    }
    tls_server_unref(server);
}

/* A ticket outlives its server, but never replaces a certificate that was not presented. */
static void test_tls_tickets(void)
{
    static const struct {
        const char *what;
        enum tls_client_certificates before, after;
        const char *certificate;
        enum io_result result;
        bool resumed;
    } cases[] = {
        {"server rebuilt", TLS_CLIENT_NONE, TLS_CLIENT_NONE, NULL, IO_OK, true},
        {"now required", TLS_CLIENT_NONE, TLS_CLIENT_REQUIRE, NULL, IO_FAILED, false},
        {"requested, now required", TLS_CLIENT_REQUEST, TLS_CLIENT_REQUIRE, NULL, IO_FAILED, false},
        {"now required and shown", TLS_CLIENT_NONE, TLS_CLIENT_REQUIRE, "ec.pem", IO_OK, false},
        {"required before and now", TLS_CLIENT_REQUIRE, TLS_CLIENT_REQUIRE, "ec.pem", IO_OK, true},
    };
    static const char *const priorities[] = {"NORMAL", TLS12};
    struct error err = {""};
    struct tls_tickets *tickets = tls_tickets_new(&err);
    for (size_t i = 0; i < 2 * G_N_ELEMENTS(cases); i++) {
        const char *priority = priorities[i % 2];
        gnutls_datum_t saved = {0};
        struct tls_info info;
        struct caller first = {
            .priority = priority, .certificate = cases[i / 2].certificate, .save = &saved};
        struct caller second = {
            .priority = priority, .certificate = cases[i / 2].certificate, .resume = &saved};
        g_test_message("%s, %s", cases[i / 2].what, priority);
        struct tls_server *server = server_with("ec.pem", NULL, cases[i / 2].before, tickets, &err);
        g_assert_cmpint(receive_call(server, &first, &info, &err), ==, IO_OK);
        g_assert_false(info.resumed);
        tls_server_unref(server);
        server = server_with("ec.pem", NULL, cases[i / 2].after, tickets, &err);
        g_assert_cmpint(receive_call(server, &second, &info, &err), ==, cases[i / 2].result);
        g_assert_cmpint(info.resumed, ==, cases[i / 2].resumed);
        if (cases[i / 2].result == IO_OK && cases[i / 2].after == TLS_CLIENT_REQUIRE) {
            g_assert_cmpstr(info.peer_subject, ==, "CN=ec");
            g_assert_true(info.peer_verified);
        }
        tls_server_unref(server);
        gnutls_free(saved.data);
    }
    tls_tickets_free(tickets);
}

/* A stranger's certificate is accepted and noted if one is requested, even if its name is too long for the
 * note. It is refused if one is required. */
static void test_tls_stranger(void)
{
    struct error err = {""};
    struct tls_info info;
    struct caller caller = {.certificate = "other.pem"};
    struct tls_server *server = server_with("ec.pem", NULL, TLS_CLIENT_REQUEST, NULL, &err);
    g_assert_cmpint(receive_call(server, &caller, &info, &err), ==, IO_OK);
    g_assert_cmpuint(strlen(info.peer_subject), ==, sizeof info.peer_subject - 1);
    g_assert_false(info.peer_verified);
    tls_server_unref(server);
    server = server_with("ec.pem", NULL, TLS_CLIENT_REQUIRE, NULL, &err);
    g_assert_cmpint(receive_call(server, &caller, &info, &err), ==, IO_FAILED);
    g_assert_cmpstr(err.text, ==, "client certificate not accepted");
    tls_server_unref(server);
}

/* The minimum version follows the priority string, so the string must not be cut. */
static void test_tls_priority(void)
{
    struct error err = {""};
    g_autofree char *cert = certificates_path("ec.pem");
    struct tls_pair pair = {cert, NULL};
    struct tls_server_config config = {&pair,           1,    "NORMAL", TLS_MIN_1_3,
                                       TLS_CLIENT_NONE, NULL, NULL};
    struct tls_info info;
    struct caller old = {.priority = TLS12};
    struct tls_server *server = tls_server_new(&config, NULL, &err);
    g_assert_cmpint(receive_call(server, &old, &info, &err), ==, IO_FAILED);
    tls_server_unref(server);
    GString *text = g_string_new("NORMAL");
    while (text->len < 1100)
        g_string_append(text, ":+RSA");
    config.priority = text->str;
    g_assert_null(tls_server_new(&config, NULL, &err));
    g_assert_true(strstr(err.text, "too long") != NULL);
    g_string_free(text, TRUE);
    config.priority = "NORMAL:+NONSENSE";
    g_assert_null(tls_server_new(&config, NULL, &err));
    g_assert_true(strstr(err.text, "NONSENSE") != NULL);
}

static void test_tls_bad_files(void)
{
    static const struct {
        const char *cert, *key, *part;
    } cases[] = {
        {"none.crt", "ec.key", "none.crt"},
        {"ec.crt", "rsa.key", "ec.crt"},
        {"ec.key", "ec.key", "ec.key"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct error err = {""};
        g_assert_null(server_with(cases[i].cert, cases[i].key, TLS_CLIENT_NONE, NULL, &err));
        g_test_message("%s", err.text);
        g_assert_true(strstr(err.text, cases[i].part) != NULL);
    }
}

static void test_tls_files_changed(void)
{
    struct error err = {""};
    struct tls_server *server = server_with("rsa.crt", "rsa.key", TLS_CLIENT_NONE, NULL, &err);
    g_assert_nonnull(server);
    g_assert_false(tls_server_files_changed(server));
    const struct tls_server_certificate *certificates;
    g_assert_cmpuint(tls_server_certificates(server, &certificates), ==, 1);
    g_assert_cmpint(certificates[0].expiry, >, time(NULL) + 80000);
    g_assert_true(g_str_has_suffix(certificates[0].file, "/rsa.crt"));
    g_assert_cmpstr(certificates[0].name, ==, "mail.example");
    g_autofree char *ca = certificates_path("rsa.crt");
    const struct tls_client_config verify = {.verify = true, .ca_file = ca};
    struct tls_client *client = tls_client_new(&verify, &err);
    g_assert_nonnull(client);
    g_assert_false(tls_client_files_changed(client));
    g_autofree char *key = certificates_path("rsa.key");
    const struct tls_client_config shown = {.pair = {ca, key}};
    struct tls_client *with_pair = tls_client_new(&shown, &err);
    g_assert_nonnull(with_pair);
    g_assert_false(tls_client_files_changed(with_pair));
    certificates_renew_rsa();
    g_assert_true(tls_server_files_changed(server));
    g_assert_true(tls_client_files_changed(client));
    g_assert_true(tls_client_files_changed(with_pair));
    tls_server_unref(server);
    tls_client_free(client);
    tls_client_free(with_pair);
}
static void count_lines(struct partner *partner, int *got, struct deadline deadline)
{
    static const char *const expected[] = {"one", "two", "three"};
    struct line line;
    while (stream_read_line(&partner->stream, &line, 100, deadline) == IO_OK) {
        g_assert_cmpint(*got, <, 3);
        g_assert_cmpuint(line.len, ==, strlen(expected[*got]));
        g_assert_cmpint(memcmp(line.text, expected[*got], line.len), ==, 0);
        ++*got;
    }
}

/* Wherever the octets of several records are cut, each line is returned as soon as possible, and no input
 * is left where poll(2) cannot report it. */
static void test_tls_pieces(void)
{
    static const char *const priorities[] = {"NORMAL", TLS12};
    struct error err = {""};
    struct tls_server *server = server_with("ec.pem", NULL, TLS_CLIENT_NONE, NULL, &err);
    for (size_t i = 0; i < G_N_ELEMENTS(priorities); i++) {
        struct partner partner;
        size_t len = 1, ends[3];
        int fds[2];
        unix_pair(fds);
        partner_open(&partner, fds, priorities[i]);
        partner_meet(&partner, server);
        for (size_t cut = 0; cut < len; cut++) {
            int got = 0;
            partner_say(&partner, "one\r\n", 5);
            ends[0] = partner.said->len;
            partner_say(&partner, "two\r\nth", 7);
            ends[1] = partner.said->len;
            partner_say(&partner, "ree\r\n", 5);
            ends[2] = len = partner.said->len;
            partner_deliver(&partner, cut);
            count_lines(&partner, &got, cut % 16 == 0 ? deadline_in_ms(1) : deadline_in_ms(-1));
            g_assert_cmpint(got, ==, (cut >= ends[0]) + (cut >= ends[1]) + (cut >= ends[2]));
            partner_deliver(&partner, partner.said->len);
            /* Input that is there is read even after the deadline. */
            count_lines(&partner, &got, cut % 16 == 0 ? deadline_in_ms(1) : deadline_in_ms(-1));
            g_assert_cmpint(got, ==, 3);
            g_assert_false(stream_has_input(&partner.stream));
        }
        g_assert_cmpuint(len, >, 3 * 22);
        partner_close(&partner);
    }
    tls_server_unref(server);
}

/* Records as long as the read-ahead buffer, a little shorter and longer, and the longest. */
static void test_tls_sizes(void)
{
    struct error err = {""};
    struct tls_server *server = server_with("ec.pem", NULL, TLS_CLIENT_NONE, NULL, &err);
    g_autofree char *text = g_malloc(16384);
    struct partner partner;
    int fds[2];
    unix_pair(fds);
    partner_open(&partner, fds, "NORMAL");
    partner_meet(&partner, server);
    for (size_t i = 0; i < 16384; i++)
        text[i] = (char)(i * 31 + i / 256);
    for (size_t size = 600; size <= 16384; size = size == 660 ? 16384 : size + 1) {
        const char *bytes;
        size_t len, got = 0;
        partner_say(&partner, text, size);
        partner_say(&partner, text, size);
        partner_deliver(&partner, partner.said->len);
        while (got < 2 * size) {
            g_assert_cmpint(stream_read(&partner.stream, &bytes, &len, soon()), ==, IO_OK);
            g_assert_cmpuint(len, ==, size);
            g_assert_cmpint(memcmp(bytes, text, size), ==, 0);
            stream_consume(&partner.stream, len);
            got += len;
        }
        g_assert_false(stream_has_input(&partner.stream));
    }
    partner_close(&partner);
    tls_server_unref(server);
}

/* Read-ahead input is reported, so that nobody waits for it. However many records wait in the socket, and
 * wherever they are cut, the buffer is empty after a few, so that a worker can leave. */
static void test_tls_read_ahead(void)
{
    struct error err = {""};
    struct tls_server *server = server_with("ec.pem", NULL, TLS_CLIENT_NONE, NULL, &err);
    g_autofree char *text = g_strnfill(700, 'x');
    struct partner partner;
    const char *bytes;
    size_t len;
    int fds[2];
    unix_pair(fds);
    partner_open(&partner, fds, "NORMAL");
    partner_meet(&partner, server);
    for (size_t size = 1; size < 700; size++) {
        int count = 0;
        for (size_t sum = 0; sum < 3000; sum += size + 22)
            partner_say(&partner, text, size);
        partner_deliver(&partner, partner.said->len);
        do {
            g_assert_cmpint(stream_read(&partner.stream, &bytes, &len, soon()), ==, IO_OK);
            stream_consume(&partner.stream, len);
            if (size == 1 && count == 0)
                g_assert_true(stream_has_input(&partner.stream));
        } while (++count < 40 && stream_has_input(&partner.stream));
        g_assert_false(stream_has_input(&partner.stream));
        while (stream_read(&partner.stream, &bytes, &len, deadline_in_ms(-1)) == IO_OK)
            stream_consume(&partner.stream, len);
    }
    partner_close(&partner);
    tls_server_unref(server);
}

/* The server's part of a handshake is one packet. If the ticket cannot be in it, because the client must
 * present a certificate first, it leaves with the next output, or before a wait. */
static void test_tls_flight(void)
{
    static const struct {
        enum tls_client_certificates request;
        bool waits;
        unsigned before, after_wait, after;
    } cases[] = {
        {TLS_CLIENT_NONE, false, 1, 1, 2},
        {TLS_CLIENT_REQUEST, false, 1, 1, 2},
        {TLS_CLIENT_REQUEST, true, 1, 2, 3},
    };
    struct error err = {""};
    struct tls_tickets *tickets = tls_tickets_new(&err);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct tls_server *server = server_with("ec.pem", NULL, cases[i].request, tickets, &err);
        struct partner partner;
        struct line line;
        char got[512];
        int fds[2];
        tcp_pair(fds);
        partner_open(&partner, fds, "NORMAL");
        partner_meet(&partner, server);
        g_assert_cmpuint(segments_sent(fds[0]), ==, cases[i].before);
        if (cases[i].waits)
            g_assert_cmpint(stream_read_line(&partner.stream, &line, 100, soon()), ==, IO_TIMEOUT);
        g_assert_cmpuint(segments_sent(fds[0]), ==, cases[i].after_wait);
        stream_put(&partner.stream, "250 hello\r\n", 11, soon());
        g_assert_cmpint(stream_flush(&partner.stream, soon()), ==, IO_OK);
        g_assert_cmpuint(segments_sent(fds[0]), ==, cases[i].after);
        ssize_t len = GNUTLS_E_AGAIN;
        for (int tries = 0; tries < 5 && len == GNUTLS_E_AGAIN; tries++)
            len = gnutls_record_recv(partner.session, got, sizeof got);
        g_assert_cmpint(len, ==, 11);
        g_assert_true(gnutls_session_get_flags(partner.session) & GNUTLS_SFLAGS_SESSION_TICKET);
        partner_close(&partner);
        tls_server_unref(server);
    }
    tls_tickets_free(tickets);
}

/* Our client's last handshake flight leaves with its first command, and with it the empty change_cipher_spec
 * (RFC 8446 D.4), which GnuTLS hands out before it reads on. Only its hello leaves alone. */
static void test_tls_client_flight(void)
{
    struct error err = {""};
    struct tls_server *server = server_with("ec.pem", NULL, TLS_CLIENT_NONE, NULL, &err);
    struct visitor visitor = {.text = "hello\r\n", .end = VISIT_CLOSE};
    struct tls_info info;
    enum io_result handshake;
    g_assert_cmpint(meet(server, &visitor, &handshake, &info), ==, IO_EOF);
    g_assert_cmpuint(visitor.segments, ==, 2);
    tls_server_unref(server);
}

/* A flight that the socket does not take waits for the socket, not for the client. It is neither lost nor
 * sent twice. */
static void test_tls_blocked(void)
{
    struct error err = {""};
    struct tls_server *server = server_with("ec.pem", NULL, TLS_CLIENT_NONE, NULL, &err);
    struct partner partner;
    char junk[4096] = "";
    ssize_t len;
    size_t sent = 0;
    int fds[2];
    unix_pair(fds);
    partner_open(&partner, fds, "NORMAL");
    while ((len = send(fds[0], junk, sizeof junk, MSG_DONTWAIT)) > 0)
        sent += (size_t)len;
    g_assert_cmpint(stream_begin_tls_server(&partner.stream, server, &err), ==, IO_OK);
    partner.deaf = true;
    g_assert_cmpint(gnutls_handshake(partner.session), ==, GNUTLS_E_AGAIN);
    partner.deaf = false;
    partner_deliver(&partner, partner.said->len);
    for (int i = 0; i < 2; i++) {
        int64_t since_ms = deadline_now_ms();
        g_assert_cmpint(stream_continue_tls(&partner.stream, deadline_in_ms(3000), soon(), &err),
                        ==, IO_TIMEOUT);
        g_assert_cmpint(deadline_now_ms() - since_ms, <, 2000);
        g_assert_false(partner.stream.broken);
    }
    while (sent > 0 && (len = recv(fds[1], junk, MIN(sizeof junk, sent), MSG_DONTWAIT)) > 0)
        sent -= (size_t)len;
    g_assert_cmpuint(sent, ==, 0);
    g_assert_cmpint(stream_continue_tls(&partner.stream, soon(), soon(), &err), ==, IO_TIMEOUT);
    g_assert_cmpint(gnutls_handshake(partner.session), ==, 0);
    partner_deliver(&partner, partner.said->len);
    g_assert_cmpint(stream_continue_tls(&partner.stream, soon(), soon(), &err), ==, IO_OK);
    partner_close(&partner);
    tls_server_unref(server);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    certificates_open();
    g_test_add_func("/tls/ends", test_tls_ends);
    g_test_add_func("/tls/judged", test_tls_judged);
    g_test_add_func("/tls/client certificates", test_tls_client_certificates);
    g_test_add_func("/tls/pairs", test_tls_pairs);
    g_test_add_func("/tls/tickets", test_tls_tickets);
    g_test_add_func("/tls/stranger", test_tls_stranger);
    g_test_add_func("/tls/pieces", test_tls_pieces);
    g_test_add_func("/tls/sizes", test_tls_sizes);
    g_test_add_func("/tls/read ahead", test_tls_read_ahead);
    g_test_add_func("/tls/flight", test_tls_flight);
    g_test_add_func("/tls/client flight", test_tls_client_flight);
    g_test_add_func("/tls/blocked", test_tls_blocked);
    g_test_add_func("/tls/priority", test_tls_priority);
    g_test_add_func("/tls/bad files", test_tls_bad_files);
    g_test_add_func("/tls/files changed", test_tls_files_changed);
    int result = g_test_run();
    certificates_close();
    return result;
}
