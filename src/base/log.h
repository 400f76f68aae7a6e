/* base/log.h - one event, one line, on standard error
 *
 * Every line is written by one write(2), so lines of several threads never mix. Under systemd
 * (JOURNAL_STREAM set) each line starts with the sd-daemon priority "<6>"; elsewhere with nothing.
 * Values that come from the wire are escaped here: control characters, DEL, and octets that are
 * not printable ASCII or valid UTF-8 become \xNN, so no input can forge a line. Never pass a
 * password, key or AUTH exchange to it.
 *
 * Two things are process-wide state: the level (an atomic, set by main and by a reload) and the
 * count of lost lines. If nobody reads the log, one line waits briefly for room and later lines do
 * not wait at all; they are dropped until there is room again, and "event=log-lost count=N" then
 * reports them. So the log never blocks a worker for long. All functions are thread-safe and never
 * fail; a line longer than LOG_LINE_MAX is cut.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_LOG_H
#define POSTERN_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_LINE_MAX 2048

enum log_level { /* the numbers are syslog's */
                 LOG_LEVEL_ERROR = 3,
                 LOG_LEVEL_WARNING = 4,
                 LOG_LEVEL_NOTICE = 5,
                 LOG_LEVEL_INFO = 6,
                 LOG_LEVEL_DEBUG = 7,
};

/* A line being built: log_begin(), any number of log_str()/log_int()..., then log_end(). */
struct log_line {
    bool enabled;
    size_t len;
    char text[LOG_LINE_MAX];
};

/* Lines below this level are not written. Thread-safe, as the next one. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* Writes a whole line by printf; the result is escaped like every value. */
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Starts a line with `text`, a literal of ours ("event=deliver", "NOQUEUE: reject: ..."). */
void log_begin(struct log_line *line, enum log_level level, const char *text);

/* Adds " key=value". The value gets double quotes if it is empty or contains a space, '"' or '=';
 * inside them '"' and '\' are escaped by '\'. NULL is written as "-". */
void log_str(struct log_line *line, const char *key, const char *value);
void log_strn(struct log_line *line, const char *key, const char *value, size_t len);
void log_int(struct log_line *line, const char *key, int64_t value);

/* The same for a word of ours that never needs quotes or escapes: a name from a table, an id, an address. Nothing
 * that came from a peer. */
void log_word(struct log_line *line, const char *key, const char *word);

/* Adds text by printf, escaped, with no space, key or quotes of its own. */
void log_text(struct log_line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Writes the line out. The struct can then be reused for the next. */
void log_end(struct log_line *line);

#endif
