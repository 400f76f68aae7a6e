/* smtp/received.c - the one trace header that we put on top (RFC 5321 4.4, RFC 3848)
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/received.h"

#include <stdio.h>
#include <string.h>

#include "base/buffer.h"

/* Nothing that a client says may open a comment, close one, or begin a line of its own. */
static void add_clean(struct buffer *out, const char *text)
{
    for (; *text != '\0'; text++) {
        bool safe = *text > 0x20 && *text < 0x7f && strchr("()\\<>;\"", *text) == NULL;
        buffer_add(out, safe ? text : "?", 1);
    }
}

static void add_client(struct buffer *out, const struct received *received)
{
    char ip[ADDRESS_TEXT_MAX];
    buffer_puts(out, "from ");
    add_clean(out, received->helo[0] != '\0' ? received->helo : "unknown");
    buffer_puts(out, " (");
    add_clean(out, received->client_name != NULL ? received->client_name : "unknown");
    buffer_printf(out, " [%s%s])\r\n", received->client.family == AF_INET6 ? "IPv6:" : "",
                  address_format_ip(&received->client, ip));
    buffer_puts(out, "\t");
}

/* RFC 3848 and, for internationalized mail, RFC 6531 4.3. */
static const char *protocol(const struct received *received)
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

/* RFC 5322 3.3, in UTC and whatever the locale says. */
static void add_date(struct buffer *out, time_t when)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm;
    gmtime_r(&when, &tm);
    buffer_printf(out, "%.3s, %d %.3s %d %02d:%02d:%02d +0000", days + 3 * tm.tm_wday, tm.tm_mday,
                  months + 3 * tm.tm_mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

size_t received_format(const struct received *received, char out[RECEIVED_MAX])
{
    struct buffer header;

    buffer_init(&header, out, RECEIVED_MAX);
    buffer_puts(&header, "Received: ");
    if (!received->hide_client)
        add_client(&header, received);
    if (received->tls != NULL && !received->hide_client)
        buffer_printf(&header, "(using %s with cipher %s)\r\n\t", received->tls->version,
                      received->tls->cipher);
    buffer_printf(&header, "by %s (Postern) with %s id %s", received->hostname, protocol(received),
                  received->id);
    /* One recipient at most: two would tell each of the other. */
    if (received->recipient != NULL && !received->utf8)
        buffer_printf(&header, "\r\n\tfor <%s>", received->recipient);
    buffer_puts(&header, "; ");
    add_date(&header, received->when);
    buffer_puts(&header, "\r\n");
    return header.overflow ? 0 : header.len;
}
