/* relay-out/spooler-internal.h - what the files of relay-out/spooler share
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_SPOOLER_INTERNAL_H
#define POSTERN_RELAY_OUT_SPOOLER_INTERNAL_H

#include <pthread.h>

#include "relay-out/spooler.h"

struct target;

/* The next hop of a stored message that has not answered yet. */
struct awaited {
    uint64_t id;
    struct target *target; /* pending, with a reference of its snapshot */
    struct deadline until;
    bool taken; /* a delivery waits for it */
    struct awaited *next;
};

struct spooler {
    char *folder;
    struct spool *spool;
    struct delivery_pool *pool; /* NULL before the first spooler_use() */
    struct outbound *first;     /* a reference: for the names of destinations */
    pthread_mutex_t lock;
    struct outbound *current; /* a reference, under the lock */
    struct awaited *awaited;  /* under the lock */
    pthread_cond_t taken;     /* one of them was taken, or taken out */
    bool winding_down;
};

/* The message is about to be stored, and this target to be its next hop's. False when out of memory. */
bool spooler_await(struct spooler *spooler, uint64_t id, struct target *target);
/* The target that has what a message holds for this domain, to be given back by spooler_drop_awaited();
 * NULL: there is none. */
struct awaited *spooler_take_awaited(struct spooler *spooler, uint64_t id, const char *domain);
void spooler_drop_awaited(struct spooler *spooler, struct awaited *awaited);
/* Takes those of a message out again, which are the caller's as before. */
void spooler_unawait(struct spooler *spooler, uint64_t id);
/* Until a delivery waits for each of them, which is at once where a thread is free. */
void spooler_see_awaited_taken(struct spooler *spooler, struct deadline deadline);
/* What has not got as far as the end of its data is given up. */
void spooler_stop_awaited(struct spooler *spooler);
void spooler_free_awaited(struct spooler *spooler);

/* The newest snapshot; to be given back by service_unref(). */
struct outbound *spooler_snapshot(struct spooler *spooler);

/* A reply as envelopes have it: "550 5.1.1 text", lines parted by '\n'. */
const char *spooler_reply_text(const struct reply *reply, char out[ENVELOPE_REPLY_MAX + 1]);
/* "mx.example.net[192.0.2.1]:25" as envelopes have it: "mx.example.net [192.0.2.1]"; "" for
 * "none". */
const char *spooler_remote_name(const char *relay, char out[DELIVERY_REMOTE_MAX + 1]);

/* The hooks of spool/delivery; the context is the spooler. */
void spooler_deliver(void *context, struct delivery_job *job);
void spooler_destination(void *context, const struct spool_envelope *envelope,
                         const struct path *recipient, char out[QUEUE_DESTINATION_MAX + 1]);

#endif
