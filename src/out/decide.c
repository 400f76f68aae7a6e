/* out/decide.c - one final reply for several next hops
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "out/decide.h"

#include <stdbool.h>

static bool find(const struct reply *const *replies, size_t count, bool (*is)(const struct reply *),
                 size_t *which)
{
    for (size_t i = 0; i < count; i++) {
        if (is(replies[i])) {
            *which = i;
            return true;
        }
    }
    return false;
}

static bool is_refusal(const struct reply *reply)
{
    return !reply_is_positive(reply);
}

static bool is_positive(const struct reply *reply)
{
    return reply_is_positive(reply);
}

static bool is_transient(const struct reply *reply)
{
    return reply_is_transient(reply);
}

enum decision decide_final(const struct reply *const *replies, size_t count, size_t *which)
{
    size_t refusal;

    *which = 0;
    if (!find(replies, count, is_refusal, &refusal))
        return DECISION_REPLY;
    if (find(replies, count, is_positive, which))
        return DECISION_MIXED;
    find(replies, count, is_transient, which);
    return DECISION_REPLY;
}
