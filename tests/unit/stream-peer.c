/* tests/unit/stream-peer.c - the other end of a stream: sockets, certificates, clients by GnuTLS
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "stream-peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <gnutls/x509.h>
#include <linux/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LONG_NAME                                                                                  \
    "CN=other,OU=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,"                    \
    "OU=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb,"                             \
    "OU=cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc,"                             \
    "OU=dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd,"                             \
    "OU=eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"

static char *folder;

struct deadline soon(void)
{
    return deadline_in_ms(50);
}

void tcp_pair(int fds[2])
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
    for (int i = 0; i < 2; i++) {
        const int one = 1;
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
}

void unix_pair(int fds[2])
{
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
}

unsigned segments_sent(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    g_assert_cmpint(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), ==, 0);
    return info.tcpi_data_segs_out;
}

char *certificates_path(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

static void save(const char *name, const gnutls_datum_t *one, const gnutls_datum_t *two)
{
    g_autofree char *path = certificates_path(name);
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

void certificates_renew_rsa(void)
{
    make_pair("rsa", GNUTLS_PK_RSA, "CN=rsa", "mail.example");
}

void certificates_open(void)
{
    folder = g_dir_make_tmp("postern-tls-XXXXXX", NULL);
    g_assert_nonnull(folder);
    make_pair("ec", GNUTLS_PK_ECDSA, "CN=ec", "mail.example");
    make_pair("other", GNUTLS_PK_ECDSA, LONG_NAME, "other.example");
    make_pair("one", GNUTLS_PK_ECDSA, "CN=one", "x.wild.example");
    make_pair("wild-ec", GNUTLS_PK_ECDSA, "CN=wild-ec", "*.wild.example");
    make_pair("wild-rsa", GNUTLS_PK_RSA, "CN=wild-rsa", "*.wild.example");
    certificates_renew_rsa();
}

void certificates_close(void)
{
    static const char *const names[] = {
        "ec.crt",       "ec.key",       "ec.pem",      "rsa.crt",     "rsa.key",
        "rsa.pem",      "other.crt",    "other.key",   "other.pem",   "one.crt",
        "one.key",      "one.pem",      "wild-ec.crt", "wild-ec.key", "wild-ec.pem",
        "wild-rsa.crt", "wild-rsa.key", "wild-rsa.pem"};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = certificates_path(names[i]);
        g_remove(path);
    }
    g_rmdir(folder);
    g_free(folder);
}

struct tls_server *server_with(const char *cert, const char *key,
                               enum tls_client_certificates request,
                               const struct tls_tickets *tickets, struct error *err)
{
    g_autofree char *cert_path = certificates_path(cert);
    g_autofree char *key_path = key != NULL ? certificates_path(key) : NULL;
    g_autofree char *ca_path = certificates_path("ec.crt");
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

static gnutls_session_t caller_session(struct caller *caller,
                                       gnutls_certificate_credentials_t *credentials)
{
    gnutls_session_t session;
    gnutls_certificate_allocate_credentials(credentials);
    if (caller->certificate != NULL) {
        g_autofree char *path = certificates_path(caller->certificate);
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

void *caller_run(void *argument)
{
    struct caller *caller = argument;
    gnutls_certificate_credentials_t credentials;
    gnutls_session_t session = caller_session(caller, &credentials);
    ssize_t got;
    if (gnutls_handshake(session) == 0) {
        note_subject(caller, session);
        do { /* TLS 1.3 tickets come first */
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

void partner_open(struct partner *partner, const int fds[2], const char *priority)
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

void partner_close(struct partner *partner)
{
    stream_close(&partner->stream);
    stream_buffers_free(&partner->buffers);
    gnutls_deinit(partner->session);
    gnutls_certificate_free_credentials(partner->credentials);
    g_byte_array_free(partner->said, TRUE);
    close(partner->fd);
}

void partner_deliver(struct partner *partner, size_t len)
{
    g_assert_cmpint(write(partner->fd, partner->said->data, len), ==, (gssize)len);
    g_byte_array_remove_range(partner->said, 0, (guint)len);
}

void partner_say(struct partner *partner, const char *text, size_t len)
{
    g_assert_cmpint(gnutls_record_send(partner->session, text, len), ==, (gssize)len);
}

void partner_meet(struct partner *partner, struct tls_server *server)
{
    struct error err = {""};
    int theirs = GNUTLS_E_AGAIN;
    enum io_result ours = IO_TIMEOUT;
    g_assert_cmpint(stream_begin_tls_server(&partner->stream, server, &err), ==, IO_OK);
    for (int i = 0; i < 10 && (theirs != 0 || ours != IO_OK); i++) {
        if (theirs == GNUTLS_E_AGAIN)
            theirs = gnutls_handshake(partner->session);
        partner_deliver(partner, partner->said->len);
        if (ours == IO_TIMEOUT)
            ours = stream_continue_tls(&partner->stream, soon(), soon(), &err);
    }
    g_assert_cmpint(theirs, ==, 0);
    g_assert_cmpint(ours, ==, IO_OK);
}
