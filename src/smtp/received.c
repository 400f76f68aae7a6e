/* smtp/received.c - the one trace header that we put on top (RFC 5321 4.4, RFC 3848)
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/received.h"

#include <string.h>

#include "base/buffer.h"

/* Nothing that a client says may open a comment, close one, or begin a line of its own. */
static void received_add_clean(struct buffer *out, const char *text)
{
    for (; *text != '\0'; text++) {
        bool safe = *text > 0x20 && *text < 0x7f && strchr("()\\<>;\"", *text) == NULL;
        buffer_add(out, safe ? text : "?", 1);
    }
}

static void received_add_client(struct buffer *out, const struct received *received)
{
    char ip[ADDRESS_TEXT_MAX];
    buffer_puts(out, "from ");
    received_add_clean(out, received->helo[0] != '\0' ? received->helo : "unknown");
    buffer_puts(out, " (");
    received_add_clean(out, received->client_name != NULL ? received->client_name : "unknown");
    buffer_join(out, received->client.family == AF_INET6 ? " [IPv6:" : " [",
                address_format_ip(&received->client, ip), "])\r\n\t", NULL);
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

static void received_add_number(struct buffer *out, const char *before, int number, unsigned digits)
{
    buffer_puts(out, before);
    buffer_number(out, (uint64_t)number, digits);
}

/* RFC 5322 3.3, in UTC and whatever the locale says. */
static void received_add_date(struct buffer *out, time_t when)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm;
    gmtime_r(&when, &tm);
    buffer_add(out, days + 3 * tm.tm_wday, 3);
    received_add_number(out, ", ", tm.tm_mday, 1);
    buffer_puts(out, " ");
    buffer_add(out, months + 3 * tm.tm_mon, 3);
    received_add_number(out, " ", tm.tm_year + 1900, 4);
    received_add_number(out, " ", tm.tm_hour, 2);
    received_add_number(out, ":", tm.tm_min, 2);
    received_add_number(out, ":", tm.tm_sec, 2);
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
    buffer_join(&header, "by ", received->hostname, " (Postern) with ", received_protocol(received),
                " id ", received->id, NULL);
    /* One recipient at most: two would tell each of the other. */
    if (received->recipient != NULL && !received->utf8)
        buffer_join(&header, "\r\n\tfor <", received->recipient, ">", NULL);
    buffer_puts(&header, "; ");
    received_add_date(&header, received->when);
    buffer_puts(&header, "\r\n");
    return header.overflow ? 0 : header.len;
}
