/* relay-out/sender.h - mail data on its way to one of several next hops, on a thread of its own
 *
 * Reads from the file in which the message is being stored, as far as that has come and as fast as the
 * next hop takes it, so that none waits for another. An end of data goes out only after
 * sender_finish(), which is called when the client's own has come and every check is passed (promise 2).
 *
 * The transaction is the thread's from sender_start() on until sender_wait() has said that it is done,
 * or sender_free() has ended it. The other functions may be called by any one thread at a time.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_SENDER_H
#define POSTERN_RELAY_OUT_SENDER_H

#include "base/deadline.h"
#include "base/wakeup.h"
#include "smtp/transaction.h"

struct sender;

/* The transaction is in data; `file` is duplicated. `conclude` is called on the thread behind the end
 * of data, for the final reply. NULL: out of memory or threads, and the transaction is the caller's. */
struct sender *sender_start(struct transaction *transaction, int file,
                            void (*conclude)(struct transaction *transaction));

/* So much of the file can be read, from its start. */
void sender_advance(struct sender *sender, uint64_t octets);
/* That is all of it. */
void sender_finish(struct sender *sender);

/* To be called when it is done, once, on its thread and without a lock, unless it is by now. Borrowed
 * until sender_free(). */
void sender_set_wakeup(struct sender *sender, struct wakeup *wakeup);

/* True when it is done: the transaction is decided, or was left without an end of data. */
bool sender_wait(struct sender *sender, struct deadline deadline);

/* Breaks the connection off; `unended`: unless the end of data has gone out. It is done soon. */
void sender_stop(struct sender *sender, bool unended);

/* Breaks it off if need be, waits for the thread, frees. NULL is fine. */
void sender_free(struct sender *sender);

#endif
