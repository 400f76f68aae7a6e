/* tests/unit/test-missed.c - relay-in/missed
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "relay-in/missed.h"
#include "clock.h"
#include "heard.h"

static char *folder;

static struct client_identity client;
static struct envelope envelope = {.client = &client};

static void from(const char *sender)
{
    g_strlcpy(envelope.sender.mailbox, sender, sizeof envelope.sender.mailbox);
    const char *at = strchr(envelope.sender.mailbox, '@');
    envelope.sender.domain = at != NULL ? at + 1 : "";
}

static void note(struct missed *missed, const char *sender, const char *recipient,
                 enum own_reply which)
{
    struct reply reply;
    from(sender);
    reply_own(&reply, which);
    missed_note(missed, &envelope, recipient, &reply, false);
}

static void note_backend(struct missed *missed, const char *sender, const char *recipient, int code,
                         bool settles)
{
    struct reply reply;
    from(sender);
    reply_hear_code(&reply, code, "the backend's own");
    missed_note(missed, &envelope, recipient, &reply, settles);
}

/* Removes what earlier tests left. */
static void fresh(void)
{
    g_autofree char *path = g_build_filename(folder, "missed", NULL);
    g_unlink(path);
}

static struct missed *open_ledger(void)
{
    struct error err = {""};
    struct missed *missed = missed_open(folder, false, &err);
    g_assert_nonnull(missed);
    return missed;
}

static unsigned pending(struct missed *missed)
{
    struct missed_counts counts;
    missed_count(missed, &counts);
    return counts.pending;
}

static void check(struct missed *missed, const char *recipient, enum missed_state state,
                  unsigned tries)
{
    unsigned count;
    struct missed_entry *list = missed_list(missed, &count);
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(list[i].recipient, recipient) != 0)
            continue;
        g_assert_cmpint(list[i].state, ==, state);
        g_assert_cmpuint(list[i].tries, ==, tries);
        g_free(list);
        return;
    }
    g_error("%s is not in the ledger", recipient);
}

/* Our own deferrals are entered and the backend's replies settle them, even if the process is killed in
 * between. */
static void test_life(void)
{
    fresh();
    struct missed *missed = open_ledger();
    note(missed, "ann@a.example", "one@here", REPLY_BACKEND_UNREACHABLE);
    note(missed, "ann@a.example", "one@here", REPLY_BACKEND_BUSY);
    note(missed, "ann@a.example", "two@here", REPLY_BACKEND_CONFIG);
    note(missed, "bob@b.example", "three@here", REPLY_BACKEND_LOST);
    note(missed, "", "four@here", REPLY_BACKEND_UNREACHABLE);
    note_backend(missed, "eve@e.example", "greylisted@here", 450, false);
    note(missed, "eve@e.example", "relay@there", REPLY_RELAY_DENIED);
    note(missed, "eve@e.example", "full@here", REPLY_STORE_FULL);
    g_assert_cmpuint(pending(missed), ==, 4);
    /* Without missed_close(), only the file remains. */
    struct missed *again = open_ledger();
    g_assert_cmpuint(pending(again), ==, 4);
    check(again, "one@here", MISSED_PENDING, 2);
    note_backend(again, "ann@a.example", "one@here", 250, false); /* RCPT alone is not enough */
    check(again, "one@here", MISSED_PENDING, 2);
    note_backend(again, "ann@a.example", "one@here", 250, true);
    note_backend(again, "ann@a.example", "two@here", 550, false);
    note_backend(again, "ann@a.example", "three@here", 250, true); /* somebody else's */
    note_backend(again, "", "four@here", 450, true);               /* not yet */
    g_assert_cmpuint(pending(again), ==, 2);
    missed_close(missed);
    missed_close(again);
    again = open_ledger();
    check(again, "one@here", MISSED_CAME_BACK, 2);
    check(again, "two@here", MISSED_REFUSED, 1);
    check(again, "three@here", MISSED_PENDING, 1);
    check(again, "four@here", MISSED_PENDING, 1);
    missed_close(again);
}

/* A sender's local part appears neither in the list nor in the file. */
static void test_private(void)
{
    fresh();
    struct missed *missed = open_ledger();
    g_autofree char *path = g_build_filename(folder, "missed", NULL), *text = NULL;
    note(missed, "secretary@a.example", "one@here", REPLY_BACKEND_UNREACHABLE);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_nonnull(strstr(text, "a.example one@here"));
    g_assert_null(strstr(text, "secretary"));
    GStatBuf st;
    g_assert_cmpint(g_stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 077, ==, 0);
    missed_close(missed);
}

/* A line truncated by a crash, and foreign lines, do no other harm. */
static void test_odd_lines(void)
{
    fresh();
    struct missed *missed = open_ledger();
    g_autofree char *path = g_build_filename(folder, "missed", NULL), *text = NULL;
    note(missed, "a b\n@a.example", "one two\x7f@here", REPLY_BACKEND_UNREACHABLE);
    missed_close(missed);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_autofree char *more = g_strconcat(text, "what is this\n0123 0 1\n", "0123456789abcdef", NULL);
    g_assert_true(g_file_set_contents(path, more, -1, NULL));
    missed = open_ledger();
    g_assert_cmpuint(pending(missed), ==, 1);
    note(missed, "c@a.example", "two@here", REPLY_BACKEND_UNREACHABLE);
    missed_close(missed);
    missed = open_ledger();
    g_assert_cmpuint(pending(missed), ==, 2);
    missed_close(missed);
    /* A file that is not ours is started afresh. */
    g_assert_true(g_file_set_contents(path, "something else\n", -1, NULL));
    missed = open_ledger();
    g_assert_cmpuint(pending(missed), ==, 0);
    missed_close(missed);
}

/* If there are too many, settled ones are dropped first, then those who tried only once. */
static void test_bound(void)
{
    fresh();
    struct missed *missed = open_ledger();
    char recipient[64];
    note(missed, "a@a.example", "twice@here", REPLY_BACKEND_UNREACHABLE);
    note(missed, "a@a.example", "twice@here", REPLY_BACKEND_UNREACHABLE);
    note(missed, "a@a.example", "settled@here", REPLY_BACKEND_UNREACHABLE);
    note_backend(missed, "a@a.example", "settled@here", 250, true);
    for (int i = 0; i < MISSED_MAX + 100; i++) {
        g_snprintf(recipient, sizeof recipient, "u%d@here", i);
        note(missed, "a@a.example", recipient, REPLY_BACKEND_UNREACHABLE);
    }
    g_assert_cmpuint(pending(missed), ==, MISSED_MAX);
    check(missed, "twice@here", MISSED_PENDING, 2);
    unsigned count;
    struct missed_entry *list = missed_list(missed, &count);
    g_assert_cmpuint(count, ==, MISSED_MAX);
    for (unsigned i = 0; i < count; i++)
        g_assert_cmpstr(list[i].recipient, !=, "settled@here");
    g_free(list);
    missed_close(missed);
}

static void limit_files(rlim_t octets)
{
    struct rlimit limit;
    g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &limit), ==, 0);
    limit.rlim_cur = octets < limit.rlim_max ? octets : limit.rlim_max;
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
}

/* While the disk is full the ledger is in memory; when there is room again, all of it is written. */
static void test_full(void)
{
    fresh();
    struct missed *missed = open_ledger();
    note(missed, "a@a.example", "before@here", REPLY_BACKEND_UNREACHABLE);
    signal(SIGXFSZ, SIG_IGN);
    limit_files(200); /* in the middle of the first entry's line */
    note(missed, "a@a.example", "full@here", REPLY_BACKEND_UNREACHABLE);
    clock_advance_ms(61000);
    note(missed, "a@a.example", "still@here", REPLY_BACKEND_UNREACHABLE);
    limit_files(RLIM_INFINITY);
    note(missed, "a@a.example", "soon@here", REPLY_BACKEND_UNREACHABLE);
    clock_advance_ms(61000);
    note(missed, "a@a.example", "again@here", REPLY_BACKEND_UNREACHABLE);
    /* Without missed_close(), only the file remains. */
    struct missed *again = open_ledger();
    g_assert_cmpuint(pending(again), ==, 5);
    missed_close(missed);
    /* There is room again when it ends. */
    limit_files(200);
    note(again, "a@a.example", "last@here", REPLY_BACKEND_UNREACHABLE);
    limit_files(RLIM_INFINITY);
    missed_close(again);
    again = open_ledger();
    g_assert_cmpuint(pending(again), ==, 6);
    missed_close(again);
}

static void test_off(void)
{
    unsigned count;
    note(NULL, "a@a.example", "one@here", REPLY_BACKEND_UNREACHABLE);
    g_assert_cmpuint(pending(NULL), ==, 0);
    g_assert_null(missed_list(NULL, &count));
    missed_close(NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    client.address.family = AF_INET;
    static void (*const tests[])(void) = {test_life,  test_private, test_odd_lines,
                                          test_bound, test_full,    test_off};
    static const char *const names[] = {"/missed/life",  "/missed/private", "/missed/odd lines",
                                        "/missed/bound", "/missed/full",    "/missed/off"};
    int result = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add_func(names[i], tests[i]);
    folder = g_dir_make_tmp("postern-missed-XXXXXX", NULL);
    result = g_test_run();
    fresh();
    g_rmdir(folder);
    g_free(folder);
    return result;
}
