/* spool/spool-edit.c - reads, changes and removes a spooled message
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/log.h"
#include "spool/spool-internal.h"

static enum spool_result spool_read_file(struct spool *spool, const char *name,
                                         struct spool_text *text, struct error *err)
{
    struct stat stat;
    int fd = openat(spool->queue_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return spool_failure(spool, _("open"), name, err);
    *text = (struct spool_text){NULL, 0};
    bool known = fstat(fd, &stat) == 0;
    bool sane = known && S_ISREG(stat.st_mode) && stat.st_size <= ENVELOPE_FILE_MAX;
    if (sane)
        text->bytes = malloc((size_t)stat.st_size + 1);
    else if (known)
        errno = EINVAL;
    while (text->bytes != NULL && text->len < (size_t)stat.st_size) {
        ssize_t got = read(fd, text->bytes + text->len, (size_t)stat.st_size - text->len);
        if (got <= 0 && !(got < 0 && errno == EINTR))
            break;
        text->len += got > 0 ? (size_t)got : 0;
    }
    enum spool_result result = SPOOL_OK;
    if (text->bytes == NULL || text->len < (size_t)stat.st_size) {
        spool_failure(spool, _("read"), name, err);
        free(text->bytes);
        result = known && !sane ? SPOOL_SENSELESS : SPOOL_BROKEN;
    }
    close(fd);
    return result;
}

static struct lock *spool_lock_of(struct spool *spool, uint64_t id)
{
    return &spool->edit_locks[id % SPOOL_EDIT_LOCKS];
}

_Atomic uint64_t *spool_edits_of(struct spool *spool, uint64_t id)
{
    return &spool->edits[id % SPOOL_EDIT_STAMPS];
}

enum spool_result spool_read(struct spool *spool, uint64_t id, struct spool_envelope *envelope,
                             struct error *err)
{
    char name[SPOOL_NAME_MAX];
    struct error reason = {""};
    enum spool_result result = SPOOL_OK;

    spool_envelope_init(envelope);
    spool_file_name(id, SPOOL_ENV, name);
    uint64_t stamp = atomic_load(spool_edits_of(spool, id));
    struct spool_text text = spool_take_fresh(spool, id);
    if (text.bytes == NULL)
        result = spool_read_file(spool, name, &text, err);
    if (result != SPOOL_OK)
        return result;
    int parsed = spool_envelope_parse(envelope, text.bytes, text.len, &reason);
    free(text.bytes);
    if (parsed == 0 && envelope->id != id) {
        spool_envelope_clear(envelope);
        error_set(&reason, _("it is the envelope of another message"));
        parsed = -1;
    }
    envelope->stamp = stamp;
    if (parsed == 0)
        return SPOOL_OK;
    error_set(err, "%s/queue/%s: %.300s", spool->folder, name, reason.text);
    return SPOOL_SENSELESS;
}

static enum spool_result spool_replace_envelope(struct spool *spool,
                                                const struct spool_envelope *envelope,
                                                struct error *err)
{
    struct spool_sync sync = {
        .id = envelope->id, .renames = {{SPOOL_ENV_NEW, SPOOL_ENV}}, .rename_count = 1};
    char name[SPOOL_NAME_MAX];
    struct spool_text text;
    int fd;
    enum spool_result result = spool_put_envelope(spool, envelope, &fd, &text, err);
    free(text.bytes);
    if (result != SPOOL_OK)
        return result;
    spool_file_name(envelope->id, SPOOL_ENV_NEW, name);
    if (fsync(fd) != 0)
        result = spool_failure(spool, _("sync"), name, err);
    else if (spool_sync(spool, &sync) != 0)
        result = spool_failure(spool, sync.failed == SPOOL_SYNC_RENAME ? _("rename") : _("sync"),
                               name, err);
    if (result != SPOOL_OK)
        spool_delete(spool, envelope->id, SPOOL_ENV_NEW);
    close(fd);
    return result;
}

static enum spool_result spool_remove_message(struct spool *spool, uint64_t id, struct error *err)
{
    struct spool_sync sync = {.id = id, .renames = {{SPOOL_ENV, SPOOL_ENV_NEW}}, .rename_count = 1};
    char name[SPOOL_NAME_MAX];

    if (spool_sync(spool, &sync) != 0) {
        enum spool_result result =
            spool_failure(spool, _("remove"), spool_file_name(id, SPOOL_ENV, name), err);
        /* Under its own name it can be removed later; otherwise its files would stay until the next
         * start. */
        if (sync.failed == SPOOL_SYNC_NAMES)
            (void)spool_rename(spool, id, SPOOL_ENV_NEW, SPOOL_ENV);
        return result;
    }
    /* The message no longer exists; files that cannot be removed now go at the next start. */
    if (spool_delete(spool, id, SPOOL_DATA) != 0 || spool_delete(spool, id, SPOOL_ENV_NEW) != 0) {
        struct error reason;
        spool_failure(spool, _("remove"), spool_file_name(id, SPOOL_DATA, name), &reason);
        log_write(LOG_LEVEL_WARNING, "%s", reason.text);
    }
    return SPOOL_OK;
}

/* The caller holds the lock. */
static enum spool_result spool_edit_envelope(struct spool *spool, struct spool_envelope *envelope,
                                             spool_edit_function *edit, void *context,
                                             struct error *err)
{
    enum spool_edit_action action = edit(context, envelope);
    if (action == SPOOL_EDIT_KEEP)
        return SPOOL_OK;
    atomic_fetch_add(spool_edits_of(spool, envelope->id), 1);
    free(spool_take_fresh(spool, envelope->id).bytes);
    enum spool_result result = action == SPOOL_EDIT_WRITE
                                   ? spool_replace_envelope(spool, envelope, err)
                                   : spool_remove_message(spool, envelope->id, err);
    uint64_t stamp = atomic_fetch_add(spool_edits_of(spool, envelope->id), 1) + 1;
    if (result == SPOOL_OK)
        envelope->stamp = stamp;
    return result;
}

enum spool_result spool_edit(struct spool *spool, uint64_t id, spool_edit_function *edit,
                             void *context, struct error *err)
{
    struct spool_envelope envelope;
    struct lock *lock = spool_lock_of(spool, id);

    lock_take(lock);
    enum spool_result result = spool_read(spool, id, &envelope, err);
    if (result == SPOOL_OK)
        result = spool_edit_envelope(spool, &envelope, edit, context, err);
    spool_envelope_clear(&envelope);
    lock_drop(lock);
    return result;
}

enum spool_result spool_edit_known(struct spool *spool, struct spool_envelope *envelope,
                                   spool_edit_function *edit, void *context, struct error *err)
{
    uint64_t id = envelope->id;
    struct lock *lock = spool_lock_of(spool, id);
    enum spool_result result = SPOOL_OK;

    lock_take(lock);
    if (envelope->stamp != atomic_load(spool_edits_of(spool, id))) {
        spool_envelope_clear(envelope);
        result = spool_read(spool, id, envelope, err);
    }
    if (result == SPOOL_OK)
        result = spool_edit_envelope(spool, envelope, edit, context, err);
    lock_drop(lock);
    return result;
}

enum spool_result spool_open_data(struct spool *spool, const struct spool_envelope *envelope,
                                  int *fd, struct error *err)
{
    char name[SPOOL_NAME_MAX];
    struct stat stat;

    *fd = openat(spool->queue_fd, spool_file_name(envelope->id, SPOOL_DATA, name),
                 O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (*fd < 0 || fstat(*fd, &stat) != 0) {
        enum spool_result result = spool_failure(spool, _("open"), name, err);
        if (*fd >= 0)
            close(*fd);
        return result;
    }
    if (S_ISREG(stat.st_mode) && (uint64_t)stat.st_size == envelope->size)
        return SPOOL_OK;
    close(*fd);
    error_set(err, _("%s/queue/%s has %lld octets, and its envelope says %llu"), spool->folder,
              name, (long long)stat.st_size, (unsigned long long)envelope->size);
    return SPOOL_SENSELESS;
}

int spool_header_size(int fd, uint64_t *size)
{
    char block[8192];
    bool empty = true; /* the line is empty so far */
    ssize_t got;

    *size = 0;
    while ((got = pread(fd, block, sizeof block, (off_t)*size)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        for (ssize_t i = 0; i < got; i++) {
            ++*size;
            if (block[i] == '\n' && empty)
                return 0;
            empty = block[i] == '\n' || (empty && block[i] == '\r');
        }
    }
    return 0;
}

enum spool_result spool_set_data_aside(struct spool *spool, uint64_t id, struct error *err)
{
    char name[SPOOL_NAME_MAX];
    spool_file_name(id, SPOOL_DATA, name);
    if (spool_quarantine(spool, name) == 0 && fsync(spool->quarantine_fd) == 0 &&
        fsync(spool->queue_fd) == 0)
        return SPOOL_OK;
    return spool_failure(spool, _("move"), name, err);
}
