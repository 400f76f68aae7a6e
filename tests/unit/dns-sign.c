/* tests/unit/dns-sign.c - rows of tests/unit/dns-server.h, signed by DNSSEC (RFC 4034, RFC 8080)
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "dns-sign.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <string.h>
#include <time.h>

#include "dns/name.h"

#define TYPE_RRSIG 46
#define TYPE_DNSKEY 48
#define ALGORITHM_ED25519 15
#define TTL 300
#define DAY 86400

struct signer {
    gnutls_privkey_t key;
    const char *zone;
    GByteArray *dnskey; /* its data */
    unsigned tag;
    GArray *rows; /* struct dns_row */
};

static void add16(GByteArray *bytes, unsigned value)
{
    const guint8 octets[] = {(guint8)(value >> 8), (guint8)value};
    g_byte_array_append(bytes, octets, sizeof octets);
}

static void add32(GByteArray *bytes, guint32 value)
{
    add16(bytes, value >> 16);
    add16(bytes, value & 0xffff);
}

/* Adds data as the server sends it; for a name, use the type CNAME. */
static void add_data(GByteArray *bytes, int type, const char *text)
{
    guint8 data[512];
    g_byte_array_append(bytes, data, (guint)dns_server_data(type, text, data, sizeof data));
}

static gchar *hex(const GByteArray *bytes)
{
    GString *text = g_string_new("\\");
    for (guint i = 0; i < bytes->len; i++)
        g_string_append_printf(text, "%02x", bytes->data[i]);
    return g_string_free(text, FALSE);
}

static unsigned key_tag(const GByteArray *dnskey)
{
    guint32 sum = 0;
    for (guint i = 0; i < dnskey->len; i++)
        sum += i % 2 == 0 ? (guint32)dnskey->data[i] << 8 : dnskey->data[i];
    return (sum + (sum >> 16)) & 0xffff;
}

static void make_key(struct signer *signer)
{
    static const guint8 start[] = {1, 1, 3, ALGORITHM_ED25519}; /* flags 257, protocol 3 */
    gnutls_ecc_curve_t curve;
    gnutls_datum_t x;
    g_assert_cmpint(gnutls_privkey_init(&signer->key), ==, 0);
    g_assert_cmpint(gnutls_privkey_generate(signer->key, GNUTLS_PK_EDDSA_ED25519, 0, 0), ==, 0);
    g_assert_cmpint(gnutls_privkey_export_ecc_raw2(signer->key, &curve, &x, NULL, NULL, 0), ==, 0);
    signer->dnskey = g_byte_array_new();
    g_byte_array_append(signer->dnskey, start, sizeof start);
    g_byte_array_append(signer->dnskey, x.data, x.size);
    gnutls_free(x.data);
    signer->tag = key_tag(signer->dnskey);
}

static int compare_data(gconstpointer a, gconstpointer b)
{
    const GByteArray *first = *(GByteArray *const *)a, *second = *(GByteArray *const *)b;
    int order = memcmp(first->data, second->data, MIN(first->len, second->len));
    return order != 0 ? order : (int)first->len - (int)second->len;
}

/* Appends the records of a row in canonical order. */
static void add_records(GByteArray *bytes, const struct dns_row *row)
{
    GPtrArray *records = g_ptr_array_new();
    gchar **list = g_strsplit(row->answer, "|", -1);
    for (size_t i = 0; list[i] != NULL; i++) {
        g_ptr_array_add(records, g_byte_array_new());
        add_data(records->pdata[i], row->type, list[i]);
    }
    g_ptr_array_sort(records, compare_data);
    for (guint i = 0; i < records->len; i++) {
        GByteArray *data = records->pdata[i];
        add_data(bytes, DNS_TYPE_CNAME, row->name);
        add16(bytes, (unsigned)row->type), add16(bytes, 1);
        add32(bytes, TTL);
        add16(bytes, data->len);
        g_byte_array_append(bytes, data->data, data->len);
        g_byte_array_unref(data);
    }
    g_ptr_array_free(records, TRUE);
    g_strfreev(list);
}

static void add_row(struct signer *signer, const char *name, int type, gchar *answer)
{
    struct dns_row row = {name, type, answer};
    g_array_append_val(signer->rows, row);
}

static void sign(struct signer *signer, const struct dns_row *row)
{
    GByteArray *data = g_byte_array_new(), *all = g_byte_array_new();
    guint8 start[] = {ALGORITHM_ED25519, row->name[0] != '\0'}; /* and its labels */
    gnutls_datum_t signature;
    for (const char *at = row->name; *at != '\0'; at++)
        start[1] += *at == '.';
    add16(data, (unsigned)row->type);
    g_byte_array_append(data, start, sizeof start);
    add32(data, TTL);
    add32(data, (guint32)time(NULL) + DAY), add32(data, (guint32)time(NULL) - DAY);
    add16(data, signer->tag);
    add_data(data, DNS_TYPE_CNAME, signer->zone);
    g_byte_array_append(all, data->data, data->len);
    add_records(all, row);
    const gnutls_datum_t to_sign = {all->data, all->len};
    g_assert_cmpint(gnutls_privkey_sign_data2(signer->key, GNUTLS_SIGN_EDDSA_ED25519, 0, &to_sign,
                                              &signature), ==, 0);
    g_byte_array_append(data, signature.data, signature.size);
    add_row(signer, row->name, TYPE_RRSIG, hex(data));
    gnutls_free(signature.data);
    g_byte_array_unref(all);
    g_byte_array_unref(data);
}

static char *write_anchor(const struct signer *signer)
{
    GByteArray *bytes = g_byte_array_new();
    guint8 digest[32];
    gchar *file = NULL;
    add_data(bytes, DNS_TYPE_CNAME, signer->zone);
    g_byte_array_append(bytes, signer->dnskey->data, signer->dnskey->len);
    g_assert_cmpint(gnutls_hash_fast(GNUTLS_DIG_SHA256, bytes->data, bytes->len, digest), ==, 0);
    g_byte_array_set_size(bytes, 0);
    g_byte_array_append(bytes, digest, sizeof digest);
    gchar *digits = hex(bytes);
    gchar *text = g_strdup_printf("%s. IN DS %u %d 2 %s\n", signer->zone, signer->tag,
                                  ALGORITHM_ED25519, digits + 1);
    int fd = g_file_open_tmp("postern-anchor-XXXXXX", &file, NULL);
    g_assert_cmpint(fd, >=, 0);
    g_close(fd, NULL);
    g_assert_true(g_file_set_contents(file, text, -1, NULL));
    g_free(text), g_free(digits);
    g_byte_array_unref(bytes);
    return file;
}

static bool is_below(const char *name, const char *zone)
{
    size_t len = strlen(name), zone_len = strlen(zone);
    return len >= zone_len && strcmp(name + len - zone_len, zone) == 0 &&
           (len == zone_len || name[len - zone_len - 1] == '.');
}

struct signed_rows *dns_sign(const struct dns_row *rows, size_t count, const char *zone)
{
    struct signed_rows *result = g_new0(struct signed_rows, 1);
    struct signer signer = {.zone = zone, .rows = g_array_new(FALSE, FALSE, sizeof(struct dns_row))};
    make_key(&signer);
    gchar *key = hex(signer.dnskey);
    const struct dns_row key_row = {zone, TYPE_DNSKEY, key};
    for (size_t i = 0; i < count; i++) {
        add_row(&signer, rows[i].name, rows[i].type, g_strdup(rows[i].answer));
        if (is_below(rows[i].name, zone) && rows[i].answer[0] != '!')
            sign(&signer, &rows[i]);
    }
    add_row(&signer, zone, TYPE_DNSKEY, key);
    sign(&signer, &key_row);
    result->anchor_file = write_anchor(&signer);
    result->count = signer.rows->len;
    result->rows = (struct dns_row *)(void *)g_array_free(signer.rows, FALSE);
    g_byte_array_unref(signer.dnskey);
    gnutls_privkey_deinit(signer.key);
    return result;
}

void signed_rows_free(struct signed_rows *signed_rows)
{
    for (size_t i = 0; i < signed_rows->count; i++)
        g_free((gchar *)signed_rows->rows[i].answer);
    g_free(signed_rows->rows);
    g_unlink(signed_rows->anchor_file);
    g_free(signed_rows->anchor_file);
    g_free(signed_rows);
}
