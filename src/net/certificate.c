/* net/certificate.c - reads the facts of a certificate file: dates, names, key, chain
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "net/certificate.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base/i18n.h"

static void certificate_read_names(struct certificate *certificate, gnutls_x509_crt_t leaf)
{
    char name[CERTIFICATE_NAME_MAX];

    certificate->names = calloc(CERTIFICATE_NAMES_MAX, sizeof *certificate->names);
    for (unsigned i = 0;
         certificate->names != NULL && certificate->name_count < CERTIFICATE_NAMES_MAX; i++) {
        size_t size = sizeof name;
        int type = gnutls_x509_crt_get_subject_alt_name(leaf, i, name, &size, NULL);
        if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            break;
        if (type == GNUTLS_SAN_DNSNAME && size > 0)
            memcpy(certificate->names[certificate->name_count++], name, sizeof name);
    }
}

/* Copies the DER of each certificate, so that the list can be freed. */
static int certificate_keep_chain(struct certificate *certificate, const gnutls_x509_crt_t *list,
                                  unsigned count)
{
    for (unsigned i = 0; i < count && i < CERTIFICATE_CHAIN_MAX; i++) {
        gnutls_datum_t der;
        int result = gnutls_x509_crt_export2(list[i], GNUTLS_X509_FMT_DER, &der);
        if (result != 0)
            return result;
        unsigned char *copy = malloc(der.size);
        if (copy != NULL)
            memcpy(copy, der.data, der.size);
        certificate->chain[i] = (struct tls_certificate){.der = copy, .len = der.size};
        gnutls_free(der.data);
        if (copy == NULL)
            return GNUTLS_E_MEMORY_ERROR;
        certificate->chain_count++;
    }
    return 0;
}

static enum certificate_chain certificate_judge(gnutls_x509_crt_t *list, unsigned count)
{
    gnutls_x509_trust_list_t trusted;
    unsigned status = 0;

    for (unsigned i = 0; i + 1 < count; i++) {
        if (gnutls_x509_crt_check_issuer(list[i], list[i + 1]) == 0)
            return CERTIFICATE_UNORDERED;
    }
    if (gnutls_x509_crt_check_issuer(list[0], list[0]) != 0)
        return CERTIFICATE_SELF_SIGNED;
    if (gnutls_x509_trust_list_init(&trusted, 0) != 0)
        return CERTIFICATE_INCOMPLETE;
    gnutls_x509_trust_list_add_system_trust(trusted, 0, 0);
    /* The callers check the dates themselves. */
    int result = gnutls_x509_trust_list_verify_crt(
        trusted, list, count, GNUTLS_VERIFY_DISABLE_TIME_CHECKS, &status, NULL);
    gnutls_x509_trust_list_deinit(trusted, 1);
    return result == 0 && status == 0 ? CERTIFICATE_TRUSTED : CERTIFICATE_INCOMPLETE;
}

static int certificate_take(struct certificate *certificate, gnutls_x509_crt_t *list,
                            unsigned count)
{
    int algorithm = gnutls_x509_crt_get_pk_algorithm(list[0], &certificate->key_bits);
    const char *key = algorithm >= 0 ? gnutls_pk_get_name((gnutls_pk_algorithm_t)algorithm) : NULL;

    certificate->not_before = gnutls_x509_crt_get_activation_time(list[0]);
    certificate->not_after = gnutls_x509_crt_get_expiration_time(list[0]);
    certificate->key = algorithm == GNUTLS_PK_ECDSA ? "ECDSA" : key != NULL ? key : "?";
    certificate->state = certificate_judge(list, count);
    certificate_read_names(certificate, list[0]);
    return certificate_keep_chain(certificate, list, count);
}

int certificate_read(struct certificate *certificate, const char *file, struct error *err)
{
    gnutls_datum_t pem = {NULL, 0};
    gnutls_x509_crt_t *list = NULL;
    unsigned count = 0;

    *certificate = (struct certificate){0};
    int result = gnutls_load_file(file, &pem);
    if (result == 0)
        result = gnutls_x509_crt_list_import2(&list, &count, &pem, GNUTLS_X509_FMT_PEM, 0);
    if (result >= 0 && count > 0)
        result = certificate_take(certificate, list, count);
    for (unsigned i = 0; i < count; i++)
        gnutls_x509_crt_deinit(list[i]);
    gnutls_free(list);
    gnutls_free(pem.data);
    if (result >= 0)
        return 0;
    error_set(err, "%s: %s", file, gnutls_strerror(result));
    certificate_clear(certificate);
    return -1;
}

void certificate_clear(struct certificate *certificate)
{
    for (size_t i = 0; i < certificate->chain_count; i++)
        free((void *)certificate->chain[i].der);
    free(certificate->names);
    *certificate = (struct certificate){0};
}

bool certificate_covers(const struct certificate *certificate, const char *host)
{
    const gnutls_datum_t der = {(unsigned char *)certificate->chain[0].der,
                                (unsigned)certificate->chain[0].len};
    gnutls_x509_crt_t leaf;
    bool covers = false;

    if (certificate->chain_count == 0 || gnutls_x509_crt_init(&leaf) != 0)
        return false;
    if (gnutls_x509_crt_import(leaf, &der, GNUTLS_X509_FMT_DER) == 0)
        covers = gnutls_x509_crt_check_hostname(leaf, host) != 0;
    gnutls_x509_crt_deinit(leaf);
    return covers;
}
