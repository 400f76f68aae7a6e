/* base/wakeup.h - tells a waiter that what it waits for is now available
 *
 * A module that grants something not available at once (a free slot at a next hop, a DNS answer,
 * the end of a penalty) keeps the wakeups of its waiters and calls them. The waiter then asks
 * again. A wakeup is embedded in the waiting object, whose owner withdraws the request before
 * freeing it.
 *
 * Any thread may call one; the granter must not call it after the request was withdrawn.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_WAKEUP_H
#define POSTERN_BASE_WAKEUP_H

#include <stddef.h>

struct wakeup {
    /* Any thread may call it, even while it holds the granter's locks: it never blocks and takes
     * only locks under which nothing is granted. An extra call is harmless. */
    void (*wake)(struct wakeup *wakeup);
};

/* `wakeup` may be NULL: that waiter checks again by itself. */
static inline void wakeup_call(struct wakeup *wakeup)
{
    if (wakeup != NULL)
        wakeup->wake(wakeup);
}

#endif
