/* base/utf8.h - well-formed UTF-8 (RFC 3629), octet by octet
 *
 * Stateless, thread-safe. Used by the log, to escape everything else, by the SMTP grammar, and by what shows people
 * the text of strangers.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_UTF8_H
#define POSTERN_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length in octets (1..4) of the well-formed character at text[0..len); 0 if there is none. */
size_t utf8_character(const char *text, size_t len);

/* Is all of text[0..len) well-formed? */
bool utf8_is_valid(const char *text, size_t len);

/* Is every octet below 128? */
bool utf8_is_ascii(const char *text, size_t len);

/* Is every octet a space or a visible character of ASCII? */
bool utf8_is_printable_ascii(const char *text, size_t len);

/* The code point at text[0..len). *step is its length in octets; both are 0 if there is none. */
uint32_t utf8_decode(const char *text, size_t len, size_t *step);

/* May the character be shown on a terminal? No control (C0, C1), line separator or change of direction. */
bool utf8_is_visible(uint32_t character);

/* Makes a '?' of each octet of `text`, NUL-terminated, that belongs to no such character. */
void utf8_mask(char *text);

#endif
