/* base/utf8.c - well-formed UTF-8 (RFC 3629), octet by octet
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "base/utf8.h"

#include <string.h>

size_t utf8_character(const char *text, size_t len)
{
    const unsigned char *octets = (const unsigned char *)text;
    if (len == 0)
        return 0;
    unsigned char first = octets[0];
    size_t want = first < 0x80   ? 1
                  : first < 0xc2 ? 0
                  : first < 0xe0 ? 2
                  : first < 0xf0 ? 3
                  : first < 0xf5 ? 4
                                 : 0;
    if (want == 0 || want > len)
        return 0;
    for (size_t i = 1; i < want; i++) {
        if ((octets[i] & 0xc0) != 0x80)
            return 0;
    }
    /* The second octet tells overlong forms, surrogates and code points beyond U+10FFFF. */
    if ((first == 0xe0 && octets[1] < 0xa0) || (first == 0xed && octets[1] > 0x9f) ||
        (first == 0xf0 && octets[1] < 0x90) || (first == 0xf4 && octets[1] > 0x8f))
        return 0;
    return want;
}

bool utf8_is_ascii(const char *text, size_t len)
{
    uint64_t eight, all = 0;

    for (; len >= sizeof eight; text += sizeof eight, len -= sizeof eight) {
        memcpy(&eight, text, sizeof eight);
        all |= eight;
    }
    for (; len > 0; text++, len--)
        all |= (unsigned char)*text;
    return (all & 0x8080808080808080u) == 0;
}

/* Octets below 0x20, and 0x7f and above, each show in the high bit of a sum or difference. */
static uint64_t utf8_find_unprintable(const char *text)
{
    const uint64_t each = 0x0101010101010101u;
    uint64_t eight;

    memcpy(&eight, text, sizeof eight);
    return (eight | (eight + each) | (eight - 0x20 * each)) & 0x80 * each;
}

bool utf8_is_printable_ascii(const char *text, size_t len)
{
    const char *end = text + len;
    uint64_t other = 0;

    for (; end - text >= 8; text += 8)
        other |= utf8_find_unprintable(text);
    if (len >= 8) /* the last eight, some of them again */
        return (other | utf8_find_unprintable(end - 8)) == 0;
    for (; text < end; text++)
        other |= *text < 0x20 || *text > 0x7e;
    return other == 0;
}

bool utf8_is_valid(const char *text, size_t len)
{
    if (utf8_is_ascii(text, len))
        return true;
    for (size_t at = 0, step; at < len; at += step) {
        step = utf8_character(text + at, len - at);
        if (step == 0)
            return false;
    }
    return true;
}

uint32_t utf8_decode(const char *text, size_t len, size_t *step)
{
    const unsigned char *octets = (const unsigned char *)text;

    *step = utf8_character(text, len);
    if (*step <= 1)
        return *step == 1 ? octets[0] : 0;
    uint32_t character = octets[0] & (0x7fu >> *step);
    for (size_t i = 1; i < *step; i++)
        character = character << 6 | (octets[i] & 0x3f);
    return character;
}

bool utf8_is_visible(uint32_t character)
{
    return character >= 0x20 && (character < 0x7f || character > 0x9f) &&
           (character < 0x2028 || character > 0x202e) && /* separators, directions */
           (character < 0x2066 || character > 0x2069);
}

void utf8_mask(char *text)
{
    for (size_t at = 0, len = strlen(text), step; at < len; at += step) {
        bool visible = utf8_is_visible(utf8_decode(text + at, len - at, &step));
        step += step == 0;
        if (!visible)
            memset(text + at, '?', step);
    }
}
