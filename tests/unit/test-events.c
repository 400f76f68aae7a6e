/* tests/unit/test-events.c - the table of events against the sources
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <stdbool.h>
#include <string.h>

#include "server/events.h"

static const struct event_row *find(const char *name)
{
    for (size_t i = 0; i < event_row_count; i++) {
        if (strcmp(event_rows[i].name, name) == 0)
            return &event_rows[i];
    }
    return NULL;
}

static bool has_level(const struct event_row *row, const char *level)
{
    gchar **levels = g_strsplit(row->levels, " ", -1);
    bool has = g_strv_contains((const gchar *const *)levels, level);
    g_strfreev(levels);
    return has;
}

/* Finds every "event=..." in a string, with the level before it in the same call. */
static void look_into(const char *path, GHashTable *seen)
{
    static const char pattern[] =
        "(?:log_begin|log_write|\\w*log\\w*)\\((?:&?\\w+(?:->\\w+)?,\\s*)?"
        "(?:LOG_LEVEL_(\\w+),\\s*)?\"event=([a-z-]+)|\"event=([a-z-]+)";
    gchar *text = NULL;
    GMatchInfo *match;
    GRegex *regex = g_regex_new(pattern, 0, 0, NULL);

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_regex_match(regex, text, 0, &match);
    for (; g_match_info_matches(match); g_match_info_next(match, NULL)) {
        g_autofree gchar *level = g_match_info_fetch(match, 1);
        g_autofree gchar *called = g_match_info_fetch(match, 2);
        g_autofree gchar *other = g_match_info_fetch(match, 3);
        const char *name = called != NULL && called[0] != '\0' ? called : other;
        const struct event_row *row = find(name);
        if (row == NULL)
            g_error("%s: event=%s is in no row of server/events.c", path, name);
        g_autofree gchar *lower = g_ascii_strdown(level != NULL ? level : "", -1);
        if (lower[0] != '\0' && !has_level(row, lower))
            g_error("%s: event=%s has the level %s, which its row does not know", path, name, lower);
        g_hash_table_add(seen, (gpointer)row->name);
    }
    g_match_info_free(match);
    g_regex_unref(regex);
    g_free(text);
}

static void walk(const char *folder, GHashTable *seen)
{
    GDir *dir = g_dir_open(folder, 0, NULL);
    g_assert_nonnull(dir);
    for (const char *name; (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree gchar *path = g_build_filename(folder, name, NULL);
        if (g_file_test(path, G_FILE_TEST_IS_DIR))
            walk(path, seen);
        else if (g_str_has_suffix(name, ".c") && strcmp(name, "events.c") != 0)
            look_into(path, seen);
    }
    g_dir_close(dir);
}

static void test_sources(void)
{
    const char *source = g_getenv("POSTERN_SRCDIR");
    g_autofree gchar *folder = g_build_filename(source != NULL ? source : ".", "src", NULL);
    GHashTable *seen = g_hash_table_new(g_str_hash, g_str_equal);

    walk(folder, seen);
    for (size_t i = 0; i < event_row_count; i++) {
        if (event_is_named(&event_rows[i]) && !g_hash_table_contains(seen, event_rows[i].name))
            g_error("event=%s is in no source any more", event_rows[i].name);
    }
    g_hash_table_unref(seen);
}

static void test_table(void)
{
    static const char *const levels[] = {"error", "warning", "notice", "info", "debug", NULL};

    for (size_t i = 0; i < event_row_count; i++) {
        const struct event_row *row = &event_rows[i];
        gchar **words = g_strsplit(row->levels, " ", -1);
        g_test_message("%s", row->name);
        g_assert_true(find(row->name) == row);
        g_assert_nonnull(words[0]);
        for (size_t j = 0; words[j] != NULL; j++)
            g_assert_true(g_strv_contains(levels, words[j]));
        g_assert_true(g_str_has_suffix(row->meaning, "."));
        g_strfreev(words);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/events/table", test_table);
    g_test_add_func("/events/sources", test_sources);
    return g_test_run();
}
