/* smtp/mbox.c - finds mailbox file lines before a message
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/mbox.h"

#include <string.h>

static const char mbox_longest[] = ">>>>>>>>>>>>>>>>From ";
static const char *const mbox_from = mbox_longest + MBOX_QUOTES_MAX;

/* Matches one more octet of a line that may be one. */
static void mbox_match(struct mbox_lines *lines, char octet)
{
    if (octet == '>' && lines->matched == 0 && lines->quotes < MBOX_QUOTES_MAX)
        lines->quotes++;
    else if (octet != mbox_from[lines->matched])
        lines->over = true;
    else if (mbox_from[++lines->matched] == '\0')
        lines->in_line = true;
}

size_t mbox_take(struct mbox_lines *lines, const char *bytes, size_t len)
{
    size_t sure = 0, at = 0;

    while (at < len && !lines->over) {
        if (!lines->in_line) {
            mbox_match(lines, bytes[at++]);
        } else {
            const char *lf = memchr(bytes + at, '\n', len - at);
            at = lf != NULL ? (size_t)(lf + 1 - bytes) : len;
            if (lf != NULL)
                *lines = (struct mbox_lines){.over = false};
        }
        if (lines->in_line || (lines->quotes == 0 && lines->matched == 0 && !lines->over))
            sure = at;
    }
    return sure;
}

const char *mbox_held(const struct mbox_lines *lines, size_t *len)
{
    *len = lines->in_line || lines->over ? 0 : lines->quotes + lines->matched;
    return mbox_from - lines->quotes;
}
