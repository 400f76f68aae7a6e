/* tests/fuzz/fuzz-xclient.c - XCLIENT attributes and offers, and xtext there and back
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "smtp/xclient.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition)
{
    if (!condition)
        abort();
}

static void check_xtext(const char *bytes, size_t size)
{
    char encoded[1024], decoded[256];
    struct buffer text;

    buffer_init(&text, encoded, sizeof encoded);
    xtext_encode(&text, bytes, size);
    if (text.overflow)
        return;
    for (size_t i = 0; i < text.len; i++)
        must(encoded[i] > ' ' && encoded[i] < 0x7f && encoded[i] != '=');
    int back = xtext_decode(encoded, text.len, decoded, sizeof decoded);
    /* A text contains no NUL. */
    if (back >= 0)
        must((size_t)back == size && memcmp(decoded, bytes, size) == 0);
}

/* Takes the octets as a name that we would pass on: nothing in it may end the line or begin an attribute. */
static void check_format(const char *bytes, size_t size)
{
    char name[256], line[XCLIENT_LINE_MAX + 1];
    struct xclient_identity identity = {.reverse_name = name};

    if (size >= sizeof name || memchr(bytes, '\0', size) != NULL)
        return;
    memcpy(name, bytes, size);
    name[size] = '\0';
    address_parse_ip(&identity.client, "2001:db8::7");
    size_t len = xclient_format(&identity, ~0u & ~(unsigned)XCLIENT_LOGIN, line);
    must(len <= XCLIENT_LINE_MAX);
    if (len > 0)
        must(memchr(line, '\n', len) == line + len - 1 &&
             memchr(line, '\r', len) == line + len - 2);
    must(len == 0 || strstr(line, "LOGIN=") == NULL || memmem(bytes, size, "LOGIN", 5) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *at = (const char *)data, *end = at + size;
    struct xclient_attribute attribute;

    while (xclient_next(&at, end, &attribute) == 1) {
        must(at <= end && strlen(attribute.value) < sizeof attribute.value);
        must(xclient_attribute_name(attribute.name) != NULL);
    }
    xclient_parse_offer((const char *)data, size);
    check_xtext((const char *)data, size);
    check_format((const char *)data, size);
    return 0;
}
