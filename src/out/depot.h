/* out/depot.h - what relay-out keeps and how it leaves again: spool and delivery of the daemon
 *
 * Brings the spool and its delivery, which know nothing of next hops, together with routes, contacts
 * and legs, which know nothing of files. Owns both. It stores for the live courier (out/store.h) and
 * for the storing one, and delivers by the newest snapshot of the configuration; how recipients are
 * grouped in the queue is settled by the first one, for good.
 *
 * Lives as long as the process. All functions are thread-safe but depot_open() and depot_close().
 * Used by relay-out's main, its couriers and its control socket.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_OUT_DEPOT_H
#define POSTERN_OUT_DEPOT_H

#include "spool/delivery.h"
#include "out/outbound.h"

struct depot;

/* Opens and locks the spool of this configuration. NULL with a reason. */
struct depot *depot_open(const struct config *config, struct error *err);

/* Delivers by this snapshot from now on; takes a reference. The first time it also looks through the
 * spool and starts to deliver: 0, or -1 with a reason. */
int depot_use(struct depot *depot, struct outbound *out, struct error *err);

/* Nothing more is begun; what has not got as far as the end of its data is given up, and tried again
 * after the next start. */
void depot_wind_down(struct depot *depot);
/* Ends it, and waits for it until the deadline. False when next hops still owe us the answer to a
 * message, or the disk its record: the threads cannot be ended then, only the process can. */
bool depot_close(struct depot *depot, struct deadline deadline);

const struct out_store *depot_store(struct depot *depot);
struct delivery_pool *depot_pool(struct depot *depot);
/* Puts what there is in the spool into its gauges. */
void depot_measure(struct depot *depot, struct counters *counters);
/* An operator wants the message tried now, however dead its next hops were. */
enum queue_answer depot_retry(struct depot *depot, uint64_t id);
/* For looking at the files, beside the one that is written to. */
const char *depot_folder(const struct depot *depot);

/* Storing a whole transaction. The envelope is empty before depot_envelope(), and the caller's to
 * clear. False when there is no room for one more recipient. */
void depot_envelope(const struct outbound *out, const struct envelope *from,
                    struct spool_envelope *envelope);
bool depot_add(struct spool_envelope *envelope, const struct recipient *recipient);
/* REPLY_OK, or what the client is told; what went wrong is logged. After REPLY_OK of depot_begin()
 * the message is ended by depot_commit() or spool_abort(). */
enum own_reply depot_begin(struct depot *depot, uint64_t expected, struct spool_message **message);
enum own_reply depot_write(struct spool_message *message, const struct iovec *iov, int count);
enum own_reply depot_commit(struct depot *depot, struct spool_message *message,
                            const struct envelope *from, struct spool_envelope *envelope);

#endif
