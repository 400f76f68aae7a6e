/* relayctl/json.h - JSON for programs that read what relayctl prints
 *
 * Writes to a stdio stream; no state.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_JSON_H
#define POSTERN_RELAYCTL_JSON_H

#include <stddef.h>
#include <stdio.h>

/* A string with its quotes. What is not UTF-8 is taken for Latin-1, so that nothing is lost. */
void json_string(FILE *out, const char *text, size_t len);

/* `, "name": "text"` */
void json_member(FILE *out, const char *name, const char *text);

#endif
