/* tests/fuzz/fuzz-dane.c - TLSA records with a chain, and keys cut from certificates
 *
 * The input is cut into pieces, each preceded by its length in two octets: the number of records, then the records,
 * then the certificates.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdint.h>
#include <stdlib.h>

#include "net/dane.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t cut(const uint8_t **data, size_t *size, const uint8_t **piece)
{
    if (*size < 2)
        return 0;
    size_t len = (size_t)(*data)[0] << 8 | (*data)[1];
    *data += 2, *size -= 2;
    if (len > *size)
        len = *size;
    *piece = *data;
    *data += len, *size -= len;
    return len;
}

static void try_key(const uint8_t *data, size_t size)
{
    const struct tls_certificate whole = {data, size};
    struct tls_certificate key;
    if (dane_public_key(&whole, &key) == 0 && (key.der < data || key.der + key.len > data + size))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"mail.example", "example"};
    const char *items[DANE_RECORDS_MAX];
    int lengths[DANE_RECORDS_MAX];
    struct tls_certificate chain[4];
    size_t count = 0, certificates = 0, wanted;

    try_key(data, size);
    if (size == 0)
        return 0;
    wanted = *data++ % DANE_RECORDS_MAX, size--;
    for (; count < wanted && size > 1; count++) {
        const uint8_t *piece;
        lengths[count] = (int)cut(&data, &size, &piece);
        items[count] = (const char *)piece;
    }
    for (; certificates < 4 && size > 1; certificates++) {
        chain[certificates].len = cut(&data, &size, &chain[certificates].der);
        try_key(chain[certificates].der, chain[certificates].len);
    }
    struct dane_records *records = dane_records_new(items, lengths, count);
    if (records == NULL)
        return 0;
    if (records->count + records->unusable > count)
        abort();
    struct dane_verdict verdict = dane_match(records, chain, certificates, names, 2);
    if (verdict.result == DANE_MATCH && verdict.record == NULL)
        abort();
    free(records);
    return 0;
}
