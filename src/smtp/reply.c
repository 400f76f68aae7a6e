/* smtp/reply.c - replies: reads a next hop's, writes ours (RFC 5321 4.2, RFC 2034)
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/reply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/utf8.h"

#define REPLY_LINE_READ_MAX 2048 /* octets; the rest of a longer line is ignored */
#define REPLY_LINE_SENT_MAX 512  /* octets of a line passed on, including its CRLF */
#define REPLY_JOINED_MAX 240     /* octets of each of two lines that are joined */
#define REPLY_LINE_SHOWN_MAX 120 /* octets of a line that is not a reply, for the log */

static const struct reply_row {
    int code;
    char enhanced[REPLY_ENHANCED_MAX];
    const char *text;
} own[REPLY_OWN_COUNT] = {
#define REPLY_ROW(name, code, enhanced, text) {code, enhanced, text},
    OWN_REPLIES(REPLY_ROW)
#undef REPLY_ROW
};

void reply_clear(struct reply *reply)
{
    reply->code = 0;
    reply->enhanced[0] = '\0';
    reply->line_count = 0;
    reply->ours = false;
    reply->len = 0;
    reply->text[0] = '\0';
}

/* The number of octets of the struct that are in use. */
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

static size_t reply_line_length(const char *line)
{
    return (size_t)(strchrnul(line, '\n') - line);
}

/* Adds a line, cleaned and cut to REPLY_LINE_READ_MAX. */
static void reply_add_line(struct reply *reply, const char *text, size_t len)
{
    if (len > REPLY_LINE_READ_MAX)
        len = REPLY_LINE_READ_MAX;
    if (reply->line_count == REPLY_LINES_MAX || len + 2 > sizeof reply->text - reply->len)
        return;
    char *out = reply->text + reply->len;
    memcpy(out, text, len);
    bool clean = utf8_is_printable_ascii(text, len);
    for (size_t i = 0; i < len && !clean; i++)
        out[i] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
    out[len] = '\n';
    out[len + 1] = '\0';
    reply->len += len + 1;
    reply->line_count++;
}

/* Makes the reply in this row of the table, with `text` as its text. */
static void reply_set(struct reply *reply, const struct reply_row *row, const char *text)
{
    reply_clear(reply);
    reply->ours = true;
    reply->code = row->code;
    memcpy(reply->enhanced, row->enhanced, sizeof reply->enhanced);
    for (const char *line = text;;) {
        size_t len = reply_line_length(line);
        reply_add_line(reply, line, len);
        if (line[len] == '\0' || line[len + 1] == '\0')
            return;
        line += len + 1;
    }
}

void reply_own(struct reply *reply, enum own_reply which)
{
    reply_set(reply, &own[which], own[which].text);
}

void reply_own_list(struct reply *reply, enum own_reply which, const char *const *arguments)
{
    char storage[REPLY_LINE_READ_MAX];
    struct buffer text;
    const char *rest = own[which].text;

    buffer_init(&text, storage, sizeof storage);
    for (const char *place; (place = strstr(rest, "%s")) != NULL; rest = place + 2) {
        buffer_add_some(&text, rest, (size_t)(place - rest));
        if (*arguments != NULL) {
            buffer_add_some(&text, *arguments, strlen(*arguments));
            arguments++;
        }
    }
    buffer_add_some(&text, rest, strlen(rest));
    reply_set(reply, &own[which], storage);
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

/* Joins the earlier lines, which came under another code, into one line with the next, so that they don't
 * appear as separate lines under this code. */
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
    if (code == 0) /* 0 means "no reply" */
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

void reply_misplaced(struct reply *reply)
{
    char said[REPLY_LINE_SHOWN_MAX];

    reply_summary(reply, said, sizeof said);
    reply_own_with(reply, REPLY_REMOTE_MISPLACED, said);
    reply->ours = false;
}

/* Removes the enhanced code if every line has the same. */
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

/* Clears the reply, except for the last line that was not a reply, for the log. */
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

/* Writes a line without its end, no longer than a client must be able to accept (RFC 5321 4.5.3.1.5). A challenge may be
 * longer (RFC 4954 4), and would be worthless if cut. */
static void reply_put_line(struct buffer *buffer, const struct reply *reply, char separator,
                           const char *line, size_t len)
{
    size_t before = buffer->len;
    const char code[] = {(char)('0' + reply->code / 100), (char)('0' + reply->code / 10 % 10),
                         (char)('0' + reply->code % 10), separator};

    buffer_add(buffer, code, sizeof code);
    if (reply->enhanced[0] != '\0') {
        buffer_puts(buffer, reply->enhanced);
        buffer_puts(buffer, " ");
    }
    size_t most = reply->code == 334 ? len : REPLY_LINE_SENT_MAX - 2 - (buffer->len - before);
    buffer_add_some(buffer, line, len < most ? len : most);
}

size_t reply_format(const struct reply *reply, char *out, size_t size)
{
    struct buffer buffer;
    unsigned left = reply->line_count;

    buffer_init(&buffer, out, size);
    for (const char *line = reply->text; left > 0;) {
        size_t before = buffer.len, len = reply_line_length(line);
        left--;
        reply_put_line(&buffer, reply, left > 0 ? '-' : ' ', line, len);
        line += len + 1;
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
    reply_put_line(&buffer, reply, ' ', reply->text, reply_line_length(reply->text));
    return out;
}
