/* config/values.h - the pieces of option values that loading needs too
 *
 * Internal to config/config.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_CONFIG_VALUES_H
#define POSTERN_CONFIG_VALUES_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A new string; relative names start from `folder`. NULL when out of memory. */
char *value_absolute(const char *text, const char *folder);

/* Why this file cannot be read, or NULL when it can. */
const char *value_file_problem(const char *path);

/* Replaces *place (freed) by the absolute name; "" stays "". -1 with a reason when the file cannot
 * be read. */
int value_set_file(char **place, const char *text, const char *folder, struct error *err);

#define BYTE_ORDER_MARK "\xef\xbb\xbf" /* of UTF-8, which some editors put first */

/* A line of a domain file without its comment, the blanks around and a byte-order mark; changes
 * the line. */
char *value_trim(char *line);

/* "250ms", "30s", "5m": in the largest unit that fits. Returns `out`. */
const char *value_format_duration(int64_t ms, char *out, size_t size);

#endif
