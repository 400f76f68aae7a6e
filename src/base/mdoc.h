/* base/mdoc.h - text for manual pages that are made from tables
 *
 * Used when manuals are built, by the tables of options, counters and events. Owns nothing.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_MDOC_H
#define POSTERN_BASE_MDOC_H

#include <stdio.h>
#include <string.h>

/* Prints each sentence on its own line, as mdoc(7) requires. */
static inline void mdoc_print_sentences(const char *text, FILE *out)
{
    for (const char *end; (end = strstr(text, ". ")) != NULL; text = end + 2)
        fprintf(out, "%.*s.\n", (int)(end - text), text);
    fprintf(out, "%s\n", text);
}

#endif
