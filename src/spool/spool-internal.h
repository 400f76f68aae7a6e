/* spool/spool-internal.h - what the files of spool/spool share
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SPOOL_SPOOL_INTERNAL_H
#define POSTERN_SPOOL_SPOOL_INTERNAL_H

#include <pthread.h>
#include <sys/types.h>

#include "spool/spool.h"

#define SPOOL_EDIT_LOCKS 16 /* edits of messages whose ids differ in the last digit run at once */

struct spool {
    char *folder;
    uint64_t reserve_octets, reserve_files;
    bool read_only;
    int folder_fd, queue_fd, quarantine_fd, lock_fd;
    uid_t owner; /* of the folder: what root writes there is the daemon's all the same */
    gid_t group;
    pthread_mutex_t edit_locks[SPOOL_EDIT_LOCKS];
};

/* The files of a message. */
enum spool_file { SPOOL_DATA, SPOOL_DATA_NEW, SPOOL_ENV, SPOOL_ENV_NEW, SPOOL_FILES };
#define SPOOL_NAME_MAX 32

const char *spool_file_name(uint64_t id, enum spool_file file, char out[SPOOL_NAME_MAX]);
bool spool_file_parse(const char *name, uint64_t *id, enum spool_file *file);

/* From errno, which is put into `err` behind what was to be done to which file. */
enum spool_result spool_failure(const struct spool *spool, const char *what, const char *name,
                                struct error *err);

/* A new file in the queue folder, or -1. */
int spool_create(struct spool *spool, const char *name);
int spool_rename(struct spool *spool, uint64_t id, enum spool_file from, enum spool_file to);
/* Makes the names in the queue folder durable. 0 or -1 (errno). */
int spool_sync_names(struct spool *spool);
/* The envelope durably under the name ID.env.new, which is removed again on failure. */
enum spool_result spool_put_envelope(struct spool *spool, const struct spool_envelope *envelope,
                                     struct error *err);
/* Moves a file out of the queue folder to the quarantine, under a name that is free there. Not durable
 * by itself. 0 or -1 (errno). */
int spool_quarantine(struct spool *spool, const char *name);
/* Removes a message's file; that it is not there is no failure. 0 or -1 (errno). */
int spool_delete(struct spool *spool, uint64_t id, enum spool_file file);

#endif
