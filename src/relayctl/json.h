/* relayctl/json.h - writes JSON for programs that read relayctl's output
 *
 * Writes to a stdio stream. Stateless, thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_JSON_H
#define POSTERN_RELAYCTL_JSON_H

#include <stddef.h>
#include <stdio.h>

/* Writes a string with its quotes. Octets that are not UTF-8 are taken as Latin-1, so that nothing is
 * lost. */
void json_string(FILE *out, const char *text, size_t len);

/* Writes `, "name": "text"`. */
void json_member(FILE *out, const char *name, const char *text);

#endif
