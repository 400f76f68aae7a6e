/* config/values.h - the parts of option parsing that loading needs too
 *
 * Internal to config/config. Keeps no state; thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_CONFIG_VALUES_H
#define POSTERN_CONFIG_VALUES_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Returns a new string that the caller frees; relative names start from `folder`. NULL if out of
 * memory. */
char *value_absolute(const char *text, const char *folder);

/* Says why this file cannot be read, or returns NULL if it can. */
const char *value_file_problem(const char *path);

/* Frees *place and replaces it with the absolute name; "" stays "". Returns 0, or -1 with a reason if
 * the file cannot be read. */
int value_set_file(char **place, const char *text, const char *folder, struct error *err);

#define BYTE_ORDER_MARK "\xef\xbb\xbf" /* UTF-8's, which some editors put first */

/* Strips the comment, the surrounding blanks and a byte-order mark from a line of a value file. Changes
 * the line and returns its start. */
char *value_trim(char *line);

/* Writes "250ms", "30s" or "5m", in the largest unit that divides it. Returns `out`. */
const char *value_format_duration(int64_t ms, char *out, size_t size);

#endif
