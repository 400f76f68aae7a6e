/* tests/unit/test-spool.c - spool/spool: storing, changing, removing, finding again
 *
 * tests/fault covers crashes and full disks.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "spool/spool.h"

struct fixture {
    char *folder;
    struct spool *spool;
    unsigned found;
    uint64_t ids[16];
};

static struct spool *open_spool(const char *folder, bool read_only, struct error *err)
{
    struct spool_config config = {.folder = folder};
    return spool_open(&config, read_only, err);
}

static void set_up(struct fixture *f, gconstpointer data)
{
    (void)data;
    log_set_level(LOG_LEVEL_ERROR);
    f->folder = g_dir_make_tmp("postern-spool-XXXXXX", NULL);
    f->spool = open_spool(f->folder, false, NULL);
    g_assert_nonnull(f->spool);
}

static void remove_tree(const char *path)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name;
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        char *child = g_build_filename(path, name, NULL);
        if (g_file_test(child, G_FILE_TEST_IS_DIR) && !g_file_test(child, G_FILE_TEST_IS_SYMLINK))
            remove_tree(child);
        else
            g_unlink(child);
        g_free(child);
    }
    if (dir != NULL)
        g_dir_close(dir);
    g_rmdir(path);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    (void)data;
    spool_close(f->spool);
    remove_tree(f->folder);
    g_free(f->folder);
}

static void make_envelope(struct spool_envelope *envelope, unsigned recipients)
{
    struct path path;
    size_t used;
    spool_envelope_init(envelope);
    envelope->arrived = 1000000000;
    envelope->expires = 1000432000;
    g_assert_true(path_parse_reverse(&envelope->sender, "<a@example.com>", 15, &used));
    for (unsigned i = 0; i < recipients; i++) {
        char text[64];
        g_snprintf(text, sizeof text, "<user%u@example.net>", i);
        g_assert_true(path_parse_forward(&path, text, strlen(text), &used));
        g_assert_nonnull(spool_envelope_add(envelope, &path));
    }
}

static uint64_t store(struct spool *spool, const char *text, unsigned recipients)
{
    struct spool_message *message;
    struct spool_envelope envelope;
    struct error err = {""};
    struct iovec iov[2] = {{(char *)text, strlen(text) / 2},
                           {(char *)text + strlen(text) / 2, strlen(text) - strlen(text) / 2}};

    make_envelope(&envelope, recipients);
    g_assert_cmpint(spool_begin(spool, SPOOL_FOR_CLIENT, 0, &message, &err), ==, SPOOL_OK);
    g_assert_cmpint(spool_write(message, iov, 2, &err), ==, SPOOL_OK);
    g_assert_cmpint(spool_commit(message, &envelope, &err), ==, SPOOL_OK);
    g_assert_cmpuint(envelope.size, ==, strlen(text));
    uint64_t id = envelope.id;
    spool_envelope_clear(&envelope);
    return id;
}

static void count_found(void *context, const struct spool_envelope *envelope)
{
    struct fixture *f = context;
    if (f->found < G_N_ELEMENTS(f->ids))
        f->ids[f->found] = envelope->id;
    f->found++;
}

static struct spool_scan_counts scan(struct fixture *f)
{
    struct spool_scan_counts counts;
    struct error err = {""};
    f->found = 0;
    g_assert_cmpint(spool_scan(f->spool, count_found, f, &counts, &err), ==, 0);
    g_assert_cmpuint(counts.messages, ==, f->found);
    return counts;
}

static void reopen(struct fixture *f)
{
    spool_close(f->spool);
    f->spool = open_spool(f->folder, false, NULL);
    g_assert_nonnull(f->spool);
}

static unsigned files_in(const struct fixture *f, const char *subfolder)
{
    char *path = g_build_filename(f->folder, subfolder, NULL);
    GDir *dir = g_dir_open(path, 0, NULL);
    unsigned count = 0;
    while (g_dir_read_name(dir) != NULL)
        count++;
    g_dir_close(dir);
    g_free(path);
    return count;
}

static char *file_path(const struct fixture *f, uint64_t id, const char *suffix)
{
    char digits[SPOOL_ID_LEN + 1];
    return g_strdup_printf("%s/queue/%s%s", f->folder, spool_id_format(id, digits), suffix);
}

static void put_file(const struct fixture *f, uint64_t id, const char *suffix, const char *text)
{
    char *path = file_path(f, id, suffix);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    g_free(path);
}

static void test_store_and_read(struct fixture *f, gconstpointer data)
{
    (void)data;
    const char *text = "Subject: x\r\n\r\n..stuffed\r\n";
    char got[64];
    struct error err = {""};
    struct spool_envelope envelope;
    uint64_t first = store(f->spool, text, 3), second = store(f->spool, "\r\n", 1);

    reopen(f);
    struct spool_scan_counts counts = scan(f);
    g_assert_cmpuint(counts.messages, ==, 2);
    g_assert_cmpuint(counts.removed + counts.quarantined, ==, 0);
    /* In order of arrival; within one millisecond, in any order. */
    g_assert_true((f->ids[0] == first && f->ids[1] == second) ||
                  (f->ids[0] == second && f->ids[1] == first && first >> 20 == second >> 20));
    g_assert_cmpint(spool_read(f->spool, first, &envelope, &err), ==, SPOOL_OK);
    g_assert_cmpuint(envelope.recipient_count, ==, 3);
    int fd;
    g_assert_cmpint(spool_open_data(f->spool, &envelope, &fd, &err), ==, SPOOL_OK);
    ssize_t len = read(fd, got, sizeof got);
    close(fd);
    g_assert_cmpmem(got, (size_t)len, text, strlen(text));
    envelope.id = 77;
    g_assert_cmpint(spool_open_data(f->spool, &envelope, &fd, &err), ==, SPOOL_MISSING);
    spool_envelope_clear(&envelope);
    g_assert_cmpint(spool_read(f->spool, 77, &envelope, &err), ==, SPOOL_MISSING);
}

static void test_abort(struct fixture *f, gconstpointer data)
{
    (void)data;
    struct spool_message *message;
    char text[] = "text\r\n";
    struct iovec iov = {text, strlen(text)};
    g_assert_cmpint(spool_begin(f->spool, SPOOL_FOR_CLIENT, 0, &message, NULL), ==, SPOOL_OK);
    g_assert_cmpint(spool_write(message, &iov, 1, NULL), ==, SPOOL_OK);
    g_assert_cmpuint(files_in(f, "queue"), ==, 1);
    spool_abort(message);
    g_assert_cmpuint(files_in(f, "queue"), ==, 0);
    spool_abort(NULL);
}

static void test_large(struct fixture *f, gconstpointer data)
{
    (void)data;
    enum { PIECE = 65536, PIECES = 320, IOVS = 64 };
    struct spool_message *message;
    struct spool_envelope envelope;
    struct iovec iov[IOVS];
    char *piece = g_malloc(PIECE);
    memset(piece, 'x', PIECE);
    for (int i = 0; i < IOVS; i++)
        iov[i] = (struct iovec){piece + i * (PIECE / IOVS), PIECE / IOVS};
    g_assert_cmpint(spool_begin(f->spool, SPOOL_FOR_CLIENT, 0, &message, NULL), ==, SPOOL_OK);
    for (int i = 0; i < PIECES; i++)
        g_assert_cmpint(spool_write(message, iov, IOVS, NULL), ==, SPOOL_OK);
    make_envelope(&envelope, 1);
    g_assert_cmpint(spool_commit(message, &envelope, NULL), ==, SPOOL_OK);
    g_assert_cmpuint(envelope.size, ==, PIECE * PIECES);
    spool_envelope_clear(&envelope);
    g_free(piece);
    g_assert_cmpuint(scan(f).messages, ==, 1);
}

static enum spool_edit_action mark_first(void *context, struct spool_envelope *envelope)
{
    (void)context;
    envelope->recipients[0].state = RECIPIENT_DELIVERED;
    spool_envelope_set_text(&envelope->recipients[0].reply, "250 Ok", ENVELOPE_REPLY_MAX);
    return SPOOL_EDIT_WRITE;
}

static enum spool_edit_action remove_it(void *context, struct spool_envelope *envelope)
{
    (void)context;
    (void)envelope;
    return SPOOL_EDIT_REMOVE;
}

static void test_edit_and_remove(struct fixture *f, gconstpointer data)
{
    (void)data;
    struct spool_envelope envelope;
    uint64_t id = store(f->spool, "x\r\n", 2);
    g_assert_cmpint(spool_edit(f->spool, id, mark_first, NULL, NULL), ==, SPOOL_OK);
    reopen(f);
    g_assert_cmpint(spool_read(f->spool, id, &envelope, NULL), ==, SPOOL_OK);
    g_assert_cmpuint(spool_envelope_left(&envelope), ==, 1);
    g_assert_cmpstr(envelope.recipients[0].reply, ==, "250 Ok");
    spool_envelope_clear(&envelope);
    g_assert_cmpint(spool_edit(f->spool, id, remove_it, NULL, NULL), ==, SPOOL_OK);
    g_assert_cmpuint(files_in(f, "queue"), ==, 0);
    g_assert_cmpint(spool_edit(f->spool, id, remove_it, NULL, NULL), ==, SPOOL_MISSING);
}

/* The first reader of a stored envelope needs no file, but sees every change that was made since. */
static void test_first_read(struct fixture *f, gconstpointer data)
{
    (void)data;
    struct spool_envelope envelope;
    uint64_t id = store(f->spool, "x\r\n", 2);
    char *path = file_path(f, id, ".env");
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_assert_cmpint(spool_read(f->spool, id, &envelope, NULL), ==, SPOOL_OK);
    g_assert_cmpuint(spool_envelope_left(&envelope), ==, 2);
    spool_envelope_clear(&envelope);
    g_assert_cmpint(spool_read(f->spool, id, &envelope, NULL), ==, SPOOL_MISSING);
    g_free(path);
    id = store(f->spool, "x\r\n", 2);
    g_assert_cmpint(spool_edit(f->spool, id, mark_first, NULL, NULL), ==, SPOOL_OK);
    g_assert_cmpint(spool_read(f->spool, id, &envelope, NULL), ==, SPOOL_OK);
    g_assert_cmpuint(spool_envelope_left(&envelope), ==, 1);
    spool_envelope_clear(&envelope);
    id = store(f->spool, "x\r\n", 2);
    g_assert_cmpint(spool_edit(f->spool, id, remove_it, NULL, NULL), ==, SPOOL_OK);
    g_assert_cmpint(spool_read(f->spool, id, &envelope, NULL), ==, SPOOL_MISSING);
}

static gpointer edit_often(gpointer data)
{
    struct fixture *f = data;
    for (int i = 0; i < 50; i++)
        g_assert_cmpint(spool_edit(f->spool, f->ids[i % 2], mark_first, NULL, NULL), ==, SPOOL_OK);
    return NULL;
}

static void test_threads(struct fixture *f, gconstpointer data)
{
    (void)data;
    GThread *threads[4];
    f->ids[0] = store(f->spool, "x\r\n", 2);
    f->ids[1] = store(f->spool, "y\r\n", 2);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("edit", edit_often, f);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    g_assert_cmpuint(scan(f).messages, ==, 2);
}

static void test_lock(struct fixture *f, gconstpointer data)
{
    (void)data;
    struct error err = {""};
    char pid[24];
    g_assert_null(open_spool(f->folder, false, &err));
    g_snprintf(pid, sizeof pid, " %ld;", (long)getpid());
    g_assert_nonnull(strstr(err.text, pid));
    /* Reading is always allowed, and changes nothing. */
    put_file(f, 5, ".env.new", "x");
    store(f->spool, "x\r\n", 1);
    struct spool *reader = open_spool(f->folder, true, &err);
    g_assert_nonnull(reader);
    struct spool *owner = f->spool;
    f->spool = reader;
    g_assert_cmpuint(scan(f).messages, ==, 1);
    f->spool = owner;
    spool_close(reader);
    g_assert_cmpuint(files_in(f, "queue"), ==, 3);
    reopen(f);
}

static void test_bad_folders(struct fixture *f, gconstpointer data)
{
    (void)data;
    struct error err = {""};
    char *missing = g_build_filename(f->folder, "none", "deeper", NULL);
    char *file = g_build_filename(f->folder, "lock", NULL);
    g_assert_null(open_spool(missing, false, &err));
    g_assert_nonnull(strstr(err.text, "No such file"));
    g_assert_null(open_spool(file, false, &err));
    g_assert_nonnull(strstr(err.text, "Not a directory"));
    g_free(missing);
    missing = g_build_filename(f->folder, "none", NULL);
    g_assert_null(open_spool(missing, true, &err));
    g_assert_false(g_file_test(missing, G_FILE_TEST_EXISTS));
    g_free(missing);
    g_free(file);
}

static void test_reserve(struct fixture *f, gconstpointer data)
{
    (void)data;
    struct spool_config config = {.folder = f->folder, .reserve_octets = UINT64_MAX / 2};
    struct spool_message *message;
    struct error err = {""};

    g_assert_cmpint(spool_begin(f->spool, SPOOL_FOR_CLIENT, UINT64_MAX / 2, &message, &err), ==,
                    SPOOL_FULL);
    spool_close(f->spool);
    f->spool = spool_open(&config, false, NULL);
    g_assert_cmpint(spool_begin(f->spool, SPOOL_FOR_CLIENT, 0, &message, &err), ==, SPOOL_FULL);
    g_assert_null(message);
    g_assert_nonnull(strstr(err.text, "reserve"));
    g_assert_cmpint(spool_begin(f->spool, SPOOL_FOR_OURSELVES, 0, &message, &err), ==, SPOOL_OK);
    spool_abort(message);
    spool_close(f->spool);
    config = (struct spool_config){.folder = f->folder, .reserve_files = UINT64_MAX};
    f->spool = spool_open(&config, false, NULL);
    g_assert_cmpint(spool_begin(f->spool, SPOOL_FOR_CLIENT, 0, &message, &err), ==, SPOOL_FULL);
    g_assert_nonnull(strstr(err.text, "inodes"));
}

/* Each row: what happens to a stored message's files, and what the next start does with them. */
static void test_disorder(struct fixture *f, gconstpointer data)
{
    (void)data;
    static const struct {
        const char *name;
        const char *put, *put_text; /* suffix and content */
        const char *unlink;
        unsigned messages, removed, quarantined;
    } cases[] = {
        {"nothing", NULL, NULL, NULL, 1, 0, 0},
        {"half-changed envelope", ".env.new", "half", NULL, 1, 1, 0},
        {"half-stored data", ".data.new", "half", NULL, 1, 1, 0},
        {"half stored or removed", ".env.new", "half", ".env", 0, 2, 0},
        {"data without envelope", NULL, NULL, ".env", 0, 0, 1},
        {"envelope with half-stored data", ".data.new", "half", ".data", 0, 1, 1},
        {"corrupted envelope", ".env", "postern-envelope 1\nnonsense\n", NULL, 0, 0, 2},
        {"empty envelope", ".env", "", NULL, 0, 0, 2},
        {"stranger", ".bak", "x", NULL, 1, 0, 1},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        unsigned before = files_in(f, "quarantine");
        uint64_t id = store(f->spool, "x\r\n", 1);
        char *path = cases[i].unlink != NULL ? file_path(f, id, cases[i].unlink) : NULL;
        g_test_message("%s", cases[i].name);
        if (cases[i].put != NULL)
            put_file(f, id, cases[i].put, cases[i].put_text);
        if (path != NULL)
            g_assert_cmpint(g_unlink(path), ==, 0);
        log_set_level((enum log_level)0);
        struct spool_scan_counts counts = scan(f);
        g_assert_cmpuint(counts.messages, ==, cases[i].messages);
        g_assert_cmpuint(counts.removed, ==, cases[i].removed);
        g_assert_cmpuint(counts.quarantined, ==, cases[i].quarantined);
        g_assert_cmpuint(files_in(f, "quarantine") - before, ==, cases[i].quarantined);
        g_assert_cmpuint(files_in(f, "queue"), ==, 2 * cases[i].messages);
        /* A second start finds everything in order. */
        counts = scan(f);
        g_assert_cmpuint(counts.removed + counts.quarantined, ==, 0);
        g_assert_cmpuint(counts.messages, ==, cases[i].messages);
        if (cases[i].messages > 0)
            g_assert_cmpint(spool_edit(f->spool, id, remove_it, NULL, NULL), ==, SPOOL_OK);
        g_free(path);
    }
}

/* A message whose data is missing or damaged is still found, so that its sender can be told. Its remaining
 * files are moved away and kept. */
static void test_lost_data(struct fixture *f, gconstpointer data)
{
    (void)data;
    static const char *const texts[] = {NULL, "x", "x\r\nxx\r\n"};
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        uint64_t id = store(f->spool, "x\r\n", 1);
        struct spool_envelope envelope;
        struct error err = {""};
        int fd;
        if (texts[i] != NULL) {
            put_file(f, id, ".data", texts[i]);
        } else {
            g_autofree char *path = file_path(f, id, ".data");
            g_unlink(path);
        }
        struct spool_scan_counts counts = scan(f);
        g_assert_cmpuint(counts.messages, ==, 1);
        g_assert_cmpuint(counts.quarantined + counts.removed, ==, 0);
        g_assert_cmpint(spool_read(f->spool, id, &envelope, &err), ==, SPOOL_OK);
        g_assert_cmpint(spool_open_data(f->spool, &envelope, &fd, &err), ==,
                        texts[i] != NULL ? SPOOL_SENSELESS : SPOOL_MISSING);
        if (texts[i] != NULL)
            g_assert_cmpint(spool_set_data_aside(f->spool, id, &err), ==, SPOOL_OK);
        g_assert_cmpint(spool_open_data(f->spool, &envelope, &fd, &err), ==, SPOOL_MISSING);
        g_assert_cmpuint(files_in(f, "quarantine"), ==, i);
        spool_envelope_clear(&envelope);
        g_assert_cmpint(spool_edit(f->spool, id, remove_it, NULL, NULL), ==, SPOOL_OK);
        g_assert_cmpuint(files_in(f, "queue"), ==, 0);
    }
}

/* After a restore from backup, files that belong to root stop the start and stay where they are. */
static void test_foreign_files(struct fixture *f, gconstpointer data)
{
    (void)data;
    static const char *const suffixes[] = {".env", ".data"};
    enum { NOBODY = 65534 };
    if (geteuid() != 0) {
        g_test_skip("only root can give files away");
        return;
    }
    uint64_t id = store(f->spool, "x\r\n", 1);
    g_autofree char *queue = g_build_filename(f->folder, "queue", NULL);
    g_assert_cmpint(chown(f->folder, NOBODY, NOBODY) + chown(queue, NOBODY, NOBODY), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        g_autofree char *path = file_path(f, id, suffixes[i]);
        struct spool_scan_counts counts;
        struct error err = {""};
        g_assert_cmpint(seteuid(NOBODY), ==, 0);
        int result = spool_scan(f->spool, count_found, f, &counts, &err);
        g_assert_cmpint(seteuid(0), ==, 0);
        g_assert_cmpint(result, ==, -1);
        g_assert_nonnull(strstr(err.text, "chown"));
        g_assert_nonnull(strstr(err.text, suffixes[i]));
        g_assert_cmpuint(files_in(f, "quarantine"), ==, 0);
        g_assert_cmpint(chown(path, NOBODY, NOBODY), ==, 0);
    }
    g_assert_cmpuint(scan(f).messages, ==, 1);
}

/* The daemon's user must not be able to redirect root's relayctl with links. */
static void test_links(struct fixture *f, gconstpointer data)
{
    static const char *const folders[] = {"queue", "quarantine"};
    (void)data;
    spool_close(f->spool);
    for (size_t i = 0; i < G_N_ELEMENTS(folders); i++) {
        struct error err = {""};
        g_autofree char *path = g_build_filename(f->folder, folders[i], NULL);
        g_assert_cmpint(g_rmdir(path), ==, 0);
        g_assert_cmpint(symlink("/tmp", path), ==, 0);
        g_assert_null(open_spool(f->folder, false, &err));
        g_assert_nonnull(strstr(err.text, "Not a directory"));
        g_assert_cmpint(g_unlink(path), ==, 0);
    }
    f->spool = open_spool(f->folder, false, NULL);
    g_assert_nonnull(f->spool);
}

/* A link, a folder or a FIFO in place of a file does not confuse the spool. */
static void test_odd_files(struct fixture *f, gconstpointer data)
{
    (void)data;
    uint64_t id = store(f->spool, "x\r\n", 1);
    char *env = file_path(f, id, ".env"), *fifo = file_path(f, id + 1, ".env");
    char *folder = file_path(f, id + 2, ".env"), *data_too = file_path(f, id + 2, ".data");
    char *fifo_data = file_path(f, id + 1, ".data");

    g_assert_cmpint(g_unlink(env), ==, 0);
    g_assert_cmpint(symlink("/etc/passwd", env), ==, 0);
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    g_assert_cmpint(mkfifo(fifo_data, 0600), ==, 0);
    g_assert_cmpint(g_mkdir(folder, 0700), ==, 0);
    g_assert_cmpint(g_mkdir(data_too, 0700), ==, 0);
    log_set_level((enum log_level)0);
    struct spool_scan_counts counts = scan(f);
    g_assert_cmpuint(counts.messages, ==, 0);
    g_assert_cmpuint(counts.quarantined, ==, 6);
    g_assert_cmpuint(files_in(f, "quarantine"), ==, 6);
    /* With the same names again, nothing there is overwritten. */
    put_file(f, id, ".data", "again");
    counts = scan(f);
    g_assert_cmpuint(files_in(f, "quarantine"), ==, 7);
    g_free(env);
    g_free(fifo);
    g_free(fifo_data);
    g_free(folder);
    g_free(data_too);
}

/* A stray file with the greatest name does not make the next message's id 0, which is none. */
static void test_greatest_id(struct fixture *f, gconstpointer data)
{
    (void)data;
    put_file(f, UINT64_MAX, ".data", "x");
    log_set_level((enum log_level)0);
    g_assert_cmpuint(scan(f).quarantined, ==, 1);
    g_assert_cmpuint(store(f->spool, "x\r\n", 1), !=, 0);
    g_assert_cmpuint(scan(f).messages, ==, 1);
}

#define ADD(name, function)                                                                        \
    g_test_add("/spool/" name, struct fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("store and read", test_store_and_read);
    ADD("abort", test_abort);
    ADD("large", test_large);
    ADD("edit and remove", test_edit_and_remove);
    ADD("first read", test_first_read);
    ADD("threads", test_threads);
    ADD("lock", test_lock);
    ADD("bad folders", test_bad_folders);
    ADD("reserve", test_reserve);
    ADD("disorder", test_disorder);
    ADD("lost data", test_lost_data);
    ADD("foreign files", test_foreign_files);
    ADD("links", test_links);
    ADD("odd files", test_odd_files);
    ADD("greatest id", test_greatest_id);
    return g_test_run();
}
