/* spool/spool.h - the durable store of mail that could not be delivered at once (postern-spool(5))
 *
 * A message is two files: ID.data, the mail data exactly as SMTP carries it (CRLF lines, dots stuffed,
 * without the end-of-data line), and ID.env, its envelope. The data is stored unchanged as a courier's
 * write() gets it, so that delivery is sendfile(2) followed by ".\r\n".
 *
 * The promises hold through kill -9 and power failure. spool_commit() and spool_edit() return SPOOL_OK
 * only when everything is on disk. A message exists completely or not at all. Nothing that cannot be
 * understood is ever deleted. Temporary files end in ".new".
 *
 * One struct spool serves a whole daemon and holds an exclusive lock on the folder. All functions are
 * thread-safe except spool_open(), spool_scan() and spool_close(); a struct spool_message is used by one
 * thread at a time. Used by relay-out's courier and delivery, and by relayctl queue. It knows nothing of
 * scheduling, which is spool/queue's.
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
    const char *folder;      /* made with its subfolders if missing (its parent must exist) */
    uint64_t reserve_octets; /* client mail is refused if less than this would be left free ... */
    uint64_t reserve_files;  /* ... or fewer free inodes (if the file system counts them) */
};

enum spool_result {
    SPOOL_OK,
    SPOOL_FULL,      /* no space, no inode, over quota, below the reserve, read-only: 452 4.3.1 */
    SPOOL_BROKEN,    /* another failure of the disk or the system: 451 4.3.0 */
    SPOOL_MISSING,   /* no such message, or no longer */
    SPOOL_SENSELESS, /* readable, but it makes no sense */
};

struct spool;
struct spool_message;

/* Takes the lock and makes missing folders. The caller frees it with spool_close(). NULL with a reason in
 * `err`: unavailable, in use by another process (named), or not writable. With `read_only` it takes no lock
 * and changes nothing, so that a running daemon's files can be read. */
struct spool *spool_open(const struct spool_config *config, bool read_only, struct error *err);
void spool_close(struct spool *spool);

/* What spool_scan() finds. */
struct spool_scan_counts {
    unsigned messages;
    unsigned removed;     /* half-written temporary files, and remains of messages */
    unsigned quarantined; /* files that make no sense, moved to the subfolder (read-only: left
                           * alone) */
    unsigned unreadable;  /* envelopes that cannot be read now */
};

/* Reads every envelope in order of arrival and passes it to `found`, which must not keep it. Cleans up after
 * a crash, and logs each file that it removes or quarantines (a read-only spool is only read). Call it
 * before any other use.
 *
 * Only files that make no sense are quarantined. A message whose data is missing or damaged is still found,
 * so that its sender is told when it is due. An envelope that the disk cannot read now is logged and, unless
 * the spool is read-only, found with only its id, so that it is read again later. Returns 0, or -1 with a
 * reason if the folder cannot be read, a file must not be read, or out of memory. */
typedef void spool_found(void *context, const struct spool_envelope *envelope);
int spool_scan(struct spool *spool, spool_found *found, void *context,
               struct spool_scan_counts *counts, struct error *err);

/* Whose mail is stored. The reserve is kept for our own (DSNs and envelope updates). */
enum spool_purpose { SPOOL_FOR_CLIENT, SPOOL_FOR_OURSELVES };

/* Begins to store a message of about `expected` octets (0 = unknown). After SPOOL_OK, the caller ends
 * *message with spool_commit() or spool_abort(). */
enum spool_result spool_begin(struct spool *spool, enum spool_purpose purpose, uint64_t expected,
                              struct spool_message **message, struct error *err);

/* Appends mail data, as a courier's write() gets it. After a failure only spool_abort() is allowed. */
enum spool_result spool_write(struct spool_message *message, const struct iovec *iov, int count,
                              struct error *err);

/* Syncs the data written so far, under its temporary name, so that any disk failure shows now. */
enum spool_result spool_sync_data(struct spool_message *message, struct error *err);

/* A descriptor for reading the mail data while it is written. The message owns it. -1 with errno on
 * failure. */
int spool_reader(struct spool_message *message);

/* Sets id and size in the envelope and makes data and envelope durable. Always frees the message. After a
 * failure nothing of it is left; if even that fails, it is logged. */
enum spool_result spool_commit(struct spool_message *message, struct spool_envelope *envelope,
                               struct error *err);

/* Removes and frees the message. NULL is fine. */
void spool_abort(struct spool_message *message);

/* The id that the message will have; for logs. */
uint64_t spool_message_id(const struct spool_message *message);

/* Reads an envelope into an empty struct, which the caller clears. */
enum spool_result spool_read(struct spool *spool, uint64_t id, struct spool_envelope *envelope,
                             struct error *err);

/* Changes an envelope: reads it, lets `edit` change it, and makes the new one durable. Edits of one message
 * wait for each other. The result of `edit` says what to do; after SPOOL_EDIT_REMOVE and SPOOL_OK the message
 * is durably gone. `edit` runs under a lock and must not call the spool. */
enum spool_edit_action { SPOOL_EDIT_KEEP, SPOOL_EDIT_WRITE, SPOOL_EDIT_REMOVE };
typedef enum spool_edit_action spool_edit_function(void *context, struct spool_envelope *envelope);
enum spool_result spool_edit(struct spool *spool, uint64_t id, spool_edit_function *edit,
                             void *context, struct error *err);

/* The same for an envelope that was read or committed before. It is read again, into the same struct, only if
 * it was changed since. The caller's own changes in it count as part of the edit. */
enum spool_result spool_edit_known(struct spool *spool, struct spool_envelope *envelope,
                                   spool_edit_function *edit, void *context, struct error *err);

/* Opens the mail data for reading, at its start; after SPOOL_OK the caller closes *fd. SPOOL_MISSING: the
 * file is gone. SPOOL_SENSELESS: its size differs from the one in the envelope. */
enum spool_result spool_open_data(struct spool *spool, const struct spool_envelope *envelope,
                                  int *fd, struct error *err);

/* Stores the size in octets of the header with the empty line after it, or of the whole file if there is no
 * such line. Rewinds the file. Returns 0, or -1 with errno. */
int spool_header_size(int fd, uint64_t *size);

/* The number of files in the quarantine; 0 if they cannot be counted. Reads the folder. */
size_t spool_count_quarantined(struct spool *spool);

/* Moves mail data for which spool_open_data() returned SPOOL_SENSELESS to the quarantine. From then on it
 * counts as missing. */
enum spool_result spool_set_data_aside(struct spool *spool, uint64_t id, struct error *err);

#endif
