/* base/error.h - an error on its way up to the one place that prints it
 *
 * A function that can fail for a reason a person will read takes a struct error as its last
 * argument, fills in what happened, to what, and what to do about it, and returns -1 (or NULL).
 * It never logs: the caller that gives up on the work logs the text, once. Owns nothing; the caller
 * keeps the struct, usually on its stack. Not shared between threads.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_ERROR_H
#define POSTERN_BASE_ERROR_H

#define ERROR_TEXT_MAX 512

struct error {
    char text[ERROR_TEXT_MAX]; /* NUL-terminated, one line, already translated; "" when unset */
};

/* Formats the text, cut at ERROR_TEXT_MAX - 1 octets. Does nothing if `err` is NULL. */
void error_set(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
