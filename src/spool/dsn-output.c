/* spool/dsn-output.c - turns text into mail data: line ends, lengths, encodings
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base64.h"
#include "base/utf8.h"
#include "spool/dsn-internal.h"

#define MAILBOX_LINE_MAX 900
#define WRAP_COLUMN 76
#define ENCODED_WORD_TEXT 45 /* octets: with their base64 a word has 72 of at most 75 */

int dsn_output_flush(struct dsn_output *output)
{
    struct iovec iov = {output->data, output->used};
    output->used = 0;
    if (!output->failed && iov.iov_len > 0)
        output->failed = output->sink(output->context, &iov, 1, output->err) != 0;
    return output->failed ? -1 : 0;
}

int dsn_output_raw(struct dsn_output *output, const char *bytes, size_t len)
{
    struct iovec iov = {(char *)bytes, len};
    if (dsn_output_flush(output) == 0 && len > 0)
        output->failed = output->sink(output->context, &iov, 1, output->err) != 0;
    return output->failed ? -1 : 0;
}

static void dsn_put_octet(struct dsn_output *output, char octet)
{
    output->data[output->used++] = octet;
}

static void dsn_end_line(struct dsn_output *output)
{
    dsn_put_octet(output, '\r');
    dsn_put_octet(output, '\n');
    output->column = 0;
}

static bool dsn_is_continuation(char octet)
{
    return ((unsigned char)octet & 0xc0) == 0x80;
}

static ssize_t dsn_write_text(void *cookie, const char *text, size_t len)
{
    struct dsn_output *output = cookie;
    for (size_t i = 0; i < len; i++) {
        char octet = text[i];
        /* CRLF, a doubled dot and the octet itself */
        if (output->used + 6 > sizeof output->data && dsn_output_flush(output) != 0)
            return 0;
        if (octet == '\n') {
            dsn_end_line(output);
            continue;
        }
        /* Never split a character: in valid UTF-8, at most three octets continue one. */
        if (output->column >= DSN_LINE_MAX + 3 ||
            (output->column >= DSN_LINE_MAX && !dsn_is_continuation(octet))) {
            dsn_end_line(output);
            dsn_put_octet(output, ' ');
            output->column = 1;
        }
        if (octet == '.' && output->column == 0)
            dsn_put_octet(output, '.');
        bool control = (unsigned char)octet < 0x20 || octet == 0x7f;
        dsn_put_octet(output, control && octet != '\t' ? '?' : octet);
        output->column++;
    }
    return (ssize_t)len;
}

FILE *dsn_output_open(struct dsn_output *output)
{
    cookie_io_functions_t functions = {.write = dsn_write_text};
    return fopencookie(output, "w", functions);
}

bool dsn_is_ascii(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text >= 0x80)
            return false;
    }
    return true;
}

static void dsn_put_word(FILE *out, const char *word, size_t len, bool utf8)
{
    for (size_t at = 0, step; at < len; at += step) {
        step = utf8_character(word + at, len - at);
        if (step == 0 || (step > 1 && !utf8)) {
            putc('?', out);
            step = 1;
        } else {
            fwrite(word + at, 1, step, out);
        }
    }
}

void dsn_put_wrapped(FILE *out, size_t column, const char *indent, const char *text, bool utf8)
{
    bool first = true;
    while (*(text += strspn(text, " \n")) != '\0') {
        size_t len = strcspn(text, " \n");
        if (!first && column + 1 + len > WRAP_COLUMN) {
            fprintf(out, "\n%s", indent);
            column = strlen(indent);
        } else if (!first) {
            putc(' ', out);
            column++;
        }
        dsn_put_word(out, text, len, utf8);
        column += len;
        text += len;
        first = false;
    }
}

void dsn_put_mailbox(FILE *out, const char *mailbox)
{
    size_t column = 0;
    for (; *mailbox != '\0'; mailbox++) {
        if (++column > MAILBOX_LINE_MAX && !dsn_is_continuation(*mailbox)) {
            fputs("\n ", out);
            column = 1;
        }
        putc(*mailbox, out);
    }
}

void dsn_put_header_text(FILE *out, const char *text)
{
    if (dsn_is_ascii(text)) {
        dsn_put_wrapped(out, 10, " ", text, false);
        return;
    }
    for (size_t len = strlen(text), piece; len > 0; text += piece, len -= piece) {
        char word[BASE64_SIZE(ENCODED_WORD_TEXT)];
        piece = len < ENCODED_WORD_TEXT ? len : ENCODED_WORD_TEXT;
        while (piece < len && dsn_is_continuation(text[piece]))
            piece--;
        fprintf(out, "=?UTF-8?B?%s?=%s", base64_encode(text, piece, word),
                piece < len ? "\n " : "");
    }
}

void dsn_put_quoted_printable(FILE *out, const char *text)
{
    size_t column = 0;
    for (; *text != '\0'; text++) {
        unsigned char octet = (unsigned char)*text;
        bool last = text[1] == '\n';
        if (octet == '\n') {
            putc('\n', out);
            column = 0;
            continue;
        }
        bool plain = (octet > 0x20 && octet < 0x7f && octet != '=') || (octet == ' ' && !last);
        if (column + (plain ? 1 : 3) > (last ? 76 : 75)) {
            fputs("=\n", out);
            column = 0;
        }
        if (plain)
            putc(octet, out);
        else
            fprintf(out, "=%02X", octet);
        column += plain ? 1 : 3;
    }
}

const char *dsn_date(int64_t when, char out[DSN_DATE_MAX])
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t seconds = (time_t)when;
    struct tm tm;
    if (gmtime_r(&seconds, &tm) == NULL)
        memset(&tm, 0, sizeof tm);
    snprintf(out, DSN_DATE_MAX, "%.3s, %d %.3s %d %02d:%02d:%02d +0000", days + 3 * tm.tm_wday,
             tm.tm_mday, months + 3 * tm.tm_mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
             tm.tm_sec);
    return out;
}
