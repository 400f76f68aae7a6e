/* relay-out/stsfiles.c - MTA-STS policies on disk: a folder with a file for each domain
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/stsfiles.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "dns/name.h"

#define HEADER_MAX 512 /* octets of a file before the policy */

/* "STATE/mta-sts"; -1: it cannot be read and written. */
static int stsfiles_open_folder(const char *path)
{
    if (path[0] == '\0' || (mkdir(path, 0700) != 0 && errno != EEXIST) ||
        access(path, R_OK | W_OK | X_OK) != 0)
        return -1;
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int stsfiles_open(struct stsfiles *files, const char *path)
{
    files->path = strdup(path);
    files->folder = files->path != NULL ? stsfiles_open_folder(path) : -1;
    atomic_init(&files->warned, false);
    return files->path != NULL ? 0 : -1;
}

void stsfiles_close(struct stsfiles *files)
{
    if (files->folder >= 0)
        close(files->folder);
    files->folder = -1;
}

void stsfiles_free(struct stsfiles *files)
{
    stsfiles_close(files);
    free(files->path);
}

static void stsfiles_warn(struct stsfiles *files)
{
    struct log_line line;

    if (files->path[0] == '\0' || atomic_exchange(&files->warned, true))
        return;
    log_begin(&line, LOG_LEVEL_WARNING, "event=mta-sts status=forgetful");
    log_str(&line, "folder", files->path);
    log_str(&line, "effect", "policies are fetched again after each start");
    log_str(&line, "hint", "create the folder of out.state for the user that this daemon runs as");
    log_end(&line);
}

void stsfiles_write(struct stsfiles *files, const char *domain,
                    const struct stsfiles_record *record, const char *text, size_t len)
{
    char header[HEADER_MAX], name[DNS_NAME_MAX + 8];
    int size = snprintf(header, sizeof header,
                        "id: %s\nfetched: %" PRId64 "\nexpires: %" PRId64 "\nused: %" PRId64 "\n\n",
                        record->id, record->fetched_s, record->expires_s, record->used_s);

    if (files->folder < 0) {
        stsfiles_warn(files);
        return;
    }
    snprintf(name, sizeof name, ".%s", domain);
    int fd =
        openat(files->folder, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        stsfiles_warn(files);
        return;
    }
    bool is_whole = write(fd, header, (size_t)size) == size && write(fd, text, len) == (ssize_t)len;
    /* Otherwise the new name could reach the disk before the contents. */
    is_whole = fdatasync(fd) == 0 && is_whole;
    is_whole = close(fd) == 0 && is_whole;
    if (!is_whole || renameat(files->folder, name, files->folder, domain) != 0) {
        unlinkat(files->folder, name, 0);
        stsfiles_warn(files);
    }
}

void stsfiles_remove(const struct stsfiles *files, const char *domain)
{
    if (files->folder >= 0)
        unlinkat(files->folder, domain, 0);
}

/* Reads a whole file and adds a NUL. NULL if it cannot be read or is too long. */
static char *stsfiles_read(const struct stsfiles *files, const char *name, size_t *len)
{
    size_t size = HEADER_MAX + STS_POLICY_MAX + 1;
    char *text = malloc(size + 1);
    int fd = openat(files->folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t got = 1;

    *len = 0;
    while (text != NULL && fd >= 0 && *len < size && got > 0) {
        got = read(fd, text + *len, size - *len);
        *len += got > 0 ? (size_t)got : 0;
    }
    if (fd >= 0)
        close(fd);
    if (text == NULL || fd < 0 || got < 0 || *len == size) {
        free(text);
        return NULL;
    }
    text[*len] = '\0';
    return text;
}

static bool stsfiles_is_id(const char *id)
{
    size_t len = strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
    return len > 0 && len <= STS_ID_MAX && id[len] == '\0';
}

static struct sts_policy *stsfiles_parse(const struct stsfiles *files, const char *domain,
                                         struct stsfiles_record *record)
{
    struct sts_policy *policy = NULL;
    char id[STS_ID_MAX + 2] = "";
    const char *why;
    size_t len;
    char *text = stsfiles_read(files, domain, &len), *body = NULL;

    if (text != NULL && (body = strstr(text, "\n\n")) != NULL &&
        sscanf(text, "id: %33s\nfetched: %" SCNd64 "\nexpires: %" SCNd64 "\nused: %" SCNd64, id,
               &record->fetched_s, &record->expires_s, &record->used_s) == 4 &&
        stsfiles_is_id(id)) {
        memcpy(record->id, id, sizeof record->id); /* its NUL included */
        policy = sts_read_policy(body + 2, len - (size_t)(body + 2 - text), &why);
    }
    free(text);
    return policy;
}

void stsfiles_load(const struct stsfiles *files,
                   bool (*take)(void *context, const char *domain,
                                const struct stsfiles_record *record, struct sts_policy *policy),
                   void *context)
{
    int fd = files->folder >= 0 ? dup(files->folder) : -1;
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *file;
    bool goes_on = true;

    if (folder == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while (goes_on && (file = readdir(folder)) != NULL) {
        struct stsfiles_record record;
        struct sts_policy *policy;
        char name[DNS_NAME_MAX];
        if (file->d_name[0] == '.' && strchr(file->d_name + 1, '.') != file->d_name + 1)
            unlinkat(files->folder, file->d_name, 0); /* unfinished; "." is a folder, so stays */
        else if (dns_name_is_hostname(file->d_name) && dns_name_to_ascii(file->d_name, name) == 0 &&
                 strcmp(name, file->d_name) == 0 &&
                 (policy = stsfiles_parse(files, name, &record)) != NULL)
            goes_on = take(context, name, &record, policy);
    }
    closedir(folder);
}
