/* base/log.c - one event, one line, on standard error
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/utf8.h"

static atomic_int current_level = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
    atomic_store(&current_level, (int)level);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load(&current_level);
}

/* Room is always kept for the final newline. */
static void add_raw(struct log_line *line, const char *bytes, size_t len)
{
    if (len > LOG_LINE_MAX - 1 - line->len)
        len = LOG_LINE_MAX - 1 - line->len;
    memcpy(line->text + line->len, bytes, len);
    line->len += len;
}

/* All of it or nothing: a cut character or escape would be a forged one. */
static bool add_whole(struct log_line *line, const char *bytes, size_t len)
{
    if (len > LOG_LINE_MAX - 1 - line->len)
        return false;
    add_raw(line, bytes, len);
    return true;
}

static bool is_printable(unsigned char octet)
{
    return octet >= 0x20 && octet != 0x7f;
}

/* C1 controls (U+0080..U+009F) steer terminals as well as C0 ones do. */
static bool is_c1(const char *text, size_t len)
{
    return len == 2 && (unsigned char)text[0] == 0xc2 && (unsigned char)text[1] < 0xa0;
}

/* How much of it can stand as it is; nearly always all. */
static size_t plain_length(const char *text, size_t len)
{
    size_t at = 0;
    while (at < len && text[at] >= 0x20 && text[at] < 0x7f && text[at] != '"' && text[at] != '\\')
        at++;
    return at;
}

static void add_escaped(struct log_line *line, const char *text, size_t len, bool quoted)
{
    char unit[5]; /* a character, or what stands for it */
    size_t unit_len;
    size_t at = plain_length(text, len);

    add_raw(line, text, at);
    for (size_t step; at < len; at += step) {
        step = utf8_character(text + at, len - at);
        if (step == 0 || is_c1(text + at, step) ||
            (step == 1 && !is_printable((unsigned char)text[at]))) {
            unit_len = (size_t)snprintf(unit, sizeof unit, "\\x%02X", (unsigned char)text[at]);
            step = 1;
        } else if (quoted && (text[at] == '"' || text[at] == '\\')) {
            unit[0] = '\\';
            unit[1] = text[at];
            unit_len = 2;
        } else {
            memcpy(unit, text + at, step);
            unit_len = step;
        }
        if (!add_whole(line, unit, unit_len))
            return;
    }
}

void log_begin(struct log_line *line, enum log_level level, const char *text)
{
    char priority[] = "<0>";
    line->level = level;
    line->len = 0;
    line->enabled = log_enabled(level);
    if (!line->enabled)
        return;
    if (getenv("JOURNAL_STREAM") != NULL) {
        priority[1] = (char)('0' + level);
        add_raw(line, priority, 3);
    }
    add_raw(line, text, strlen(text));
}

static bool needs_quotes(const char *value, size_t len)
{
    return len == 0 || memchr(value, ' ', len) != NULL || memchr(value, '"', len) != NULL ||
           memchr(value, '=', len) != NULL;
}

void log_strn(struct log_line *line, const char *key, const char *value, size_t len)
{
    if (!line->enabled)
        return;
    add_raw(line, " ", 1);
    add_raw(line, key, strlen(key));
    add_raw(line, "=", 1);
    if (value == NULL) {
        add_raw(line, "-", 1);
        return;
    }
    bool quotes = needs_quotes(value, len);
    if (quotes)
        add_raw(line, "\"", 1);
    add_escaped(line, value, len, quotes);
    if (quotes)
        add_raw(line, "\"", 1);
}

void log_str(struct log_line *line, const char *key, const char *value)
{
    log_strn(line, key, value, value != NULL ? strlen(value) : 0);
}

void log_int(struct log_line *line, const char *key, int64_t value)
{
    char text[24];
    struct buffer number;

    buffer_init(&number, text, sizeof text);
    buffer_puts(&number, value < 0 ? "-" : "");
    buffer_number(&number, value < 0 ? -(uint64_t)value : (uint64_t)value, 1);
    log_strn(line, key, number.data, number.len);
}

static void add_formatted(struct log_line *line, const char *format, va_list arguments)
{
    char text[LOG_LINE_MAX];
    vsnprintf(text, sizeof text, format, arguments);
    add_escaped(line, text, strlen(text), false);
}

void log_text(struct log_line *line, const char *format, ...)
{
    va_list arguments;
    if (!line->enabled)
        return;
    va_start(arguments, format);
    add_formatted(line, format, arguments);
    va_end(arguments);
}

void log_end(struct log_line *line)
{
    if (!line->enabled)
        return;
    line->text[line->len++] = '\n';
    /* A log that cannot be written has nowhere to say so. */
    if (write(STDERR_FILENO, line->text, line->len) < 0)
        return;
}

void log_write(enum log_level level, const char *format, ...)
{
    struct log_line line;
    va_list arguments;
    log_begin(&line, level, "");
    if (!line.enabled)
        return;
    va_start(arguments, format);
    add_formatted(&line, format, arguments);
    va_end(arguments);
    log_end(&line);
}
