/* spool/spool-files.c - the files under the spool: names, errors, durable writing
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "spool/spool-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/i18n.h"

#define QUARANTINE_NAMES 100 /* most files of one name that are kept there */

static const char *const suffixes[SPOOL_FILES] = {
    [SPOOL_DATA] = ".data",
    [SPOOL_DATA_NEW] = ".data.new",
    [SPOOL_ENV] = ".env",
    [SPOOL_ENV_NEW] = ".env.new",
};

const char *spool_file_name(uint64_t id, enum spool_file file, char out[SPOOL_NAME_MAX])
{
    char digits[SPOOL_ID_LEN + 1];
    snprintf(out, SPOOL_NAME_MAX, "%s%s", spool_id_format(id, digits), suffixes[file]);
    return out;
}

bool spool_file_parse(const char *name, uint64_t *id, enum spool_file *file)
{
    if (strlen(name) < SPOOL_ID_LEN || !spool_id_parse(name, SPOOL_ID_LEN, id))
        return false;
    for (int i = 0; i < SPOOL_FILES; i++) {
        if (strcmp(name + SPOOL_ID_LEN, suffixes[i]) == 0) {
            *file = (enum spool_file)i;
            return true;
        }
    }
    return false;
}

static enum spool_result spool_result_of(int number)
{
    switch (number) {
    case ENOSPC:
    case EDQUOT:
    case EROFS:
    case EFBIG:
        return SPOOL_FULL;
    case ENOENT:
        return SPOOL_MISSING;
    case ELOOP: /* a link in place of a file */
        return SPOOL_SENSELESS;
    default:
        return SPOOL_BROKEN;
    }
}

enum spool_result spool_failure(const struct spool *spool, const char *what, const char *name,
                                struct error *err)
{
    int number = errno;
    error_set(err, _("the spool cannot %s %s/queue/%s: %s"), what, spool->folder, name,
              strerror(number));
    errno = number;
    return spool_result_of(number);
}

int spool_create(struct spool *spool, const char *name)
{
    int fd = openat(spool->queue_fd, name,
                    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW | O_APPEND, 0600);
    if (fd < 0 || !spool->gives_away)
        return fd;
    /* relayctl as root must not leave files that the daemon cannot read. */
    if (fchown(fd, spool->owner, spool->group) != 0) {
        int number = errno;
        close(fd);
        unlinkat(spool->queue_fd, name, 0);
        errno = number;
        return -1;
    }
    return fd;
}

int spool_delete(struct spool *spool, uint64_t id, enum spool_file file)
{
    char name[SPOOL_NAME_MAX];
    if (unlinkat(spool->queue_fd, spool_file_name(id, file, name), 0) == 0 || errno == ENOENT)
        return 0;
    return -1;
}

int spool_quarantine(struct spool *spool, const char *name)
{
    char target[NAME_MAX + 8];
    snprintf(target, sizeof target, "%.240s", name);
    for (int i = 1; i < QUARANTINE_NAMES; i++) {
        if (renameat2(spool->queue_fd, name, spool->quarantine_fd, target, RENAME_NOREPLACE) == 0)
            return 0;
        if (errno != EEXIST)
            return -1;
        snprintf(target, sizeof target, "%.240s.%d", name, i);
    }
    return -1;
}

DIR *spool_list_folder(int folder_fd)
{
    int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;

    if (folder == NULL && fd >= 0)
        close(fd);
    return folder;
}

size_t spool_count_quarantined(struct spool *spool)
{
    DIR *folder = spool_list_folder(spool->quarantine_fd);
    const struct dirent *entry;
    size_t count = 0;

    if (folder == NULL)
        return 0;
    while ((entry = readdir(folder)) != NULL)
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

int spool_rename(struct spool *spool, uint64_t id, enum spool_file from, enum spool_file to)
{
    char from_name[SPOOL_NAME_MAX], to_name[SPOOL_NAME_MAX];
    return renameat(spool->queue_fd, spool_file_name(id, from, from_name), spool->queue_fd,
                    spool_file_name(id, to, to_name));
}

static int spool_write_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t written = write(fd, bytes, len);
        if (written < 0 && errno != EINTR)
            return -1;
        if (written > 0) {
            bytes += written;
            len -= (size_t)written;
        }
    }
    return 0;
}

enum spool_result spool_put_envelope(struct spool *spool, const struct spool_envelope *envelope,
                                     int *fd, struct spool_text *text, struct error *err)
{
    char name[SPOOL_NAME_MAX];

    *fd = -1;
    text->bytes = spool_envelope_format(envelope, &text->len);
    spool_file_name(envelope->id, SPOOL_ENV_NEW, name);
    if (text->bytes == NULL || text->len > ENVELOPE_FILE_MAX) {
        errno = text->bytes == NULL ? ENOMEM : EMSGSIZE;
        return spool_failure(spool, _("write"), name, err);
    }
    *fd = spool_create(spool, name);
    if (*fd < 0 && errno == EEXIST && unlinkat(spool->queue_fd, name, 0) == 0)
        *fd = spool_create(spool, name); /* a failed edit left one behind */
    if (*fd >= 0 && spool_write_all(*fd, text->bytes, text->len) == 0)
        return SPOOL_OK;
    enum spool_result result = spool_failure(spool, _("write"), name, err);
    if (*fd >= 0)
        close(*fd);
    unlinkat(spool->queue_fd, name, 0);
    return result;
}

void spool_keep_fresh(struct spool *spool, uint64_t id, struct spool_text text)
{
    if (text.len <= SPOOL_FRESH_OCTETS) {
        pthread_mutex_lock(&spool->fresh_lock);
        struct spool_text before = spool->fresh[id % SPOOL_FRESH].text;
        spool->fresh[id % SPOOL_FRESH].id = id;
        spool->fresh[id % SPOOL_FRESH].text = text;
        pthread_mutex_unlock(&spool->fresh_lock);
        text = before;
    }
    free(text.bytes);
}

struct spool_text spool_take_fresh(struct spool *spool, uint64_t id)
{
    struct spool_text text = {NULL, 0};

    pthread_mutex_lock(&spool->fresh_lock);
    if (spool->fresh[id % SPOOL_FRESH].id == id) {
        text = spool->fresh[id % SPOOL_FRESH].text;
        spool->fresh[id % SPOOL_FRESH].text.bytes = NULL;
    }
    pthread_mutex_unlock(&spool->fresh_lock);
    return text;
}

void spool_forget_fresh(struct spool *spool)
{
    for (int i = 0; i < SPOOL_FRESH; i++)
        free(spool_take_fresh(spool, spool->fresh[i].id).bytes);
}
