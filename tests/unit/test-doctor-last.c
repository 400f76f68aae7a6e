/* tests/unit/test-doctor-last.c - server/doctor-last
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>

#include "server/doctor-last.h"

static void test_counts(void)
{
    static const struct {
        const char *text;
        unsigned failed, warnings;
    } cases[] = {
        {"", 0, 0},
        {"ptr4 ok\nspf unknown\n", 0, 0},
        {"ptr4 failed\nspf warning\nmx failed\ndkim ok\n", 2, 1},
        {"failed\n\nwarning ok\nptr4 failed", 1, 0},
    };
    g_autofree char *folder = g_dir_make_tmp("doctor-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(folder, "doctor", NULL);
    const struct utimbuf times = {1000000, 1000000};
    struct doctor_last last;

    g_assert_false(doctor_last_read(file, &last));
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_true(g_file_set_contents(file, cases[i].text, -1, NULL));
        g_assert_cmpint(utime(file, &times), ==, 0);
        g_assert_true(doctor_last_read(file, &last));
        g_assert_cmpint(last.at, ==, 1000000);
        g_assert_cmpuint(last.failed, ==, cases[i].failed);
        g_assert_cmpuint(last.warnings, ==, cases[i].warnings);
    }
    g_assert_cmpint(g_unlink(file), ==, 0);
    g_assert_cmpint(g_rmdir(folder), ==, 0);
}

/* What the folder's owner puts there, root reads and writes. */
static void test_traps(void)
{
    g_autofree char *folder = g_dir_make_tmp("doctor-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(folder, "doctor", NULL);
    g_autofree char *victim = g_build_filename(folder, "victim", NULL);
    g_autofree char *text = NULL;
    struct doctor_last last;
    FILE *stream;

    g_assert_true(g_file_set_contents(victim, "ptr4 failed\n", -1, NULL));
    g_assert_cmpint(symlink(victim, file), ==, 0);
    g_assert_false(doctor_last_read(file, &last));
    stream = doctor_last_create(file);
    g_assert_nonnull(stream);
    fputs("spf warning\n", stream);
    fclose(stream);
    g_assert_true(g_file_get_contents(victim, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "ptr4 failed\n");
    g_assert_true(doctor_last_read(file, &last));
    g_assert_cmpuint(last.warnings, ==, 1);
    g_assert_cmpint(g_unlink(file), ==, 0);
    g_assert_cmpint(mkfifo(file, 0600), ==, 0);
    g_assert_false(doctor_last_read(file, &last)); /* without waiting for a writer */
    g_assert_cmpint(g_unlink(file), ==, 0);
    g_assert_cmpint(mkdir(file, 0700), ==, 0);
    g_assert_false(doctor_last_read(file, &last));
    g_assert_null(doctor_last_create(file));
    g_assert_cmpint(g_rmdir(file), ==, 0);
    g_assert_cmpint(g_unlink(victim), ==, 0);
    g_assert_cmpint(g_rmdir(folder), ==, 0);
}

/* A file without end, a sparse one for example, holds nobody up. */
static void test_size(void)
{
    g_autofree char *folder = g_dir_make_tmp("doctor-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(folder, "doctor", NULL);
    struct doctor_last last;
    FILE *stream = fopen(file, "w");

    g_assert_nonnull(stream);
    fputs("ptr4 failed\n", stream);
    g_assert_cmpint(fseek(stream, 1 << 20, SEEK_SET), ==, 0);
    fputs("\nmx failed\n", stream);
    g_assert_cmpint(fclose(stream), ==, 0);
    g_assert_true(doctor_last_read(file, &last));
    g_assert_cmpuint(last.failed, ==, 1);
    g_assert_cmpint(g_unlink(file), ==, 0);
    g_assert_cmpint(g_rmdir(folder), ==, 0);
}

/* relay-in's folder; relay-out's if there is no relay-in or it has no state; or else the default. */
static void test_file(void)
{
    static const struct {
        unsigned parts;
        const char *in, *out, *file;
    } cases[] = {
        {CONFIG_PART_IN, "/a", "/b", "/a/doctor"},
        {CONFIG_PART_OUT, "/a", "/b", "/b/doctor"},
        {CONFIG_PART_IN | CONFIG_PART_OUT, "/a", "/b", "/a/doctor"},
        {CONFIG_PART_IN | CONFIG_PART_OUT, "", "/b", "/b/doctor"},
        {CONFIG_PART_IN | CONFIG_PART_OUT, "", "", STATEDIR "/doctor"},
    };
    struct config config = {0};
    char file[PATH_MAX];

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        config.parts = cases[i].parts;
        config.in.state = (char *)cases[i].in;
        config.out.state = (char *)cases[i].out;
        doctor_last_file(&config, file);
        g_assert_cmpstr(file, ==, cases[i].file);
    }
    doctor_last_file(NULL, file);
    g_assert_cmpstr(file, ==, STATEDIR "/doctor");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/doctor-last/counts", test_counts);
    g_test_add_func("/doctor-last/traps", test_traps);
    g_test_add_func("/doctor-last/size", test_size);
    g_test_add_func("/doctor-last/file", test_file);
    return g_test_run();
}
