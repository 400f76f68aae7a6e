/* smtp/mbox.h - lines of a mailbox file that stand before a message
 *
 * Scripts and printers send what they would put into a mailbox file: a line "From address date", or
 * ">From ...", before the header. It is no field, so that a field put before it would be cut off
 * from the header that follows. This finds where the message proper begins, in what the scanner of
 * mail data yields, piece by piece. No allocation, no IO; used by the session.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_MBOX_H
#define POSTERN_SMTP_MBOX_H

#include <stdbool.h>
#include <stddef.h>

#define MBOX_QUOTES_MAX 16 /* ">" before "From " */

/* All zero at the start of a message. */
struct mbox_lines {
    bool over;        /* the message proper has begun */
    bool in_line;     /* private: behind "From " */
    unsigned quotes;  /* private: of a line that may be one */
    unsigned matched; /* private: octets of "From " behind them */
};

/* Returns how many octets at the start of the next piece belong to such lines. Behind them the
 * message proper begins if `over` is set now; otherwise the rest of the piece, if there is any, is
 * the beginning of a line that may be one, and is held back. */
size_t mbox_take(struct mbox_lines *lines, const char *bytes, size_t len);

/* What is held back from earlier pieces, constant text. Asked before mbox_take(): it belongs to
 * such a line if that returns more than 0, and to the message if it sets `over` and returns 0. */
const char *mbox_held(const struct mbox_lines *lines, size_t *len);

#endif
