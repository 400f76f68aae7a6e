/* spool/spool-internal.h - the structures that spool/spool*.c share; nothing else includes it
 *
 * Which lock guards what stands at the fields; the rest is constant once the spool is open.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SPOOL_SPOOL_INTERNAL_H
#define POSTERN_SPOOL_SPOOL_INTERNAL_H

#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/types.h>

#include "base/deadline.h"
#include "base/lock.h"
#include "spool/spool.h"

#define SPOOL_EDIT_LOCKS 32 /* edits run in parallel if the ids differ in their last bits */
#define SPOOL_EDIT_STAMPS 1024

#define SPOOL_RENAMES_MAX 2

/* Texts of envelopes that were just stored: most are read within milliseconds, for the first try. */
#define SPOOL_FRESH 64
#define SPOOL_FRESH_OCTETS 4096 /* of one text */

/* The files of a message. */
enum spool_file { SPOOL_DATA, SPOOL_DATA_NEW, SPOOL_ENV, SPOOL_ENV_NEW, SPOOL_FILES };
#define SPOOL_NAME_MAX 32

enum spool_sync_step { SPOOL_SYNC_RENAME, SPOOL_SYNC_NAMES };

/* A durable renaming of a message's files, whose contents are already durable. The caller fills in the first
 * half and waits in spool_sync(), so it can be on the caller's stack. */
struct spool_sync {
    uint64_t id;
    struct {
        enum spool_file from, to;
    } renames[SPOOL_RENAMES_MAX];
    size_t rename_count;
    /* The result. */
    int number;                  /* errno; 0: durable */
    enum spool_sync_step failed; /* otherwise the step that failed; none after it was done */
    /* Private to spool/spool-sync. */
    struct spool_sync *next;
    sem_t told;
    bool done;
};

/* The text of an envelope, allocated. */
struct spool_text {
    char *bytes; /* NULL: none */
    size_t len;
};

struct spool {
    char *folder;
    uint64_t reserve_octets, reserve_files;
    bool read_only;
    int folder_fd, queue_fd, quarantine_fd, lock_fd;
    uid_t owner; /* of the folder: files that root writes there belong to the daemon too */
    gid_t group;
    bool gives_away; /* we are root, and the owner is not */
    _Atomic uint64_t last_id, random;
    pthread_mutex_t room_lock;  /* protects the free space as last measured: */
    struct deadline room_until; /* how long the measurement is good enough */
    uint64_t free_octets;       /* less the messages begun since */
    uint64_t free_files, files_in_file_system;
    bool mounted_read_only;
    struct lock edit_locks[SPOOL_EDIT_LOCKS];
    _Atomic uint64_t edits[SPOOL_EDIT_STAMPS]; /* by the id's last bits; see spool_edits_of() */
    pthread_mutex_t sync_lock;                 /* protects the next two: */
    bool syncing;
    struct spool_sync *to_sync, **to_sync_end; /* those that wait for the next sync */
    pthread_mutex_t fresh_lock;                /* protects the last: */
    struct {
        uint64_t id;
        struct spool_text text;
    } fresh[SPOOL_FRESH]; /* by the id's last bits */
};

/* A file's name from its message's id, and back; false: it is no name of ours. */
const char *spool_file_name(uint64_t id, enum spool_file file, char out[SPOOL_NAME_MAX]);
bool spool_file_parse(const char *name, uint64_t *id, enum spool_file *file);

/* Makes a result and an error text from errno, from what was to be done, and from the file's name. */
enum spool_result spool_failure(const struct spool *spool, const char *what, const char *name,
                                struct error *err);

/* Makes a new file in the queue folder. Returns its descriptor, or -1 with errno. */
int spool_create(struct spool *spool, const char *name);
int spool_rename(struct spool *spool, uint64_t id, enum spool_file from, enum spool_file to);
/* Does the renaming, together with those of other threads at the same time. Returns 0, or -1 with errno. */
int spool_sync(struct spool *spool, struct spool_sync *sync);
/* Notes that an id is in use: new ones must be greater. */
void spool_note_id(struct spool *spool, uint64_t id);
/* A counter that increases before an edit of this message touches the disk, and again after it. A reader that
 * reads the counter, then the envelope, and later finds the counter unchanged, has what is on disk. */
_Atomic uint64_t *spool_edits_of(struct spool *spool, uint64_t id);
/* Writes the envelope as ID.env.new, not durable yet: the caller syncs and closes *fd, and frees text->bytes
 * in any case. Leaves no file on failure. */
enum spool_result spool_put_envelope(struct spool *spool, const struct spool_envelope *envelope,
                                     int *fd, struct spool_text *text, struct error *err);
/* Keeps the text of an envelope that was stored, for the first reader; takes ownership. */
void spool_keep_fresh(struct spool *spool, uint64_t id, struct spool_text text);
/* Takes the text, for the caller to free; its bytes are NULL if none is kept. */
struct spool_text spool_take_fresh(struct spool *spool, uint64_t id);
/* From now on the files are read. */
void spool_forget_fresh(struct spool *spool);
/* Moves a file from the queue folder to the quarantine, under a free name. Not durable by itself. Returns 0,
 * or -1 with errno. */
int spool_quarantine(struct spool *spool, const char *name);
/* Opens a folder of the spool once more, to read its names from the first. The caller closes it; NULL, with errno, on
 * failure. */
DIR *spool_list_folder(int folder_fd);
/* Removes a message's file. A missing file is not an error. Returns 0, or -1 with errno. */
int spool_delete(struct spool *spool, uint64_t id, enum spool_file file);

#endif
