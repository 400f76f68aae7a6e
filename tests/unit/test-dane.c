/* tests/unit/test-dane.c - net/dane
 *
 * Certificates are made here and have names. Records are written as in zone files, with the name of the
 * certificate that they come from: "3 1 1 leaf". A "~" before the name flips the last bit, a "-" drops
 * the last octet, a "+" adds one.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net/dane.h"

enum { CA = 1, EXPIRED = 2, CN_ONLY = 4, FOR_CLIENTS = 8, VERSION_1 = 16, FUTURE = 32 };

static struct made {
    const char *name, *issuer; /* NULL: itself */
    const char *host;
    unsigned flags;
    gnutls_pk_algorithm_t algorithm;
    const char *same_key; /* the certificate whose key it shares */
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    gnutls_datum_t der, spki;
} all[] = {
    {.name = "root", .flags = CA},
    {.name = "inter", .issuer = "root", .flags = CA},
    {.name = "cross", .issuer = "other-root", .flags = CA, .same_key = "inter"},
    {.name = "leaf", .issuer = "inter", .host = "mail.example"},
    {.name = "direct", .issuer = "root", .host = "mail.example"},
    {.name = "self", .host = "mail.example"},
    {.name = "self-rsa", .host = "mail.example", .algorithm = GNUTLS_PK_RSA},
    {.name = "self-pss", .host = "mail.example", .algorithm = GNUTLS_PK_RSA_PSS},
    {.name = "self-ed", .host = "mail.example", .algorithm = GNUTLS_PK_EDDSA_ED25519},
    {.name = "self-v1", .flags = VERSION_1},
    {.name = "self-ca", .host = "mail.example", .flags = CA},
    {.name = "old-leaf", .issuer = "inter", .host = "mail.example", .flags = EXPIRED},
    {.name = "new-leaf", .issuer = "inter", .host = "mail.example", .flags = FUTURE},
    {.name = "old-self", .host = "mail.example", .flags = EXPIRED},
    {.name = "old-inter", .issuer = "root", .flags = CA | EXPIRED},
    {.name = "below-old", .issuer = "old-inter", .host = "mail.example"},
    {.name = "old-root", .flags = CA | EXPIRED},
    {.name = "below-old-root", .issuer = "old-root", .host = "mail.example"},
    {.name = "wild", .issuer = "inter", .host = "*.mx.example"},
    {.name = "cn", .issuer = "inter", .host = "mail.example", .flags = CN_ONLY},
    {.name = "client", .issuer = "inter", .host = "mail.example", .flags = FOR_CLIENTS},
    {.name = "no-ca", .issuer = "root", .host = "no-ca.example"},
    {.name = "below-no-ca", .issuer = "no-ca", .host = "mail.example"},
    {.name = "other-root", .flags = CA},
    {.name = "evil-ca", .flags = CA},
    {.name = "evil-leaf", .issuer = "evil-ca", .host = "mail.example"},
};

static struct made *find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        if (strcmp(all[i].name, name) == 0)
            return &all[i];
    }
    g_error("no certificate %s", name);
}

static void make_key(struct made *made)
{
    gnutls_pk_algorithm_t algorithm = made->algorithm != 0 ? made->algorithm : GNUTLS_PK_ECDSA;
    unsigned bits = algorithm == GNUTLS_PK_RSA || algorithm == GNUTLS_PK_RSA_PSS ? 2048
                    : algorithm == GNUTLS_PK_ECDSA
                        ? GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1)
                        : 0;

    gnutls_x509_privkey_init(&made->key);
    if (made->same_key != NULL)
        gnutls_x509_privkey_cpy(made->key, find(made->same_key)->key);
    else
        g_assert_cmpint(gnutls_x509_privkey_generate(made->key, algorithm, bits, 0), ==, 0);
}

static void set_extensions(const struct made *made)
{
    gnutls_x509_crt_t crt = made->crt;

    gnutls_x509_crt_set_version(crt, (made->flags & VERSION_1) != 0 ? 1 : 3);
    if ((made->flags & VERSION_1) != 0)
        return;
    gnutls_x509_crt_set_basic_constraints(crt, (made->flags & CA) != 0, -1);
    if (made->host != NULL && (made->flags & CN_ONLY) == 0)
        gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, made->host,
                                             (unsigned)strlen(made->host), 0);
    if ((made->flags & FOR_CLIENTS) != 0)
        gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_CLIENT, 0);
}

static void make(struct made *made, size_t serial)
{
    struct made *issuer = made->issuer != NULL ? find(made->issuer) : made;
    unsigned char number = (unsigned char)(serial + 1);
    const char *cn = made->same_key != NULL    ? made->same_key
                     : (made->flags & CN_ONLY) ? made->host
                                               : made->name;
    gnutls_datum_t spki;
    gnutls_pubkey_t pubkey;

    gnutls_x509_crt_init(&made->crt);
    gnutls_x509_crt_set_key(made->crt, made->key);
    gnutls_x509_crt_set_serial(made->crt, &number, 1);
    gnutls_x509_crt_set_dn_by_oid(made->crt, GNUTLS_OID_X520_COMMON_NAME, 0, cn,
                                  (unsigned)strlen(cn));
    gnutls_x509_crt_set_activation_time(
        made->crt, time(NULL) + ((made->flags & FUTURE) != 0 ? 86400 : -7 * 86400));
    gnutls_x509_crt_set_expiration_time(
        made->crt, time(NULL) + ((made->flags & EXPIRED) != 0 ? -86400 : 7 * 86400));
    set_extensions(made);
    g_assert_cmpint(gnutls_x509_crt_sign2(made->crt, issuer->crt, issuer->key,
                                          issuer->algorithm == GNUTLS_PK_EDDSA_ED25519
                                              ? GNUTLS_DIG_SHA512
                                              : GNUTLS_DIG_SHA256,
                                          0),
                    ==, 0);
    g_assert_cmpint(gnutls_x509_crt_export2(made->crt, GNUTLS_X509_FMT_DER, &made->der), ==, 0);
    gnutls_pubkey_init(&pubkey);
    g_assert_cmpint(gnutls_pubkey_import_x509(pubkey, made->crt, 0), ==, 0);
    g_assert_cmpint(gnutls_pubkey_export2(pubkey, GNUTLS_X509_FMT_DER, &spki), ==, 0);
    made->spki = spki;
    gnutls_pubkey_deinit(pubkey);
}

/* Makes the issuer first if necessary. */
static void make_after_issuer(struct made *made)
{
    if (made->crt != NULL)
        return;
    if (made->issuer != NULL)
        make_after_issuer(find(made->issuer));
    make(made, (size_t)(made - all));
}

static void make_all(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
        make_key(&all[i]);
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
        make_after_issuer(&all[i]);
}

static void free_all(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        gnutls_x509_privkey_deinit(all[i].key);
        gnutls_x509_crt_deinit(all[i].crt);
        gnutls_free(all[i].der.data);
        gnutls_free(all[i].spki.data);
    }
}

/* Adds record data from "3 1 1 leaf". */
static void add_record(const char *text, GPtrArray *data, GArray *lengths)
{
    g_auto(GStrv) words = g_strsplit(text, " ", 4);
    const char *name = words[3];
    char change = '\0';
    if (name[0] != '\0' && strchr("~-+", name[0]) != NULL)
        change = *name++;
    uint8_t head[3] = {(uint8_t)atoi(words[0]), (uint8_t)atoi(words[1]), (uint8_t)atoi(words[2])};
    GByteArray *octets = g_byte_array_new();
    g_byte_array_append(octets, head, 3);
    if (name[0] != '\0') {
        const struct made *made = find(name);
        const gnutls_datum_t *part = head[1] == 1 ? &made->spki : &made->der;
        uint8_t digest[64];
        if (head[2] != 1 && head[2] != 2) {
            g_byte_array_append(octets, part->data, part->size);
        } else {
            gnutls_hash_fast(head[2] == 1 ? GNUTLS_DIG_SHA256 : GNUTLS_DIG_SHA512, part->data,
                             part->size, digest);
            g_byte_array_append(octets, digest, head[2] == 1 ? 32 : 64);
        }
    }
    if (change == '~')
        octets->data[octets->len - 1] ^= 1;
    else if (change == '-')
        g_byte_array_set_size(octets, octets->len - 1);
    else if (change == '+')
        g_byte_array_append(octets, head, 1);
    int len = (int)octets->len;
    g_array_append_val(lengths, len);
    g_ptr_array_add(data, g_byte_array_free(octets, FALSE));
}

/* Reads records separated by "; ". */
static struct dane_records *records_of(const char *text)
{
    g_auto(GStrv) each = g_strsplit(text, "; ", -1);
    GPtrArray *data = g_ptr_array_new_with_free_func(g_free);
    GArray *lengths = g_array_new(FALSE, FALSE, sizeof(int));
    for (size_t i = 0; each[i] != NULL; i++)
        add_record(each[i], data, lengths);
    struct dane_records *records = dane_records_new((const char *const *)data->pdata,
                                                    (const int *)(void *)lengths->data, data->len);
    g_ptr_array_free(data, TRUE);
    g_array_free(lengths, TRUE);
    g_assert_nonnull(records);
    return records;
}

static struct dane_verdict match(const struct dane_records *records, const char *chain_text,
                                 const char *names_text)
{
    g_auto(GStrv) chain_names = g_strsplit(chain_text, " ", -1);
    g_auto(GStrv) names = g_strsplit(names_text, " ", -1);
    struct tls_certificate chain[20];
    size_t count = 0;

    for (; chain_names[count] != NULL; count++) {
        const struct made *made = find(chain_names[count]);
        chain[count] = (struct tls_certificate){made->der.data, made->der.size};
    }
    return dane_match(records, chain, count, (const char *const *)names, g_strv_length(names));
}

static void test_match(void)
{
    static const struct {
        const char *label, *records, *chain, *names;
        enum dane_result result;
    } cases[] = {
        {"3 0 0", "3 0 0 leaf", "leaf inter", "", DANE_MATCH},
        {"3 0 1", "3 0 1 leaf", "leaf inter", "", DANE_MATCH},
        {"3 0 2", "3 0 2 leaf", "leaf inter", "", DANE_MATCH},
        {"3 1 0", "3 1 0 leaf", "leaf inter", "", DANE_MATCH},
        {"3 1 1", "3 1 1 leaf", "leaf inter", "", DANE_MATCH},
        {"3 1 2", "3 1 2 leaf", "leaf inter", "", DANE_MATCH},
        {"3 0 0, last bit", "3 0 0 ~leaf", "leaf inter", "", DANE_NO_MATCH},
        {"3 0 1, last bit", "3 0 1 ~leaf", "leaf inter", "", DANE_NO_MATCH},
        {"3 0 2, last bit", "3 0 2 ~leaf", "leaf inter", "", DANE_NO_MATCH},
        {"3 1 0, last bit", "3 1 0 ~leaf", "leaf inter", "", DANE_NO_MATCH},
        {"3 1 1, last bit", "3 1 1 ~leaf", "leaf inter", "", DANE_NO_MATCH},
        {"3 1 2, last bit", "3 1 2 ~leaf", "leaf inter", "", DANE_NO_MATCH},
        {"3: signed by itself", "3 1 1 self", "self", "", DANE_MATCH},
        {"3: another name", "3 1 1 leaf", "leaf", "else.example", DANE_MATCH},
        {"3: expired", "3 1 1 old-self", "old-self", "", DANE_MATCH},
        {"3: not yet valid", "3 0 1 new-leaf", "new-leaf inter", "", DANE_MATCH},
        {"3: for clients", "3 1 1 client", "client", "", DANE_MATCH},
        {"3: RSA", "3 1 1 self-rsa", "self-rsa", "", DANE_MATCH},
        {"3: RSA-PSS", "3 1 1 self-pss", "self-pss", "", DANE_MATCH},
        {"3: Ed25519", "3 1 1 self-ed", "self-ed", "", DANE_MATCH},
        {"3: version 1", "3 1 1 self-v1", "self-v1", "", DANE_MATCH},
        {"3: of the CA", "3 1 1 inter", "leaf inter", "mail.example", DANE_NO_MATCH},
        {"3: one wrong, one right", "3 1 1 self; 3 1 1 leaf", "leaf", "", DANE_MATCH},
        {"3 right, 2 of another", "3 1 1 leaf; 2 1 1 evil-ca", "leaf inter", "", DANE_MATCH},
        {"2 right, 3 wrong", "3 1 1 self; 2 1 1 inter", "leaf inter", "mail.example", DANE_MATCH},

        {"2 0 0", "2 0 0 inter", "leaf inter", "mail.example", DANE_MATCH},
        {"2 0 1", "2 0 1 inter", "leaf inter", "mail.example", DANE_MATCH},
        {"2 0 2", "2 0 2 inter", "leaf inter", "mail.example", DANE_MATCH},
        {"2 1 0", "2 1 0 inter", "leaf inter", "mail.example", DANE_MATCH},
        {"2 1 1", "2 1 1 inter", "leaf inter", "mail.example", DANE_MATCH},
        {"2 1 2", "2 1 2 inter", "leaf inter", "mail.example", DANE_MATCH},
        {"2 0 0, last bit of its signature, which counts for nothing", "2 0 0 ~inter", "leaf inter",
         "mail.example", DANE_MATCH},
        {"2 0 1, last bit", "2 0 1 ~inter", "leaf inter", "mail.example", DANE_NO_MATCH},
        {"2 0 2, last bit", "2 0 2 ~inter", "leaf inter", "mail.example", DANE_NO_MATCH},
        {"2 1 0, last bit", "2 1 0 ~inter", "leaf inter", "mail.example", DANE_NO_MATCH},
        {"2 1 1, last bit", "2 1 1 ~inter", "leaf inter", "mail.example", DANE_NO_MATCH},
        {"2 1 2, last bit", "2 1 2 ~inter", "leaf inter", "mail.example", DANE_NO_MATCH},
        {"2: the root", "2 1 1 root", "leaf inter root", "mail.example", DANE_MATCH},
        {"2: the root, not shown", "2 1 1 root", "leaf inter", "mail.example", DANE_NO_MATCH},
        {"2: the middle, root shown", "2 1 1 inter", "leaf inter root", "mail.example", DANE_MATCH},
        {"2: out of order", "2 1 1 root", "leaf root inter", "mail.example", DANE_MATCH},
        {"2: straight below", "2 0 1 root", "direct root", "mail.example", DANE_MATCH},
        {"2 0 0 not shown", "2 0 0 root", "leaf inter", "mail.example", DANE_MATCH},
        {"2 0 0 not shown, leaf alone", "2 0 0 inter", "leaf", "mail.example", DANE_MATCH},
        {"2 0 0 not shown, none in between", "2 0 0 root", "leaf", "mail.example", DANE_BAD_CHAIN},
        {"2 1 0 not shown", "2 1 0 root", "leaf inter", "mail.example", DANE_MATCH},
        {"2 1 0 not shown, leaf alone", "2 1 0 inter", "leaf", "mail.example", DANE_MATCH},
        {"2 1 0 not shown, a stranger last", "2 1 0 root", "leaf inter evil-ca", "mail.example",
         DANE_MATCH},
        {"2 1 0 not shown, a stranger after the leaf", "2 1 0 inter", "leaf evil-ca",
         "mail.example", DANE_MATCH},
        {"2 1 0 not shown, a leaf as a CA", "2 1 0 root", "below-no-ca no-ca", "mail.example",
         DANE_BAD_CHAIN},
        {"2 1 0 not shown, one too high", "2 1 0 root", "leaf", "mail.example", DANE_NO_MATCH},
        {"2 1 0 not shown, wrong name", "2 1 0 root", "leaf inter", "else.example",
         DANE_WRONG_NAME},
        {"2 1 0 not shown, expired", "2 1 0 inter", "old-leaf", "mail.example", DANE_EXPIRED},
        {"2 1 0 not shown, forged", "2 1 0 root", "evil-leaf inter", "mail.example",
         DANE_BAD_CHAIN},
        {"2 1 0: last bit", "2 1 0 ~root", "leaf inter", "mail.example", DANE_NO_MATCH},
        {"2: the leaf's own", "2 1 1 leaf", "leaf inter", "mail.example", DANE_NO_MATCH},
        {"2: the leaf's, sent twice", "2 1 1 leaf", "leaf leaf", "mail.example", DANE_NO_MATCH},
        {"2 0 0: the leaf's", "2 0 0 leaf", "leaf", "mail.example", DANE_NO_MATCH},
        {"2 1 0: the leaf's", "2 1 0 leaf", "leaf", "mail.example", DANE_NO_MATCH},
        {"2 1 1: signed by itself", "2 1 1 self", "self", "mail.example", DANE_NO_MATCH},
        {"2 0 0: signed by itself", "2 0 0 self-ca", "self-ca", "mail.example", DANE_NO_MATCH},
        {"2 1 0: signed by itself", "2 1 0 self-ca", "self-ca", "mail.example", DANE_NO_MATCH},
        {"2: anchor appended", "2 1 1 root", "evil-leaf evil-ca root", "mail.example",
         DANE_BAD_CHAIN},
        {"2: anchor inserted", "2 1 1 root", "evil-leaf root evil-ca", "mail.example",
         DANE_BAD_CHAIN},
        {"2 0 1: anchor appended", "2 0 1 inter", "evil-leaf evil-ca inter root", "mail.example",
         DANE_BAD_CHAIN},
        {"2 0 0: anchor elsewhere", "2 0 0 root", "evil-leaf evil-ca", "mail.example",
         DANE_BAD_CHAIN},
        {"2: right chain appended", "2 1 1 root", "evil-leaf evil-ca leaf inter root",
         "mail.example", DANE_BAD_CHAIN},
        {"2: expired leaf", "2 1 1 inter", "old-leaf inter", "mail.example", DANE_EXPIRED},
        {"2: leaf not yet valid", "2 1 1 inter", "new-leaf inter", "mail.example", DANE_EXPIRED},
        {"2: expired between", "2 1 1 root", "below-old old-inter root", "mail.example",
         DANE_EXPIRED},
        {"2: expired anchor", "2 1 1 old-root", "below-old-root old-root", "mail.example",
         DANE_EXPIRED},
        {"2: another name", "2 1 1 inter", "leaf inter", "else.example", DANE_WRONG_NAME},
        {"2: no name at all", "2 1 1 inter", "leaf inter", "", DANE_WRONG_NAME},
        {"2: the second name", "2 1 1 inter", "leaf inter", "mx.example mail.example", DANE_MATCH},
        {"2: a subdomain", "2 1 1 inter", "leaf inter", "a.mail.example", DANE_WRONG_NAME},
        {"2: case of the name", "2 1 1 inter", "leaf inter", "Mail.EXAMPLE", DANE_MATCH},
        {"2: wildcard", "2 1 1 inter", "wild inter", "a.mx.example", DANE_MATCH},
        {"2: wildcard, two labels", "2 1 1 inter", "wild inter", "a.b.mx.example", DANE_WRONG_NAME},
        {"2: wildcard, no label", "2 1 1 inter", "wild inter", "mx.example", DANE_WRONG_NAME},
        {"2: CN, no SAN", "2 1 1 inter", "cn inter", "mail.example", DANE_MATCH},
        {"2: CN beside a SAN", "2 1 1 inter", "wild inter", "wild", DANE_WRONG_NAME},
        {"2: for clients", "2 1 1 inter", "client inter", "mail.example", DANE_BAD_CHAIN},
        {"2: issuer is no CA", "2 1 1 root", "below-no-ca no-ca root", "mail.example",
         DANE_BAD_CHAIN},
        {"2: anchor is no CA", "2 1 1 no-ca", "below-no-ca no-ca", "mail.example", DANE_BAD_CHAIN},
        {"2: cross certificate", "2 1 1 other-root", "leaf cross other-root", "mail.example",
         DANE_MATCH},
        {"2 1: of the key, whoever signed", "2 1 1 inter", "leaf cross", "mail.example",
         DANE_MATCH},
        {"2 0: of the other certificate", "2 0 1 inter", "leaf cross", "mail.example",
         DANE_NO_MATCH},
        {"nothing usable", "1 1 1 leaf", "leaf inter", "mail.example", DANE_NO_MATCH},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct dane_records *records = records_of(cases[i].records);
        struct dane_verdict verdict = match(records, cases[i].chain, cases[i].names);
        if (verdict.result != cases[i].result) {
            g_test_message("%s: expected \"%s\", got \"%s\"", cases[i].label,
                           dane_result_text(cases[i].result), dane_result_text(verdict.result));
            g_test_fail();
        }
        if (verdict.result == DANE_MATCH)
            g_assert_nonnull(verdict.record);
        free(records);
    }
}

static void test_nothing_shown(void)
{
    static const unsigned char junk[] = "\x30\x03\x02\x01\x00";
    struct dane_records *records = records_of("2 1 1 inter; 3 1 1 leaf");
    struct tls_certificate odd = {junk, 5};
    g_assert_cmpint(dane_match(records, NULL, 0, NULL, 0).result, ==, DANE_BAD_CERTIFICATE);
    g_assert_cmpint(dane_match(records, &odd, 1, NULL, 0).result, ==, DANE_BAD_CERTIFICATE);
    free(records);
}

/* The leaf decides even if there are more certificates than are read. */
static void test_long_chain(void)
{
    struct dane_records *records = records_of("3 1 1 leaf; 2 1 1 inter");
    GString *text = g_string_new("leaf inter");
    for (int i = 0; i < 17; i++)
        g_string_append(text, " root");
    g_assert_cmpint(match(records, text->str, "mail.example").result, ==, DANE_MATCH);
    free(records);
    records = records_of("2 1 1 inter");
    g_assert_cmpint(match(records, text->str, "mail.example").result, ==, DANE_MATCH);
    free(records);
    g_string_free(text, TRUE);
}

static void test_usable(void)
{
    static const struct {
        const char *label, *records;
        size_t usable, unusable;
    } cases[] = {
        {"usage 0", "0 1 1 leaf", 0, 1},
        {"usage 1", "1 1 1 leaf", 0, 1},
        {"usage 4", "4 1 1 leaf", 0, 1},
        {"usage 255", "255 1 1 leaf", 0, 1},
        {"selector 2", "3 2 1 leaf", 0, 1},
        {"selector 255", "3 255 1 leaf", 0, 1},
        {"type 3", "3 1 3 leaf", 0, 1},
        {"type 255", "3 1 255 leaf", 0, 1},
        {"SHA-256, one short", "3 1 1 -leaf", 0, 1},
        {"SHA-256, one long", "3 1 1 +leaf", 0, 1},
        {"SHA-512, one short", "3 1 2 -leaf", 0, 1},
        {"SHA-512, one long", "3 1 2 +leaf", 0, 1},
        {"certificate, one short", "3 0 0 -leaf", 0, 1},
        {"certificate, one long", "3 0 0 +leaf", 0, 1},
        {"key, one short", "3 1 0 -leaf", 0, 1},
        {"key, one long", "3 1 0 +leaf", 0, 1},
        {"empty digest", "3 1 1 ", 0, 1},
        {"empty certificate", "2 0 0 ", 0, 1},
        {"two short of a header", "3 1 1 -", 0, 1},
        {"one of each", "1 1 1 leaf; 3 1 1 leaf; 2 0 0 inter", 2, 1},
        {"the stronger digest", "3 1 1 leaf; 3 1 2 leaf", 1, 0},
        {"the stronger digest, first", "3 1 2 leaf; 3 1 1 leaf; 3 1 1 self", 1, 0},
        {"of one selector only", "3 0 1 leaf; 3 1 2 leaf", 2, 0},
        {"of one usage only", "2 1 1 inter; 3 1 2 leaf", 2, 0},
        {"beside a whole key", "3 1 0 leaf; 3 1 1 leaf; 3 1 2 leaf", 2, 0},
        {"a stronger one of no use", "3 1 1 leaf; 3 1 2 -leaf", 1, 1},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct dane_records *records = records_of(cases[i].records);
        g_test_message("%s", cases[i].label);
        g_assert_cmpuint(records->count, ==, cases[i].usable);
        g_assert_cmpuint(records->unusable, ==, cases[i].unusable);
        free(records);
    }
}

/* RFC 7671 9: the weaker digest does not count, even if it alone matches. */
static void test_agility(void)
{
    struct dane_records *records = records_of("3 1 1 leaf; 3 1 2 self");
    g_assert_cmpint(match(records, "leaf", "").result, ==, DANE_NO_MATCH);
    g_assert_cmpint(match(records, "self", "").result, ==, DANE_MATCH);
    free(records);
}

static void test_many_records(void)
{
    const char *data[DANE_RECORDS_MAX + 8];
    int lengths[DANE_RECORDS_MAX + 8];
    static const char record[35] = "\3\1\1";
    for (size_t i = 0; i < G_N_ELEMENTS(data); i++)
        data[i] = record, lengths[i] = sizeof record;
    struct dane_records *records = dane_records_new(data, lengths, G_N_ELEMENTS(data));
    g_assert_cmpuint(records->count, ==, DANE_RECORDS_MAX);
    free(records);
    records = dane_records_new(NULL, NULL, 0);
    g_assert_cmpuint(records->count + records->unusable, ==, 0);
    free(records);
}

/* The key is cut out exactly as encoded. */
static void test_public_key(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        struct tls_certificate whole = {all[i].der.data, all[i].der.size}, key;
        g_test_message("%s", all[i].name);
        g_assert_cmpint(dane_public_key(&whole, &key), ==, 0);
        g_assert_cmpmem(key.der, key.len, all[i].spki.data, all[i].spki.size);
        for (size_t len = 0; len < whole.len; len++) {
            struct tls_certificate part = {whole.der, len};
            g_assert_cmpint(dane_public_key(&part, &key), ==, -1);
        }
    }
}

static void test_odd_der(void)
{
#define DER(text)                                                                                  \
    {                                                                                              \
        (const unsigned char *)text, sizeof text - 1                                               \
    }
    static const struct tls_certificate cases[] = {
        DER(""),
        DER("\x30"),
        DER("\x30\x00"),
        DER("\x30\x80\x00\x00"),             /* indefinite length */
        DER("\x30\x85\x01\x00\x00\x00\x00"), /* a length of five octets */
        DER("\x30\x84\xff\xff\xff\xff"),
        DER("\x31\x02\x30\x00"),
        DER("\x30\x02\x31\x00"),
        DER("\x30\x04\x30\x02\xa0\x00"),
        DER("\x30\x07\x30\x05\xa0\x00\x02\x01\x01"),
    };
#undef DER
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct tls_certificate key;
        g_assert_cmpint(dane_public_key(&cases[i], &key), ==, -1);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    make_all();
    g_test_add_func("/dane/match", test_match);
    g_test_add_func("/dane/nothing-shown", test_nothing_shown);
    g_test_add_func("/dane/long-chain", test_long_chain);
    g_test_add_func("/dane/usable", test_usable);
    g_test_add_func("/dane/agility", test_agility);
    g_test_add_func("/dane/many-records", test_many_records);
    g_test_add_func("/dane/public-key", test_public_key);
    g_test_add_func("/dane/odd-der", test_odd_der);
    int result = g_test_run();
    free_all();
    return result;
}
