/* spool/spool.c - the durable store: opening it, storing a message
 *
 * The order of the steps is the whole of the promise. Storing: data and envelope are written and
 * synced under temporary names, then renamed, the envelope last, and the folder synced; only then
 * the message exists. Removing (spool/spool-edit.c) goes the same way back: the envelope gets its
 * temporary name, the folder is synced, which ends the message, and then the files go. So a data
 * file without an envelope but with an ID.env.new is a message half stored or half removed, which
 * nobody relies on.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "spool/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/log.h"
#include "spool/spool-internal.h"

#define ID_RANDOM_BITS 20
#define ID_TRIES 16

struct spool_message {
    struct spool *spool;
    uint64_t id;
    uint64_t size;
    int fd;
    bool failed;
};

/* Opening. */

/* A link in the spool could lead anywhere. Only the spool itself may be one, of those who may make
 * one where it stands: root, and whoever asks. */
static bool is_trusted_link(const char *name)
{
    struct stat stat;
    return lstat(name, &stat) == 0 && S_ISLNK(stat.st_mode) &&
           (stat.st_uid == 0 || stat.st_uid == getuid());
}

static int open_folder(struct spool *spool, int at, const char *name, bool may_make)
{
    bool follow = at == AT_FDCWD && is_trusted_link(name);
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW);
    int fd = openat(at, name, flags);
    if (fd >= 0 || errno != ENOENT || !may_make)
        return fd;
    if (mkdirat(at, name, 0700) != 0 && errno != EEXIST)
        return -1;
    if (at != AT_FDCWD && geteuid() == 0 && fchownat(at, name, spool->owner, spool->group, 0) != 0)
        return -1;
    fd = openat(at, name, flags);
    /* A message in a folder whose own name is lost would be lost with it. */
    if (fd >= 0 && (at == AT_FDCWD ? syncfs(fd) : fsync(at)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int open_folders(struct spool *spool, struct error *err)
{
    struct stat stat;
    bool may_make = !spool->read_only;

    spool->folder_fd = open_folder(spool, AT_FDCWD, spool->folder, may_make);
    if (spool->folder_fd >= 0 && fstat(spool->folder_fd, &stat) == 0) {
        spool->owner = stat.st_uid;
        spool->group = stat.st_gid;
        spool->queue_fd = open_folder(spool, spool->folder_fd, "queue", may_make);
    }
    if (spool->queue_fd >= 0 && may_make)
        spool->quarantine_fd = open_folder(spool, spool->folder_fd, "quarantine", true);
    if (spool->queue_fd >= 0 && (!may_make || spool->quarantine_fd >= 0))
        return 0;
    error_set(err,
              _("the spool folder %s cannot be opened: %s; it must be a folder that the daemon's "
                "user owns"),
              spool->folder, strerror(errno));
    return -1;
}

static void name_holder(int fd, struct error *err, const char *folder)
{
    char pid[24] = "?";
    ssize_t len = pread(fd, pid, sizeof pid - 1, 0);
    if (len > 0)
        pid[strcspn(pid, "\n")] = '\0';
    error_set(err,
              _("the spool folder %s is in use by process %s; two programs cannot share one, stop "
                "the other first"),
              folder, pid);
}

/* The lock goes with the descriptor: a killed process leaves none behind. */
static int take_lock(struct spool *spool, struct error *err)
{
    spool->lock_fd =
        openat(spool->folder_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (spool->lock_fd < 0 || flock(spool->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (spool->lock_fd >= 0 && errno == EWOULDBLOCK)
            name_holder(spool->lock_fd, err, spool->folder);
        else
            error_set(err, _("the lock file %s/lock cannot be had: %s"), spool->folder,
                      strerror(errno));
        return -1;
    }
    if (geteuid() == 0 && fchown(spool->lock_fd, spool->owner, spool->group) != 0) {
        error_set(err, _("the lock file %s/lock cannot be given to the folder's owner: %s"),
                  spool->folder, strerror(errno));
        return -1;
    }
    /* Only for the message of whoever finds it taken: a full disk is no reason to fail here. */
    if (ftruncate(spool->lock_fd, 0) != 0 || dprintf(spool->lock_fd, "%ld\n", (long)getpid()) < 0)
        log_write(LOG_LEVEL_DEBUG, "event=spool-lock pid not written");
    return 0;
}

struct spool *spool_open(const struct spool_config *config, bool read_only, struct error *err)
{
    struct spool *spool = calloc(1, sizeof *spool);
    if (spool == NULL || (spool->folder = strdup(config->folder)) == NULL) {
        error_set(err, _("out of memory"));
        free(spool);
        return NULL;
    }
    spool->reserve_octets = config->reserve_octets;
    spool->reserve_files = config->reserve_files;
    spool->read_only = read_only;
    spool->folder_fd = spool->queue_fd = spool->quarantine_fd = spool->lock_fd = -1;
    for (int i = 0; i < SPOOL_EDIT_LOCKS; i++)
        pthread_mutex_init(&spool->edit_locks[i], NULL);
    if (open_folders(spool, err) != 0 || (!read_only && take_lock(spool, err) != 0)) {
        spool_close(spool);
        return NULL;
    }
    return spool;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

void spool_close(struct spool *spool)
{
    if (spool == NULL)
        return;
    close_fd(spool->queue_fd);
    close_fd(spool->quarantine_fd);
    close_fd(spool->folder_fd);
    close_fd(spool->lock_fd);
    for (int i = 0; i < SPOOL_EDIT_LOCKS; i++)
        pthread_mutex_destroy(&spool->edit_locks[i]);
    free(spool->folder);
    free(spool);
}

/* Storing. */

/* Milliseconds since the epoch and a few random bits: names sort by arrival. 0 is no id. */
static uint64_t new_id(void)
{
    struct timespec now;
    uint32_t random = 0;
    clock_gettime(CLOCK_REALTIME, &now);
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        random = (uint32_t)now.tv_nsec;
    uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)(now.tv_nsec / 1000000);
    return ms << ID_RANDOM_BITS | (random & ((1U << ID_RANDOM_BITS) - 1));
}

static enum spool_result check_room(struct spool *spool, uint64_t expected, struct error *err)
{
    struct statvfs room;

    if (fstatvfs(spool->queue_fd, &room) != 0)
        return spool_failure(spool, _("measure"), "", err);
    if (room.f_flag & ST_RDONLY) {
        error_set(err, _("the spool %s is on a file system mounted read-only"), spool->folder);
        return SPOOL_FULL;
    }
    uint64_t free_octets = (uint64_t)room.f_bavail * room.f_frsize;
    if (free_octets < spool->reserve_octets || free_octets - spool->reserve_octets < expected) {
        error_set(err, _("the spool %s has %llu octets free and keeps %llu of them in reserve"),
                  spool->folder, (unsigned long long)free_octets,
                  (unsigned long long)spool->reserve_octets);
        return SPOOL_FULL;
    }
    if (room.f_files != 0 && (uint64_t)room.f_favail < spool->reserve_files) {
        error_set(err, _("the spool %s has %llu inodes free and keeps %llu of them in reserve"),
                  spool->folder, (unsigned long long)room.f_favail,
                  (unsigned long long)spool->reserve_files);
        return SPOOL_FULL;
    }
    return SPOOL_OK;
}

static bool id_is_taken(struct spool *spool, uint64_t id)
{
    char name[SPOOL_NAME_MAX];
    return faccessat(spool->queue_fd, spool_file_name(id, SPOOL_DATA, name), F_OK, 0) == 0 ||
           faccessat(spool->queue_fd, spool_file_name(id, SPOOL_ENV, name), F_OK, 0) == 0;
}

static enum spool_result create_data(struct spool_message *message, struct error *err)
{
    char name[SPOOL_NAME_MAX];
    errno = EEXIST;
    for (int i = 0; i < ID_TRIES; i++) {
        message->id = new_id();
        if (id_is_taken(message->spool, message->id))
            continue;
        message->fd =
            spool_create(message->spool, spool_file_name(message->id, SPOOL_DATA_NEW, name));
        if (message->fd >= 0)
            return SPOOL_OK;
        if (errno != EEXIST)
            break;
    }
    return spool_failure(message->spool, _("create"), name, err);
}

enum spool_result spool_begin(struct spool *spool, enum spool_purpose purpose, uint64_t expected,
                              struct spool_message **message, struct error *err)
{
    enum spool_result result = SPOOL_OK;

    *message = NULL;
    if (purpose == SPOOL_FOR_CLIENT)
        result = check_room(spool, expected, err);
    if (result != SPOOL_OK)
        return result;
    struct spool_message *begun = calloc(1, sizeof *begun);
    if (begun == NULL) {
        error_set(err, _("out of memory"));
        return SPOOL_BROKEN;
    }
    begun->spool = spool;
    result = create_data(begun, err);
    if (result != SPOOL_OK) {
        free(begun);
        return result;
    }
    *message = begun;
    return SPOOL_OK;
}

uint64_t spool_message_id(const struct spool_message *message)
{
    return message->id;
}

/* writev(2) may take less than it was given: then what is left goes piece by piece. */
static ssize_t write_pieces(int fd, const struct iovec *iov, int count, size_t skip)
{
    for (; count > 0 && skip >= iov->iov_len; iov++, count--)
        skip -= iov->iov_len;
    if (count == 0)
        return 0;
    if (skip == 0)
        return writev(fd, iov, count < IOV_MAX ? count : IOV_MAX);
    return write(fd, (const char *)iov->iov_base + skip, iov->iov_len - skip);
}

enum spool_result spool_write(struct spool_message *message, const struct iovec *iov, int count,
                              struct error *err)
{
    char name[SPOOL_NAME_MAX];
    size_t total = 0, done = 0;

    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    while (done < total && !message->failed) {
        ssize_t written = write_pieces(message->fd, iov, count, done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            message->failed = true;
            return spool_failure(message->spool, _("write"),
                                 spool_file_name(message->id, SPOOL_DATA_NEW, name), err);
        }
        done += (size_t)written;
    }
    message->size += done;
    return message->failed ? SPOOL_BROKEN : SPOOL_OK;
}

/* Nothing may be left of a message that the client will be told to send again. As in removing, the
 * envelope's temporary goes last. */
static void withdraw(struct spool_message *message)
{
    struct spool *spool = message->spool;
    static const enum spool_file order[] = {SPOOL_DATA, SPOOL_DATA_NEW, SPOOL_ENV_NEW};
    char name[SPOOL_NAME_MAX];
    struct error err = {""};

    if (spool_rename(spool, message->id, SPOOL_ENV, SPOOL_ENV_NEW) != 0 && errno != ENOENT)
        spool_failure(spool, _("remove"), spool_file_name(message->id, SPOOL_ENV, name), &err);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        if (spool_delete(spool, message->id, order[i]) != 0)
            spool_failure(spool, _("remove"), spool_file_name(message->id, order[i], name), &err);
    }
    if (err.text[0] != '\0')
        log_write(LOG_LEVEL_ERROR, "%s", err.text);
}

static void free_message(struct spool_message *message)
{
    close_fd(message->fd);
    free(message);
}

void spool_abort(struct spool_message *message)
{
    if (message == NULL)
        return;
    withdraw(message);
    free_message(message);
}

static enum spool_result make_durable(struct spool_message *message,
                                      const struct spool_envelope *envelope, struct error *err)
{
    struct spool *spool = message->spool;
    char name[SPOOL_NAME_MAX];

    spool_file_name(message->id, SPOOL_DATA, name);
    if (message->failed) {
        error_set(err, _("the mail data of %s could not be written"), name);
        return SPOOL_BROKEN;
    }
    if (fsync(message->fd) != 0)
        return spool_failure(spool, _("sync"), name, err);
    enum spool_result result = spool_put_envelope(spool, envelope, err);
    if (result != SPOOL_OK)
        return result;
    if (spool_rename(spool, message->id, SPOOL_DATA_NEW, SPOOL_DATA) != 0 ||
        spool_rename(spool, message->id, SPOOL_ENV_NEW, SPOOL_ENV) != 0)
        return spool_failure(spool, _("rename"), name, err);
    return spool_sync_names(spool) == 0 ? SPOOL_OK : spool_failure(spool, _("sync"), "", err);
}

enum spool_result spool_commit(struct spool_message *message, struct spool_envelope *envelope,
                               struct error *err)
{
    envelope->id = message->id;
    envelope->size = message->size;
    enum spool_result result = make_durable(message, envelope, err);
    if (result != SPOOL_OK)
        withdraw(message);
    free_message(message);
    return result;
}
