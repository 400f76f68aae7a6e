/* smtp/xclient.c - XCLIENT as in Postfix, and xtext (RFC 3461 4)
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/xclient.h"

#include <string.h>
#include <strings.h>

static const struct {
    const char *word;
    unsigned name;
} attributes[] = {
    {"NAME", XCLIENT_NAME},
    {"ADDR", XCLIENT_ADDR},
    {"PORT", XCLIENT_PORT},
    {"PROTO", XCLIENT_PROTO},
    {"HELO", XCLIENT_HELO},
    {"LOGIN", XCLIENT_LOGIN},
    {"DESTADDR", XCLIENT_DESTADDR},
    {"DESTPORT", XCLIENT_DESTPORT},
    {"REVERSE_NAME", XCLIENT_REVERSE_NAME},
};

#define ATTRIBUTE_COUNT (sizeof attributes / sizeof attributes[0])

static unsigned xclient_find_attribute(const char *text, size_t len)
{
    for (size_t i = 0; i < ATTRIBUTE_COUNT; i++) {
        if (strlen(attributes[i].word) == len && strncasecmp(attributes[i].word, text, len) == 0)
            return attributes[i].name;
    }
    return 0;
}

const char *xclient_attribute_name(unsigned name)
{
    for (size_t i = 0; i < ATTRIBUTE_COUNT; i++) {
        if (attributes[i].name == name)
            return attributes[i].word;
    }
    return "?";
}

unsigned xclient_parse_offer(const char *text, size_t len)
{
    const char *end = text + len;
    unsigned offered = 0;
    while (text < end) {
        const char *start = text;
        while (text < end && *text != ' ')
            text++;
        offered |= xclient_find_attribute(start, (size_t)(text - start));
        while (text < end && *text == ' ')
            text++;
    }
    return offered;
}

static void xclient_add_address(struct buffer *line, const struct address *address)
{
    char ip[ADDRESS_TEXT_MAX];
    if (address->family == AF_INET6)
        buffer_puts(line, "IPV6:");
    buffer_puts(line, address_format_ip(address, ip));
}

size_t xclient_format(const struct xclient_identity *identity, unsigned offered,
                      char out[XCLIENT_LINE_MAX + 1])
{
    const char *unknown = identity->name_temporary ? "[TEMPUNAVAIL]" : "[UNAVAILABLE]";
    const char *name = identity->name != NULL ? identity->name : unknown;
    const char *reverse = identity->reverse_name != NULL ? identity->reverse_name : unknown;
    struct buffer line;

    buffer_init(&line, out, XCLIENT_LINE_MAX + 1);
    buffer_puts(&line, "XCLIENT");
    /* At the backend (Postfix), an omitted attribute keeps the relay's own value. So always send the
     * name, and the reverse name if there is no verified one. */
    if (offered & XCLIENT_NAME) {
        buffer_puts(&line, " NAME=");
        xtext_encode(&line, name, strlen(name));
    }
    if (identity->name == NULL && (offered & XCLIENT_REVERSE_NAME)) {
        buffer_puts(&line, " REVERSE_NAME=");
        xtext_encode(&line, reverse, strlen(reverse));
    }
    buffer_puts(&line, " ADDR=");
    xclient_add_address(&line, &identity->client);
    if (offered & XCLIENT_PORT) {
        buffer_puts(&line, " PORT=");
        buffer_number(&line, identity->client.port, 1);
    }
    if (identity->local.family != AF_UNSPEC && (offered & XCLIENT_DESTADDR)) {
        buffer_puts(&line, " DESTADDR=");
        xclient_add_address(&line, &identity->local);
    }
    if (identity->local.family != AF_UNSPEC && (offered & XCLIENT_DESTPORT)) {
        buffer_puts(&line, " DESTPORT=");
        buffer_number(&line, identity->local.port, 1);
    }
    buffer_puts(&line, "\r\n");
    return line.overflow || !(offered & XCLIENT_ADDR) ? 0 : line.len;
}

int xclient_next(const char **cursor, const char *end, struct xclient_attribute *attribute)
{
    while (*cursor < end && **cursor == ' ')
        ++*cursor;
    if (*cursor == end)
        return 0;
    const char *start = *cursor;
    while (*cursor < end && **cursor != ' ')
        ++*cursor;
    const char *equals = memchr(start, '=', (size_t)(*cursor - start));
    if (equals == NULL || equals + 1 == *cursor)
        return -1;
    attribute->name = xclient_find_attribute(start, (size_t)(equals - start));
    if (attribute->name == 0)
        return -1;
    return xtext_decode(equals + 1, (size_t)(*cursor - equals - 1), attribute->value,
                        sizeof attribute->value) >= 0
               ? 1
               : -1;
}

void xtext_encode(struct buffer *out, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char octet = (unsigned char)bytes[i];
        if (octet > 0x20 && octet < 0x7f && octet != '+' && octet != '=')
            buffer_add(out, bytes + i, 1);
        else
            buffer_printf(out, "+%02X", octet);
    }
}

static int xclient_hex_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

int xtext_decode(const char *text, size_t len, char *out, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        int octet = (unsigned char)text[i];
        if (octet == '+') {
            int high = i + 2 < len ? xclient_hex_value(text[i + 1]) : -1;
            int low = i + 2 < len ? xclient_hex_value(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return -1;
            octet = high * 16 + low;
            i += 2;
        } else if (octet <= 0x20 || octet >= 0x7f || octet == '=') {
            return -1;
        }
        /* A NUL would end the string early. */
        if (octet == 0 || used + 1 >= size)
            return -1;
        out[used++] = (char)octet;
    }
    out[used] = '\0';
    return (int)used;
}

bool xtext_repair(struct buffer *out, const char *text, size_t len)
{
    char decoded[2] = "";

    for (size_t i = 0; i < len; i++) {
        unsigned char octet = (unsigned char)text[i];
        if (octet == '+') {
            if (i + 2 >= len || xtext_decode(text + i, 3, decoded, sizeof decoded) < 0)
                return false;
            buffer_add(out, text + i, 3);
            i += 2;
            continue;
        }
        if (octet <= 0x20 || octet == 0x7f)
            return false;
        xtext_encode(out, text + i, 1);
    }
    return true;
}
