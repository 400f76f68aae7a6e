/* base/base64.c - base64 (RFC 4648 4) as SASL uses it, by GnuTLS
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "base/base64.h"

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <string.h>

char *base64_encode(const void *bytes, size_t len, char *out)
{
    const gnutls_datum_t from = {(unsigned char *)bytes, (unsigned)len};
    gnutls_datum_t text = {NULL, 0};

    out[0] = '\0';
    if (len > 0 && gnutls_base64_encode2(&from, &text) == GNUTLS_E_SUCCESS) {
        memcpy(out, text.data, text.size);
        out[text.size] = '\0';
    }
    gnutls_free(text.data);
    return out;
}

/* GnuTLS silently skips some characters that are not base64, so check first. */
static bool base64_is_strict(const char *text, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t padding = 0;

    while (padding < 2 && padding < len && text[len - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < len - padding; i++) {
        if (text[i] == '\0' || strchr(digits, text[i]) == NULL)
            return false;
    }
    return len % 4 == 0;
}

long base64_decode(const char *text, size_t len, void *out)
{
    const gnutls_datum_t from = {(unsigned char *)text, (unsigned)len};
    gnutls_datum_t bytes = {NULL, 0};
    long size = -1;

    if (len == 0)
        return 0;
    if (!base64_is_strict(text, len) ||
        gnutls_base64_decode2(&from, &bytes) != GNUTLS_E_SUCCESS)
        return -1;
    if (bytes.size <= len / 4 * 3) {
        size = (long)bytes.size;
        memcpy(out, bytes.data, bytes.size);
    }
    gnutls_memset(bytes.data, 0, bytes.size); /* it may be a password */
    gnutls_free(bytes.data);
    return size;
}
