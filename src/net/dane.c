/* net/dane.c - does this certificate chain match these TLSA records?
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "net/dane.h"

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_OCTETS 3 /* usage, selector, matching type */
#define CHAIN_MAX 16    /* certificates read per chain, GnuTLS's own limit */

/* DER, as far as needed to find the parts of a certificate (X.690 8.1, 10.1). */

#define TAG_SEQUENCE 0x30
#define TAG_BIT_STRING 0x03
#define TAG_VERSION 0xa0

struct dane_der {
    const uint8_t *at, *end;
};

static bool dane_read_length(struct dane_der *der, size_t *len)
{
    if (der->at == der->end)
        return false;
    unsigned octets = *der->at++;
    *len = octets;
    if (octets < 0x80)
        return true;
    octets -= 0x80;
    if (octets == 0 || octets > 4 || (size_t)(der->end - der->at) < octets)
        return false;
    for (*len = 0; octets > 0; octets--)
        *len = *len << 8 | *der->at++;
    return true;
}

/* Reads the next element: the whole of it, and its content. */
static bool dane_next(struct dane_der *der, uint8_t *tag, struct tls_certificate *whole,
                      struct dane_der *content)
{
    const uint8_t *start = der->at;
    size_t len;

    if (der->at == der->end)
        return false;
    *tag = *der->at++;
    if (!dane_read_length(der, &len) || (size_t)(der->end - der->at) < len)
        return false;
    *content = (struct dane_der){der->at, der->at + len};
    der->at += len;
    *whole = (struct tls_certificate){start, (size_t)(der->at - start)};
    return true;
}

/* Opens a SEQUENCE that fills all of `octets`. */
static bool dane_open(const struct tls_certificate *octets, struct dane_der *content)
{
    struct dane_der der = {octets->der, octets->der + octets->len};
    struct tls_certificate whole;
    uint8_t tag;

    return octets->len > 0 && dane_next(&der, &tag, &whole, content) && tag == TAG_SEQUENCE &&
           der.at == der.end;
}

/* The signed part of a certificate (RFC 5280 4.1). */
static bool dane_signed_part(const struct tls_certificate *certificate,
                             struct tls_certificate *part)
{
    struct dane_der fields, content;
    uint8_t tag;

    return dane_open(certificate, &fields) && dane_next(&fields, &tag, part, &content) &&
           tag == TAG_SEQUENCE;
}

int dane_public_key(const struct tls_certificate *certificate, struct tls_certificate *key)
{
    struct tls_certificate part;
    struct dane_der fields, content;
    uint8_t tag;

    if (!dane_signed_part(certificate, &part) || !dane_open(&part, &fields) ||
        !dane_next(&fields, &tag, &part, &content))
        return -1;
    if (tag == TAG_VERSION && !dane_next(&fields, &tag, &part, &content))
        return -1;
    /* That was the serial number. Signature, issuer, validity and subject precede the key. */
    for (int skip = 0; skip < 5; skip++) {
        if (!dane_next(&fields, &tag, key, &content) || tag != TAG_SEQUENCE)
            return -1;
    }
    return 0;
}

/* SEQUENCE { algorithm SEQUENCE, key BIT STRING }: keys of unknown algorithms have this form too. */
static bool dane_is_public_key(const struct tls_certificate *octets)
{
    struct dane_der fields, content;
    struct tls_certificate part;
    uint8_t tag;

    return dane_open(octets, &fields) && dane_next(&fields, &tag, &part, &content) &&
           tag == TAG_SEQUENCE && dane_next(&fields, &tag, &part, &content) &&
           tag == TAG_BIT_STRING && fields.at == fields.end;
}

/* GnuTLS only reads the data, so dropping const is safe. */
static gnutls_datum_t dane_datum(const uint8_t *data, size_t len)
{
    return (gnutls_datum_t){(unsigned char *)data, (unsigned)len};
}

static gnutls_x509_crt_t dane_import(const uint8_t *der, size_t len)
{
    gnutls_datum_t datum = dane_datum(der, len);
    gnutls_x509_crt_t certificate;

    if (gnutls_x509_crt_init(&certificate) != 0)
        return NULL;
    if (gnutls_x509_crt_import(certificate, &datum, GNUTLS_X509_FMT_DER) == 0)
        return certificate;
    gnutls_x509_crt_deinit(certificate);
    return NULL;
}

/* Records. */

static size_t dane_digest_octets(unsigned type)
{
    return type == DANE_TYPE_SHA256 ? 32 : 64;
}

static bool dane_is_full_usable(const struct dane_record *record)
{
    const struct tls_certificate octets = {record->data, record->len};
    struct tls_certificate key;

    if (record->selector == DANE_SELECT_KEY)
        return dane_is_public_key(&octets);
    if (dane_public_key(&octets, &key) != 0)
        return false;
    gnutls_x509_crt_t certificate = dane_import(record->data, record->len);
    if (certificate == NULL)
        return false;
    gnutls_x509_crt_deinit(certificate);
    return true;
}

static bool dane_is_usable(const struct dane_record *record)
{
    if (record->usage != DANE_USAGE_TA && record->usage != DANE_USAGE_EE)
        return false;
    if (record->selector > DANE_SELECT_KEY || record->type > DANE_TYPE_SHA512)
        return false;
    return record->type == DANE_TYPE_FULL ? dane_is_full_usable(record)
                                          : record->len == dane_digest_octets(record->type);
}

static bool dane_is_outdone(const struct dane_records *records, const struct dane_record *weak)
{
    for (size_t i = 0; weak->type == DANE_TYPE_SHA256 && i < records->count; i++) {
        const struct dane_record *record = &records->items[i];
        if (record->type == DANE_TYPE_SHA512 && record->usage == weak->usage &&
            record->selector == weak->selector)
            return true;
    }
    return false;
}

static void dane_drop_outdone(struct dane_records *records)
{
    size_t kept = 0;
    for (size_t i = 0; i < records->count; i++) {
        /* All SHA-512 records stay, so the check of every SHA-256 record still sees them. */
        if (!dane_is_outdone(records, &records->items[i]))
            records->items[kept++] = records->items[i];
    }
    records->count = kept;
}

struct dane_records *dane_records_new(const char *const *data, const int *lengths, size_t count)
{
    struct dane_records *records;
    size_t octets = 0;

    if (count > DANE_RECORDS_MAX)
        count = DANE_RECORDS_MAX;
    for (size_t i = 0; i < count; i++)
        octets += lengths[i] > 0 ? (size_t)lengths[i] : 0;
    records = malloc(sizeof *records + count * sizeof records->items[0] + octets);
    if (records == NULL)
        return NULL;
    records->count = records->unusable = 0;
    uint8_t *copy = (uint8_t *)&records->items[count];
    for (size_t i = 0; i < count; i++) {
        size_t len = lengths[i] > 0 ? (size_t)lengths[i] : 0;
        struct dane_record record = {.data = copy + HEADER_OCTETS};
        if (len > 0)
            memcpy(copy, data[i], len);
        if (len > HEADER_OCTETS) {
            record.usage = copy[0], record.selector = copy[1], record.type = copy[2];
            record.len = len - HEADER_OCTETS;
        }
        copy += len;
        if (record.len > 0 && dane_is_usable(&record))
            records->items[records->count++] = record;
        else
            records->unusable++;
    }
    dane_drop_outdone(records);
    return records;
}

/* Matching. */

static bool dane_same(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    return a_len == b_len && memcmp(a, b, a_len) == 0;
}

static bool dane_record_fits(const struct dane_record *record,
                             const struct tls_certificate *certificate)
{
    struct tls_certificate part = *certificate;
    uint8_t digest[64];

    if (record->selector == DANE_SELECT_KEY && dane_public_key(certificate, &part) != 0)
        return false;
    if (record->type == DANE_TYPE_FULL)
        return dane_same(record->data, record->len, part.der, part.len);
    gnutls_digest_algorithm_t algorithm =
        record->type == DANE_TYPE_SHA256 ? GNUTLS_DIG_SHA256 : GNUTLS_DIG_SHA512;
    return gnutls_hash_fast(algorithm, part.der, part.len, digest) == 0 &&
           dane_same(record->data, record->len, digest, dane_digest_octets(record->type));
}

/* The state for judging a chain when records name anchors. */
struct dane_chain {
    const struct tls_certificate *octets;
    size_t count;
    gnutls_x509_crt_t items[CHAIN_MAX];
    gnutls_x509_trust_list_t anchors;
    const struct dane_record *record; /* the first that named one */
};

/* Adds an anchor to the trust list, which then owns it. */
static void dane_trust(struct dane_chain *chain, const struct dane_record *record,
                       const uint8_t *der, size_t len)
{
    gnutls_x509_crt_t anchor = dane_import(der, len);

    if (anchor == NULL)
        return;
    if (gnutls_x509_trust_list_add_cas(chain->anchors, &anchor, 1, 0) != 1) {
        gnutls_x509_crt_deinit(anchor);
        return;
    }
    if (chain->record == NULL)
        chain->record = record;
}

/* Has this key, whose certificate was not presented, signed this certificate? */
static bool dane_key_signed(const struct dane_record *record, gnutls_x509_crt_t certificate,
                            const struct tls_certificate *octets)
{
    gnutls_datum_t key = dane_datum(record->data, record->len), data, signature = {NULL, 0};
    struct tls_certificate part;
    char bits[2048];
    size_t size = sizeof bits;
    gnutls_pubkey_t public;
    bool is_signed = false;

    if (!dane_signed_part(octets, &part) || gnutls_pubkey_init(&public) != 0)
        return false;
    data = dane_datum(part.der, part.len);
    int algorithm = gnutls_x509_crt_get_signature_algorithm(certificate);
    if (gnutls_pubkey_import(public, &key, GNUTLS_X509_FMT_DER) == 0 && algorithm > 0 &&
        gnutls_x509_crt_get_signature(certificate, bits, &size) == 0) {
        signature = dane_datum((const uint8_t *)bits, size);
        is_signed = gnutls_pubkey_verify_data2(public, (gnutls_sign_algorithm_t)algorithm, 0, &data,
                                               &signature) >= 0;
    }
    gnutls_pubkey_deinit(public);
    return is_signed;
}

/* RFC 7672 3.1.2: an anchor is above the leaf, and comes from the server or from the record itself.
 * The leaf is never an anchor, even if it is presented twice. */
static void dane_find_anchors(struct dane_chain *chain, const struct dane_record *record)
{
    const struct tls_certificate *leaf = &chain->octets[0];
    bool is_shown = false;

    for (size_t i = 1; i < chain->count; i++) {
        const struct tls_certificate *certificate = &chain->octets[i];
        if (dane_same(leaf->der, leaf->len, certificate->der, certificate->len) ||
            !dane_record_fits(record, certificate))
            continue;
        is_shown = true;
        dane_trust(chain, record, certificate->der, certificate->len);
    }
    if (is_shown || record->type != DANE_TYPE_FULL)
        return;
    if (record->selector == DANE_SELECT_CERTIFICATE) {
        if (!dane_same(leaf->der, leaf->len, record->data, record->len))
            dane_trust(chain, record, record->data, record->len);
        return;
    }
    /* Not only the last one: servers also send certificates that do not belong to the chain. */
    for (size_t i = 0; i < chain->count && !dane_record_fits(record, leaf); i++) {
        const struct tls_certificate *certificate = &chain->octets[i];
        if (dane_key_signed(record, chain->items[i], certificate))
            dane_trust(chain, record, certificate->der, certificate->len);
    }
}

static bool dane_has_name(gnutls_x509_crt_t leaf, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (gnutls_x509_crt_check_hostname(leaf, names[i]))
            return true;
    }
    return false;
}

static enum dane_result dane_judge_chain(struct dane_chain *chain, const char *const *names,
                                         size_t name_count)
{
    gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                     .data = (unsigned char *)GNUTLS_KP_TLS_WWW_SERVER};
    unsigned status = GNUTLS_CERT_INVALID;

    if (chain->record == NULL)
        return DANE_NO_MATCH;
    if (gnutls_x509_trust_list_verify_crt2(chain->anchors, chain->items, (unsigned)chain->count,
                                           &purpose, 1, 0, &status, NULL) != 0)
        return DANE_BAD_CHAIN;
    if ((status & (GNUTLS_CERT_EXPIRED | GNUTLS_CERT_NOT_ACTIVATED)) != 0)
        return DANE_EXPIRED;
    if (status != 0)
        return DANE_BAD_CHAIN;
    return dane_has_name(chain->items[0], names, name_count) ? DANE_MATCH : DANE_WRONG_NAME;
}

static void dane_close_chain(struct dane_chain *chain)
{
    for (size_t i = 0; i < chain->count; i++)
        gnutls_x509_crt_deinit(chain->items[i]);
    if (chain->anchors != NULL)
        gnutls_x509_trust_list_deinit(chain->anchors, 1);
}

/* Imports the chain. An unreadable certificate ends it. */
static bool dane_open_chain(struct dane_chain *chain, size_t count)
{
    while (chain->count < count && chain->count < CHAIN_MAX) {
        const struct tls_certificate *octets = &chain->octets[chain->count];
        gnutls_x509_crt_t certificate = dane_import(octets->der, octets->len);
        if (certificate == NULL)
            break;
        chain->items[chain->count++] = certificate;
    }
    return chain->count > 0 && gnutls_x509_trust_list_init(&chain->anchors, 0) == 0;
}

static struct dane_verdict dane_match_anchors(const struct dane_records *records,
                                              const struct tls_certificate *octets, size_t count,
                                              const char *const *names, size_t name_count)
{
    struct dane_chain chain = {.octets = octets};
    struct dane_verdict verdict = {.result = DANE_BAD_CERTIFICATE};

    if (dane_open_chain(&chain, count)) {
        for (size_t i = 0; i < records->count; i++) {
            if (records->items[i].usage == DANE_USAGE_TA)
                dane_find_anchors(&chain, &records->items[i]);
        }
        verdict.result = dane_judge_chain(&chain, names, name_count);
        verdict.record = chain.record;
    }
    dane_close_chain(&chain);
    return verdict;
}

struct dane_verdict dane_match(const struct dane_records *records,
                               const struct tls_certificate *chain, size_t count,
                               const char *const *names, size_t name_count)
{
    bool has_anchors = false;

    if (count == 0)
        return (struct dane_verdict){.result = DANE_BAD_CERTIFICATE};
    for (size_t i = 0; i < records->count; i++) {
        const struct dane_record *record = &records->items[i];
        if (record->usage == DANE_USAGE_EE && dane_record_fits(record, &chain[0]))
            return (struct dane_verdict){DANE_MATCH, record};
        has_anchors |= record->usage == DANE_USAGE_TA;
    }
    return has_anchors ? dane_match_anchors(records, chain, count, names, name_count)
                       : (struct dane_verdict){.result = DANE_NO_MATCH};
}

const char *dane_result_text(enum dane_result result)
{
    static const char *const texts[] = {
        [DANE_MATCH] = "matches",
        [DANE_NO_MATCH] = "matches no record",
        [DANE_BAD_CHAIN] = "has no chain to the anchor",
        [DANE_EXPIRED] = "has expired, or its chain has",
        [DANE_WRONG_NAME] = "is for another name",
        [DANE_BAD_CERTIFICATE] = "cannot be read",
    };
    return texts[result];
}
