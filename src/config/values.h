/* config/values.h - the pieces of option values that loading needs too
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_CONFIG_VALUES_H
#define POSTERN_CONFIG_VALUES_H

#include "base/error.h"

/* A new string; relative names start from `folder`. NULL when out of memory. */
char *value_absolute(const char *text, const char *folder);

/* Replaces *place (freed) by the absolute name; "" stays "". -1 with a reason when the file cannot
 * be read. */
int value_set_file(char **place, const char *text, const char *folder, struct error *err);

#endif
