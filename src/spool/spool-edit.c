/* spool/spool-edit.c - reading a spooled message, changing and removing it
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/log.h"
#include "spool/spool-internal.h"

static enum spool_result read_file(struct spool *spool, const char *name, char **text, size_t *len,
                                   struct error *err)
{
    struct stat stat;
    int fd = openat(spool->queue_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return spool_failure(spool, _("open"), name, err);
    *text = NULL;
    *len = 0;
    bool known = fstat(fd, &stat) == 0;
    bool sane = known && S_ISREG(stat.st_mode) && stat.st_size <= ENVELOPE_FILE_MAX;
    if (sane)
        *text = malloc((size_t)stat.st_size + 1);
    else if (known)
        errno = EINVAL;
    while (*text != NULL && *len < (size_t)stat.st_size) {
        ssize_t got = read(fd, *text + *len, (size_t)stat.st_size - *len);
        if (got <= 0 && !(got < 0 && errno == EINTR))
            break;
        *len += got > 0 ? (size_t)got : 0;
    }
    enum spool_result result = SPOOL_OK;
    if (*text == NULL || *len < (size_t)stat.st_size) {
        spool_failure(spool, _("read"), name, err);
        free(*text);
        result = known && !sane ? SPOOL_SENSELESS : SPOOL_BROKEN;
    }
    close(fd);
    return result;
}

enum spool_result spool_read(struct spool *spool, uint64_t id, struct spool_envelope *envelope,
                             struct error *err)
{
    char name[SPOOL_NAME_MAX], *text = NULL;
    size_t len = 0;
    struct error reason = {""};

    spool_envelope_init(envelope);
    enum spool_result result =
        read_file(spool, spool_file_name(id, SPOOL_ENV, name), &text, &len, err);
    if (result != SPOOL_OK)
        return result;
    int parsed = spool_envelope_parse(envelope, text, len, &reason);
    free(text);
    if (parsed == 0 && envelope->id != id) {
        spool_envelope_clear(envelope);
        error_set(&reason, _("it is the envelope of another message"));
        parsed = -1;
    }
    if (parsed == 0)
        return SPOOL_OK;
    error_set(err, "%s/queue/%s: %.300s", spool->folder, name, reason.text);
    return SPOOL_SENSELESS;
}

static enum spool_result replace_envelope(struct spool *spool,
                                          const struct spool_envelope *envelope, struct error *err)
{
    char name[SPOOL_NAME_MAX];
    enum spool_result result = spool_put_envelope(spool, envelope, err);
    if (result != SPOOL_OK)
        return result;
    if (spool_rename(spool, envelope->id, SPOOL_ENV_NEW, SPOOL_ENV) != 0) {
        result = spool_failure(spool, _("rename"),
                               spool_file_name(envelope->id, SPOOL_ENV_NEW, name), err);
        spool_delete(spool, envelope->id, SPOOL_ENV_NEW);
        return result;
    }
    return spool_sync_names(spool) == 0 ? SPOOL_OK : spool_failure(spool, _("sync"), "", err);
}

static enum spool_result remove_message(struct spool *spool, uint64_t id, struct error *err)
{
    char name[SPOOL_NAME_MAX];
    if (spool_rename(spool, id, SPOOL_ENV, SPOOL_ENV_NEW) != 0)
        return spool_failure(spool, _("remove"), spool_file_name(id, SPOOL_ENV, name), err);
    if (spool_sync_names(spool) != 0) {
        enum spool_result result =
            spool_failure(spool, _("remove"), spool_file_name(id, SPOOL_ENV, name), err);
        /* Under its own name it can be removed again; else its files would stay until the next
         * start. */
        (void)spool_rename(spool, id, SPOOL_ENV_NEW, SPOOL_ENV);
        return result;
    }
    /* The message is over; what cannot be removed now goes at the next start. */
    if (spool_delete(spool, id, SPOOL_DATA) != 0 || spool_delete(spool, id, SPOOL_ENV_NEW) != 0) {
        struct error reason;
        spool_failure(spool, _("remove"), spool_file_name(id, SPOOL_DATA, name), &reason);
        log_write(LOG_LEVEL_WARNING, "%s", reason.text);
    }
    return SPOOL_OK;
}

enum spool_result spool_edit(struct spool *spool, uint64_t id, spool_edit_function *edit,
                             void *context, struct error *err)
{
    struct spool_envelope envelope;
    pthread_mutex_t *lock = &spool->edit_locks[id % SPOOL_EDIT_LOCKS];

    pthread_mutex_lock(lock);
    enum spool_result result = spool_read(spool, id, &envelope, err);
    if (result == SPOOL_OK) {
        enum spool_edit_action action = edit(context, &envelope);
        if (action == SPOOL_EDIT_WRITE)
            result = replace_envelope(spool, &envelope, err);
        else if (action == SPOOL_EDIT_REMOVE)
            result = remove_message(spool, id, err);
    }
    spool_envelope_clear(&envelope);
    pthread_mutex_unlock(lock);
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
    bool empty = true; /* is the line, so far? */
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
        spool_sync_names(spool) == 0)
        return SPOOL_OK;
    return spool_failure(spool, _("move"), name, err);
}
