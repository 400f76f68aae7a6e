/* tests/fault/spool-full.c - the spool on a disk that is full, out of inodes, or read-only
 *
 * Runs in a mount namespace of its own, on a small tmpfs. Needs root or user namespaces.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/log.h"
#include "spool/spool.h"

#define PIECE 4096

static char *mount_point, *folder;

static void mount_disk(const char *options)
{
    if (mount("none", mount_point, "tmpfs", 0, options) != 0)
        g_error("mount: %s", g_strerror(errno));
}

static void unmount_disk(void)
{
    g_assert_cmpint(umount(mount_point), ==, 0);
}

static struct spool *open_spool(void)
{
    struct spool_config config = {.folder = folder};
    struct error err = {""};
    struct spool *spool = spool_open(&config, false, &err);
    if (spool == NULL)
        g_error("%s", err.text);
    return spool;
}

static void count_found(void *context, const struct spool_envelope *envelope)
{
    char first[32] = "";
    struct spool *spool = context;
    int fd;
    g_assert_cmpint(spool_open_data(spool, envelope, &fd, NULL), ==, SPOOL_OK);
    g_assert_cmpint(read(fd, first, 7), ==, 7);
    g_assert_cmpint(lseek(fd, 0, SEEK_END), ==, envelope->size);
    close(fd);
    g_assert_cmpstr(first, ==, "Subject");
}

static unsigned count_messages(struct spool *spool)
{
    struct spool_scan_counts counts;
    g_assert_cmpint(spool_scan(spool, count_found, spool, &counts, NULL), ==, 0);
    g_assert_cmpuint(counts.quarantined + counts.removed, ==, 0);
    return counts.messages;
}

static void make_envelope(struct spool_envelope *envelope, unsigned recipients)
{
    struct path path;
    size_t used;
    spool_envelope_init(envelope);
    envelope->arrived = envelope->expires = 1;
    g_assert_true(path_parse_forward(&path, "<b@example.net>", 15, &used));
    for (unsigned i = 0; i < recipients; i++)
        g_assert_nonnull(spool_envelope_add(envelope, &path));
}

static enum spool_result store(struct spool *spool, size_t size, uint64_t *id, struct error *err)
{
    static char piece[PIECE] = "Subject: x\r\n";
    struct iovec iov = {piece, PIECE};
    struct spool_message *message;
    struct spool_envelope envelope;

    enum spool_result result = spool_begin(spool, SPOOL_FOR_OURSELVES, 0, &message, err);
    if (result != SPOOL_OK)
        return result;
    for (size_t written = 0; written < size; written += PIECE) {
        result = spool_write(message, &iov, 1, err);
        if (result != SPOOL_OK) {
            /* Even a caller that ignores it cannot commit half a message. */
            make_envelope(&envelope, 1);
            g_assert_cmpint(spool_write(message, &iov, 1, NULL), !=, SPOOL_OK);
            if (size % (2 * PIECE) == 0)
                g_assert_cmpint(spool_commit(message, &envelope, NULL), !=, SPOOL_OK);
            else
                spool_abort(message);
            spool_envelope_clear(&envelope);
            return result;
        }
    }
    make_envelope(&envelope, 1);
    result = spool_commit(message, &envelope, err);
    *id = envelope.id;
    spool_envelope_clear(&envelope);
    return result;
}

static enum spool_edit_action mark(void *context, struct spool_envelope *envelope)
{
    (void)context;
    envelope->recipients[0].state = RECIPIENT_DELIVERED;
    return SPOOL_EDIT_WRITE;
}

static enum spool_edit_action remove_it(void *context, struct spool_envelope *envelope)
{
    (void)context;
    (void)envelope;
    return SPOOL_EDIT_REMOVE;
}

/* Fills it with messages of `size` octets until one is refused; returns how many it took. */
static unsigned fill(struct spool *spool, size_t size, uint64_t *last)
{
    struct error err = {""};
    enum spool_result result;
    unsigned count = 0;
    uint64_t id;
    while ((result = store(spool, size, &id, &err)) == SPOOL_OK) {
        count++;
        *last = id;
        g_assert_cmpuint(count, <, 10000);
    }
    g_assert_cmpint(result, ==, SPOOL_FULL);
    g_assert_nonnull(strstr(err.text, "No space left on device"));
    return count;
}

static void test_disk_full(void)
{
    static const size_t sizes[] = {PIECE, 3 * PIECE, 8 * PIECE, 64 * PIECE};
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        uint64_t last = 0;
        mount_disk("size=600k");
        struct spool *spool = open_spool();
        unsigned count = fill(spool, sizes[i], &last);
        g_assert_cmpuint(count, >, 0);
        g_assert_cmpuint(count_messages(spool), ==, count);
        /* A small one may still fit; then an edit may fail, but does no harm. */
        uint64_t ignored;
        count += fill(spool, PIECE, &ignored);
        enum spool_result result = spool_edit(spool, last, mark, NULL, NULL);
        g_assert_true(result == SPOOL_OK || result == SPOOL_FULL);
        g_assert_cmpuint(count_messages(spool), ==, count);
        /* Removing needs no space. */
        g_assert_cmpint(spool_edit(spool, last, remove_it, NULL, NULL), ==, SPOOL_OK);
        g_assert_cmpint(store(spool, PIECE, &last, NULL), ==, SPOOL_OK);
        spool_close(spool);
        spool = open_spool();
        g_assert_cmpuint(count_messages(spool), ==, count);
        spool_close(spool);
        unmount_disk();
    }
}

static void test_no_inodes(void)
{
    uint64_t last = 0;
    mount_disk("size=4m,nr_inodes=31");
    struct spool *spool = open_spool();
    unsigned count = fill(spool, PIECE, &last);
    g_assert_cmpuint(count, >, 8);
    g_assert_cmpuint(count_messages(spool), ==, count);
    g_assert_cmpint(spool_edit(spool, last, remove_it, NULL, NULL), ==, SPOOL_OK);
    g_assert_cmpint(store(spool, PIECE, &last, NULL), ==, SPOOL_OK);
    spool_close(spool);
    unmount_disk();
}

static void test_reserve(void)
{
    struct spool_config config = {.reserve_octets = 300 * 1024};
    struct spool_message *message;
    struct error err = {""};
    uint64_t id;

    mount_disk("size=600k");
    config.folder = folder;
    struct spool *spool = spool_open(&config, false, NULL);
    unsigned count = 0;
    while (spool_begin(spool, SPOOL_FOR_CLIENT, 0, &message, &err) == SPOOL_OK) {
        spool_abort(message);
        g_assert_cmpint(store(spool, PIECE, &id, NULL), ==, SPOOL_OK);
        g_assert_cmpuint(++count, <, 100);
    }
    g_assert_nonnull(strstr(err.text, "reserve"));
    g_assert_cmpuint(count, >, 20);
    /* There is still space for our own notifications and records. */
    g_assert_cmpint(store(spool, 20 * PIECE, &id, NULL), ==, SPOOL_OK);
    g_assert_cmpint(spool_edit(spool, id, mark, NULL, NULL), ==, SPOOL_OK);
    /* A message that would not fit is refused before its data. */
    g_assert_cmpint(spool_begin(spool, SPOOL_FOR_CLIENT, 1 << 20, &message, &err), ==, SPOOL_FULL);
    spool_close(spool);
    unmount_disk();
}

static void test_read_only(void)
{
    struct error err = {""};
    struct spool_message *message;
    struct spool_envelope envelope;
    struct iovec iov = {(char[]){"Subject: x\r\n"}, 12};
    uint64_t id;

    mount_disk("size=600k");
    struct spool *spool = open_spool();
    g_assert_cmpint(store(spool, PIECE, &id, NULL), ==, SPOOL_OK);
    /* The file system becomes read-only under a running daemon. A tmpfs cannot while a file is open for writing, so the
     * lock is released first. */
    spool_close(spool);
    g_assert_cmpint(mount("none", mount_point, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL), ==, 0);
    struct spool_config config = {.folder = folder};
    g_assert_null(spool_open(&config, false, &err));
    g_assert_nonnull(strstr(err.text, "Read-only file system"));
    spool = spool_open(&config, true, &err);
    g_assert_nonnull(spool);
    g_assert_cmpuint(count_messages(spool), ==, 1);
    g_assert_cmpint(spool_begin(spool, SPOOL_FOR_CLIENT, 0, &message, &err), ==, SPOOL_FULL);
    g_assert_nonnull(strstr(err.text, "read-only"));
    g_assert_cmpint(spool_begin(spool, SPOOL_FOR_OURSELVES, 0, &message, &err), ==, SPOOL_FULL);
    g_assert_cmpint(spool_edit(spool, id, mark, NULL, &err), ==, SPOOL_FULL);
    g_assert_cmpint(spool_edit(spool, id, remove_it, NULL, &err), ==, SPOOL_FULL);
    spool_close(spool);
    /* A bind mount can become read-only at any time, even in the middle of a message. */
    g_assert_cmpint(mount("none", mount_point, "tmpfs", MS_REMOUNT, NULL), ==, 0);
    g_assert_cmpint(mount(mount_point, mount_point, NULL, MS_BIND, NULL), ==, 0);
    spool = open_spool();
    g_assert_cmpint(spool_begin(spool, SPOOL_FOR_CLIENT, 0, &message, NULL), ==, SPOOL_OK);
    g_assert_cmpint(spool_write(message, &iov, 1, NULL), ==, SPOOL_OK);
    if (mount(NULL, mount_point, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0) {
        make_envelope(&envelope, 1);
        g_assert_cmpint(spool_commit(message, &envelope, &err), ==, SPOOL_FULL);
        spool_envelope_clear(&envelope);
    } else {
        g_assert_cmpint(errno, ==, EBUSY);
        spool_abort(message);
    }
    spool_close(spool);
    unmount_disk();
    /* Mounted writable again: the message is there, and the rest is cleaned up. */
    struct spool_scan_counts counts;
    spool = open_spool();
    g_assert_cmpint(spool_scan(spool, count_found, spool, &counts, NULL), ==, 0);
    g_assert_cmpuint(counts.messages, ==, 1);
    g_assert_cmpuint(counts.quarantined, ==, 0);
    spool_close(spool);
    unmount_disk();
}

/* A disk that fills up while envelopes are changed: every message stays whole and readable. */
static void test_edits_on_full_disk(void)
{
    struct spool_message *message;
    struct spool_envelope envelope;
    struct iovec iov = {(char[]){"Subject: x\r\n"}, 12};
    struct error err = {""};
    uint64_t filler;

    mount_disk("size=300k");
    struct spool *spool = open_spool();
    g_assert_cmpint(spool_begin(spool, SPOOL_FOR_OURSELVES, 0, &message, NULL), ==, SPOOL_OK);
    g_assert_cmpint(spool_write(message, &iov, 1, NULL), ==, SPOOL_OK);
    make_envelope(&envelope, 2000);
    g_assert_cmpint(spool_commit(message, &envelope, NULL), ==, SPOOL_OK);
    uint64_t id = envelope.id;
    spool_envelope_clear(&envelope);
    unsigned count = fill(spool, PIECE, &filler);
    g_assert_cmpint(spool_edit(spool, id, mark, NULL, &err), ==, SPOOL_FULL);
    g_assert_cmpuint(count_messages(spool), ==, count + 1);
    g_assert_cmpint(spool_read(spool, id, &envelope, NULL), ==, SPOOL_OK);
    g_assert_cmpuint(spool_envelope_left(&envelope), ==, 2000);
    spool_envelope_clear(&envelope);
    spool_close(spool);
    unmount_disk();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_level((enum log_level)0);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        printf("1..0 # SKIP a mount namespace of our own needs root\n");
        return 0;
    }
    mount_point = g_dir_make_tmp("postern-full-XXXXXX", NULL);
    folder = g_build_filename(mount_point, "spool", NULL);
    g_test_add_func("/spool-full/disk full", test_disk_full);
    g_test_add_func("/spool-full/no inodes", test_no_inodes);
    g_test_add_func("/spool-full/reserve", test_reserve);
    g_test_add_func("/spool-full/read-only", test_read_only);
    g_test_add_func("/spool-full/edits on a full disk", test_edits_on_full_disk);
    int result = g_test_run();
    g_rmdir(mount_point);
    g_free(folder);
    g_free(mount_point);
    return result;
}
