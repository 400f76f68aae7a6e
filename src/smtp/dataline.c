/* smtp/dataline.c - the scanner of mail data: the one place that knows the end of data
 *
 * A body is scanned in blocks as long as nothing special is in them; a header, and what such blocks leave,
 * with memchr(3), a line at a time. Only lines with something bare in them, and the ends of pieces, go
 * through the state machine octet by octet.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/dataline.h"

#include <string.h>
#include <strings.h>

#include "base/utf8.h"

enum state {
    AT_LINE,       /* after CRLF, or at the very start: a dot here may be the end */
    AT_LOOSE_LINE, /* after an LF that became CRLF: a lone dot here is a false end */
    IN_LINE,
    AFTER_CR,  /* CR held back */
    AFTER_DOT, /* line start, "." held back */
    AFTER_LOOSE_DOT,
    AFTER_DOT_CR, /* line start, "." CR held back */
    AFTER_LOOSE_DOT_CR,
};

static const char trace_name[] = "received:";
#define NO_MATCH 0xffffu

void dataline_init(struct dataline *scanner, enum dataline_mode mode, enum dataline_form form)
{
    memset(scanner, 0, sizeof *scanner);
    scanner->mode = mode;
    scanner->form = form;
    scanner->state = AT_LINE;
    scanner->in_header = true;
}

/* Adds a range to the output. Adjacent ranges become one. */
static void dataline_emit(struct dataline *scanner, struct dataline_output *output,
                          const char *bytes, size_t len)
{
    if (scanner->offence || len == 0)
        return;
    if (output->count > 0) {
        struct iovec *last = &output->iov[output->count - 1];
        if ((const char *)last->iov_base + last->iov_len == bytes) {
            last->iov_len += len;
            return;
        }
    }
    output->iov[output->count++] = (struct iovec){(void *)bytes, len};
}

/* Replaces something that is not canonical, or notes the offence. */
static void dataline_replace(struct dataline *scanner, struct dataline_output *output,
                             const char *bytes)
{
    if (scanner->mode == DATALINE_REJECT)
        scanner->offence = true;
    dataline_emit(scanner, output, bytes, strlen(bytes));
}

/* Takes octets of a header line, to find "Received:". If nothing has matched at its end, the line is
 * empty. */
static void dataline_note_text(struct dataline *scanner, const char *bytes, size_t len)
{
    if (!scanner->in_header)
        return;
    scanner->header_is_utf8 |= !utf8_is_ascii(bytes, len);
    for (size_t i = 0; i < len && scanner->match != NO_MATCH; i++) {
        char octet = bytes[i] >= 'A' && bytes[i] <= 'Z' ? (char)(bytes[i] + 32) : bytes[i];
        if (octet != trace_name[scanner->match]) {
            scanner->match = NO_MATCH;
        } else if (++scanner->match == sizeof trace_name - 1) {
            scanner->received_count++;
            scanner->match = NO_MATCH;
        }
    }
}

static void dataline_note_line_end(struct dataline *scanner)
{
    if (scanner->match == 0)
        scanner->in_header = false;
    scanner->match = 0;
}

static void dataline_end_line(struct dataline *scanner, enum state next)
{
    dataline_note_line_end(scanner);
    scanner->state = next;
}

/* Takes an octet where no dot is special. `at` points to it in the input. */
static void dataline_take_text(struct dataline *scanner, const char *at,
                               struct dataline_output *output)
{
    scanner->state = IN_LINE;
    switch (*at) {
    case '\r':
        scanner->state = AFTER_CR;
        break;
    case '\n':
        dataline_replace(scanner, output, "\r\n");
        dataline_end_line(scanner, AT_LOOSE_LINE);
        break;
    case '\0':
        dataline_note_text(scanner, " ", 1);
        dataline_replace(scanner, output, " ");
        break;
    default:
        dataline_note_text(scanner, at, 1);
        dataline_emit(scanner, output, at, 1);
    }
}

/* Takes the octet after a dot at the start of a line. `strict`: the line began after a CRLF. */
static void dataline_take_after_dot(struct dataline *scanner, const char *at, bool strict,
                                    struct dataline_output *output)
{
    if (*at == '\r') {
        scanner->state = strict ? AFTER_DOT_CR : AFTER_LOOSE_DOT_CR;
        return;
    }
    dataline_note_text(scanner, ".", 1);
    if (*at == '\n') {
        /* A false end of data: stuff the dot, so that no later host takes it for one. */
        dataline_replace(scanner, output, "..\r\n");
        dataline_end_line(scanner, AT_LOOSE_LINE);
        return;
    }
    dataline_emit(scanner, output, ".", 1);
    dataline_take_text(scanner, at, output);
}

static void dataline_take_after_dot_cr(struct dataline *scanner, const char *at, bool strict,
                                       struct dataline_output *output)
{
    if (*at == '\n' && strict) {
        scanner->ended = true;
        return;
    }
    dataline_note_text(scanner, ".", 1);
    if (*at == '\n') {
        dataline_replace(scanner, output, "..\r\n");
        dataline_end_line(scanner, AT_LINE);
        return;
    }
    dataline_replace(scanner, output, ". ");
    dataline_take_text(scanner, at, output);
}

static void dataline_take_octet(struct dataline *scanner, const char *at,
                                struct dataline_output *output)
{
    switch ((enum state)scanner->state) {
    case AT_LINE:
    case AT_LOOSE_LINE:
        if (*at == '.' && scanner->form == DATALINE_STUFF)
            dataline_emit(scanner, output, ".", 1);
        if (*at != '.' || scanner->form != DATALINE_LINES)
            dataline_take_text(scanner, at, output);
        else
            scanner->state = scanner->state == AT_LINE ? AFTER_DOT : AFTER_LOOSE_DOT;
        break;
    case IN_LINE:
        dataline_take_text(scanner, at, output);
        break;
    case AFTER_CR:
        if (*at == '\n') {
            dataline_emit(scanner, output, "\r\n", 2);
            dataline_end_line(scanner, AT_LINE);
        } else {
            dataline_note_text(scanner, " ", 1);
            dataline_replace(scanner, output, " ");
            dataline_take_text(scanner, at, output);
        }
        break;
    case AFTER_DOT:
    case AFTER_LOOSE_DOT:
        dataline_take_after_dot(scanner, at, scanner->state == AFTER_DOT, output);
        break;
    case AFTER_DOT_CR:
    case AFTER_LOOSE_DOT_CR:
        dataline_take_after_dot_cr(scanner, at, scanner->state == AFTER_DOT_CR, output);
        break;
    }
}

#define BLOCK 64 /* octets */

/* Is nothing in a block of a body special for any form: a bare CR or LF, a dot at the start of a line? Each octet
 * is looked at with the two behind it, which must also be there for the last. */
static bool dataline_block_is_plain(const char *block)
{
    typedef char octets __attribute__((vector_size(16)));
    octets bare = {0}, dots = {0}, first, second, third;
    uint64_t half[2];

#pragma GCC unroll 4
    for (size_t i = 0; i < BLOCK; i += sizeof first) {
        memcpy(&first, block + i, sizeof first);
        memcpy(&second, block + i + 1, sizeof second);
        memcpy(&third, block + i + 2, sizeof third);
        bare |= (first == '\r') ^ (second == '\n');
        dots |= (second == '\n') & (third == '.');
    }
    bare |= dots;
    memcpy(half, &bare, sizeof half);
    return (half[0] | half[1]) == 0;
}

/* Returns the place after the plain blocks at the beginning of a piece of body. It is never the end, a dot that is
 * special, or an LF after its CR. */
static const char *dataline_skip_plain(const char *bytes, const char *end)
{
    const char *at = bytes;

    if (at < end && *at == '\n')
        return at;
    while (end - at > BLOCK + 1 && dataline_block_is_plain(at))
        at += BLOCK;
    return at > bytes && at[-1] == '\r' ? at - 1 : at;
}

/* Takes canonical text without a NUL, from a place where no dot is special, up to its last CRLF or, in a body,
 * the end of a plain block behind it. Returns the octets taken; 0 if the next line is not canonical or not
 * complete. */
static size_t dataline_take_canonical(struct dataline *scanner, const char *bytes, size_t len,
                                      struct dataline_output *output)
{
    const char *line = bytes, *end = bytes + len;

    while (line < end && (line == bytes || *line != '.' || scanner->form == DATALINE_CHUNKS)) {
        const char *plain = scanner->in_header ? line : dataline_skip_plain(line, end);
        if (plain > line)
            scanner->state = plain[-1] == '\n' ? AT_LINE : IN_LINE;
        line = plain;
        const char *lf = memchr(line, '\n', (size_t)(end - line));
        if (lf == NULL || lf == line || lf[-1] != '\r')
            break;
        size_t text_len = (size_t)(lf - 1 - line);
        if (memchr(line, '\r', text_len) != NULL)
            break;
        dataline_note_text(scanner, line, text_len);
        dataline_end_line(scanner, AT_LINE);
        line = lf + 1;
    }
    dataline_emit(scanner, output, bytes, (size_t)(line - bytes));
    return (size_t)(line - bytes);
}

/* The same for the beginning of a line whose end has not arrived. */
static size_t dataline_take_open_line(struct dataline *scanner, const char *bytes, size_t len,
                                      struct dataline_output *output)
{
    if (memchr(bytes, '\n', len) != NULL || memchr(bytes, '\r', len) != NULL ||
        memchr(bytes, '\0', len) != NULL)
        return 0;
    dataline_note_text(scanner, bytes, len);
    dataline_emit(scanner, output, bytes, len);
    scanner->state = IN_LINE;
    return len;
}

static bool dataline_dot_is_special(const struct dataline *scanner, char next)
{
    return scanner->state > IN_LINE ||
           (scanner->state != IN_LINE && next == '.' && scanner->form != DATALINE_CHUNKS);
}

/* Examines only the header, for its trace fields. Ignores CRs, so that it does not matter where a piece
 * ends. */
static size_t dataline_take_binary(struct dataline *scanner, const char *bytes, size_t len,
                                   struct dataline_output *output)
{
    for (const char *at = bytes, *end = bytes + len; scanner->in_header && at < end;) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        const char *line_end = lf != NULL ? lf : end;
        for (; at < line_end; at++)
            dataline_note_text(scanner, at, *at != '\r');
        if (lf == NULL)
            break;
        dataline_note_line_end(scanner);
        at = lf + 1;
    }
    dataline_emit(scanner, output, bytes, len);
    scanner->octets += len;
    return len;
}

size_t dataline_scan(struct dataline *scanner, const char *bytes, size_t len,
                     struct dataline_output *output)
{
    size_t at = 0, whole = 0; /* there is no NUL before `whole` */

    output->count = 0;
    if (scanner->form == DATALINE_BINARY)
        return dataline_take_binary(scanner, bytes, len, output);
    /* One octet yields at most two ranges. */
    while (at < len && !scanner->ended && output->count <= DATALINE_IOV - 2) {
        if (!dataline_dot_is_special(scanner, bytes[at])) {
            if (whole <= at)
                whole = at + strnlen(bytes + at, len - at);
            size_t taken = dataline_take_canonical(scanner, bytes + at, whole - at, output);
            if (taken == 0)
                taken = dataline_take_open_line(scanner, bytes + at, len - at, output);
            at += taken;
            if (taken > 0)
                continue;
        }
        dataline_take_octet(scanner, bytes + at, output);
        at++;
    }
    scanner->octets += at;
    if (scanner->ended)
        scanner->octets -= 3; /* "." CRLF is not part of the message */
    return at;
}

void dataline_finish(struct dataline *scanner, struct dataline_output *output)
{
    output->count = 0;
    if (scanner->state == AFTER_CR) {
        dataline_replace(scanner, output, " ");
        scanner->state = IN_LINE;
    }
    if (scanner->form == DATALINE_STUFF && scanner->state == IN_LINE)
        dataline_emit(scanner, output, "\r\n", 2);
    scanner->ended = true;
}
