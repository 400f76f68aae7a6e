/* base/base64.c - base64 (RFC 4648 4), as SASL wants it
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "base/base64.h"

#include <stdint.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *base64_encode(const void *bytes, size_t len, char *out)
{
    const uint8_t *from = bytes;
    char *to = out;

    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t group = (uint32_t)from[i] << 16;
        group |= left > 1 ? (uint32_t)from[i + 1] << 8 : 0;
        group |= left > 2 ? from[i + 2] : 0;
        *to++ = digits[group >> 18];
        *to++ = digits[group >> 12 & 63];
        *to++ = left > 1 ? digits[group >> 6 & 63] : '=';
        *to++ = left > 2 ? digits[group & 63] : '=';
    }
    *to = '\0';
    return out;
}

static int value_of(char digit)
{
    const char *at = digit != '\0' ? strchr(digits, digit) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

long base64_decode(const char *text, size_t len, void *out)
{
    uint8_t *to = out;
    size_t padding = 0;

    if (len % 4 != 0)
        return -1;
    while (padding < 2 && padding < len && text[len - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < len; i += 4) {
        uint32_t group = 0;
        size_t missing = i + 4 == len ? padding : 0;
        for (size_t k = 0; k < 4; k++) {
            int value = k < 4 - missing ? value_of(text[i + k]) : 0;
            if (value < 0)
                return -1;
            group = group << 6 | (uint32_t)value;
        }
        for (size_t k = 0; k < 3 - missing; k++)
            *to++ = (uint8_t)(group >> (16 - 8 * k));
    }
    return to - (uint8_t *)out;
}
