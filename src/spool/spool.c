/* spool/spool.c - the durable store: opens it, and stores a message
 *
 * The promise depends on the order of the steps. Storing writes and syncs data and envelope under temporary
 * names, renames them, the envelope last, and syncs the folder; only then does the message exist. Removing
 * (spool/spool-edit.c) goes the other way: the envelope gets its temporary name back, the folder is synced,
 * which ends the message, and then the files are deleted. So a data file without an envelope but with an
 * ID.env.new is a message half stored or half removed, which nobody relies on.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "spool/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
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

#define RANDOM_STEP 0x9e3779b97f4a7c15 /* the golden ratio, which spreads the numbers evenly */
#define ID_TRIES 16
#define ROOM_KNOWN_MS 100
#define ROOM_AMPLE (256 * 1024 * 1024) /* octets above the reserve */
#define ROOM_AMPLE_FILES 10000

struct spool_message {
    struct spool *spool;
    uint64_t id;
    uint64_t size;
    int fd;
    int reader; /* -1: not opened */
    bool failed;
};

/* Opening. */

/* A link inside the spool could lead anywhere. Only the spool folder itself may be a link, and only one made
 * by root or by the calling user. */
static bool spool_is_trusted_link(const char *name)
{
    struct stat stat;
    return lstat(name, &stat) == 0 && S_ISLNK(stat.st_mode) &&
           (stat.st_uid == 0 || stat.st_uid == getuid());
}

static int spool_open_folder(struct spool *spool, int at, const char *name, bool may_make)
{
    bool follow = at == AT_FDCWD && spool_is_trusted_link(name);
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW);
    int fd = openat(at, name, flags);
    if (fd >= 0 || errno != ENOENT || !may_make)
        return fd;
    if (mkdirat(at, name, 0700) != 0 && errno != EEXIST)
        return -1;
    if (at != AT_FDCWD && geteuid() == 0 && fchownat(at, name, spool->owner, spool->group, 0) != 0)
        return -1;
    fd = openat(at, name, flags);
    /* If the folder's own name were lost, its messages would be lost with it. */
    if (fd >= 0 && (at == AT_FDCWD ? syncfs(fd) : fsync(at)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int spool_open_folders(struct spool *spool, struct error *err)
{
    struct stat stat;
    bool may_make = !spool->read_only;

    spool->folder_fd = spool_open_folder(spool, AT_FDCWD, spool->folder, may_make);
    if (spool->folder_fd >= 0 && fstat(spool->folder_fd, &stat) == 0) {
        spool->owner = stat.st_uid;
        spool->group = stat.st_gid;
        spool->gives_away = geteuid() == 0 && (stat.st_uid != 0 || stat.st_gid != 0);
        spool->queue_fd = spool_open_folder(spool, spool->folder_fd, "queue", may_make);
    }
    if (spool->queue_fd >= 0 && may_make)
        spool->quarantine_fd = spool_open_folder(spool, spool->folder_fd, "quarantine", true);
    if (spool->queue_fd >= 0 && (!may_make || spool->quarantine_fd >= 0))
        return 0;
    error_set(err,
              _("the spool folder %s cannot be opened: %s; it must be a folder that the daemon's "
                "user owns"),
              spool->folder, strerror(errno));
    return -1;
}

static void spool_name_holder(int fd, struct error *err, const char *folder)
{
    char pid[24] = "?";
    ssize_t len = pread(fd, pid, sizeof pid - 1, 0);
    if (len > 0)
        pid[strcspn(pid, "\n")] = '\0';
    error_set(err,
              _("the spool folder %s is in use by process %s; two programs cannot share a spool, "
                "so stop the other first"),
              folder, pid);
}

/* The lock belongs to the descriptor, so a killed process leaves none behind. */
static int spool_take_lock(struct spool *spool, struct error *err)
{
    spool->lock_fd =
        openat(spool->folder_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (spool->lock_fd < 0 || flock(spool->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (spool->lock_fd >= 0 && errno == EWOULDBLOCK)
            spool_name_holder(spool->lock_fd, err, spool->folder);
        else
            error_set(err, _("the lock file %s/lock cannot be locked: %s"), spool->folder,
                      strerror(errno));
        return -1;
    }
    if (geteuid() == 0 && fchown(spool->lock_fd, spool->owner, spool->group) != 0) {
        error_set(err, _("the lock file %s/lock cannot be given to the folder's owner: %s"),
                  spool->folder, strerror(errno));
        return -1;
    }
    /* The id is only for the error message of a process that finds the lock taken: ignore a full disk. */
    if (ftruncate(spool->lock_fd, 0) != 0 || dprintf(spool->lock_fd, "%ld\n", (long)getpid()) < 0)
        log_write(LOG_LEVEL_DEBUG, "event=spool-lock pid not written");
    return 0;
}

static uint64_t spool_random_start(void)
{
    uint64_t random;
    struct timespec now;
    if (getrandom(&random, sizeof random, 0) == (ssize_t)sizeof random)
        return random;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_nsec;
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
        lock_init(&spool->edit_locks[i]);
    pthread_mutex_init(&spool->sync_lock, NULL);
    pthread_mutex_init(&spool->room_lock, NULL);
    pthread_mutex_init(&spool->fresh_lock, NULL);
    spool->to_sync_end = &spool->to_sync;
    spool->random = spool_random_start();
    if (spool_open_folders(spool, err) != 0 || (!read_only && spool_take_lock(spool, err) != 0)) {
        spool_close(spool);
        return NULL;
    }
    return spool;
}

static void spool_close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

void spool_close(struct spool *spool)
{
    if (spool == NULL)
        return;
    spool_close_fd(spool->queue_fd);
    spool_close_fd(spool->quarantine_fd);
    spool_close_fd(spool->folder_fd);
    spool_close_fd(spool->lock_fd);
    for (int i = 0; i < SPOOL_EDIT_LOCKS; i++)
        lock_destroy(&spool->edit_locks[i]);
    pthread_mutex_destroy(&spool->sync_lock);
    pthread_mutex_destroy(&spool->room_lock);
    spool_forget_fresh(spool);
    pthread_mutex_destroy(&spool->fresh_lock);
    free(spool->folder);
    free(spool);
}

/* Storing. */

/* Milliseconds since the epoch and a few random bits, and always greater than any id before, so that names
 * sort by arrival whatever the clock does. 0 is not an id; only a stranger's file has the greatest one. */
static uint64_t spool_new_id(struct spool *spool)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)(now.tv_nsec / 1000000);
    uint64_t random = atomic_fetch_add(&spool->random, RANDOM_STEP) >> (64 - SPOOL_ID_RANDOM_BITS);
    uint64_t wanted = ms << SPOOL_ID_RANDOM_BITS | random, last = atomic_load(&spool->last_id), id;
    do
        id = wanted > last || last == UINT64_MAX ? wanted : last + 1;
    while (!atomic_compare_exchange_weak(&spool->last_id, &last, id));
    return id;
}

void spool_note_id(struct spool *spool, uint64_t id)
{
    uint64_t last = atomic_load(&spool->last_id);
    while (id > last && !atomic_compare_exchange_weak(&spool->last_id, &last, id))
        ;
}

static int spool_measure_room(struct spool *spool)
{
    struct statvfs room;

    if (fstatvfs(spool->queue_fd, &room) != 0)
        return -1;
    spool->free_octets = (uint64_t)room.f_bavail * room.f_frsize;
    spool->free_files = (uint64_t)room.f_favail;
    spool->files_in_file_system = (uint64_t)room.f_files;
    spool->mounted_read_only = (room.f_flag & ST_RDONLY) != 0;
    spool->room_until = deadline_in_ms(ROOM_KNOWN_MS);
    return 0;
}

/* Far from the reserve, free space need not be measured for every message. */
static bool spool_is_room_known(const struct spool *spool, uint64_t expected)
{
    return !deadline_passed(spool->room_until) && !spool->mounted_read_only &&
           spool->free_octets > spool->reserve_octets &&
           spool->free_octets - spool->reserve_octets > expected + ROOM_AMPLE &&
           (spool->files_in_file_system == 0 ||
            (spool->free_files > ROOM_AMPLE_FILES &&
             spool->free_files - ROOM_AMPLE_FILES > spool->reserve_files));
}

static enum spool_result spool_judge_room(struct spool *spool, uint64_t expected, struct error *err)
{
    if (spool->mounted_read_only) {
        error_set(err, _("the spool %s is on a file system mounted read-only"), spool->folder);
        return SPOOL_FULL;
    }
    if (spool->free_octets < spool->reserve_octets ||
        spool->free_octets - spool->reserve_octets < expected) {
        error_set(err, _("the spool %s has %llu octets free and keeps %llu of them in reserve"),
                  spool->folder, (unsigned long long)spool->free_octets,
                  (unsigned long long)spool->reserve_octets);
        return SPOOL_FULL;
    }
    if (spool->files_in_file_system != 0 && spool->free_files < spool->reserve_files) {
        error_set(err, _("the spool %s has %llu inodes free and keeps %llu of them in reserve"),
                  spool->folder, (unsigned long long)spool->free_files,
                  (unsigned long long)spool->reserve_files);
        return SPOOL_FULL;
    }
    return SPOOL_OK;
}

static enum spool_result spool_check_room(struct spool *spool, uint64_t expected, struct error *err)
{
    enum spool_result result = SPOOL_OK;

    pthread_mutex_lock(&spool->room_lock);
    if (spool_is_room_known(spool, expected)) {
        spool->free_octets -= expected;
        spool->free_files -= 2;
    } else if (spool_measure_room(spool) != 0) {
        result = spool_failure(spool, _("measure"), "", err);
    } else {
        result = spool_judge_room(spool, expected, err);
    }
    pthread_mutex_unlock(&spool->room_lock);
    return result;
}

static enum spool_result spool_create_data(struct spool_message *message, struct error *err)
{
    char name[SPOOL_NAME_MAX];
    errno = EEXIST;
    for (int i = 0; i < ID_TRIES; i++) {
        message->id = spool_new_id(message->spool);
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
        result = spool_check_room(spool, expected, err);
    if (result != SPOOL_OK)
        return result;
    struct spool_message *begun = calloc(1, sizeof *begun);
    if (begun == NULL) {
        error_set(err, _("out of memory"));
        return SPOOL_BROKEN;
    }
    begun->spool = spool;
    begun->reader = -1;
    result = spool_create_data(begun, err);
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

/* writev(2) may write less than it was given; this writes the rest piece by piece. */
static ssize_t spool_write_pieces(int fd, const struct iovec *iov, int count, size_t skip)
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
        ssize_t written = spool_write_pieces(message->fd, iov, count, done);
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

/* Removes every file of a message that the client will be told to send again. As in removing, the temporary
 * envelope goes last. */
static void spool_withdraw(struct spool_message *message)
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

static void spool_free_message(struct spool_message *message)
{
    spool_close_fd(message->fd);
    spool_close_fd(message->reader);
    free(message);
}

void spool_abort(struct spool_message *message)
{
    if (message == NULL)
        return;
    spool_withdraw(message);
    spool_free_message(message);
}

enum spool_result spool_sync_data(struct spool_message *message, struct error *err)
{
    char name[SPOOL_NAME_MAX];

    if (!message->failed && fsync(message->fd) == 0 && fsync(message->spool->queue_fd) == 0)
        return SPOOL_OK;
    message->failed = true;
    return spool_failure(message->spool, _("sync"),
                         spool_file_name(message->id, SPOOL_DATA_NEW, name), err);
}

int spool_reader(struct spool_message *message)
{
    char name[SPOOL_NAME_MAX];

    if (message->reader < 0)
        message->reader =
            openat(message->spool->queue_fd, spool_file_name(message->id, SPOOL_DATA_NEW, name),
                   O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return message->reader;
}

/* Written at the same time, the two files need only one wait for the disk. */
static int spool_sync_contents(int data_fd, int env_fd)
{
    (void)sync_file_range(env_fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    return fsync(data_fd) == 0 && fsync(env_fd) == 0 ? 0 : -1;
}

static enum spool_result spool_make_durable(struct spool_message *message,
                                            const struct spool_envelope *envelope,
                                            struct error *err)
{
    struct spool *spool = message->spool;
    struct spool_sync sync = {.id = message->id,
                              .renames = {{SPOOL_DATA_NEW, SPOOL_DATA}, {SPOOL_ENV_NEW, SPOOL_ENV}},
                              .rename_count = 2};
    char name[SPOOL_NAME_MAX];
    struct spool_text text;
    int env_fd;

    spool_file_name(message->id, SPOOL_DATA, name);
    if (message->failed) {
        error_set(err, _("the mail data of %s could not be written"), name);
        return SPOOL_BROKEN;
    }
    enum spool_result result = spool_put_envelope(spool, envelope, &env_fd, &text, err);
    if (result != SPOOL_OK) {
        free(text.bytes);
        return result;
    }
    if (spool_sync_contents(message->fd, env_fd) != 0)
        result = spool_failure(spool, _("sync"), name, err);
    else if (spool_sync(spool, &sync) != 0)
        result = spool_failure(spool, sync.failed == SPOOL_SYNC_RENAME ? _("rename") : _("sync"),
                               name, err);
    close(env_fd);
    if (result == SPOOL_OK)
        spool_keep_fresh(spool, message->id, text);
    else
        free(text.bytes);
    return result;
}

enum spool_result spool_commit(struct spool_message *message, struct spool_envelope *envelope,
                               struct error *err)
{
    envelope->id = message->id;
    envelope->size = message->size;
    envelope->stamp =
        atomic_load(spool_edits_of(message->spool, message->id)); /* nobody else knows it yet */
    enum spool_result result = spool_make_durable(message, envelope, err);
    if (result != SPOOL_OK)
        spool_withdraw(message);
    spool_free_message(message);
    return result;
}
