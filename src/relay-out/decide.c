/* relay-out/decide.c - one final reply for several next hops
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/decide.h"

/* Indexed by the set of outcomes, one bit each; HOP_TAKEN is the lowest. tests/model checks that no
 * message is lost or duplicated. */
static const enum decision decisions[1 << HOP_OUTCOMES] = {
    /* TAKEN */ [1] = DECISION_TAKEN,
    /* DEFERRED */[2] = DECISION_DEFERRED,
    /* DEFERRED TAKEN */[3] = DECISION_STORE,
    /* REFUSED */[4] = DECISION_REFUSED,
    /* REFUSED TAKEN */[5] = DECISION_STORE,
    /* REFUSED DEFERRED */[6] = DECISION_DEFERRED,
    /* REFUSED DEFERRED TAKEN */[7] = DECISION_STORE,
    /* UNDECIDED, with any others */
    [8] = DECISION_STORE,
    [9] = DECISION_STORE,
    [10] = DECISION_STORE,
    [11] = DECISION_STORE,
    [12] = DECISION_STORE,
    [13] = DECISION_STORE,
    [14] = DECISION_STORE,
    [15] = DECISION_STORE,
};

/* Whose reply the client gets. */
static const enum hop_outcome speakers[] = {
    [DECISION_TAKEN] = HOP_TAKEN,
    [DECISION_DEFERRED] = HOP_DEFERRED,
    [DECISION_REFUSED] = HOP_REFUSED,
    [DECISION_STORE] = HOP_TAKEN,
};

enum decision decide_final(const enum hop_outcome *outcomes, size_t count, size_t *which)
{
    unsigned present = 0;

    for (size_t i = 0; i < count; i++)
        present |= 1U << outcomes[i];
    enum decision decision = decisions[present];
    *which = 0;
    for (size_t i = count; i > 0; i--) {
        if (outcomes[i - 1] == speakers[decision])
            *which = i - 1;
    }
    return decision;
}
