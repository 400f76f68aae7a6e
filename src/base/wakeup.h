/* base/wakeup.h - how somebody who waits hears that what he waits for is there
 *
 * Whoever grants something that is not to be had at once (a free slot at a next hop, an answer of
 * the DNS, the end of a punishment) keeps the wakeup of those who wait, and calls it. The one who
 * is woken asks again. It is embedded in what waits, whose owner withdraws the request before he
 * frees it.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_WAKEUP_H
#define POSTERN_BASE_WAKEUP_H

#include <stddef.h>

struct wakeup {
    /* May be called by any thread, also with the locks of the granter held: it takes only locks
     * under which nothing is granted, and never waits. A call too many does no harm. */
    void (*wake)(struct wakeup *wakeup);
};

/* `wakeup` may be NULL: somebody who looks again by himself. */
static inline void wakeup_call(struct wakeup *wakeup)
{
    if (wakeup != NULL)
        wakeup->wake(wakeup);
}

#endif
