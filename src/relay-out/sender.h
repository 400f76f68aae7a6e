/* relay-out/sender.h - sends mail data to one of several next hops, on a separate thread
 *
 * Reads the file in which the message is being stored, as far as it has been written and as fast as the
 * next hop accepts it, so that no next hop waits for another. The end of data goes out only after
 * sender_finish(), which is called when the client's has arrived and every check has passed (promise 2).
 *
 * The thread owns the transaction from sender_start() until sender_wait() has reported that it is done,
 * or sender_free() has ended it. The other functions may be called by one thread at a time.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_SENDER_H
#define POSTERN_RELAY_OUT_SENDER_H

#include "base/deadline.h"
#include "base/wakeup.h"
#include "smtp/transaction.h"

struct sender;

/* Starts the thread; the transaction is in data, and `file` is duplicated. `conclude` is called on the
 * thread after the end of data, to get the final reply. NULL: out of memory or threads; the caller keeps
 * the transaction. */
struct sender *sender_start(struct transaction *transaction, int file,
                            void (*conclude)(struct transaction *transaction));

/* The first `octets` of the file can be read. */
void sender_advance(struct sender *sender, uint64_t octets);
/* The file is complete: the end of data may go out. */
void sender_finish(struct sender *sender);

/* Sets the wakeup that is called when it is done: once, on its thread and without a lock, but not if it
 * is done already. Borrowed until sender_free(). */
void sender_set_wakeup(struct sender *sender, struct wakeup *wakeup);

/* Waits until it is done. True when it is: the transaction is decided, or ended without an end of data. */
bool sender_wait(struct sender *sender, struct deadline deadline);

/* Breaks the connection off, so that it is done soon; `unended`: only if the end of data has not gone
 * out. */
void sender_stop(struct sender *sender, bool unended);

/* Breaks the connection off if necessary, joins the thread, frees. NULL is fine. */
void sender_free(struct sender *sender);

#endif
