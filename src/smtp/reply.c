/* smtp/reply.c - replies: reading a next hop's, writing ours (RFC 5321 4.2, RFC 2034)
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/reply.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

#define REPLY_LINE_READ_MAX 2048 /* of a longer line the rest is not looked at */
#define REPLY_LINE_SENT_MAX 512  /* octets passed on of one, its CRLF included */
#define REPLY_JOINED_MAX 240     /* octets of each of two lines that are made one */
#define REPLY_LINE_SHOWN_MAX 120 /* octets of a line that was no reply, for the log */

static const struct {
    int code;
    const char *enhanced, *text;
} own[REPLY_OWN_COUNT] = {
    [REPLY_OK] = {250, "2.0.0", "Ok"},
    [REPLY_CLOSING] = {221, "2.0.0", "Bye"},
    [REPLY_HELP] = {214, "2.0.0", "See RFC 5321"},
    [REPLY_VRFY] = {252, "2.1.5", "Send some mail, I'll try my best"},
    [REPLY_SENDER_OK] = {250, "2.1.0", "Ok"},
    [REPLY_START_TLS] = {220, "2.0.0", "Ready to start TLS"},
    [REPLY_START_DATA] = {354, "", "End data with <CR><LF>.<CR><LF>"},
    [REPLY_SYNTAX] = {500, "5.5.2", "Error: bad syntax"},
    [REPLY_LINE_TOO_LONG] = {500, "5.5.2", "Error: line too long"},
    [REPLY_UNKNOWN_COMMAND] = {500, "5.5.1", "Error: command not recognized"},
    [REPLY_NOT_IMPLEMENTED] = {502, "5.5.1", "Error: command not implemented"},
    [REPLY_NO_ARGUMENT_ALLOWED] = {501, "5.5.4", "Error: this command takes no argument"},
    [REPLY_HELO_SYNTAX] = {501, "5.5.4", "Error: a host name is expected"},
    [REPLY_BAD_SENDER] = {501, "5.1.7", "Error: bad sender address syntax"},
    [REPLY_BAD_RECIPIENT] = {501, "5.1.3", "Error: bad recipient address syntax"},
    [REPLY_BAD_ARGUMENT] = {501, "5.5.4", "Error: bad argument"},
    [REPLY_UNKNOWN_PARAMETER] = {555, "5.5.4", "Error: unsupported parameter"},
    [REPLY_HELO_FIRST] = {503, "5.5.1", "Error: send HELO/EHLO first"},
    [REPLY_MAIL_FIRST] = {503, "5.5.1", "Error: need MAIL command"},
    [REPLY_RCPT_FIRST] = {503, "5.5.1", "Error: need RCPT command"},
    [REPLY_NESTED_MAIL] = {503, "5.5.1", "Error: nested MAIL command"},
    [REPLY_NOT_IN_TRANSACTION] = {503, "5.5.1", "Error: not within a mail transaction"},
    [REPLY_TLS_ACTIVE] = {503, "5.5.1", "Error: TLS already active"},
    [REPLY_INJECTION] = {554, "5.5.0", "Error: plain text behind STARTTLS"},
    [REPLY_NO_VALID_RECIPIENTS] = {554, "5.5.1", "Error: no valid recipients"},
    [REPLY_RELAY_DENIED] = {550, "5.7.1", "Relay access denied"},
    [REPLY_UTF8_UNSUPPORTED] = {553, "5.6.7", "Internationalized address not supported here"},
    [REPLY_8BIT_UNSUPPORTED] = {554, "5.6.3", "Message body type not supported here"},
    [REPLY_TOO_BIG] = {552, "5.3.4", "Message size exceeds limit"},
    [REPLY_TOO_MANY_HOPS] = {554, "5.4.6", "Too many hops"},
    [REPLY_BARE_NEWLINE] = {550, "5.5.2", "Error: bare CR, LF or NUL received"},
    [REPLY_TOO_MANY_RECIPIENTS] = {452, "4.5.3", "Too many recipients"},
    [REPLY_TOO_MANY_UNKNOWN] = {451, "4.7.1", "Too many refused recipients in this session"},
    [REPLY_TOO_MANY_ERRORS] = {421, "4.7.0", "Error: too many errors"},
    [REPLY_BACKEND_UNREACHABLE] = {451, "4.4.1", "Mail server unreachable, try again later"},
    [REPLY_BACKEND_BUSY] = {451, "4.3.2", "Mail server busy, try again later"},
    [REPLY_BACKEND_LOST] = {451, "4.4.2", "Lost connection to mail server, try again later"},
    [REPLY_BACKEND_CONFIG] = {451, "4.3.5", "Mail server configuration error, try again later"},
    [REPLY_BACKEND_LACKS] = {451, "4.3.5",
                             "Mail server does not offer now what this message needs"},
    [REPLY_IDLE] = {421, "4.4.2", "Error: timeout exceeded"},
    [REPLY_SHUTTING_DOWN] = {421, "4.3.2", "Service shutting down, try again later"},
    [REPLY_SERVER_BUSY] = {421, "4.3.2", "Too busy, try again later"},
    [REPLY_CLIENT_LIMIT] = {421, "4.7.0", "Too many connections from your address"},
    [REPLY_NETWORK_LIMIT] = {421, "4.7.0", "Too many connections from your network"},
    [REPLY_CLIENT_DENIED] = {554, "5.7.1", "Access denied"},
    [REPLY_CLIENT_REFUSED] = {554, "5.7.1", "Connections from private addresses are not accepted"},
    [REPLY_EARLY_TALKER] = {554, "5.5.0", "Error: SMTP protocol synchronization"},
    [REPLY_SESSION_LIMIT] = {421, "4.4.2", "Session has lasted too long, connect again"},
    [REPLY_DATA_TIMEOUT] = {421, "4.4.2", "Error: timeout in mail data"},
    [REPLY_CHUNK_OK] = {250, "2.0.0", "Chunk received"},
    [REPLY_NOT_CHUNKED] = {503, "5.5.1", "Error: BDAT and DATA cannot be mixed here"},
    [REPLY_OTHER_BACKEND] = {452, "4.5.3",
                             "Recipient's mail server is another one: send it separately"},
    [REPLY_REQUIRETLS_UNSUPPORTED] = {550, "5.7.30", "REQUIRETLS support required"},
    [REPLY_AUTH_REQUIRED] = {530, "5.7.0", "Authentication required"},
    [REPLY_TLS_REQUIRED] = {530, "5.7.0", "Must issue a STARTTLS command first"},
    [REPLY_AUTH_ACTIVE] = {503, "5.5.1", "Error: already authenticated"},
    [REPLY_BAD_MECHANISM] = {504, "5.5.4", "Error: unknown authentication mechanism"},
    [REPLY_AUTH_TEMPORARY] = {454, "4.7.0", "Temporary authentication failure"},
    [REPLY_AUTH_LOST] = {421, "4.4.2", "Lost connection to mail server, log in again"},
    [REPLY_AUTH_FAILED] = {535, "5.7.8", "Error: authentication failed"},
    [REPLY_AUTH_TOO_OFTEN] = {454, "4.7.0", "Too many failed log-ins, try again later"},
    [REPLY_AUTH_CANCELLED] = {501, "5.7.0", "Error: authentication aborted or malformed"},
    [REPLY_SENDER_DENIED] = {553, "5.7.1", "Sender address not allowed for this user"},
    [REPLY_LITERAL_DENIED] = {550, "5.7.1", "Address literals are not accepted"},
    [REPLY_LOOP] = {554, "5.4.6", "Mail for this domain loops back to this host"},
    [REPLY_NO_SUCH_DOMAIN] = {550, "5.1.2", "Domain not found"},
    [REPLY_NULL_MX] = {556, "5.1.10", "Domain does not accept mail (null MX)"},
    [REPLY_NO_HOSTS] = {550, "5.4.4", "No mail server of the domain has a usable address"},
    [REPLY_DNS_TEMPORARY] = {451, "4.4.3", "Temporary failure in name resolution"},
    [REPLY_DESTINATION_BUSY] = {451, "4.3.2", "All sessions with this destination are in use"},
    [REPLY_DESTINATION_RATE] = {451, "4.3.2",
                                "The rate of messages to this destination is reached"},
    [REPLY_TOO_MANY_NEXT_HOPS] = {452, "4.5.3",
                                  "Too many destinations in one message: send it separately"},
    [REPLY_REMOTE_TOO_BIG] = {552, "5.3.4", "Message too big for the recipient's mail server"},
    [REPLY_STORE_FULL] = {452, "4.3.1", "No room to store the message now, try again later"},
    [REPLY_STORE_FAILED] = {451, "4.3.0", "The message cannot be stored now, try again later"},
    [REPLY_REMOTE_SLOW] = {451, "4.4.2", "The recipient's mail server has not answered yet"},
    [REPLY_REMOTE_LOST] = {451, "4.4.2", "Lost connection to the recipient's mail server"},
    [REPLY_XCLIENT_DENIED] = {550, "5.7.0", "Error: insufficient authorization"},
    [REPLY_DRAIN_LIMIT] = {421, "4.4.2", "Mail data refused and too long, try again later"},
};

void reply_clear(struct reply *reply)
{
    reply->code = 0;
    reply->enhanced[0] = '\0';
    reply->line_count = 0;
    reply->len = 0;
    reply->text[0] = '\0';
}

/* Octets of it that are in use. */
static size_t reply_size(const struct reply *reply)
{
    return offsetof(struct reply, text) + reply->len + 1;
}

void reply_copy(struct reply *to, const struct reply *from)
{
    memmove(to, from, reply_size(from));
}

struct reply *reply_dup(const struct reply *reply)
{
    struct reply *copy = malloc(reply_size(reply));
    if (copy != NULL)
        memcpy(copy, reply, reply_size(reply));
    return copy;
}

/* Cleaned, and cut to what is looked at. */
static void reply_add_line(struct reply *reply, const char *text, size_t len)
{
    if (len > REPLY_LINE_READ_MAX)
        len = REPLY_LINE_READ_MAX;
    if (reply->line_count == REPLY_LINES_MAX || len + 2 > sizeof reply->text - reply->len)
        return;
    char *out = reply->text + reply->len;
    for (size_t i = 0; i < len; i++)
        out[i] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
    out[len] = '\n';
    out[len + 1] = '\0';
    reply->len += len + 1;
    reply->line_count++;
}

static void reply_set_text(struct reply *reply, int code, const char *enhanced, const char *text)
{
    struct buffer copy;

    reply_clear(reply);
    reply->code = code;
    buffer_init(&copy, reply->enhanced, sizeof reply->enhanced);
    buffer_add_some(&copy, enhanced, strlen(enhanced));
    for (const char *line = text; line != NULL;) {
        const char *end = strchr(line, '\n');
        reply_add_line(reply, line, end != NULL ? (size_t)(end - line) : strlen(line));
        line = end != NULL && end[1] != '\0' ? end + 1 : NULL;
    }
}

void reply_set(struct reply *reply, int code, const char *enhanced, const char *format, ...)
{
    char text[REPLY_TEXT_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    reply_set_text(reply, code, enhanced, text);
}

void reply_own(struct reply *reply, enum own_reply which)
{
    reply_set_text(reply, own[which].code, own[which].enhanced, own[which].text);
}

static bool reply_is_digit(char octet)
{
    return octet >= '0' && octet <= '9';
}

size_t reply_enhanced_length(const char *text, size_t len, int code)
{
    size_t at = 1;
    if (len < 5 || text[0] != '0' + code / 100)
        return 0;
    for (int part = 0; part < 2; part++) {
        size_t digits = 0;
        if (at >= len || text[at++] != '.')
            return 0;
        while (at < len && reply_is_digit(text[at]) && digits < 4)
            at++, digits++;
        if (digits == 0 || digits > 3)
            return 0;
    }
    return at == len || text[at] == ' ' ? at : 0;
}

/* What was said under another code stands in one line with what comes next: under this one it was never
 * said. */
static void reply_join_lines(struct reply *reply)
{
    if (reply->len > REPLY_JOINED_MAX)
        reply->len = REPLY_JOINED_MAX;
    for (size_t i = 0; i < reply->len; i++)
        reply->text[i] = reply->text[i] == '\n' ? ' ' : reply->text[i];
    reply->line_count = 0;
}

enum reply_line_result reply_parse_line(struct reply *reply, const char *line, size_t len)
{
    if (len < 3 || !reply_is_digit(line[0]) || !reply_is_digit(line[1]) ||
        !reply_is_digit(line[2]) || (len > 3 && reply_is_digit(line[3])))
        return REPLY_LINE_GARBAGE;
    int code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
    if (code == 0) /* that there is no reply */
        code = 1;
    size_t said = len > 4 ? len - 4 : 0;
    if (reply->code != 0 && reply->code != code) {
        reply_join_lines(reply);
        said = said < REPLY_JOINED_MAX ? said : REPLY_JOINED_MAX;
    }
    reply->code = code;
    reply_add_line(reply, line + (len > 4 ? 4 : len), said);
    return len > 3 && line[3] == '-' ? REPLY_LINE_MORE : REPLY_LINE_LAST;
}

static size_t reply_line_length(const char *line)
{
    return strcspn(line, "\n");
}

void reply_misplaced(struct reply *reply)
{
    char said[REPLY_LINE_SHOWN_MAX];

    reply_summary(reply, said, sizeof said);
    reply_set(reply, 500, "5.5.0", "Protocol error, said: %s", said);
}

/* Takes the enhanced code off, when every line has the same. */
void reply_finish(struct reply *reply)
{
    if (reply->code < 200 || reply->code > 599) {
        reply_misplaced(reply);
        return;
    }
    size_t len = reply_enhanced_length(reply->text, reply_line_length(reply->text), reply->code);
    if (len == 0 || len >= sizeof reply->enhanced)
        return;
    memcpy(reply->enhanced, reply->text, len);
    reply->enhanced[len] = '\0';
    for (const char *line = reply->text; reply->line_count > 1 && *line != '\0';
         line += reply_line_length(line) + 1) {
        if (reply_enhanced_length(line, reply_line_length(line), reply->code) != len ||
            memcmp(line, reply->enhanced, len) != 0) {
            reply->enhanced[0] = '\0';
            return;
        }
    }
    char *to = reply->text;
    for (const char *line = reply->text; *line != '\0';) {
        const char *next = line + reply_line_length(line) + 1;
        const char *from = line[len] == ' ' ? line + len + 1 : line + len;
        memmove(to, from, (size_t)(next - from));
        to += next - from;
        line = next;
    }
    *to = '\0';
    reply->len = (size_t)(to - reply->text);
}

/* Nothing but, for the log, the last line that was no reply. */
static enum io_result reply_fail_reading(struct reply *reply, const char *shown, size_t len,
                                         enum io_result result)
{
    reply_clear(reply);
    if (len > 0)
        reply_add_line(reply, shown, len);
    return result;
}

enum io_result reply_read(struct stream *stream, struct reply *reply, bool lone,
                          struct deadline deadline)
{
    enum reply_line_result what;
    char shown[REPLY_LINE_SHOWN_MAX];
    size_t shown_len = 0;
    struct line line;

    reply_clear(reply);
    do {
        enum io_result result = stream_read_cut_line(stream, &line, REPLY_LINE_READ_MAX, deadline);
        if (result != IO_OK)
            return reply_fail_reading(reply, shown, shown_len, result);
        what = reply_parse_line(reply, line.text, line.len);
        if (what == REPLY_LINE_GARBAGE) {
            shown_len = line.len < sizeof shown ? line.len : sizeof shown;
            memcpy(shown, line.text, shown_len);
            if (!lone)
                return reply_fail_reading(reply, shown, shown_len, IO_FAILED);
        }
    } while (what != REPLY_LINE_LAST);
    reply_finish(reply);
    return IO_OK;
}

/* A line without its end, and no longer than a client must be able to take (RFC 5321 4.5.3.1.5). */
static void reply_put_line(struct buffer *buffer, const struct reply *reply, char separator,
                           const char *line)
{
    size_t before = buffer->len, len = reply_line_length(line);

    buffer_number(buffer, (uint64_t)reply->code, 3);
    buffer_add_some(buffer, &separator, 1);
    if (reply->enhanced[0] != '\0')
        buffer_join(buffer, reply->enhanced, " ", NULL);
    size_t most = REPLY_LINE_SENT_MAX - 2 - (buffer->len - before);
    buffer_add_some(buffer, line, len < most ? len : most);
}

size_t reply_format(const struct reply *reply, char *out, size_t size)
{
    struct buffer buffer;
    unsigned left = reply->line_count;

    buffer_init(&buffer, out, size);
    for (const char *line = reply->text; left > 0; line += reply_line_length(line) + 1) {
        size_t before = buffer.len;
        left--;
        reply_put_line(&buffer, reply, left > 0 ? '-' : ' ', line);
        buffer_puts(&buffer, "\r\n");
        if (buffer.overflow) /* a whole line or none */
            buffer.len = before;
    }
    buffer.data[buffer.len] = '\0';
    return buffer.len;
}

const char *reply_summary(const struct reply *reply, char *out, size_t size)
{
    struct buffer buffer;

    buffer_init(&buffer, out, size);
    reply_put_line(&buffer, reply, ' ', reply->text);
    return out;
}
