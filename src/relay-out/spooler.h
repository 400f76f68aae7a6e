/* relay-out/spooler.h - what relay-out stores and how it is delivered later
 *
 * Connects the spool and its delivery, which know nothing of next hops, with routes, connections and
 * targets, which know nothing of files. Owns the spool and its delivery. Stores for both couriers and
 * delivers by the newest snapshot of the configuration, but the first snapshot decides for good how
 * recipients are grouped in the queue.
 *
 * Lives as long as the process. All functions except spooler_open() and spooler_close() are thread-safe.
 * Used by relay-out's main, its couriers and its control socket.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_SPOOLER_H
#define POSTERN_RELAY_OUT_SPOOLER_H

#include "spool/delivery.h"
#include "relay-out/outbound.h"

struct spooler;
struct target;

/* Opens and locks the spool of this configuration. NULL with a reason. */
struct spooler *spooler_open(const struct config *config, struct error *err);

/* Delivers by this snapshot from now on; takes a reference. The first call also reads the spool and
 * starts delivery. 0, or -1 with a reason. */
int spooler_use(struct spooler *spooler, struct outbound *out, struct error *err);

/* Starts nothing more. Transactions that have not reached their end of data are given up, and tried again
 * after the next start. Next hops that still owe us an answer have until the deadline, including those
 * handed over in the meantime. */
void spooler_wind_down(struct spooler *spooler, struct deadline deadline);
/* When the live courier must hand over a next hop that has not answered: never, until winding down
 * begins. A waiter must ask again and again. */
struct deadline spooler_hand_over(struct spooler *spooler);
/* Ends the spooler, waiting until the deadline. False if a next hop still owes us an answer, or the disk
 * has not finished a record: the threads cannot be ended then, only the process can. */
bool spooler_close(struct spooler *spooler, struct deadline deadline);

struct delivery_pool *spooler_pool(struct spooler *spooler);
/* Sets the spool's gauges. */
void spooler_measure(struct spooler *spooler, struct counters *counters);
/* Forgets all marks that keep next hops from being asked, for an operator who wants mail tried now. */
void spooler_forget_dead(struct spooler *spooler);
/* The spool's folder, for reading its files. */
const char *spooler_folder(const struct spooler *spooler);

/* To store a whole transaction. The envelope must be empty before spooler_envelope(); the caller clears
 * it. spooler_add(): false if there is no room for another recipient. */
void spooler_envelope(const struct outbound *out, const struct envelope *from,
                      struct spool_envelope *envelope);
bool spooler_add(struct spool_envelope *envelope, const struct recipient *recipient);
/* REPLY_OK, or the reply for the client; errors are logged. If spooler_begin() returns REPLY_OK, end the
 * message with spooler_commit() or spool_abort(). */
enum own_reply spooler_begin(struct spooler *spooler, uint64_t expected,
                             struct spool_message **message);
enum own_reply spooler_write(struct spool_message *message, const struct iovec *iov, int count);
enum own_reply spooler_commit(struct spooler *spooler, struct spool_message *message,
                              const struct envelope *from, struct spool_envelope *envelope);

/* To store the rest of a transaction that was delivered live: if its next hops do not agree, the rest
 * must be safe on disk before the client gets its 250. Begun and written as above. */

/* Makes sure that what has been written is on disk, and that the rest could be. Called before the mail
 * data is passed on, and again before any end of data. REPLY_OK, or the reply for the client. */
enum own_reply spooler_sync(struct spool_message *message);

/* The outcome for an accepted recipient. */
struct spooler_result {
    const struct recipient *recipient;
    bool delivered;
    const struct reply *reply; /* from the next hop, or ours about it; its code is never 0 */
    bool ours;                 /* the reply is ours */
    const char *relay;         /* "mx.example.net[192.0.2.1]:25"; "none" when none was reached */
    struct target *pending;    /* not decided yet: the answer to this target counts */
};
/* Keeps the message for all recipients not delivered: those with a 4xx are tried again, those with a 5xx
 * are reported to the sender. On REPLY_OK the spooler owns the pending targets, otherwise the caller still
 * does. Ends the message. */
enum own_reply spooler_commit_rest(struct spooler *spooler, const struct outbound *out,
                                   struct spool_message *message, const struct envelope *from,
                                   const struct spooler_result *results, size_t count);

#endif
