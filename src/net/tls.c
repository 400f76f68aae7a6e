/* net/tls.c - TLS credentials by GnuTLS, for the server side and for next hops
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "net/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/i18n.h"
#include "net/tls-credentials.h"

#define PRIORITY_MAX 1024

/* Two keys: a ticket given to a client without a certificate must not exempt it after a reload that
 * demands one. */
struct tls_tickets {
    gnutls_datum_t key;
    gnutls_datum_t key_for_require;
};

struct tls_tickets *tls_tickets_new(struct error *err)
{
    struct tls_tickets *tickets = calloc(1, sizeof *tickets);
    if (tickets != NULL && gnutls_session_ticket_key_generate(&tickets->key) == 0 &&
        gnutls_session_ticket_key_generate(&tickets->key_for_require) == 0)
        return tickets;
    error_set(err, _("cannot create a key for TLS session tickets"));
    tls_tickets_free(tickets);
    return NULL;
}

static void tls_forget_key(gnutls_datum_t *key)
{
    if (key->data != NULL)
        gnutls_memset(key->data, 0, key->size);
    gnutls_free(key->data);
}

void tls_tickets_free(struct tls_tickets *tickets)
{
    if (tickets == NULL)
        return;
    tls_forget_key(&tickets->key);
    tls_forget_key(&tickets->key_for_require);
    free(tickets);
}

static bool tls_is_given(const char *file)
{
    return file != NULL && file[0] != '\0';
}

static int tls_files_add(struct tls_files *files, const char *path, struct error *err)
{
    struct stat st;
    if (!tls_is_given(path))
        return 0;
    struct tls_file *items = realloc(files->items, (files->count + 1) * sizeof *items);
    if (items == NULL) {
        error_set(err, _("out of memory"));
        return -1;
    }
    files->items = items;
    if (stat(path, &st) != 0) {
        error_set(err, _("%s: %s"), path, strerror(errno));
        return -1;
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        error_set(err, _("out of memory"));
        return -1;
    }
    items[files->count++] = (struct tls_file){copy, st.st_mtim, st.st_size, st.st_ino};
    return 0;
}

static bool tls_files_changed(const struct tls_files *files)
{
    struct stat st;
    for (size_t i = 0; i < files->count; i++) {
        const struct tls_file *file = &files->items[i];
        /* A missing file is probably being replaced: the next check will tell. */
        if (stat(file->path, &st) == 0 && (st.st_mtim.tv_sec != file->changed.tv_sec ||
                                           st.st_mtim.tv_nsec != file->changed.tv_nsec ||
                                           st.st_size != file->size || st.st_ino != file->inode))
            return true;
    }
    return false;
}

static void tls_files_free(struct tls_files *files)
{
    for (size_t i = 0; i < files->count; i++)
        free(files->items[i].path);
    free(files->items);
}

/* The file with the pair's key. */
static const char *tls_key_of(const struct tls_pair *pair)
{
    return tls_is_given(pair->key) ? pair->key : pair->cert;
}

static int tls_load_pair(struct tls_server *server, const struct tls_pair *pair, struct error *err)
{
    const char *key = tls_key_of(pair);

    if (tls_files_add(&server->files, pair->cert, err) != 0 ||
        (key != pair->cert && tls_files_add(&server->files, key, err) != 0))
        return -1;
    int result = gnutls_certificate_set_x509_key_file2(server->credentials, pair->cert, key,
                                                       GNUTLS_X509_FMT_PEM, NULL, 0);
    if (result >= 0)
        return 0;
    if (result == GNUTLS_E_DECRYPTION_FAILED)
        error_set(err, _("the key %s is encrypted: openssl pkey -in %s -out %s.plain"), key, key,
                  key);
    else
        error_set(err, _("cannot load the certificate %s with the key %s: %s"), pair->cert, key,
                  gnutls_strerror(result));
    return -1;
}

/* The name that people know it by. */
static void tls_certificate_name(gnutls_x509_crt_t certificate, char *out, size_t size)
{
    size_t len = size;

    if (gnutls_x509_crt_get_subject_alt_name(certificate, 0, out, &len, NULL) == GNUTLS_SAN_DNSNAME)
        return;
    len = size;
    if (gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, out, &len) <
        0)
        snprintf(out, size, "?");
}

/* Reads the first certificate of pair `index`, and its facts. */
static void tls_certificate_read(struct tls_server *server, unsigned index,
                                 struct tls_server_certificate *out)
{
    gnutls_datum_t raw;
    gnutls_x509_crt_t certificate;

    strcpy(out->name, "?");
    if (gnutls_certificate_get_crt_raw(server->credentials, index, 0, &raw) != 0 ||
        gnutls_x509_crt_init(&certificate) != 0)
        return;
    if (gnutls_x509_crt_import(certificate, &raw, GNUTLS_X509_FMT_DER) != 0) {
        gnutls_x509_crt_deinit(certificate);
        return;
    }
    out->expiry = gnutls_x509_crt_get_expiration_time(certificate);
    tls_certificate_name(certificate, out->name, sizeof out->name);
    server->leaves[index] = certificate;
}

/* Finds the list's own copy of `path`, which lives as long as the server. */
static const char *tls_files_find(const struct tls_files *files, const char *path)
{
    for (size_t i = 0; i < files->count; i++) {
        if (strcmp(files->items[i].path, path) == 0)
            return files->items[i].path;
    }
    return "?";
}

static int tls_load_pairs(struct tls_server *server, const struct tls_server_config *config,
                          struct error *err)
{
    server->certificates = calloc(config->pair_count + 1, sizeof *server->certificates);
    server->leaves = calloc(config->pair_count + 1, sizeof *server->leaves);
    server->wildcards = calloc(config->pair_count + 1, sizeof *server->wildcards);
    if (server->certificates == NULL || server->leaves == NULL || server->wildcards == NULL) {
        error_set(err, _("out of memory"));
        return -1;
    }
    for (size_t i = 0; i < config->pair_count; i++) {
        if (tls_load_pair(server, &config->pairs[i], err) != 0)
            return -1;
        struct tls_server_certificate *certificate =
            &server->certificates[server->certificate_count++];
        certificate->file = tls_files_find(&server->files, config->pairs[i].cert);
        tls_certificate_read(server, (unsigned)i, certificate);
    }
    return 0;
}

static int tls_load_ca(struct tls_server *server, const char *ca_file, struct error *err)
{
    if (!tls_is_given(ca_file))
        return 0;
    if (tls_files_add(&server->files, ca_file, err) != 0)
        return -1;
    int count =
        gnutls_certificate_set_x509_trust_file(server->credentials, ca_file, GNUTLS_X509_FMT_PEM);
    if (count > 0)
        return 0;
    error_set(err, _("%s holds no CA certificate in PEM form"), ca_file);
    return -1;
}

/* Takes the DER element with this tag at *at, stores its value, and moves *at past it (X.690 8.1). */
static bool tls_der_take(const unsigned char **at, const unsigned char *end, unsigned char tag,
                         gnutls_datum_t *value)
{
    size_t len;

    if (end - *at < 2 || **at != tag)
        return false;
    len = (*at)[1];
    *at += 2;
    if (len >= 0x80) {
        size_t octets = len & 0x7f;
        if (octets > 3 || octets > (size_t)(end - *at))
            return false;
        for (len = 0; octets > 0; octets--)
            len = len << 8 | *(*at)++;
    }
    if (len > (size_t)(end - *at))
        return false;
    *value = (gnutls_datum_t){(unsigned char *)*at, (unsigned)len};
    *at += len;
    return true;
}

/* Imports parameters as "openssl dhparam -dsaparam" writes them: prime, generator and more (RFC 3279
 * 2.3.3). GnuTLS does not read that form. */
static int tls_import_x942(gnutls_dh_params_t dh, const gnutls_datum_t *pem)
{
    gnutls_datum_t der = {0}, sequence, prime, generator;
    int result = gnutls_pem_base64_decode2("X9.42 DH PARAMETERS", pem, &der);

    if (result != 0)
        return result;
    const unsigned char *at = der.data, *inner;
    bool good = tls_der_take(&at, der.data + der.size, 0x30, &sequence);
    inner = good ? sequence.data : at;
    good = good && tls_der_take(&inner, sequence.data + sequence.size, 0x02, &prime) &&
           tls_der_take(&inner, sequence.data + sequence.size, 0x02, &generator);
    result = good ? gnutls_dh_params_import_raw(dh, &prime, &generator) : GNUTLS_E_ASN1_DER_ERROR;
    gnutls_free(der.data);
    return result;
}

/* The parameters that were loaded, or well-known ones (RFC 7919). */
static int tls_use_dh(const struct tls_server *server, gnutls_certificate_credentials_t credentials)
{
    if (server->dh == NULL)
        return gnutls_certificate_set_known_dh_params(credentials, GNUTLS_SEC_PARAM_MEDIUM);
    gnutls_certificate_set_dh_params(credentials, server->dh);
    return 0;
}

static int tls_load_dh(struct tls_server *server, const char *file, struct error *err)
{
    gnutls_datum_t pem = {0};

    if (!tls_is_given(file))
        return tls_use_dh(server, server->credentials);
    if (tls_files_add(&server->files, file, err) != 0)
        return -1;
    int result = gnutls_load_file(file, &pem);
    if (result == 0 && (result = gnutls_dh_params_init(&server->dh)) == 0) {
        result = gnutls_dh_params_import_pkcs3(server->dh, &pem, GNUTLS_X509_FMT_PEM);
        if (result != 0 && tls_import_x942(server->dh, &pem) == 0)
            result = 0;
    }
    gnutls_free(pem.data);
    if (result != 0) {
        error_set(err, _("%s holds no DH parameters in PEM form: %s"), file,
                  gnutls_strerror(result));
        return -1;
    }
    return tls_use_dh(server, server->credentials);
}

/* Has `leaf` a wildcard, and does `other` cover all that its wildcards do? */
static bool tls_covers_wildcards(gnutls_x509_crt_t other, gnutls_x509_crt_t leaf)
{
    bool found = false;
    char name[256];
    int type = 0;

    for (unsigned i = 0; type >= 0 || type == GNUTLS_E_SHORT_MEMORY_BUFFER; i++) {
        size_t size = sizeof name;
        type = gnutls_x509_crt_get_subject_alt_name(leaf, i, name, &size, NULL);
        if (type != GNUTLS_SAN_DNSNAME || strncmp(name, "*.", 2) != 0)
            continue;
        found = true;
        name[0] = '_'; /* a label that no host's own certificate has */
        if (gnutls_x509_crt_check_hostname2(other, name, 0) == 0)
            return false;
    }
    return found;
}

/* Makes the credentials for the wildcards of pair `index`: with each pair that serves them too, in order, as they
 * may have different types of keys. */
static int tls_load_wildcard(struct tls_server *server, const struct tls_server_config *config,
                             size_t index)
{
    gnutls_certificate_credentials_t *made = &server->wildcards[index];
    int result = gnutls_certificate_allocate_credentials(made);

    for (size_t i = 0; i < server->certificate_count && result >= 0; i++) {
        if (server->leaves[i] != NULL &&
            tls_covers_wildcards(server->leaves[i], server->leaves[index]))
            result = gnutls_certificate_set_x509_key_file2(*made, config->pairs[i].cert,
                                                           tls_key_of(&config->pairs[i]),
                                                           GNUTLS_X509_FMT_PEM, NULL, 0);
    }
    if (result >= 0 && tls_is_given(config->ca_file))
        result =
            gnutls_certificate_set_x509_trust_file(*made, config->ca_file, GNUTLS_X509_FMT_PEM);
    return result >= 0 ? tls_use_dh(server, *made) : result;
}

/* A single pair is presented to everybody anyway. */
static int tls_load_wildcards(struct tls_server *server, const struct tls_server_config *config,
                              struct error *err)
{
    for (size_t i = 0; i < server->certificate_count && server->certificate_count > 1; i++) {
        gnutls_x509_crt_t leaf = server->leaves[i];
        int result = leaf != NULL && tls_covers_wildcards(leaf, leaf)
                         ? tls_load_wildcard(server, config, i)
                         : 0;
        if (result < 0) {
            error_set(err, _("cannot set up TLS: %s"), gnutls_strerror(result));
            return -1;
        }
    }
    return 0;
}

/* NORMAL also contains DTLS versions, which do not count over TCP. */
static bool tls_has_version(gnutls_priority_t priority)
{
    const unsigned *versions;
    int count = gnutls_priority_protocol_list(priority, &versions);

    for (int i = 0; i < count; i++) {
        if (versions[i] >= GNUTLS_TLS1_0 && versions[i] < GNUTLS_DTLS_VERSION_MIN)
            return true;
    }
    return false;
}

/* How much to show of the text from `position` on: only what the operator wrote in `priority`. */
static int tls_shown_length(const char *priority, const char *text, const char *position)
{
    size_t from = position != NULL ? (size_t)(position - text) : 0, len = strlen(priority);
    return from < len ? (int)(len - from) : 0;
}

static int tls_init_priority(gnutls_priority_t *out, const char *priority,
                             enum tls_minimum_version minimum, struct error *err)
{
    static const char *const below[] = {
        [TLS_MIN_1_0] = "",
        [TLS_MIN_1_1] = ":-VERS-TLS1.0",
        [TLS_MIN_1_2] = ":-VERS-TLS1.0:-VERS-TLS1.1",
        [TLS_MIN_1_3] = ":-VERS-TLS1.0:-VERS-TLS1.1:-VERS-TLS1.2",
    };
    char text[PRIORITY_MAX];
    const char *position = NULL;

    int len = snprintf(text, sizeof text, "%s%s", priority, below[minimum]);
    if (len < 0 || (size_t)len >= sizeof text) { /* truncated, it would lose the minimum version */
        error_set(err, _("the TLS priority string is too long (%zu octets)"), strlen(priority));
        return -1;
    }
    int result = gnutls_priority_init(out, text, &position);
    if (result == 0 && tls_has_version(*out))
        return 0;
    if (result == 0 || result == GNUTLS_E_NO_PRIORITIES_WERE_SET)
        error_set(err, _("the TLS priority string \"%s\" leaves no version of TLS"), priority);
    else
        error_set(err, _("bad TLS priority string at \"%.*s\": %s"),
                  tls_shown_length(priority, text, position), position != NULL ? position : text,
                  gnutls_strerror(result));
    return -1;
}

int tls_check_priority(const char *priority, enum tls_minimum_version minimum, struct error *err)
{
    gnutls_priority_t made = NULL;
    int result = tls_init_priority(&made, priority, minimum, err);
    if (made != NULL)
        gnutls_priority_deinit(made);
    return result;
}

int tls_certificate_covers(const char *file, const char *hostname)
{
    gnutls_datum_t pem = {0};
    gnutls_x509_crt_t certificate = NULL;
    int covers = -1;

    if (gnutls_load_file(file, &pem) == 0 && gnutls_x509_crt_init(&certificate) == 0 &&
        gnutls_x509_crt_import(certificate, &pem, GNUTLS_X509_FMT_PEM) == 0)
        covers = gnutls_x509_crt_check_hostname(certificate, hostname) != 0;
    if (certificate != NULL)
        gnutls_x509_crt_deinit(certificate);
    gnutls_free(pem.data);
    return covers;
}

struct tls_server *tls_server_new(const struct tls_server_config *config,
                                  const struct tls_tickets *tickets, struct error *err)
{
    struct tls_server *server = calloc(1, sizeof *server);

    if (server == NULL || gnutls_certificate_allocate_credentials(&server->credentials) != 0) {
        error_set(err, _("out of memory"));
        free(server);
        return NULL;
    }
    atomic_init(&server->references, 1);
    server->client_certificates = config->client_certificates;
    if (tickets != NULL)
        server->ticket_key = config->client_certificates == TLS_CLIENT_REQUIRE
                                 ? &tickets->key_for_require
                                 : &tickets->key;
    if (tls_init_priority(&server->priority, config->priority, config->minimum_version, err) == 0 &&
        tls_load_pairs(server, config, err) == 0 &&
        tls_load_ca(server, config->ca_file, err) == 0 &&
        tls_load_dh(server, config->dh_params, err) == 0 &&
        tls_load_wildcards(server, config, err) == 0)
        return server;
    tls_server_unref(server);
    return NULL;
}

struct tls_server *tls_server_ref(struct tls_server *server)
{
    atomic_fetch_add(&server->references, 1);
    return server;
}

void tls_server_unref(struct tls_server *server)
{
    if (server == NULL || atomic_fetch_sub(&server->references, 1) != 1)
        return;
    gnutls_certificate_free_credentials(server->credentials);
    if (server->priority != NULL)
        gnutls_priority_deinit(server->priority);
    if (server->dh != NULL)
        gnutls_dh_params_deinit(server->dh);
    tls_files_free(&server->files);
    for (size_t i = 0; i < server->certificate_count; i++) {
        if (server->leaves[i] != NULL)
            gnutls_x509_crt_deinit(server->leaves[i]);
        if (server->wildcards[i] != NULL)
            gnutls_certificate_free_credentials(server->wildcards[i]);
    }
    free(server->leaves);
    free(server->wildcards);
    free(server->certificates);
    free(server);
}

bool tls_server_files_changed(const struct tls_server *server)
{
    return tls_files_changed(&server->files);
}

bool tls_client_files_changed(const struct tls_client *client)
{
    return tls_files_changed(&client->files);
}

size_t tls_server_certificates(const struct tls_server *server,
                               const struct tls_server_certificate **certificates)
{
    *certificates = server->certificates;
    return server->certificate_count;
}

/* Remembers the files' state before they are read, so that a later change is noticed. */
static int tls_client_add_files(struct tls_client *client, const struct tls_client_config *config,
                                struct error *err)
{
    if (config->verify && tls_files_add(&client->files, config->ca_file, err) != 0)
        return -1;
    if (!tls_is_given(config->pair.cert))
        return 0;
    return tls_files_add(&client->files, config->pair.cert, err) == 0
               ? tls_files_add(&client->files, config->pair.key, err)
               : -1;
}

struct tls_client *tls_client_new(const struct tls_client_config *config, struct error *err)
{
    struct tls_client *client = calloc(1, sizeof *client);
    const char *priority = config->priority != NULL ? config->priority : "NORMAL" TLS_ORDER;
    int result = GNUTLS_E_MEMORY_ERROR;

    if (client != NULL)
        result = gnutls_certificate_allocate_credentials(&client->credentials);
    if (result == 0)
        result = gnutls_priority_init(&client->priority, priority, NULL);
    if (result == 0 && tls_client_add_files(client, config, err) != 0) {
        tls_client_free(client);
        return NULL;
    }
    if (result == 0 && config->verify) {
        client->verify = true;
        result = tls_is_given(config->ca_file)
                     ? gnutls_certificate_set_x509_trust_file(client->credentials, config->ca_file,
                                                              GNUTLS_X509_FMT_PEM)
                     : gnutls_certificate_set_x509_system_trust(client->credentials);
    }
    if (result >= 0 && tls_is_given(config->pair.cert))
        result = gnutls_certificate_set_x509_key_file(
            client->credentials, config->pair.cert, tls_key_of(&config->pair), GNUTLS_X509_FMT_PEM);
    if (result >= 0)
        return client;
    error_set(err, _("cannot set up TLS: %s"), gnutls_strerror(result));
    tls_client_free(client);
    return NULL;
}

void tls_client_free(struct tls_client *client)
{
    if (client == NULL)
        return;
    if (client->credentials != NULL)
        gnutls_certificate_free_credentials(client->credentials);
    if (client->priority != NULL)
        gnutls_priority_deinit(client->priority);
    tls_files_free(&client->files);
    free(client);
}
