/* relay-out/decide.h - one final reply for several next hops
 *
 * Pure, thread-safe. Used by the courier; tests/model checks the table.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_DECIDE_H
#define POSTERN_RELAY_OUT_DECIDE_H

#include <stddef.h>

enum hop_outcome {
    HOP_TAKEN,     /* 2xx to the end of data */
    HOP_DEFERRED,  /* 4xx, or it never got the end of data */
    HOP_REFUSED,   /* 5xx */
    HOP_UNDECIDED, /* it got the end of data but has not answered: it may have the message */
    HOP_OUTCOMES,
};

enum decision {
    DECISION_TAKEN, /* this reply is the answer for all */
    DECISION_DEFERRED,
    DECISION_REFUSED,
    DECISION_STORE, /* some have taken the message, or may have, and others have not: the rest
                       is stored, and the answer is 250 */
};

/* Decides, and sets `*which` to the next hop whose reply is used. If all agree, that is the first one's.
 * If none has taken the message or may have, a temporary reply wins over a permanent one, so that one
 * refusal does not fail the mail of other recipients. `count` is at least 1. */
enum decision decide_final(const enum hop_outcome *outcomes, size_t count, size_t *which);

#endif
