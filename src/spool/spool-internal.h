/* spool/spool-internal.h - what the files of spool/spool share
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SPOOL_SPOOL_INTERNAL_H
#define POSTERN_SPOOL_SPOOL_INTERNAL_H

#include <pthread.h>
#include <semaphore.h>
#include <sys/types.h>

#include "base/deadline.h"
#include "base/lock.h"
#include "spool/spool.h"

#define SPOOL_EDIT_LOCKS 32 /* edits of messages whose ids differ in the last bits run at once */
#define SPOOL_EDIT_STAMPS 1024

#define SPOOL_RENAMES_MAX 2

/* The files of a message. */
enum spool_file { SPOOL_DATA, SPOOL_DATA_NEW, SPOOL_ENV, SPOOL_ENV_NEW, SPOOL_FILES };
#define SPOOL_NAME_MAX 32

enum spool_sync_step { SPOOL_SYNC_RENAME, SPOOL_SYNC_NAMES };

/* A message's files that get other names, durably; what is in them is durable already. Its owner fills
 * in the first half and waits in spool_sync(), so it may stand on his stack. */
struct spool_sync {
    uint64_t id;
    struct {
        enum spool_file from, to;
    } renames[SPOOL_RENAMES_MAX];
    size_t rename_count;
    /* The result. */
    int number;                  /* errno; 0: it is durable */
    enum spool_sync_step failed; /* else: where it failed, and nothing behind that was done */
    /* spool/spool-sync's. */
    struct spool_sync *next;
    sem_t told;
    bool done;
};

struct spool {
    char *folder;
    uint64_t reserve_octets, reserve_files;
    bool read_only;
    int folder_fd, queue_fd, quarantine_fd, lock_fd;
    uid_t owner; /* of the folder: what root writes there is the daemon's all the same */
    gid_t group;
    bool gives_away; /* we are root, and the owner is not */
    _Atomic uint64_t last_id, random;
    pthread_mutex_t room_lock;  /* of what follows: the room as it was measured last */
    struct deadline room_until; /* so long it is known well enough */
    uint64_t free_octets;       /* less what was begun since */
    uint64_t free_files, files_in_file_system;
    bool mounted_read_only;
    struct lock edit_locks[SPOOL_EDIT_LOCKS];
    _Atomic uint64_t edits[SPOOL_EDIT_STAMPS]; /* by the id's end; see spool_edits_of() */
    pthread_mutex_t sync_lock;                 /* of what follows */
    bool syncing;
    struct spool_sync *to_sync, **to_sync_end; /* whom the next sync is for */
};

const char *spool_file_name(uint64_t id, enum spool_file file, char out[SPOOL_NAME_MAX]);
bool spool_file_parse(const char *name, uint64_t *id, enum spool_file *file);

/* From errno, which is put into `err` behind what was to be done to which file. */
enum spool_result spool_failure(const struct spool *spool, const char *what, const char *name,
                                struct error *err);

/* A new file in the queue folder, or -1. */
int spool_create(struct spool *spool, const char *name);
int spool_rename(struct spool *spool, uint64_t id, enum spool_file from, enum spool_file to);
/* Does it, together with what others want at the same time. 0 or -1 (errno). */
int spool_sync(struct spool *spool, struct spool_sync *sync);
/* An id is taken: new ones come behind it. */
void spool_note_id(struct spool *spool, uint64_t id);
/* Moves on before an edit of this message touches the disk, and again behind it: whoever read the
 * number first, the envelope then, and finds the number as it was, has what is on disk. */
_Atomic uint64_t *spool_edits_of(struct spool *spool, uint64_t id);
/* The envelope under the name ID.env.new, not durable yet: *fd is to be synced and closed. Nothing is
 * left of it on failure. */
enum spool_result spool_put_envelope(struct spool *spool, const struct spool_envelope *envelope,
                                     int *fd, struct error *err);
/* Moves a file out of the queue folder to the quarantine, under a name that is free there. Not durable
 * by itself. 0 or -1 (errno). */
int spool_quarantine(struct spool *spool, const char *name);
/* Removes a message's file; that it is not there is no failure. 0 or -1 (errno). */
int spool_delete(struct spool *spool, uint64_t id, enum spool_file file);

#endif
