/* relay-out/store.h - the interface between live delivery and a store for what it could not deliver
 *
 * A transaction with several next hops has one final reply. Where they do not agree, what is
 * undelivered must be stored before the 250 that the delivered ones earned. The courier knows no
 * more of the store than this. All functions are thread-safe on distinct messages.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_STORE_H
#define POSTERN_RELAY_OUT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "smtp/courier.h"
#include "smtp/reply.h"

struct target;
struct out_stored; /* a message that is being stored */

/* What became of a recipient that was accepted. */
struct out_result {
    const struct recipient *recipient;
    bool delivered;
    const struct reply *reply; /* the next hop's, or ours about it; code never 0 */
    bool ours;                 /* the reply is in our words */
    const char *relay;         /* "mx.example.net[192.0.2.1]:25"; "none" when none was reached */
    struct target *pending;    /* not delivered yet: what this one hears counts */
};

struct out_store {
    void *context;
    /* Before the mail data. REPLY_OK and *stored, or what the client is told instead of 354. */
    enum own_reply (*begin)(void *context, const struct envelope *envelope,
                            struct out_stored **stored);
    /* The mail data as the next hops get it: lines, dots stuffed, without the end. -1: it failed,
     * only abort() is left. */
    int (*write)(struct out_stored *stored, const struct iovec *iov, int count);
    /* The file, for reading what write() has put there, as far as it has come; -1 (errno). The store's:
     * good until commit() or abort(). */
    int (*file)(struct out_stored *stored);
    /* What has been written is safe on disk, and so would be the rest: before the mail data, and again
     * before any end of data. Else as begin(). */
    enum own_reply (*sync)(struct out_stored *stored);
    /* Keeps it for all that are not delivered: those with a 4xx to be tried again, those with a 5xx
     * to be reported to the sender. Targets that are pending are the store's from here on. 0 only when
     * that is safe on disk; else they are still the caller's. The message is freed. */
    int (*commit)(struct out_stored *stored, const struct out_result *results, size_t count);
    /* Leaves nothing. */
    void (*abort)(struct out_stored *stored);
};

#endif
