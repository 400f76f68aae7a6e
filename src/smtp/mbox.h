/* smtp/mbox.h - finds mailbox file lines before a message
 *
 * Some scripts and printers send what they would write to a mailbox file: a line "From address date" or
 * ">From ..." before the header. It is not a header field, so a field added before it would be separated
 * from the header. This module finds where the message proper begins, in the output of the mail data
 * scanner, piece by piece. No allocation, no IO. Used by the session, one thread at a time.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_MBOX_H
#define POSTERN_SMTP_MBOX_H

#include <stdbool.h>
#include <stddef.h>

#define MBOX_QUOTES_MAX 16 /* most ">" before "From " */

/* All zero at the start of a message. */
struct mbox_lines {
    bool over;        /* the message proper has begun */
    bool in_line;     /* private: after "From " */
    unsigned quotes;  /* private: ">" of a line that may be one */
    unsigned matched; /* private: octets of "From " after them */
};

/* Returns how many octets at the start of the next piece belong to such lines. If `over` is now set, the
 * message proper follows them. Otherwise the rest of the piece, if any, is the beginning of a line that may
 * be one, and is held back. */
size_t mbox_take(struct mbox_lines *lines, const char *bytes, size_t len);

/* The text held back from earlier pieces, as a constant. Call it before mbox_take(): the text belongs to such a
 * line if that returns more than 0, and to the message if it sets `over` and returns 0. */
const char *mbox_held(const struct mbox_lines *lines, size_t *len);

#endif
