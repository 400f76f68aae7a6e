/* smtp/received.c - the one trace header that we add on top (RFC 5321 4.4, RFC 3848)
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/received.h"

#include <string.h>

#include "base/buffer.h"

/* A client's text must not open or close a comment, or begin a new line. */
static const bool received_unsafe[256] = {
    [0x00 ... 0x20] = true, ['"'] = true, ['('] = true,  [')'] = true,           [';'] = true,
    ['<'] = true,           ['>'] = true, ['\\'] = true, [0x7f ... 0xff] = true,
};

static void received_add_clean(struct buffer *out, const char *text)
{
    for (;;) {
        const char *safe = text;
        while (!received_unsafe[(unsigned char)*text])
            text++;
        buffer_add(out, safe, (size_t)(text - safe));
        if (*text == '\0')
            return;
        buffer_puts(out, "?");
        text++;
    }
}

static void received_add_client(struct buffer *out, const struct received *received)
{
    char ip[ADDRESS_TEXT_MAX];
    buffer_puts(out, "from ");
    received_add_clean(out, received->helo[0] != '\0' ? received->helo : "unknown");
    buffer_puts(out, " (");
    received_add_clean(out, received->client_name != NULL ? received->client_name : "unknown");
    buffer_puts(out, received->client.family == AF_INET6 ? " [IPv6:" : " [");
    buffer_puts(out, address_format_ip(&received->client, ip));
    buffer_puts(out, "])\r\n\t");
}

/* RFC 3848 and, for internationalized mail, RFC 6531 4.3. */
static const char *received_protocol(const struct received *received)
{
    if (received->utf8 && received->authenticated)
        return received->tls != NULL ? "UTF8SMTPSA" : "UTF8SMTPA";
    if (received->utf8)
        return received->tls != NULL ? "UTF8SMTPS" : "UTF8SMTP";
    if (received->authenticated)
        return received->tls != NULL ? "ESMTPSA" : "ESMTPA";
    if (received->tls != NULL)
        return "ESMTPS";
    return received->esmtp ? "ESMTP" : "SMTP";
}

static void received_add_two_digits(struct buffer *out, char before, int number)
{
    const char text[] = {before, (char)('0' + number / 10), (char)('0' + number % 10)};
    buffer_add(out, text, sizeof text);
}

/* Adds the date as in RFC 5322 3.3, in UTC and independent of the locale. */
static void received_add_date(struct buffer *out, time_t when)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm;
    gmtime_r(&when, &tm);
    buffer_add(out, days + 3 * tm.tm_wday, 3);
    buffer_puts(out, ", ");
    buffer_number(out, (uint64_t)tm.tm_mday, 1);
    buffer_puts(out, " ");
    buffer_add(out, months + 3 * tm.tm_mon, 3);
    buffer_puts(out, " ");
    buffer_number(out, (uint64_t)tm.tm_year + 1900, 4);
    received_add_two_digits(out, ' ', tm.tm_hour);
    received_add_two_digits(out, ':', tm.tm_min);
    received_add_two_digits(out, ':', tm.tm_sec);
    buffer_puts(out, " +0000");
}

size_t received_format(const struct received *received, char out[RECEIVED_MAX])
{
    struct buffer header;

    buffer_init(&header, out, RECEIVED_MAX);
    buffer_puts(&header, "Received: ");
    if (!received->hide_client)
        received_add_client(&header, received);
    if (received->tls != NULL && !received->hide_client)
        buffer_join(&header, "(using ", received->tls->version, " with cipher ",
                    received->tls->cipher, ")\r\n\t", NULL);
    buffer_puts(&header, "by ");
    buffer_puts(&header, received->hostname);
    buffer_puts(&header, " (Postern) with ");
    buffer_puts(&header, received_protocol(received));
    buffer_puts(&header, " id ");
    buffer_puts(&header, received->id);
    /* One recipient at most: each of two would learn about the other. */
    if (received->recipient != NULL && !received->utf8)
        buffer_join(&header, "\r\n\tfor <", received->recipient, ">", NULL);
    buffer_puts(&header, "; ");
    received_add_date(&header, received->when);
    buffer_puts(&header, "\r\n");
    return header.overflow ? 0 : header.len;
}
