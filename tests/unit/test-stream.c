/* tests/unit/test-stream.c - net/stream and net/tls
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <arpa/inet.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
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

/* TLS: a server stream here, a client stream on a thread of its own. */
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

static void make_pair(const char *name, gnutls_pk_algorithm_t algorithm, unsigned bits)
{
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
    gnutls_x509_crt_set_dn(crt, "CN=mail.example", NULL);
    gnutls_x509_crt_set_activation_time(crt, time(NULL) - 3600);
    gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 86400);
    gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, "mail.example", 12, 0);
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
                                      enum tls_client_certificates request, struct error *err)
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
    return tls_server_new(&config, NULL, err);
}

struct visitor {
    int fd;
    const char *text;
    enum { VISIT_CLOSE, VISIT_ABORT, VISIT_CUT, VISIT_SILENT } end;
    bool verify;
    const char *name;
    enum io_result result;
};

static void *visit(void *argument)
{
    struct visitor *visitor = argument;
    struct stream stream;
    struct stream_buffers buffers;
    struct error err;
    g_autofree char *ca = in_folder("ec.crt");
    struct tls_client_config config = {.verify = visitor->verify, .ca_file = visitor->verify ? ca : NULL};
    struct tls_client *client = tls_client_new(&config, &err);
    stream_buffers_init(&buffers, 4096, 4096);
    stream_init(&stream, visitor->fd);
    stream_lend(&stream, &buffers);
    if (visitor->end == VISIT_SILENT) {
        g_usleep(300000);
    } else {
        visitor->result = stream_start_tls_client(&stream, client, visitor->name,
                                                  deadline_in_ms(5000), &err);
        if (visitor->result == IO_OK && visitor->text != NULL) {
            stream_put(&stream, visitor->text, strlen(visitor->text), deadline_in_ms(1000));
            stream_flush(&stream, deadline_in_ms(1000));
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
    *handshake = stream_start_tls_server(&stream, server,
                                         deadline_in_ms(visitor->end == VISIT_SILENT ? 100 : 5000), &err);
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
    struct tls_server *server = server_with("ec.crt", "ec.key", TLS_CLIENT_NONE, &err);
    struct tls_info info;
    enum io_result handshake;
    g_assert_cmpstr(err.text, ==, "");
    struct visitor orderly = {.text = "hello\r\nworld\r\n", .end = VISIT_CLOSE, .verify = true,
                              .name = "mail.example"};
    g_assert_cmpint(meet(server, &orderly, &handshake, &info), ==, IO_EOF);
    g_assert_cmpstr(info.version, ==, "TLSv1.3");
    g_assert_cmpstr(info.cipher, ==, "TLS_AES_256_GCM_SHA384");
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
    struct tls_server *request = server_with("ec.pem", NULL, TLS_CLIENT_REQUEST, &err);
    g_assert_cmpstr(err.text, ==, "");
    struct visitor without = {.text = "hello\r\n"};
    meet(request, &without, &handshake, &info);
    g_assert_cmpint(handshake, ==, IO_OK);
    g_assert_cmpstr(info.peer_subject, ==, "");
    g_assert_false(info.peer_verified);
    tls_server_unref(request);
    struct tls_server *require = server_with("ec.pem", NULL, TLS_CLIENT_REQUIRE, &err);
    struct visitor refused = {.text = "hello\r\n"};
    meet(require, &refused, &handshake, &info);
    g_assert_cmpint(handshake, ==, IO_FAILED);
    tls_server_unref(require);
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
        g_assert_null(server_with(cases[i].cert, cases[i].key, TLS_CLIENT_NONE, &err));
        g_test_message("%s", err.text);
        g_assert_true(strstr(err.text, cases[i].part) != NULL);
    }
}

static void test_tls_files_changed(void)
{
    struct error err = {""};
    struct tls_server *server = server_with("rsa.crt", "rsa.key", TLS_CLIENT_NONE, &err);
    g_assert_nonnull(server);
    g_assert_false(tls_server_files_changed(server));
    g_assert_cmpint(tls_server_expiry(server), >, time(NULL) + 80000);
    make_pair("rsa", GNUTLS_PK_RSA, 2048);
    g_assert_true(tls_server_files_changed(server));
    tls_server_unref(server);
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"ec.crt", "ec.key", "ec.pem", "rsa.crt", "rsa.key", "rsa.pem"};
    g_test_init(&argc, &argv, NULL);
    folder = g_dir_make_tmp("postern-stream-XXXXXX", NULL);
    make_pair("ec", GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1));
    make_pair("rsa", GNUTLS_PK_RSA, 2048);
    g_test_add_func("/stream/lines", test_lines);
    g_test_add_func("/stream/too long", test_too_long);
    g_test_add_func("/stream/ends", test_ends);
    g_test_add_func("/stream/output", test_output);
    g_test_add_func("/stream/injected", test_injected);
    g_test_add_func("/tls/ends", test_tls_ends);
    g_test_add_func("/tls/client certificates", test_tls_client_certificates);
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
