/* tests/unit/test-stream.c - net/stream and net/tls
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <linux/tcp.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/stream.h"
#include "net/tls.h"

struct pair {
    struct stream stream;
    struct stream_buffers buffers;
    int peer;
};

static void pair_open(struct pair *pair)
{
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    pair->peer = fds[1];
    stream_init(&pair->stream, fds[0]);
    g_assert_cmpint(stream_buffers_init(&pair->buffers, 4096, 1024), ==, 0);
    stream_lend(&pair->stream, &pair->buffers);
}

static void pair_close(struct pair *pair)
{
    stream_close(&pair->stream);
    stream_buffers_free(&pair->buffers);
    close(pair->peer);
}

static void say(struct pair *pair, const char *text, size_t len)
{
    g_assert_cmpint(write(pair->peer, text, len), ==, (gssize)len);
}

static struct deadline soon(void)
{
    return deadline_in_ms(50);
}

/* Each line must come out the same wherever the pieces were cut. */
static void test_lines(void)
{
    static const char text[] = "one\r\ntwo\n\r\nth\0ree\r\n";
    static const struct {
        const char *text;
        size_t len;
        bool bare;
    } expected[] = {{"one", 3, false}, {"two", 3, true}, {"", 0, false}, {"th\0ree", 6, false}};
    for (size_t cut = 0; cut < sizeof text; cut++) {
        struct pair pair;
        struct line line;
        size_t got = 0;
        pair_open(&pair);
        say(&pair, text, cut);
        for (int rest = 0; rest < 2; rest++) {
            while (stream_read_line(&pair.stream, &line, 100, deadline_in_ms(1)) == IO_OK) {
                g_assert_cmpuint(line.len, ==, expected[got].len);
                g_assert_cmpint(memcmp(line.text, expected[got].text, line.len), ==, 0);
                g_assert_cmpint(line.bare_lf, ==, expected[got].bare);
                got++;
            }
            if (rest == 0)
                say(&pair, text + cut, sizeof text - 1 - cut);
        }
        g_assert_cmpuint(got, ==, 4);
        pair_close(&pair);
    }
}

static void test_too_long(void)
{
    struct pair pair;
    struct line line;
    g_autofree char *text = g_strnfill(20000, 'x');
    pair_open(&pair);
    say(&pair, text, 20000);
    say(&pair, "\r\nok\r\n", 6);
    g_assert_cmpint(stream_read_line(&pair.stream, &line, 512, soon()), ==, IO_TOO_LONG);
    g_assert_cmpint(stream_read_line(&pair.stream, &line, 512, soon()), ==, IO_OK);
    g_assert_cmpuint(line.len, ==, 2);
    text[510] = '\r';
    text[511] = '\n';
    say(&pair, text, 512);
    g_assert_cmpint(stream_read_line(&pair.stream, &line, 512, soon()), ==, IO_OK);
    g_assert_cmpuint(line.len, ==, 510);
    pair_close(&pair);
}

static void test_ends(void)
{
    struct pair pair;
    struct line line;
    pair_open(&pair);
    g_assert_cmpint(stream_read_line(&pair.stream, &line, 512, soon()), ==, IO_TIMEOUT);
    say(&pair, "par", 3);
    g_assert_cmpint(stream_read_line(&pair.stream, &line, 512, soon()), ==, IO_TIMEOUT);
    g_assert_true(stream_has_input(&pair.stream));
    say(&pair, "t\r\nhalf", 7);
    g_assert_cmpint(stream_read_line(&pair.stream, &line, 512, soon()), ==, IO_OK);
    g_assert_cmpuint(line.len, ==, 4);
    shutdown(pair.peer, SHUT_WR);
    g_assert_cmpint(stream_read_line(&pair.stream, &line, 512, soon()), ==, IO_EOF);
    pair_close(&pair);
}

static void test_output(void)
{
    struct pair pair;
    char got[4096];
    struct iovec iov[] = {{(char *)"three", 5}, {(char *)"", 0}, {(char *)"four", 4}};
    pair_open(&pair);
    g_assert_cmpint(stream_put(&pair.stream, "one", 3, soon()), ==, IO_OK);
    g_assert_cmpint(stream_put(&pair.stream, "two", 3, soon()), ==, IO_OK);
    g_assert_cmpint(recv(pair.peer, got, sizeof got, MSG_DONTWAIT), ==, -1);
    g_assert_cmpint(stream_writev(&pair.stream, iov, 3, soon()), ==, IO_OK);
    g_assert_cmpint(recv(pair.peer, got, sizeof got, MSG_DONTWAIT), ==, 15);
    g_assert_cmpint(memcmp(got, "onetwothreefour", 15), ==, 0);
    g_autofree char *big = g_strnfill(3000, 'b');
    stream_put(&pair.stream, "a", 1, soon());
    g_assert_cmpint(stream_put(&pair.stream, big, 3000, soon()), ==, IO_OK);
    g_assert_cmpint(recv(pair.peer, got, sizeof got, MSG_DONTWAIT), ==, 3001);
    g_assert_cmpint(got[0], ==, 'a');
    /* A peer that reads nothing ends in a timeout, and the stream is then useless. */
    enum io_result result = IO_OK;
    for (int i = 0; i < 10000 && result == IO_OK; i++)
        result = stream_put(&pair.stream, big, 3000, soon());
    g_assert_cmpint(result, ==, IO_TIMEOUT);
    g_assert_cmpint(stream_flush(&pair.stream, soon()), ==, IO_FAILED);
    pair_close(&pair);
}

static void test_injected(void)
{
    struct pair pair;
    struct line line;
    pair_open(&pair);
    say(&pair, "STARTTLS\r\nRSET\r\n", 16);
    stream_read_line(&pair.stream, &line, 512, soon());
    g_assert_true(stream_has_injected_input(&pair.stream));
    stream_read_line(&pair.stream, &line, 512, soon());
    g_assert_false(stream_has_injected_input(&pair.stream));
    say(&pair, "x", 1);
    g_assert_true(stream_has_injected_input(&pair.stream));
    pair_close(&pair);
}

static void tcp_pair(int fds[2])
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    g_assert_cmpint(bind(listener, (struct sockaddr *)&in, sizeof in), ==, 0);
    listen(listener, 1);
    getsockname(listener, (struct sockaddr *)&in, &len);
    fds[1] = socket(AF_INET, SOCK_STREAM, 0);
    g_assert_cmpint(connect(fds[1], (struct sockaddr *)&in, sizeof in), ==, 0);
    fds[0] = accept(listener, NULL, NULL);
    close(listener);
}

/* After an abort the peer gets RST, where a close would have let it see an orderly end. */
static void test_abort(void)
{
    for (int abort = 0; abort < 2; abort++) {
        struct stream stream;
        char byte;
        int fds[2];
        tcp_pair(fds);
        stream_init(&stream, fds[0]);
        if (abort)
            stream_abort(&stream);
        else
            stream_close(&stream);
        g_assert_cmpint(stream.fd, ==, -1);
        errno = 0;
        g_assert_cmpint(recv(fds[1], &byte, 1, 0), ==, abort ? -1 : 0);
        g_assert_cmpint(errno, ==, abort ? ECONNRESET : 0);
        close(fds[1]);
    }
}

/* TLS: a server stream here, a client stream on a thread of its own. */
#define LONG_NAME                                                                                  \
    "CN=other,OU=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,"                    \
    "OU=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb,"                             \
    "OU=cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc,"                             \
    "OU=dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd,"                             \
    "OU=eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"

static char *folder;

static char *in_folder(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

static void save(const char *name, const gnutls_datum_t *one, const gnutls_datum_t *two)
{
    g_autofree char *path = in_folder(name);
    GString *text = g_string_new_len((char *)one->data, one->size);
    if (two != NULL)
        g_string_append_len(text, (char *)two->data, two->size);
    g_assert_true(g_file_set_contents(path, text->str, (gssize)text->len, NULL));
    g_string_free(text, TRUE);
}

static void make_pair(const char *name, gnutls_pk_algorithm_t algorithm, const char *dn,
                      const char *host)
{
    unsigned bits =
        algorithm == GNUTLS_PK_RSA ? 2048 : GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1);
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    gnutls_datum_t key_pem, crt_pem;
    g_autofree char *crt_name = g_strconcat(name, ".crt", NULL);
    g_autofree char *key_name = g_strconcat(name, ".key", NULL);
    g_autofree char *both_name = g_strconcat(name, ".pem", NULL);
    gnutls_x509_privkey_init(&key);
    g_assert_cmpint(gnutls_x509_privkey_generate(key, algorithm, bits, 0), ==, 0);
    gnutls_x509_crt_init(&crt);
    gnutls_x509_crt_set_version(crt, 3);
    gnutls_x509_crt_set_key(crt, key);
    gnutls_x509_crt_set_serial(crt, "\1", 1);
    g_assert_cmpint(gnutls_x509_crt_set_dn(crt, dn, NULL), ==, 0);
    gnutls_x509_crt_set_activation_time(crt, time(NULL) - 3600);
    gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 86400);
    gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, host, (unsigned)strlen(host), 0);
    g_assert_cmpint(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), ==, 0);
    gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &crt_pem);
    gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &key_pem);
    save(crt_name, &crt_pem, NULL);
    save(key_name, &key_pem, NULL);
    save(both_name, &crt_pem, &key_pem);
    gnutls_free(crt_pem.data);
    gnutls_free(key_pem.data);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

static struct tls_server *server_with(const char *cert, const char *key,
                                      enum tls_client_certificates request,
                                      const struct tls_tickets *tickets, struct error *err)
{
    g_autofree char *cert_path = in_folder(cert);
    g_autofree char *key_path = key != NULL ? in_folder(key) : NULL;
    g_autofree char *ca_path = in_folder("ec.crt");
    struct tls_pair pair = {cert_path, key_path};
    struct tls_server_config config = {
        .pairs = &pair,
        .pair_count = 1,
        .priority = "NORMAL",
        .minimum_version = TLS_MIN_1_2,
        .client_certificates = request,
        .ca_file = request != TLS_CLIENT_NONE ? ca_path : NULL,
    };
    return tls_server_new(&config, tickets, err);
}

static unsigned segments_sent(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    g_assert_cmpint(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), ==, 0);
    return info.tcpi_data_segs_out;
}

struct visitor {
    int fd;
    const char *text;
    enum { VISIT_CLOSE, VISIT_ABORT, VISIT_CUT, VISIT_SILENT } end;
    bool verify;
    const char *name;
    enum io_result result;
    unsigned segments; /* sent up to the end of `text` */
};

static void *visit(void *argument)
{
    struct visitor *visitor = argument;
    struct stream stream;
    struct stream_buffers buffers;
    struct error err;
    g_autofree char *ca = in_folder("ec.crt");
    struct tls_client_config config = {.verify = visitor->verify,
                                       .ca_file = visitor->verify ? ca : NULL};
    struct tls_client *client = tls_client_new(&config, &err);
    stream_buffers_init(&buffers, 4096, 4096);
    stream_init(&stream, visitor->fd);
    stream_lend(&stream, &buffers);
    if (visitor->end == VISIT_SILENT) {
        g_usleep(300000);
    } else {
        visitor->result =
            stream_start_tls_client(&stream, client, visitor->name, deadline_in_ms(5000), &err);
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

/* Runs a handshake; what the server reads then, as result of one more read behind `text`. */
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

/* A client by GnuTLS itself, for what net/tls's own client does not do: choose versions and
 * signatures, resume, send a certificate unasked-for. */
struct caller {
    const char *priority, *name, *certificate;
    const gnutls_datum_t *resume; /* a session of an earlier call */
    gnutls_datum_t *save;
    int fd;
    char subject[64]; /* of the server's certificate */
    char first[32];   /* the first record that came */
};

static gnutls_session_t caller_session(struct caller *caller,
                                       gnutls_certificate_credentials_t *credentials)
{
    gnutls_session_t session;
    gnutls_certificate_allocate_credentials(credentials);
    if (caller->certificate != NULL) {
        g_autofree char *path = in_folder(caller->certificate);
        g_assert_cmpint(
            gnutls_certificate_set_x509_key_file(*credentials, path, path, GNUTLS_X509_FMT_PEM), ==,
            0);
    }
    gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL | GNUTLS_FORCE_CLIENT_CERT);
    g_assert_cmpint(gnutls_priority_set_direct(
                        session, caller->priority != NULL ? caller->priority : "NORMAL", NULL),
                    ==, 0);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, *credentials);
    if (caller->name != NULL)
        gnutls_server_name_set(session, GNUTLS_NAME_DNS, caller->name, strlen(caller->name));
    if (caller->resume != NULL)
        gnutls_session_set_data(session, caller->resume->data, caller->resume->size);
    gnutls_transport_set_int(session, caller->fd);
    return session;
}

static void note_subject(struct caller *caller, gnutls_session_t session)
{
    unsigned count;
    size_t size = sizeof caller->subject;
    const gnutls_datum_t *raw = gnutls_certificate_get_peers(session, &count);
    gnutls_x509_crt_t certificate;
    gnutls_x509_crt_init(&certificate);
    if (raw != NULL && gnutls_x509_crt_import(certificate, raw, GNUTLS_X509_FMT_DER) == 0)
        gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0,
                                      caller->subject, &size);
    gnutls_x509_crt_deinit(certificate);
}

static void *call(void *argument)
{
    struct caller *caller = argument;
    gnutls_certificate_credentials_t credentials;
    gnutls_session_t session = caller_session(caller, &credentials);
    ssize_t got;
    if (gnutls_handshake(session) == 0) {
        note_subject(caller, session);
        do { /* the tickets of TLS 1.3 come in front */
            got = gnutls_record_recv(session, caller->first, sizeof caller->first - 1);
        } while (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED);
        caller->first[got > 0 ? got : 0] = '\0';
        if (caller->save != NULL)
            g_assert_cmpint(gnutls_session_get_data2(session, caller->save), ==, 0);
        gnutls_bye(session, GNUTLS_SHUT_WR);
    }
    shutdown(caller->fd, SHUT_WR);
    gnutls_deinit(session);
    gnutls_certificate_free_credentials(credentials);
    return NULL;
}

/* The server's side of a call: greets by a put and a writev, then waits for the end. */
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
    pthread_create(&thread, NULL, call, caller);
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

#define TLS12 "NORMAL:-VERS-TLS1.3"

/* RSA and ECDSA of one name side by side, and a second name; the first pair is the default. */
static void test_tls_pairs(void)
{
    static const struct {
        const char *what, *name, *priority, *subject, *cipher;
    } cases[] = {
        {"no name", NULL, NULL, "rsa", "TLS_AES_256_GCM_SHA384"},
        {"unknown name", "unknown.example", NULL, "rsa", "TLS_AES_256_GCM_SHA384"},
        {"first name", "mail.example", NULL, "rsa", "TLS_AES_256_GCM_SHA384"},
        {"second name", "other.example", NULL, "other", "TLS_AES_256_GCM_SHA384"},
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
    g_autofree char *rsa = in_folder("rsa.pem"), *ec = in_folder("ec.pem");
    g_autofree char *other = in_folder("other.pem");
    struct tls_pair pairs[] = {{rsa, NULL}, {ec, NULL}, {other, NULL}};
    struct tls_server_config config = {pairs,           3,    "NORMAL", TLS_MIN_1_2,
                                       TLS_CLIENT_NONE, NULL, NULL};
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
        /* What was put and what followed it came in one record. */
        g_assert_cmpstr(caller.first, ==, "220 mail ready\r\n");
    }
    tls_server_unref(server);
}

/* A ticket outlives its server, but never stands in for a certificate that was not shown. */
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

/* Of a stranger's certificate: noted where one is requested, even if its name is too long for the
 * note; refused where one is required. */
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

/* The minimum version stands behind the priority string, so that must not be cut. */
static void test_tls_priority(void)
{
    struct error err = {""};
    g_autofree char *cert = in_folder("ec.pem");
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
    g_assert_cmpint(tls_server_expiry(server), >, time(NULL) + 80000);
    make_pair("rsa", GNUTLS_PK_RSA, "CN=rsa", "mail.example");
    g_assert_true(tls_server_files_changed(server));
    tls_server_unref(server);
}

/* A client on this same thread: the test says when, and in which pieces, its octets arrive. */
struct partner {
    struct stream stream;
    struct stream_buffers buffers;
    int fd;
    bool deaf;
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    GByteArray *said; /* not yet delivered */
};

static ssize_t partner_push(gnutls_transport_ptr_t argument, const void *bytes, size_t len)
{
    struct partner *partner = argument;
    g_byte_array_append(partner->said, bytes, (guint)len);
    return (ssize_t)len;
}

static ssize_t partner_pull(gnutls_transport_ptr_t argument, void *bytes, size_t len)
{
    const struct partner *partner = argument;
    errno = EAGAIN;
    return partner->deaf ? -1 : recv(partner->fd, bytes, len, MSG_DONTWAIT);
}

static void partner_open(struct partner *partner, const int fds[2], const char *priority)
{
    partner->deaf = false;
    partner->fd = fds[1];
    partner->said = g_byte_array_new();
    stream_init(&partner->stream, fds[0]);
    g_assert_cmpint(stream_buffers_init(&partner->buffers, 65536, 4096), ==, 0);
    stream_lend(&partner->stream, &partner->buffers);
    gnutls_certificate_allocate_credentials(&partner->credentials);
    gnutls_init(&partner->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK);
    g_assert_cmpint(gnutls_priority_set_direct(partner->session, priority, NULL), ==, 0);
    gnutls_credentials_set(partner->session, GNUTLS_CRD_CERTIFICATE, partner->credentials);
    gnutls_transport_set_ptr(partner->session, partner);
    gnutls_transport_set_push_function(partner->session, partner_push);
    gnutls_transport_set_pull_function(partner->session, partner_pull);
}

static void partner_close(struct partner *partner)
{
    stream_close(&partner->stream);
    stream_buffers_free(&partner->buffers);
    gnutls_deinit(partner->session);
    gnutls_certificate_free_credentials(partner->credentials);
    g_byte_array_free(partner->said, TRUE);
    close(partner->fd);
}

static void deliver(struct partner *partner, size_t len)
{
    g_assert_cmpint(write(partner->fd, partner->said->data, len), ==, (gssize)len);
    g_byte_array_remove_range(partner->said, 0, (guint)len);
}

/* Each text in a record of its own. */
static void partner_say(struct partner *partner, const char *text, size_t len)
{
    g_assert_cmpint(gnutls_record_send(partner->session, text, len), ==, (gssize)len);
}

/* Until both sides are through. */
static void partner_meet(struct partner *partner, struct tls_server *server)
{
    struct error err = {""};
    int theirs = GNUTLS_E_AGAIN;
    enum io_result ours = IO_TIMEOUT;
    g_assert_cmpint(stream_begin_tls_server(&partner->stream, server, &err), ==, IO_OK);
    for (int i = 0; i < 10 && (theirs != 0 || ours != IO_OK); i++) {
        if (theirs == GNUTLS_E_AGAIN)
            theirs = gnutls_handshake(partner->session);
        deliver(partner, partner->said->len);
        if (ours == IO_TIMEOUT)
            ours = stream_continue_tls(&partner->stream, soon(), soon(), &err);
    }
    g_assert_cmpint(theirs, ==, 0);
    g_assert_cmpint(ours, ==, IO_OK);
}

static void unix_pair(int fds[2])
{
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
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

/* Wherever the octets of several records are cut, each line comes as soon as it can, and nothing
 * that came is left where no poll(2) tells of it. */
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
            deliver(&partner, cut);
            count_lines(&partner, &got, deadline_in_ms(1));
            g_assert_cmpint(got, ==, (cut >= ends[0]) + (cut >= ends[1]) + (cut >= ends[2]));
            deliver(&partner, partner.said->len);
            /* A deadline that has passed still lets it read what is there. */
            count_lines(&partner, &got, cut % 2 != 0 ? deadline_in_ms(1) : deadline_in_ms(-1));
            g_assert_cmpint(got, ==, 3);
            g_assert_false(stream_has_input(&partner.stream));
        }
        g_assert_cmpuint(len, >, 3 * 22);
        partner_close(&partner);
    }
    tls_server_unref(server);
}

/* Records as long as what is read ahead, a little shorter and longer, and the longest. */
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
        deliver(&partner, partner.said->len);
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

/* What lies read ahead is told of, so that nobody waits for it; and however many records wait in
 * the socket, and however they lie, after a few of them nothing is, so that a worker can leave. */
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
        deliver(&partner, partner.said->len);
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

/* The server's part of a handshake is one packet. Where the ticket cannot be in it, because the
 * client must show a certificate first, it leaves with what is said next, or before a wait. */
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
        int fds[2], nodelay = 1;
        tcp_pair(fds);
        setsockopt(fds[0], IPPROTO_TCP, TCP_NODELAY, &nodelay, sizeof nodelay);
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

/* Our client's last word in the handshake leaves with its first in the dialog. */
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

/* A flight that the socket does not take waits for the socket, not for the client, and is neither
 * lost nor sent twice. */
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
    deliver(&partner, partner.said->len);
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
    deliver(&partner, partner.said->len);
    g_assert_cmpint(stream_continue_tls(&partner.stream, soon(), soon(), &err), ==, IO_OK);
    partner_close(&partner);
    tls_server_unref(server);
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"ec.crt",  "ec.key",    "ec.pem",    "rsa.crt",  "rsa.key",
                                        "rsa.pem", "other.crt", "other.key", "other.pem"};
    g_test_init(&argc, &argv, NULL);
    folder = g_dir_make_tmp("postern-stream-XXXXXX", NULL);
    make_pair("ec", GNUTLS_PK_ECDSA, "CN=ec", "mail.example");
    make_pair("rsa", GNUTLS_PK_RSA, "CN=rsa", "mail.example");
    make_pair("other", GNUTLS_PK_ECDSA, LONG_NAME, "other.example");
    g_test_add_func("/stream/lines", test_lines);
    g_test_add_func("/stream/too long", test_too_long);
    g_test_add_func("/stream/ends", test_ends);
    g_test_add_func("/stream/output", test_output);
    g_test_add_func("/stream/injected", test_injected);
    g_test_add_func("/stream/abort", test_abort);
    g_test_add_func("/tls/ends", test_tls_ends);
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
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = in_folder(names[i]);
        g_remove(path);
    }
    g_rmdir(folder);
    g_free(folder);
    return result;
}
