/* relay-out/spooler.h - what relay-out keeps and how it leaves again: spool and delivery of the daemon
 *
 * Brings the spool and its delivery, which know nothing of next hops, together with routes, contacts
 * and targets, which know nothing of files. Owns both. It stores for both couriers, and delivers by the newest snapshot of the configuration; how recipients are
 * grouped in the queue is settled by the first one, for good.
 *
 * Lives as long as the process. All functions are thread-safe but spooler_open() and spooler_close().
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

/* Delivers by this snapshot from now on; takes a reference. The first time it also looks through the
 * spool and starts to deliver: 0, or -1 with a reason. */
int spooler_use(struct spooler *spooler, struct outbound *out, struct error *err);

/* Nothing more is begun; what has not got as far as the end of its data is given up, and tried again
 * after the next start. Next hops that owe us the answer to a message have until the deadline, and so have
 * those that are handed over meanwhile. */
void spooler_wind_down(struct spooler *spooler, struct deadline deadline);
/* Until when the live courier hands over who has not answered it: forever, before the end begins. Asked
 * again as long as one waits. */
struct deadline spooler_hand_over(struct spooler *spooler);
/* Ends it, and waits for it until the deadline. False when next hops still owe us the answer to a
 * message, or the disk its record: the threads cannot be ended then, only the process can. */
bool spooler_close(struct spooler *spooler, struct deadline deadline);

struct delivery_pool *spooler_pool(struct spooler *spooler);
/* Puts what there is in the spool into its gauges. */
void spooler_measure(struct spooler *spooler, struct counters *counters);
/* An operator wants the message tried now, however dead its next hops were. */
enum queue_answer spooler_retry(struct spooler *spooler, uint64_t id);
/* For looking at the files, beside the one that is written to. */
const char *spooler_folder(const struct spooler *spooler);

/* Storing a whole transaction. The envelope is empty before spooler_envelope(), and the caller's to
 * clear. False when there is no room for one more recipient. */
void spooler_envelope(const struct outbound *out, const struct envelope *from,
                      struct spool_envelope *envelope);
bool spooler_add(struct spool_envelope *envelope, const struct recipient *recipient);
/* REPLY_OK, or what the client is told; what went wrong is logged. After REPLY_OK of spooler_begin()
 * the message is ended by spooler_commit() or spool_abort(). */
enum own_reply spooler_begin(struct spooler *spooler, uint64_t expected,
                             struct spool_message **message);
enum own_reply spooler_write(struct spool_message *message, const struct iovec *iov, int count);
enum own_reply spooler_commit(struct spooler *spooler, struct spool_message *message,
                              const struct envelope *from, struct spool_envelope *envelope);

/* Storing what is left over of a transaction that was delivered live: where its next hops do not agree,
 * that must be safe before the 250 which those earned that took it. Begun and written as above. */

/* What has been written is on disk, and so would be the rest: before the mail data is passed on, and
 * again before any end of data. REPLY_OK, or what the client is told. */
enum own_reply spooler_sync(struct spool_message *message);

/* What became of a recipient that was accepted. */
struct spooler_result {
    const struct recipient *recipient;
    bool delivered;
    const struct reply *reply; /* the next hop's, or ours about it; code never 0 */
    bool ours;                 /* the reply is in our words */
    const char *relay;         /* "mx.example.net[192.0.2.1]:25"; "none" when none was reached */
    struct target *pending;    /* not delivered yet: what this one hears counts */
};
/* Keeps the message for all that are not delivered: those with a 4xx to be tried again, those with a 5xx
 * to be reported to the sender. Targets that are pending are the spooler's from here on, when the answer
 * is REPLY_OK, and else still the caller's. The message is ended. */
enum own_reply spooler_commit_rest(struct spooler *spooler, const struct outbound *out,
                                   struct spool_message *message, const struct envelope *from,
                                   const struct spooler_result *results, size_t count);

#endif
