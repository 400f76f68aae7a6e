/* spool/spool-sync.c - renames files durably, with one sync for several threads
 *
 * A sync of the folder costs as much for one name as for many. So threads that come while one runs wait,
 * and the first of them does the next one for all: it renames their files and syncs the folder once. Each
 * message goes through the same steps as if it were alone. A thread is only told that it is done by a
 * sync that began after its names were there.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <unistd.h>

#include "spool/spool-internal.h"

static void sync_fail(struct spool_sync *sync, enum spool_sync_step step)
{
    sync->number = errno;
    sync->failed = step;
}

static void sync_rename(struct spool *spool, struct spool_sync *sync)
{
    for (size_t i = 0; i < sync->rename_count; i++) {
        if (sync->number == 0 &&
            spool_rename(spool, sync->id, sync->renames[i].from, sync->renames[i].to) != 0)
            sync_fail(sync, SPOOL_SYNC_RENAME);
    }
}

static void sync_names(struct spool *spool, struct spool_sync *batch)
{
    if (fsync(spool->queue_fd) == 0)
        return;
    int number = errno;
    for (; batch != NULL; batch = batch->next) {
        errno = number;
        if (batch->number == 0)
            sync_fail(batch, SPOOL_SYNC_NAMES);
    }
}

/* Does the renaming and the sync for all waiting threads, including the caller. */
static void sync_lead(struct spool *spool)
{
    pthread_mutex_lock(&spool->sync_lock);
    struct spool_sync *batch = spool->to_sync;
    spool->to_sync = NULL;
    spool->to_sync_end = &spool->to_sync;
    pthread_mutex_unlock(&spool->sync_lock);

    for (struct spool_sync *sync = batch; sync != NULL; sync = sync->next)
        sync_rename(spool, sync);
    sync_names(spool, batch);

    pthread_mutex_lock(&spool->sync_lock);
    struct spool_sync *leader = spool->to_sync;
    spool->syncing = leader != NULL;
    pthread_mutex_unlock(&spool->sync_lock);
    if (leader != NULL)
        sem_post(&leader->told);
    for (struct spool_sync *next; batch != NULL; batch = next) {
        next = batch->next; /* once told, its owner may free it */
        batch->done = true;
        sem_post(&batch->told);
    }
}

int spool_sync(struct spool *spool, struct spool_sync *sync)
{
    sync->next = NULL;
    sync->done = false;
    sync->number = 0;
    sem_init(&sync->told, 0, 0);
    pthread_mutex_lock(&spool->sync_lock);
    *spool->to_sync_end = sync;
    spool->to_sync_end = &sync->next;
    bool leads = !spool->syncing;
    spool->syncing = true;
    pthread_mutex_unlock(&spool->sync_lock);
    /* A thread that is told while `done` is not set is the next leader. Don't look at `done` earlier: the
     * thread that sets it may still be using the struct. */
    do {
        if (leads)
            sync_lead(spool);
        while (sem_wait(&sync->told) != 0)
            ; /* interrupted */
        leads = true;
    } while (!sync->done);
    sem_destroy(&sync->told);
    errno = sync->number;
    return sync->number == 0 ? 0 : -1;
}
