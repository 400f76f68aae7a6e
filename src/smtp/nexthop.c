/* smtp/nexthop.c - the client side of SMTP: the dialog with a next hop
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/nexthop.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"

/* How long a QUIT may take to leave. It fits the socket buffer of any connection that works. */
#define QUIT_TIMEOUT_MS 100

void nexthop_init(struct nexthop *hop, int fd, struct stream_buffers *buffers)
{
    memset(hop, 0, sizeof *hop);
    stream_init(&hop->stream, fd);
    stream_lend(&hop->stream, buffers);
}

enum io_result nexthop_greeting(struct nexthop *hop, struct reply *reply, struct deadline deadline)
{
    return reply_read(&hop->stream, reply, deadline);
}

enum io_result nexthop_put(struct nexthop *hop, const char *line, struct deadline deadline)
{
    return stream_put(&hop->stream, line, strlen(line), deadline);
}

enum io_result nexthop_command(struct nexthop *hop, const char *line, struct reply *reply,
                               struct deadline deadline)
{
    enum io_result result = nexthop_put(hop, line, deadline);
    if (result == IO_OK)
        result = stream_flush(&hop->stream, deadline);
    if (result == IO_OK)
        result = reply_read(&hop->stream, reply, deadline);
    else
        reply->code = 0;
    return result;
}

static void parse_keyword(const char *line, size_t len, struct nexthop_capabilities *out)
{
    static const struct {
        const char *keyword;
        unsigned extension;
    } known[] = {
        {"PIPELINING", NEXTHOP_PIPELINING},
        {"SIZE", NEXTHOP_SIZE},
        {"8BITMIME", NEXTHOP_8BITMIME},
        {"SMTPUTF8", NEXTHOP_SMTPUTF8},
        {"ENHANCEDSTATUSCODES", NEXTHOP_ENHANCEDSTATUSCODES},
        {"STARTTLS", NEXTHOP_STARTTLS},
        {"XCLIENT", NEXTHOP_XCLIENT},
    };
    size_t keyword_len = 0;
    while (keyword_len < len && line[keyword_len] != ' ')
        keyword_len++;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strlen(known[i].keyword) != keyword_len ||
            strncasecmp(line, known[i].keyword, keyword_len) != 0)
            continue;
        out->extensions |= known[i].extension;
        if (known[i].extension == NEXTHOP_SIZE)
            out->size_limit = strtoull(line + keyword_len, NULL, 10);
        if (known[i].extension == NEXTHOP_XCLIENT)
            out->xclient = xclient_parse_offer(line + keyword_len, len - keyword_len);
        return;
    }
}

void nexthop_parse_capabilities(const struct reply *reply, struct nexthop_capabilities *out)
{
    memset(out, 0, sizeof *out);
    const char *line = strchr(reply->text, '\n');
    while (line != NULL && *++line != '\0') {
        const char *end = strchr(line, '\n');
        parse_keyword(line, end != NULL ? (size_t)(end - line) : strlen(line), out);
        line = end;
    }
}

enum io_result nexthop_hello(struct nexthop *hop, bool esmtp, const char *name, struct reply *reply,
                             struct deadline deadline)
{
    char line[300];
    memset(&hop->capabilities, 0, sizeof hop->capabilities);
    snprintf(line, sizeof line, "%s %.255s\r\n", esmtp ? "EHLO" : "HELO", name);
    enum io_result result = nexthop_command(hop, line, reply, deadline);
    if (result == IO_OK && esmtp && reply_is_positive(reply))
        nexthop_parse_capabilities(reply, &hop->capabilities);
    return result;
}

enum io_result nexthop_starttls(struct nexthop *hop, struct tls_client *tls, const char *name,
                                struct reply *reply, struct deadline deadline, struct error *err)
{
    enum io_result result = nexthop_command(hop, "STARTTLS\r\n", reply, deadline);
    if (result != IO_OK) {
        error_set(err, "%s", io_result_name(result));
        return result;
    }
    if (!reply_is_positive(reply)) {
        error_set(err, "%d", reply->code);
        return IO_FAILED;
    }
    if (stream_has_injected_input(&hop->stream)) {
        error_set(err, "plain text behind the reply to STARTTLS");
        stream_abort(&hop->stream);
        return IO_FAILED;
    }
    /* RFC 3207 4.2: what was learned before TLS is forgotten. */
    memset(&hop->capabilities, 0, sizeof hop->capabilities);
    return stream_start_tls_client(&hop->stream, tls, name, deadline, err);
}

enum io_result nexthop_put_mail(struct nexthop *hop, const struct envelope *envelope,
                                struct deadline deadline)
{
    unsigned has = hop->capabilities.extensions;
    char storage[COMMAND_LINE_MAX];
    struct buffer line;

    buffer_init(&line, storage, sizeof storage);
    buffer_printf(&line, "MAIL FROM:<%s>", envelope->sender.mailbox);
    if (envelope->size > 0 && (has & NEXTHOP_SIZE))
        buffer_printf(&line, " SIZE=%" PRIu64, envelope->size);
    if (envelope->body != MAIL_BODY_NONE && (has & NEXTHOP_8BITMIME))
        buffer_printf(&line, " BODY=%s", envelope->body == MAIL_BODY_7BIT ? "7BIT" : "8BITMIME");
    if (envelope->smtputf8 && (has & NEXTHOP_SMTPUTF8))
        buffer_puts(&line, " SMTPUTF8");
    buffer_puts(&line, "\r\n");
    return stream_put(&hop->stream, line.data, line.len, deadline);
}

enum io_result nexthop_put_rcpt(struct nexthop *hop, const struct path *recipient,
                                struct deadline deadline)
{
    char line[PATH_MAX_OCTETS + 32];
    int len = snprintf(line, sizeof line, "RCPT TO:<%s>\r\n", recipient->mailbox);
    return stream_put(&hop->stream, line, (size_t)len, deadline);
}

void nexthop_quit(struct nexthop *hop)
{
    struct deadline deadline = deadline_in_ms(QUIT_TIMEOUT_MS);
    if (!hop->stream.broken && nexthop_put(hop, "QUIT\r\n", deadline) == IO_OK)
        stream_flush(&hop->stream, deadline);
    stream_close(&hop->stream);
}
