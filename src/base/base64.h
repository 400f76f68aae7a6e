/* base/base64.h - base64 (RFC 4648 4) as SASL uses it: strict, with padding, without line breaks
 *
 * Used for AUTH and for notices. Works in the caller's storage and owns nothing. Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_BASE64_H
#define POSTERN_BASE_BASE64_H

#include <stddef.h>

/* Size in octets of the text that encodes `len` octets, including its NUL. */
#define BASE64_SIZE(len) (((len) + 2) / 3 * 4 + 1)

/* Writes NUL-terminated text to `out`, which must hold BASE64_SIZE(len) octets; "" if out of memory.
 * Returns `out`. */
char *base64_encode(const void *bytes, size_t len, char *out);

/* Decodes `len` octets of text into `out`, which must hold len / 4 * 3 octets. Returns the number of
 * octets written, or -1 if the text is not base64. */
long base64_decode(const char *text, size_t len, void *out);

#endif
