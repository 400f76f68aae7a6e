/* base/log.c - one event, one line, on standard error
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/utf8.h"

#define PATIENCE_MS 200 /* how long one line waits for a slow log reader before lines are dropped */

static atomic_int current_level = LOG_LEVEL_INFO;

enum log_output { LOG_OUTPUT_UNKNOWN, LOG_OUTPUT_FILE, LOG_OUTPUT_SOCKET, LOG_OUTPUT_OTHER };
static atomic_int current_output = LOG_OUTPUT_UNKNOWN;

/* Lines dropped because nobody reads the log. */
static struct {
    pthread_mutex_t lock;
    unsigned lost;
} log_backlog = {PTHREAD_MUTEX_INITIALIZER, 0};

void log_set_level(enum log_level level)
{
    atomic_store(&current_level, (int)level);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load(&current_level);
}

/* Room is always kept for the final newline. */
static void log_add_raw(struct log_line *line, const char *bytes, size_t len)
{
    if (len > LOG_LINE_MAX - 1 - line->len)
        len = LOG_LINE_MAX - 1 - line->len;
    memcpy(line->text + line->len, bytes, len);
    line->len += len;
}

static void log_add_octet(struct log_line *line, char octet)
{
    if (line->len < LOG_LINE_MAX - 1)
        line->text[line->len++] = octet;
}

/* Adds all of it or nothing: half a character or escape would read as another one. */
static bool log_add_whole(struct log_line *line, const char *bytes, size_t len)
{
    if (len > LOG_LINE_MAX - 1 - line->len)
        return false;
    log_add_raw(line, bytes, len);
    return true;
}

/* What an octet requires of the value it appears in. */
enum { LOG_ESCAPED = 1, LOG_QUOTED = 2 };
static const unsigned char log_octets[256] = {
    [0x00 ... 0x1f] = LOG_ESCAPED,
    [' '] = LOG_QUOTED,
    ['"'] = LOG_ESCAPED | LOG_QUOTED,
    ['='] = LOG_QUOTED,
    ['\\'] = LOG_ESCAPED,
    [0x7f ... 0xff] = LOG_ESCAPED,
};

/* What the octets of `text` require, combined. */
static unsigned log_look_at(const char *text, size_t len)
{
    unsigned found = 0;
    for (const char *end = text + len; text < end; text++)
        found |= log_octets[(unsigned char)*text];
    return found;
}

static void log_add_escaped(struct log_line *line, const char *text, size_t len, bool quoted)
{
    char unit[5]; /* a character, or its escape */
    size_t unit_len;

    for (size_t at = 0, step; at < len; at += step) {
        uint32_t character = utf8_decode(text + at, len - at, &step);
        if (step == 0 || !utf8_is_visible(character)) {
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
        if (!log_add_whole(line, unit, unit_len))
            return;
    }
}

/* Looked up once: systemd sets JOURNAL_STREAM before the program starts, or never. */
static bool log_is_of_journal(void)
{
    static atomic_int known; /* 0: not yet; 1: it is not; 2: it is */
    int journal = atomic_load_explicit(&known, memory_order_relaxed);

    if (journal == 0) {
        journal = getenv("JOURNAL_STREAM") != NULL ? 2 : 1;
        atomic_store_explicit(&known, journal, memory_order_relaxed);
    }
    return journal == 2;
}

void log_begin(struct log_line *line, enum log_level level, const char *text)
{
    char priority[] = "<0>";
    line->len = 0;
    line->enabled = log_enabled(level);
    if (!line->enabled)
        return;
    if (log_is_of_journal()) {
        priority[1] = (char)('0' + level);
        log_add_raw(line, priority, 3);
    }
    log_add_raw(line, text, strlen(text));
}

static void log_add_key(struct log_line *line, const char *key)
{
    log_add_octet(line, ' ');
    log_add_raw(line, key, strlen(key));
    log_add_octet(line, '=');
}

void log_strn(struct log_line *line, const char *key, const char *value, size_t len)
{
    if (!line->enabled)
        return;
    log_add_key(line, key);
    if (value == NULL) {
        log_add_octet(line, '-');
        return;
    }
    unsigned found = log_look_at(value, len);
    bool quotes = len == 0 || (found & LOG_QUOTED);
    if (quotes)
        log_add_octet(line, '"');
    if (found & LOG_ESCAPED)
        log_add_escaped(line, value, len, quotes);
    else
        log_add_raw(line, value, len);
    if (quotes)
        log_add_octet(line, '"');
}

void log_word(struct log_line *line, const char *key, const char *word)
{
    if (!line->enabled)
        return;
    log_add_key(line, key);
    log_add_raw(line, word, strlen(word));
}

void log_str(struct log_line *line, const char *key, const char *value)
{
    log_strn(line, key, value, value != NULL ? strlen(value) : 0);
}

void log_int(struct log_line *line, const char *key, int64_t value)
{
    char text[24];
    struct buffer number;

    if (!line->enabled)
        return;
    buffer_init(&number, text, sizeof text);
    if (value < 0)
        buffer_puts(&number, "-");
    buffer_number(&number, value < 0 ? -(uint64_t)value : (uint64_t)value, 1);
    log_add_key(line, key);
    log_add_raw(line, number.data, number.len);
}

static void log_add_formatted(struct log_line *line, const char *format, va_list arguments)
{
    char text[LOG_LINE_MAX];
    vsnprintf(text, sizeof text, format, arguments);
    size_t len = strlen(text);
    if (log_look_at(text, len) & LOG_ESCAPED)
        log_add_escaped(line, text, len, false);
    else
        log_add_raw(line, text, len);
}

void log_text(struct log_line *line, const char *format, ...)
{
    va_list arguments;
    if (!line->enabled)
        return;
    va_start(arguments, format);
    log_add_formatted(line, format, arguments);
    va_end(arguments);
}

static enum log_output log_find_output(void)
{
    int output = atomic_load_explicit(&current_output, memory_order_relaxed);
    struct stat status;

    if (output != LOG_OUTPUT_UNKNOWN)
        return (enum log_output)output;
    output = LOG_OUTPUT_OTHER;
    if (fstat(STDERR_FILENO, &status) == 0 && S_ISREG(status.st_mode))
        output = LOG_OUTPUT_FILE;
    else if (fstat(STDERR_FILENO, &status) == 0 && S_ISSOCK(status.st_mode))
        output = LOG_OUTPUT_SOCKET;
    atomic_store(&current_output, output);
    return (enum log_output)output;
}

/* Is there room for a line? A pipe that polls ready has at least 4 KiB free. */
static bool log_has_room(int wait_ms)
{
    struct pollfd poll_fd = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&poll_fd, 1, wait_ms) != 0;
}

static void log_put(const char *text, size_t len)
{
    /* If the log cannot be written, there is nowhere to report it. */
    if (write(STDERR_FILENO, text, len) < 0)
        return;
}

static void log_put_lost(unsigned lost)
{
    char text[80];
    int len = snprintf(text, sizeof text, "event=log-lost count=%u\n", lost);
    log_put(text, (size_t)len);
}

/* Writes the line unless the reader is stuck: a pipe whose other end is stopped, a journal that
 * hangs. Only one thread at a time, so that no other line takes the room that poll(2) reported. */
static void log_put_if_taken(const char *text, size_t len)
{
    pthread_mutex_lock(&log_backlog.lock);
    if (!log_has_room(log_backlog.lost > 0 ? 0 : PATIENCE_MS)) {
        log_backlog.lost++;
        pthread_mutex_unlock(&log_backlog.lock);
        return;
    }
    if (log_backlog.lost > 0) {
        log_put_lost(log_backlog.lost);
        log_backlog.lost = log_has_room(0) ? 0 : 1;
    }
    if (log_backlog.lost == 0)
        log_put(text, len);
    pthread_mutex_unlock(&log_backlog.lock);
}

void log_end(struct log_line *line)
{
    if (!line->enabled)
        return;
    line->text[line->len++] = '\n';
    enum log_output output = log_find_output();
    if (output == LOG_OUTPUT_FILE)
        log_put(line->text, line->len);
    else if (output != LOG_OUTPUT_SOCKET ||
             send(STDERR_FILENO, line->text, line->len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        log_put_if_taken(line->text, line->len);
}

void log_write(enum log_level level, const char *format, ...)
{
    struct log_line line;
    va_list arguments;
    log_begin(&line, level, "");
    if (!line.enabled)
        return;
    va_start(arguments, format);
    log_add_formatted(&line, format, arguments);
    va_end(arguments);
    log_end(&line);
}
