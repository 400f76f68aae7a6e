/* base/base64.h - base64 (RFC 4648 4), as SASL wants it: strict, with padding, without line breaks
 *
 * Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_BASE64_H
#define POSTERN_BASE_BASE64_H

#include <stddef.h>

/* Octets of the text for `len` octets, its NUL included. */
#define BASE64_SIZE(len) (((len) + 2) / 3 * 4 + 1)

/* NUL-terminated text into out[0..BASE64_SIZE(len)); "" when out of memory. Returns `out`. */
char *base64_encode(const void *bytes, size_t len, char *out);

/* Returns the octets written to out, which must have room for len / 4 * 3; -1 when the text is not
 * base64. */
long base64_decode(const char *text, size_t len, void *out);

#endif
