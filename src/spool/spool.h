/* spool/spool.h - the durable store of what could not be delivered at once (postern-spool(5))
 *
 * A message is two files: ID.data, the mail data exactly as SMTP carries it (CRLF lines, dots
 * stuffed, without the end-of-data line), and ID.env, its envelope. The data is what a courier's
 * write() is given, stored unchanged, so that delivering is sendfile(2) and then ".\r\n".
 *
 * What is promised, through kill -9 and loss of power: spool_commit() and spool_edit() return
 * SPOOL_OK only when all of it is on disk; a message is there wholly or not at all; nothing that
 * cannot be understood is ever deleted. Temporary files end in ".new".
 *
 * One struct spool serves a whole daemon and holds an exclusive lock on the folder. All functions
 * are thread-safe but spool_open(), spool_scan() and spool_close(); one struct spool_message is
 * used by one thread at a time. Used by the courier and the delivery of relay-out, and by relayctl
 * queue. Of scheduling it knows nothing: that is spool/queue.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SPOOL_SPOOL_H
#define POSTERN_SPOOL_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "spool/spool-envelope.h"

struct spool_config {
    const char *folder;      /* made with its subfolders when missing (its parent must be there) */
    uint64_t reserve_octets; /* client mail is refused when less than this would be left free ... */
    uint64_t reserve_files;  /* ... or fewer free inodes (where the file system counts them) */
};

enum spool_result {
    SPOOL_OK,
    SPOOL_FULL,      /* no room, no inode, over quota, below the reserve, read-only: 452 4.3.1 */
    SPOOL_BROKEN,    /* the disk or the system failed otherwise: 451 4.3.0 */
    SPOOL_MISSING,   /* there is no such message (any more) */
    SPOOL_SENSELESS, /* it can be read, but not understood */
};

struct spool;
struct spool_message;

/* Takes the lock and makes what is missing. NULL with a reason: not to be had, in use by another
 * process (named), not writable. `read_only`: no lock, nothing is changed, only reading works; for
 * looking at the files of a daemon that may be running. */
struct spool *spool_open(const struct spool_config *config, bool read_only, struct error *err);
void spool_close(struct spool *spool);

/* What a start finds. */
struct spool_scan_counts {
    unsigned messages;
    unsigned removed;     /* half-written temporaries, and messages of which only rests were left */
    unsigned quarantined; /* files that cannot be understood, moved to the subfolder (read-only:
                           * left alone) */
    unsigned unreadable;  /* envelopes that could not be read just now */
};

/* Reads every envelope, in the order of arrival, and hands it to `found`, which must not keep it.
 * Cleans up behind a crash, and logs each file it removes or quarantines (a read-only spool is only
 * read). Before any other use.
 *
 * Only what makes no sense is quarantined. A message whose data is gone or damaged is found, so that
 * its sender is told when it is to be delivered. An envelope that the disk does not give just now is
 * logged, and found with nothing in it but its id, to be read again later (not in a read-only spool).
 * 0; -1 with a reason when the folder cannot be read, a file may not be, or memory is short. */
typedef void spool_found(void *context, const struct spool_envelope *envelope);
int spool_scan(struct spool *spool, spool_found *found, void *context,
               struct spool_scan_counts *counts, struct error *err);

/* Who stores: the reserve is kept free for our own (DSNs, and updates of envelopes). */
enum spool_purpose { SPOOL_FOR_CLIENT, SPOOL_FOR_OURSELVES };

/* Begins to store a message of about `expected` octets (0 = not known). SPOOL_OK: *message is to
 * be ended by spool_commit() or spool_abort(). */
enum spool_result spool_begin(struct spool *spool, enum spool_purpose purpose, uint64_t expected,
                              struct spool_message **message, struct error *err);

/* More mail data, as a courier's write() gets it. After a failure only spool_abort() is left. */
enum spool_result spool_write(struct spool_message *message, const struct iovec *iov, int count,
                              struct error *err);

/* What was written is on disk, if under a temporary name: whatever keeps the disk from taking a message
 * is known now. */
enum spool_result spool_sync_data(struct spool_message *message, struct error *err);

/* The mail data, for reading while it is written: good until the message is freed. -1 (errno). */
int spool_reader(struct spool_message *message);

/* Sets id and size in the envelope and makes both durable. The message is freed in any case; after
 * a failure nothing of it is left (or, when even that cannot be had, it is logged). */
enum spool_result spool_commit(struct spool_message *message, struct spool_envelope *envelope,
                               struct error *err);

/* Leaves nothing. NULL is fine. */
void spool_abort(struct spool_message *message);

/* The id that the message will have; for logs. */
uint64_t spool_message_id(const struct spool_message *message);

/* Reads an envelope into an empty struct, to be cleared by the caller. */
enum spool_result spool_read(struct spool *spool, uint64_t id, struct spool_envelope *envelope,
                             struct error *err);

/* Changes an envelope: reads it, lets `edit` change it, and makes the new one durable. Edits of one
 * message wait for each other. `edit` says what is to be done; on SPOOL_EDIT_REMOVE the message is
 * gone, durably, when this returns SPOOL_OK. `edit` runs under a lock: no spool calls in it. */
enum spool_edit_action { SPOOL_EDIT_KEEP, SPOOL_EDIT_WRITE, SPOOL_EDIT_REMOVE };
typedef enum spool_edit_action spool_edit_function(void *context, struct spool_envelope *envelope);
enum spool_result spool_edit(struct spool *spool, uint64_t id, spool_edit_function *edit,
                             void *context, struct error *err);

/* The same for an envelope that was read, or committed, before: it is read again, into the same struct,
 * only if somebody has changed it since. What the caller has changed in it is taken for part of the
 * edit. */
enum spool_result spool_edit_known(struct spool *spool, struct spool_envelope *envelope,
                                   spool_edit_function *edit, void *context, struct error *err);

/* The mail data, opened for reading at its start; on SPOOL_OK the caller closes *fd. SPOOL_MISSING:
 * it is gone from the disk. SPOOL_SENSELESS: its size is not the one in the envelope. */
enum spool_result spool_open_data(struct spool *spool, const struct spool_envelope *envelope,
                                  int *fd, struct error *err);

/* The octets of the header and of the empty line behind it, or of all when there is none. 0, or -1
 * (errno). The file stands at its start again. */
int spool_header_size(int fd, uint64_t *size);

/* Takes mail data of which spool_open_data() says SPOOL_SENSELESS out of the queue, into the
 * quarantine: from then on it is missing. */
enum spool_result spool_set_data_aside(struct spool *spool, uint64_t id, struct error *err);

#endif
