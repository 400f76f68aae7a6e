/* smtp/nexthop.c - the client side of SMTP: the dialog with a next hop
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/nexthop.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"

/* How long a QUIT may take to leave. It fits the socket buffer of any working connection. */
#define QUIT_TIMEOUT_MS 100

void nexthop_init(struct nexthop *hop, int fd, struct stream_buffers *buffers)
{
    memset(hop, 0, sizeof *hop);
    stream_init(&hop->stream, fd);
    stream_lend(&hop->stream, buffers);
}

enum io_result nexthop_greeting(struct nexthop *hop, struct reply *reply, struct deadline deadline)
{
    return reply_read(&hop->stream, reply, true, deadline);
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
        result = reply_read(&hop->stream, reply, true, deadline);
    else
        reply_clear(reply);
    hop->challenged = result == IO_OK && reply->code == 334;
    return result;
}

enum io_result nexthop_send_proxy(struct nexthop *hop, const struct proxy_header *header,
                                  enum proxy_version version, struct deadline deadline)
{
    char octets[PROXY_HEADER_MAX];
    size_t len = proxy_format(header, version, octets);

    enum io_result result = len > 0 ? stream_put(&hop->stream, octets, len, deadline) : IO_FAILED;
    return result == IO_OK ? stream_flush(&hop->stream, deadline) : result;
}

bool nexthop_reset(struct nexthop *hop, struct reply *reply, struct deadline deadline)
{
    return nexthop_command(hop, "RSET\r\n", reply, deadline) == IO_OK && reply_is_positive(reply);
}

static size_t nexthop_word_length(const char *text, size_t len)
{
    size_t word = 0;
    while (word < len && text[word] != ' ')
        word++;
    return word;
}

/* Channel binding and EXTERNAL prove something about the TLS connection, which is ours and not the client's, so
 * such mechanisms cannot be passed on. */
static bool nexthop_is_relayable(const char *mechanism, size_t len)
{
    static const char plus[] = "-PLUS";
    return strncasecmp(mechanism, "EXTERNAL", len > 8 ? len : 8) != 0 &&
           (len < 5 || strncasecmp(mechanism + len - 5, plus, 5) != 0);
}

static void nexthop_add_mechanism(const char *word, size_t len, struct nexthop_capabilities *out)
{
    size_t used = strlen(out->mechanisms);

    if (command_is_listed("PLAIN", word, len))
        out->extensions |= EXTENSION_AUTH_PLAIN;
    if (command_is_listed("LOGIN", word, len))
        out->extensions |= EXTENSION_AUTH_LOGIN;
    if (nexthop_is_relayable(word, len) && !command_is_listed(out->mechanisms, word, len) &&
        used + len + 2 <= sizeof out->mechanisms)
        snprintf(out->mechanisms + used, sizeof out->mechanisms - used, "%s%.*s",
                 used > 0 ? " " : "", (int)len, word);
}

/* Parses the text after "AUTH" in one line. Servers send several, some of them for very old clients:
 * "AUTH=LOGIN". */
static void nexthop_parse_mechanisms(const char *text, size_t len, struct nexthop_capabilities *out)
{
    while (len > 0) {
        size_t word = nexthop_word_length(text, len);
        if (word > 0)
            nexthop_add_mechanism(text, word, out);
        size_t used = word < len ? word + 1 : word;
        text += used;
        len -= used;
    }
    if (out->mechanisms[0] != '\0')
        out->extensions |= EXTENSION_AUTH;
}

/* The number that the text begins with, after blanks. 0, which means no limit, if there is none: SIZE may come without
 * one (RFC 1870 3). */
static uint64_t nexthop_parse_number(const char *text, size_t len)
{
    const char *end = text + len;
    uint64_t value = 0;

    while (text < end && *text == ' ')
        text++;
    for (; text < end && *text >= '0' && *text <= '9'; text++)
        value = value > (UINT64_MAX - 9) / 10 ? UINT64_MAX : value * 10 + (uint64_t)(*text - '0');
    return value;
}

/* RFC 9422 4: "LIMITS RCPTMAX=100 MAILMAX=10". */
static void nexthop_parse_limits(const char *text, size_t len, struct nexthop_capabilities *out)
{
    while (len > 0) {
        size_t word = nexthop_word_length(text, len);
        if (word > 8 && strncasecmp(text, "RCPTMAX=", 8) == 0) {
            uint64_t limit = nexthop_parse_number(text + 8, word - 8);
            out->recipients = limit < UINT_MAX ? (unsigned)limit : UINT_MAX;
        }
        size_t used = word < len ? word + 1 : word;
        text += used;
        len -= used;
    }
}

static void nexthop_parse_keyword(const char *line, size_t len, struct nexthop_capabilities *out)
{
    static const struct {
        const char *keyword;
        unsigned extension;
    } known[] = {
        {"PIPELINING", EXTENSION_PIPELINING},
        {"SIZE", EXTENSION_SIZE},
        {"8BITMIME", EXTENSION_8BITMIME},
        {"SMTPUTF8", EXTENSION_SMTPUTF8},
        {"ENHANCEDSTATUSCODES", EXTENSION_ENHANCEDSTATUSCODES},
        {"STARTTLS", EXTENSION_STARTTLS},
        {"XCLIENT", EXTENSION_XCLIENT},
        {"DSN", EXTENSION_DSN},
        {"CHUNKING", EXTENSION_CHUNKING},
        {"BINARYMIME", EXTENSION_BINARYMIME},
        {"REQUIRETLS", EXTENSION_REQUIRETLS},
    };
    size_t keyword_len = nexthop_word_length(line, len);
    if (keyword_len >= 4 && strncasecmp(line, "AUTH", 4) == 0 &&
        (keyword_len == 4 || line[4] == '='))
        nexthop_parse_mechanisms(line + 4 + (keyword_len > 4), len - 4 - (keyword_len > 4), out);
    if (keyword_len == 6 && strncasecmp(line, "LIMITS", 6) == 0)
        nexthop_parse_limits(line + 6, len - 6, out);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strlen(known[i].keyword) != keyword_len ||
            strncasecmp(line, known[i].keyword, keyword_len) != 0)
            continue;
        out->extensions |= known[i].extension;
        if (known[i].extension == EXTENSION_SIZE)
            out->size_limit = nexthop_parse_number(line + keyword_len, len - keyword_len);
        if (known[i].extension == EXTENSION_XCLIENT)
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
        nexthop_parse_keyword(line, end != NULL ? (size_t)(end - line) : strlen(line), out);
        line = end;
    }
}

static enum io_result nexthop_say_hello(struct nexthop *hop, const char *verb, const char *name,
                                        struct reply *reply, struct deadline deadline)
{
    char text[300];
    struct buffer line;

    buffer_init(&line, text, sizeof text);
    buffer_puts(&line, verb);
    buffer_puts(&line, " ");
    buffer_add(&line, name, strnlen(name, PATH_HELO_MAX));
    buffer_puts(&line, "\r\n");
    return nexthop_command(hop, line.data, reply, deadline);
}

enum io_result nexthop_hello(struct nexthop *hop, enum nexthop_hello how, const char *name,
                             struct reply *reply, struct deadline deadline)
{
    memset(&hop->capabilities, 0, sizeof hop->capabilities);
    if (how == NEXTHOP_HELO)
        return nexthop_say_hello(hop, "HELO", name, reply, deadline);
    enum io_result result = nexthop_say_hello(hop, "EHLO", name, reply, deadline);
    if (result == IO_OK && reply_is_positive(reply))
        nexthop_parse_capabilities(reply, &hop->capabilities);
    if (result != IO_OK || reply_is_positive(reply) || reply_is_transient(reply) ||
        how == NEXTHOP_EHLO || hop->stream.tls != NULL)
        return result;
    const struct reply refusal = *reply;
    if (nexthop_say_hello(hop, "HELO", name, reply, deadline) != IO_OK)
        *reply = refusal;
    return IO_OK;
}

enum io_result nexthop_starttls(struct nexthop *hop, struct tls_client *tls, const char *name,
                                const struct tls_judge *judge, struct reply *reply,
                                struct deadline deadline, struct error *err)
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
        error_set(err, "plaintext after the reply to STARTTLS");
        stream_abort(&hop->stream);
        return IO_FAILED;
    }
    /* RFC 3207 4.2: forget what was learned before TLS. */
    memset(&hop->capabilities, 0, sizeof hop->capabilities);
    return stream_start_tls_client(&hop->stream, tls, name, judge, deadline, err);
}

static const char *const body_names[] = {[MAIL_BODY_7BIT] = "7BIT",
                                         [MAIL_BODY_8BITMIME] = "8BITMIME",
                                         [MAIL_BODY_BINARYMIME] = "BINARYMIME"};

enum io_result nexthop_put_mail(struct nexthop *hop, const struct envelope *envelope,
                                struct deadline deadline)
{
    unsigned has = hop->capabilities.extensions;
    char storage[COMMAND_LINE_MAX];
    struct buffer line;

    buffer_init(&line, storage, sizeof storage);
    buffer_puts(&line, "MAIL FROM:<");
    buffer_puts(&line, envelope->sender.mailbox);
    buffer_puts(&line, ">");
    if (envelope->size > 0 && (has & EXTENSION_SIZE)) {
        buffer_puts(&line, " SIZE=");
        buffer_number(&line, envelope->size, 1);
    }
    if (envelope->body != MAIL_BODY_NONE && (has & EXTENSION_8BITMIME))
        buffer_join(&line, " BODY=", body_names[envelope->body], NULL);
    if (envelope->smtputf8 && (has & EXTENSION_SMTPUTF8))
        buffer_puts(&line, " SMTPUTF8");
    if (envelope->ret != MAIL_RET_NONE && (has & EXTENSION_DSN))
        buffer_puts(&line, envelope->ret == MAIL_RET_FULL ? " RET=FULL" : " RET=HDRS");
    if (envelope->envid[0] != '\0' && (has & EXTENSION_DSN))
        buffer_join(&line, " ENVID=", envelope->envid, NULL);
    if (envelope->requiretls && (has & EXTENSION_REQUIRETLS))
        buffer_puts(&line, " REQUIRETLS");
    buffer_puts(&line, "\r\n");
    return stream_put(&hop->stream, line.data, line.len, deadline);
}

enum own_reply nexthop_lacks(const struct nexthop *hop, const struct envelope *envelope)
{
    const unsigned has = hop->capabilities.extensions;
    const unsigned binary = EXTENSION_BINARYMIME | EXTENSION_CHUNKING;

    if (envelope->is_utf8 && !(has & EXTENSION_SMTPUTF8))
        return REPLY_UTF8_UNSUPPORTED;
    if (envelope->body == MAIL_BODY_BINARYMIME && (has & binary) != binary)
        return REPLY_8BIT_UNSUPPORTED;
    if (envelope->requiretls && (!(has & EXTENSION_REQUIRETLS) || hop->stream.tls == NULL))
        return REPLY_REQUIRETLS_UNSUPPORTED;
    if (hop->capabilities.size_limit > 0 && envelope->size > hop->capabilities.size_limit)
        return REPLY_REMOTE_TOO_BIG;
    return REPLY_OK;
}

enum io_result nexthop_put_rcpt(struct nexthop *hop, const struct recipient *recipient,
                                struct deadline deadline)
{
    bool dsn = (hop->capabilities.extensions & EXTENSION_DSN) != 0;
    char storage[PATH_MAX_OCTETS + ORCPT_MAX + NOTIFY_MAX + 64], notify[NOTIFY_MAX + 1];
    struct buffer line;

    buffer_init(&line, storage, sizeof storage);
    buffer_puts(&line, "RCPT TO:<");
    buffer_puts(&line, recipient->path.mailbox);
    buffer_puts(&line, ">");
    if (dsn && recipient->notify != 0)
        buffer_join(&line, " NOTIFY=", command_format_notify(recipient->notify, notify), NULL);
    if (dsn && recipient->orcpt[0] != '\0')
        buffer_join(&line, " ORCPT=", recipient->orcpt, NULL);
    buffer_puts(&line, "\r\n");
    return stream_put(&hop->stream, line.data, line.len, deadline);
}

void nexthop_quit(struct nexthop *hop)
{
    struct deadline deadline = deadline_in_ms(QUIT_TIMEOUT_MS);
    char in[16], out[64];
    struct stream_buffers buffers = {in, sizeof in, out, sizeof out};

    if (hop->stream.buffers == NULL)
        stream_lend(&hop->stream, &buffers);
    const char *line = hop->challenged ? "*\r\nQUIT\r\n" : "QUIT\r\n";
    if (!hop->stream.broken && nexthop_put(hop, line, deadline) == IO_OK)
        stream_flush(&hop->stream, deadline);
    stream_leave(&hop->stream);
}
