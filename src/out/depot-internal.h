/* out/depot-internal.h - what the files of out/depot share
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_OUT_DEPOT_INTERNAL_H
#define POSTERN_OUT_DEPOT_INTERNAL_H

#include <pthread.h>

#include "out/depot.h"

struct leg;

/* The next hop of a stored message that has not answered yet. */
struct awaited {
    uint64_t id;
    struct leg *leg; /* pending, with a reference of its snapshot */
    struct deadline until;
    bool taken; /* a delivery waits for it */
    struct awaited *next;
};

struct depot {
    char *folder;
    struct spool *spool;
    struct delivery_pool *pool; /* NULL before the first depot_use() */
    struct out_store store;
    struct outbound *first; /* a reference: for the names of destinations */
    pthread_mutex_t lock;
    struct outbound *current; /* a reference, under the lock */
    struct awaited *awaited;  /* under the lock */
    pthread_cond_t taken;     /* one of them was taken, or taken out */
    bool winding_down;
};

/* The message is about to be stored, and this leg to be its next hop's. False when out of memory. */
bool depot_await(struct depot *depot, uint64_t id, struct leg *leg);
/* The leg that has what a message holds for this domain, to be given back by depot_drop_awaited();
 * NULL: there is none. */
struct awaited *depot_take_awaited(struct depot *depot, uint64_t id, const char *domain);
void depot_drop_awaited(struct depot *depot, struct awaited *awaited);
/* Takes those of a message out again, which are the caller's as before. */
void depot_unawait(struct depot *depot, uint64_t id);
/* Until a delivery waits for each of them, which is at once where a thread is free. */
void depot_see_awaited_taken(struct depot *depot, struct deadline deadline);
/* What has not got as far as the end of its data is given up. */
void depot_stop_awaited(struct depot *depot);
void depot_free_awaited(struct depot *depot);

/* The newest snapshot; to be given back by service_unref(). */
struct outbound *depot_snapshot(struct depot *depot);

/* The store for the live courier. */
void depot_make_store(struct depot *depot);

/* A reply as envelopes have it: "550 5.1.1 text", lines parted by '\n'. */
const char *depot_reply_text(const struct reply *reply, char out[ENVELOPE_REPLY_MAX + 1]);
/* "mx.example.net[192.0.2.1]:25" as envelopes have it: "mx.example.net [192.0.2.1]"; "" for
 * "none". */
const char *depot_remote_name(const char *relay, char out[DELIVERY_REMOTE_MAX + 1]);

/* The hooks of spool/delivery; the context is the depot. */
void depot_deliver(void *context, struct delivery_job *job);
void depot_destination(void *context, const struct spool_envelope *envelope,
                       const struct path *recipient, char out[QUEUE_DESTINATION_MAX + 1]);

#endif
