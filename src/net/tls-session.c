/* net/tls-session.c - TLS sessions: handshake, records, facts
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "net/tls-internal.h"

#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/i18n.h"
#include "net/tls-credentials.h"
#include "net/tls-transport.h"

struct tls_session {
    gnutls_session_t gnutls;
    struct tls_server *server; /* NULL on the client side */
    bool peer_verified;
    /* For a handshake with a judge: */
    const struct tls_judge *judge; /* NULL: none */
    enum { UNJUDGED, ACCEPTED, REFUSED } judgement;
    struct error *reason; /* the caller's; set for REFUSED */
    struct tls_transport transport;
};

static struct tls_session *tls_new_session(unsigned flags, gnutls_priority_t priority,
                                           gnutls_certificate_credentials_t credentials, int fd,
                                           struct error *err)
{
    struct tls_session *session = calloc(1, sizeof *session);
    int result = GNUTLS_E_MEMORY_ERROR;

    if (session != NULL)
        result = gnutls_init(&session->gnutls, flags | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    if (result == 0)
        result = gnutls_priority_set(session->gnutls, priority);
    if (result == 0)
        result = gnutls_credentials_set(session->gnutls, GNUTLS_CRD_CERTIFICATE, credentials);
    if (result != 0) {
        error_set(err, "%s", gnutls_strerror(result));
        tls_session_free(session);
        return NULL;
    }
    tls_transport_attach(&session->transport, session->gnutls, fd);
    /* No timeout here: the stream keeps the deadline. */
    gnutls_handshake_set_timeout(session->gnutls, 0);
    return session;
}

/* The credentials for a host that only a wildcard covers (RFC 6125 6.4.3); NULL otherwise. */
static gnutls_certificate_credentials_t tls_session_find_wildcard(const struct tls_server *server,
                                                                  const char *host)
{
    gnutls_certificate_credentials_t found = NULL;

    for (size_t i = 0; i < server->certificate_count; i++) {
        gnutls_x509_crt_t leaf = server->leaves[i];
        if (leaf == NULL)
            continue;
        if (gnutls_x509_crt_check_hostname2(leaf, host, GNUTLS_VERIFY_DO_NOT_ALLOW_WILDCARDS))
            return NULL;
        if (found == NULL && gnutls_x509_crt_check_hostname2(leaf, host, 0))
            found = server->wildcards[i];
    }
    return found;
}

/* Of several certificates, GnuTLS chooses the one that has the very name that the client asks for (RFC 6066 3), and
 * knows no wildcards there. */
static int tls_session_heed_name(gnutls_session_t gnutls)
{
    const struct tls_session *session = gnutls_session_get_ptr(gnutls);
    char host[256];
    size_t size = sizeof host;
    unsigned type;

    if (gnutls_server_name_get(gnutls, host, &size, &type, 0) != 0 || type != GNUTLS_NAME_DNS)
        return 0;
    gnutls_certificate_credentials_t wildcard = tls_session_find_wildcard(session->server, host);
    return wildcard == NULL ? 0 : gnutls_credentials_set(gnutls, GNUTLS_CRD_CERTIFICATE, wildcard);
}

struct tls_session *tls_session_new_server(struct tls_server *server, int fd, struct error *err)
{
    static const gnutls_certificate_request_t requests[] = {
        [TLS_CLIENT_NONE] = GNUTLS_CERT_IGNORE,
        [TLS_CLIENT_REQUEST] = GNUTLS_CERT_REQUEST,
        [TLS_CLIENT_REQUIRE] = GNUTLS_CERT_REQUIRE,
    };
    struct tls_session *session =
        tls_new_session(GNUTLS_SERVER, server->priority, server->credentials, fd, err);
    if (session == NULL)
        return NULL;
    session->server = tls_server_ref(server);
    gnutls_session_set_ptr(session->gnutls, session);
    if (server->certificate_count > 1)
        gnutls_handshake_set_post_client_hello_function(session->gnutls, tls_session_heed_name);
    gnutls_certificate_server_set_request(session->gnutls, requests[server->client_certificates]);
    if (server->ticket_key != NULL)
        gnutls_session_ticket_enable_server(session->gnutls, server->ticket_key);
    return session;
}

/* Judges. */

#define CHAIN_MAX 16 /* certificates passed to a judge */

static int tls_session_judge(gnutls_session_t gnutls)
{
    struct tls_session *session = gnutls_session_get_ptr(gnutls);
    struct tls_certificate chain[CHAIN_MAX];
    unsigned count = 0;
    const gnutls_datum_t *peers = gnutls_certificate_get_peers(gnutls, &count);
    struct tls_peer peer = {.chain = chain, .session = session};

    for (; peers != NULL && peer.count < count && peer.count < CHAIN_MAX; peer.count++)
        chain[peer.count] =
            (struct tls_certificate){peers[peer.count].data, peers[peer.count].size};
    bool accepted = session->judge->accepts(session->judge->context, &peer, session->reason);
    session->judgement = accepted ? ACCEPTED : REFUSED;
    return accepted ? 0 : GNUTLS_E_CERTIFICATE_ERROR;
}

static void tls_session_explain_status(unsigned status, struct error *err)
{
    gnutls_datum_t text = {NULL, 0};

    if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) != 0)
        return;
    while (text.size > 0 && strchr(". ", text.data[text.size - 1]) != NULL)
        text.data[--text.size] = '\0';
    error_set(err, "%s", (const char *)text.data);
    gnutls_free(text.data);
}

enum tls_trust tls_peer_check(const struct tls_peer *peer, const char *name, struct error *err)
{
    unsigned status = GNUTLS_CERT_INVALID;
    int result = gnutls_certificate_verify_peers3(peer->session->gnutls, name, &status);

    if (result == 0 && status == 0)
        return TLS_TRUSTED;
    if (result != 0)
        error_set(err, "%s", gnutls_strerror(result));
    else
        tls_session_explain_status(status, err);
    status &= ~(unsigned)GNUTLS_CERT_INVALID;
    if (result == 0 && status == GNUTLS_CERT_UNEXPECTED_OWNER)
        return TLS_WRONG_NAME;
    return result == 0 && (status == GNUTLS_CERT_EXPIRED || status == GNUTLS_CERT_NOT_ACTIVATED)
               ? TLS_EXPIRED
               : TLS_NOT_TRUSTED;
}

bool tls_peer_is_modern(const struct tls_peer *peer)
{
    gnutls_protocol_t version = gnutls_protocol_get_version(peer->session->gnutls);
    return version == GNUTLS_TLS1_2 || version == GNUTLS_TLS1_3;
}

struct tls_session *tls_session_new_client(struct tls_client *client, int fd, const char *name,
                                           const struct tls_judge *judge, struct error *err)
{
    struct tls_session *session =
        tls_new_session(GNUTLS_CLIENT, client->priority, client->credentials, fd, err);
    if (session == NULL)
        return NULL;
    if (name != NULL)
        gnutls_server_name_set(session->gnutls, GNUTLS_NAME_DNS, name, strlen(name));
    if (judge != NULL) {
        session->judge = judge;
        gnutls_session_set_ptr(session->gnutls, session);
        gnutls_session_set_verify_function(session->gnutls, tls_session_judge);
    } else if (client->verify) {
        gnutls_session_set_verify_cert(session->gnutls, name, 0);
    }
    return session;
}

void tls_session_free(struct tls_session *session)
{
    if (session == NULL)
        return;
    if (session->gnutls != NULL)
        gnutls_deinit(session->gnutls);
    tls_transport_clear(&session->transport);
    tls_server_unref(session->server);
    free(session);
}

static int tls_wanted(const struct tls_session *session)
{
    return gnutls_record_get_direction(session->gnutls) == 0 &&
                   !tls_transport_has_output(&session->transport)
               ? TLS_WANT_READ
               : TLS_WANT_WRITE;
}

/* GnuTLS returns GNUTLS_E_AGAIN after some records that carry no application data. There is no need to
 * wait while the next record has been read ahead. */
static bool tls_has_more_to_see(const struct tls_session *session, ssize_t result)
{
    return result == GNUTLS_E_AGAIN && session->transport.pulled &&
           tls_transport_has_input(&session->transport);
}

/* Checks the client certificate. Also for a resumed session, whose ticket carries the certificate: the
 * CA may have changed since. */
static int tls_judge_client(struct tls_session *session, struct error *err)
{
    unsigned status = 0;
    unsigned count = 0;

    if (session->server == NULL || session->server->client_certificates == TLS_CLIENT_NONE)
        return 0;
    session->peer_verified = gnutls_certificate_get_peers(session->gnutls, &count) != NULL &&
                             gnutls_certificate_verify_peers2(session->gnutls, &status) == 0 &&
                             status == 0;
    if (session->peer_verified || session->server->client_certificates != TLS_CLIENT_REQUIRE)
        return 0;
    error_set(err, "client certificate not accepted");
    gnutls_alert_send(session->gnutls, GNUTLS_AL_FATAL, GNUTLS_A_BAD_CERTIFICATE);
    return TLS_BROKEN;
}

/* Says why a certificate was not accepted: its owner must know. */
static void tls_explain(struct tls_session *session, int result, struct error *err)
{
    if (session->judgement == REFUSED)
        return;
    error_set(err, "%s", gnutls_strerror(result));
    if (result == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
        tls_session_explain_status(gnutls_session_get_verify_cert_status(session->gnutls), err);
}

/* A peer that presents no certificate never reaches the judge, so refuse it here. */
static int tls_session_check_judged(const struct tls_session *session, struct error *err)
{
    if (session->judge == NULL || session->judgement == ACCEPTED)
        return 0;
    error_set(err, "no certificate was shown");
    gnutls_alert_send(session->gnutls, GNUTLS_AL_FATAL, GNUTLS_A_CERTIFICATE_REQUIRED);
    return TLS_BROKEN;
}

int tls_session_handshake(struct tls_session *session, bool wait, struct error *err)
{
    int result;
    session->transport.may_wait = wait;
    session->transport.holding = true;
    session->reason = err;
    do {
        session->transport.pulled = false;
        result = gnutls_handshake(session->gnutls);
    } while (result == GNUTLS_E_INTERRUPTED || result == GNUTLS_E_WARNING_ALERT_RECEIVED ||
             tls_has_more_to_see(session, result));
    session->transport.holding = false;
    if (result == 0) {
        /* Up to TLS 1.2, the peer often waits for the end of the handshake. */
        if (gnutls_protocol_get_version(session->gnutls) != GNUTLS_TLS1_3)
            tls_transport_flush(&session->transport);
        return session->server != NULL ? tls_judge_client(session, err)
                                       : tls_session_check_judged(session, err);
    }
    if (result == GNUTLS_E_AGAIN)
        return tls_wanted(session);
    if (result == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        const char *alert = gnutls_alert_get_name(gnutls_alert_get(session->gnutls));
        error_set(err, "the peer's alert: %s", alert != NULL ? alert : "unknown");
        return TLS_BROKEN;
    }
    tls_explain(session, result, err);
    gnutls_alert_send_appropriate(session->gnutls, result);
    return TLS_BROKEN;
}

/* Any other result breaks the session, including renegotiation (GNUTLS_E_REHANDSHAKE). */
static ssize_t tls_outcome(const struct tls_session *session, ssize_t result)
{
    if (result >= 0)
        return result;
    return result == GNUTLS_E_AGAIN || result == GNUTLS_E_INTERRUPTED ? tls_wanted(session)
                                                                      : TLS_BROKEN;
}

ssize_t tls_session_receive(struct tls_session *session, char *bytes, size_t len, bool wait)
{
    ssize_t result;
    session->transport.may_wait = wait;
    do {
        session->transport.pulled = false;
        result = gnutls_record_recv(session->gnutls, bytes, len);
    } while (tls_has_more_to_see(session, result));
    return tls_outcome(session, result);
}

ssize_t tls_session_send(struct tls_session *session, const char *bytes, size_t len)
{
    return tls_outcome(session, gnutls_record_send(session->gnutls, bytes, len));
}

void tls_session_cork(struct tls_session *session)
{
    gnutls_record_cork(session->gnutls);
}

int tls_session_uncork(struct tls_session *session)
{
    int result = gnutls_record_uncork(session->gnutls, 0);
    return result >= 0 ? 0 : (int)tls_outcome(session, result);
}

bool tls_session_has_pending(const struct tls_session *session)
{
    return gnutls_record_check_pending(session->gnutls) > 0 ||
           tls_transport_has_input(&session->transport);
}

static const char *tls_version_name(gnutls_protocol_t version)
{
    switch (version) {
    case GNUTLS_TLS1_3:
        return "TLSv1.3";
    case GNUTLS_TLS1_2:
        return "TLSv1.2";
    case GNUTLS_TLS1_1:
        return "TLSv1.1";
    case GNUTLS_TLS1_0:
        return "TLSv1";
    default:
        return "unknown";
    }
}

static const char *tls_cipher_name(gnutls_session_t session)
{
#if GNUTLS_VERSION_NUMBER >= 0x030704
    const char *name = gnutls_ciphersuite_get(session); /* as IANA registers it */
#else
    const char *name = gnutls_cipher_get_name(gnutls_cipher_get(session));
#endif
    return name != NULL ? name : "unknown";
}

static void tls_peer_subject(gnutls_session_t session, char *out, size_t size)
{
    unsigned count = 0;
    const gnutls_datum_t *raw = gnutls_certificate_get_peers(session, &count);
    gnutls_x509_crt_t certificate;
    gnutls_datum_t name;

    if (raw == NULL || count == 0 || gnutls_x509_crt_init(&certificate) != 0)
        return;
    if (gnutls_x509_crt_import(certificate, &raw[0], GNUTLS_X509_FMT_DER) == 0 &&
        gnutls_x509_crt_get_dn2(certificate, &name) == 0) {
        snprintf(out, size, "%.*s", (int)name.size, (const char *)name.data);
        gnutls_free(name.data);
    }
    gnutls_x509_crt_deinit(certificate);
}

void tls_session_info(const struct tls_session *session, struct tls_info *info)
{
    memset(info, 0, sizeof *info);
    snprintf(info->version, sizeof info->version, "%s",
             tls_version_name(gnutls_protocol_get_version(session->gnutls)));
    snprintf(info->cipher, sizeof info->cipher, "%s", tls_cipher_name(session->gnutls));
    info->resumed = gnutls_session_is_resumed(session->gnutls) != 0;
    info->peer_verified = session->peer_verified;
    if (session->server != NULL)
        tls_peer_subject(session->gnutls, info->peer_subject, sizeof info->peer_subject);
}

const char *tls_session_refusal(const struct tls_session *session)
{
    gnutls_alert_description_t alert = gnutls_alert_get(session->gnutls);
    return alert != GNUTLS_A_CLOSE_NOTIFY ? gnutls_alert_get_name(alert) : NULL;
}

void tls_session_bye(struct tls_session *session)
{
    gnutls_bye(session->gnutls, GNUTLS_SHUT_WR);
}
