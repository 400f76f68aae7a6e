/* out/decide.h - one final reply for several next hops
 *
 * Pure, thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_OUT_DECIDE_H
#define POSTERN_OUT_DECIDE_H

#include "smtp/reply.h"

enum decision {
    DECISION_REPLY, /* that reply is the answer for all */
    DECISION_MIXED, /* some have taken the message and some have not; that reply is of one that has */
};

/* All agree: the first one's reply. None has taken it: a temporary reply before a permanent one, so
 * that nobody's mail is given up for somebody else's refusal. `count` at least 1. */
enum decision decide_final(const struct reply *const *replies, size_t count, size_t *which);

#endif
