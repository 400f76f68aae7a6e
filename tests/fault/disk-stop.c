/* tests/fault/disk-stop.c - ends the process at a chosen step on its way to the disk
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "disk-stop.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define NAMES_MAX 64 /* name changes between two syncs of the folder */
#define FILES_MAX 4096

enum change { CREATED, RENAMED, REMOVED };

struct name_change {
    enum change change;
    char name[64], target[64];
    int kept; /* number of the link to the file that was overwritten or removed; 0 = none */
};

struct shared {
    atomic_uint points, stop_at;
    bool power;
    ino_t folder;
    char keep[PATH_MAX]; /* folder of the links to files that may come back */
    int keep_count;
    unsigned change_count;
    struct name_change changes[NAMES_MAX];
    struct {
        ino_t inode;
        off_t synced;
    } files[FILES_MAX];
    unsigned file_count;
};

static struct shared *shared;
static bool armed; /* in this process */
int (*disk_stop_sync)(int fd);
atomic_bool disk_stop_unreadable;

int __wrap_openat(int at, const char *name, int flags, ...);
ssize_t __wrap_write(int fd, const void *bytes, size_t len);
ssize_t __wrap_writev(int fd, const struct iovec *iov, int count);
int __wrap_fsync(int fd);
int __wrap_renameat(int from_at, const char *from, int to_at, const char *to);
int __wrap_unlinkat(int at, const char *name, int flags);
int __real_openat(int at, const char *name, int flags, ...);
ssize_t __real_write(int fd, const void *bytes, size_t len);
ssize_t __real_writev(int fd, const struct iovec *iov, int count);
int __real_renameat(int from_at, const char *from, int to_at, const char *to);
int __real_unlinkat(int at, const char *name, int flags);

void disk_stop_init(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("mmap");
        exit(99);
    }
}

char *disk_stop_folder(const char *name)
{
    const char *parent = getenv("TMPDIR");
    char *path = NULL;
    if (parent == NULL)
        parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    if (asprintf(&path, "%s/%s-XXXXXX", parent, name) < 0 || mkdtemp(path) == NULL) {
        perror(parent);
        exit(99);
    }
    return path;
}

void disk_stop_arm(const char *folder, unsigned at, bool power)
{
    struct stat stat_buffer;
    if (stat(folder, &stat_buffer) != 0)
        abort();
    snprintf(shared->keep, sizeof shared->keep, "%s/../kept", folder);
    shared->folder = stat_buffer.st_ino;
    shared->power = power;
    shared->change_count = shared->file_count = 0;
    atomic_store(&shared->points, 0);
    atomic_store(&shared->stop_at, at);
    armed = true;
}

unsigned disk_stop_points(void)
{
    return atomic_load(&shared->points);
}

static bool point(void)
{
    if (shared == NULL || !armed)
        return false;
    return atomic_fetch_add(&shared->points, 1) + 1 == atomic_load(&shared->stop_at);
}

static void maybe_stop(void)
{
    if (point())
        raise(SIGKILL);
}

static bool tracked(int fd, ino_t *inode, off_t *size)
{
    struct stat stat_buffer;
    if (shared == NULL || !armed || !shared->power || fstat(fd, &stat_buffer) != 0)
        return false;
    *inode = stat_buffer.st_ino;
    *size = stat_buffer.st_size;
    return true;
}

static bool is_folder(int fd)
{
    ino_t inode;
    off_t size;
    return tracked(fd, &inode, &size) && inode == shared->folder;
}

static void set_synced(ino_t inode, off_t size)
{
    unsigned i = 0;
    while (i < shared->file_count && shared->files[i].inode != inode)
        i++;
    if (i == FILES_MAX)
        abort();
    if (i == shared->file_count)
        shared->file_count++;
    shared->files[i].inode = inode;
    shared->files[i].synced = size;
}

static void kept_path(int number, char out[PATH_MAX + 16])
{
    snprintf(out, PATH_MAX + 16, "%s%d", shared->keep, number);
}

static int keep(int at, const char *name)
{
    char path[PATH_MAX + 16];
    kept_path(shared->keep_count + 1, path);
    if (linkat(at, name, AT_FDCWD, path, 0) != 0)
        return 0;
    return ++shared->keep_count;
}

static void note(enum change change, const char *name, const char *target, int kept)
{
    if (shared->change_count == NAMES_MAX)
        abort();
    struct name_change *entry = &shared->changes[shared->change_count++];
    entry->change = change;
    entry->kept = kept;
    snprintf(entry->name, sizeof entry->name, "%s", name);
    snprintf(entry->target, sizeof entry->target, "%s", target);
}

static void forget_changes(void)
{
    char path[PATH_MAX + 16];
    for (; shared->keep_count > 0; shared->keep_count--) {
        kept_path(shared->keep_count, path);
        unlink(path);
    }
    shared->change_count = 0;
}

int __wrap_openat(int at, const char *name, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    if (!(flags & O_CREAT)) {
        const char *end = strrchr(name, '.');
        if (!atomic_load(&disk_stop_unreadable) || end == NULL || strcmp(end, ".env") != 0)
            return __real_openat(at, name, flags);
        errno = EIO;
        return -1;
    }
    maybe_stop();
    int fd = __real_openat(at, name, flags, mode);
    ino_t inode;
    off_t size;
    if (fd >= 0 && is_folder(at) && tracked(fd, &inode, &size)) {
        set_synced(inode, 0);
        note(CREATED, name, "", 0);
    }
    maybe_stop();
    return fd;
}

ssize_t __wrap_write(int fd, const void *bytes, size_t len)
{
    maybe_stop();
    if (point()) {
        if (__real_write(fd, bytes, len / 2) >= 0)
            raise(SIGKILL);
    }
    ssize_t written = __real_write(fd, bytes, len);
    maybe_stop();
    return written;
}

ssize_t __wrap_writev(int fd, const struct iovec *iov, int count)
{
    maybe_stop();
    if (point()) {
        if (__real_write(fd, iov->iov_base, iov->iov_len / 2) >= 0)
            raise(SIGKILL);
    }
    ssize_t written = __real_writev(fd, iov, count);
    maybe_stop();
    return written;
}

int __wrap_fsync(int fd)
{
    ino_t inode;
    off_t size;
    maybe_stop();
    int result = disk_stop_sync != NULL ? disk_stop_sync(fd) : __real_fsync(fd);
    if (is_folder(fd))
        forget_changes();
    else if (tracked(fd, &inode, &size))
        set_synced(inode, size);
    maybe_stop();
    return result;
}

int __wrap_renameat(int from_at, const char *from, int to_at, const char *to)
{
    maybe_stop();
    int kept = is_folder(to_at) ? keep(to_at, to) : 0;
    int result = __real_renameat(from_at, from, to_at, to);
    if (result == 0 && is_folder(to_at))
        note(RENAMED, from, to, kept);
    maybe_stop();
    return result;
}

int __wrap_unlinkat(int at, const char *name, int flags)
{
    maybe_stop();
    int kept = is_folder(at) ? keep(at, name) : 0;
    int result = __real_unlinkat(at, name, flags);
    if (result == 0 && is_folder(at))
        note(REMOVED, name, "", kept);
    maybe_stop();
    return result;
}

/* Loss of power. */

static void undo(const char *folder, const struct name_change *entry)
{
    char name[PATH_MAX + 80], target[PATH_MAX + 80], kept[PATH_MAX + 16];
    snprintf(name, sizeof name, "%s/%s", folder, entry->name);
    snprintf(target, sizeof target, "%s/%s", folder, entry->target);
    kept_path(entry->kept, kept);
    bool well = true;
    if (entry->change == CREATED)
        well = unlink(name) == 0;
    else if (entry->change == REMOVED)
        well = entry->kept != 0 && link(kept, name) == 0;
    else
        well = rename(target, name) == 0 && (entry->kept == 0 || link(kept, target) == 0);
    if (!well) {
        perror("undo");
        abort();
    }
}

static off_t synced_size(ino_t inode)
{
    for (unsigned i = 0; i < shared->file_count; i++) {
        if (shared->files[i].inode == inode)
            return shared->files[i].synced;
    }
    return -1;
}

static unsigned lose_content(const char *folder, uint32_t random)
{
    unsigned lost = 0;
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        struct stat stat_buffer;
        off_t synced = synced_size(entry->d_ino);
        if (synced < 0 || fstatat(dirfd(dir), entry->d_name, &stat_buffer, 0) != 0 ||
            stat_buffer.st_size <= synced)
            continue;
        char path[PATH_MAX + 256];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        uint32_t unsynced = (uint32_t)(stat_buffer.st_size - synced);
        if (truncate(path, synced + (off_t)(random % unsynced)) != 0)
            abort();
        lost++;
    }
    if (dir != NULL)
        closedir(dir);
    return lost;
}

unsigned disk_stop_lose(const char *folder, uint32_t random)
{
    unsigned persisted = random % (shared->change_count + 1);
    unsigned lost = shared->change_count - persisted;
    for (unsigned i = shared->change_count; i > persisted; i--)
        undo(folder, &shared->changes[i - 1]);
    lost += lose_content(folder, random >> 8);
    forget_changes();
    return lost;
}
