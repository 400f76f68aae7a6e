/* tests/unit/test-log.c - base/log: one event, one line, whatever the input
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <fcntl.h>
#include <glib.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/log.h"

/* Captures what log_end() writes to standard error. */
static void logged(struct log_line *line, char *out, size_t size)
{
    int fds[2], saved = dup(STDERR_FILENO);
    g_assert_cmpint(pipe(fds), ==, 0);
    dup2(fds[1], STDERR_FILENO);
    log_end(line);
    dup2(saved, STDERR_FILENO);
    close(fds[1]);
    close(saved);
    ssize_t len = read(fds[0], out, size - 1);
    out[len > 0 ? len : 0] = '\0';
    close(fds[0]);
}

static const struct {
    const char *value, *expected;
} values[] = {
    {"plain", "event=x k=plain\n"},
    {"", "event=x k=\"\"\n"},
    {"two words", "event=x k=\"two words\"\n"},
    {"a\"b c\\", "event=x k=\"a\\\"b c\\\\\"\n"},
    {"a\r\nevent=forged", "event=x k=\"a\\x0D\\x0Aevent=forged\"\n"},
    {"\x1b[31m\x7f", "event=x k=\\x1B[31m\\x7F\n"},
    {"gr\xc3\xbc\xc3\x9f", "event=x k=gr\xc3\xbc\xc3\x9f\n"},
    {"\xff\xc3(", "event=x k=\\xFF\\xC3(\n"},
    {"\xc2\x85", "event=x k=\\xC2\\x85\n"},
    {"a\xe2\x80\xae" "b\xe2\x80\xa8" "c", "event=x k=a\\xE2\\x80\\xAEb\\xE2\\x80\\xA8" "c\n"},
    {"\xe2\x82\xac", "event=x k=\xe2\x82\xac\n"},
    {NULL, "event=x k=-\n"},
};

static void test_values(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
        struct log_line line;
        char out[LOG_LINE_MAX + 1];
        log_begin(&line, LOG_LEVEL_INFO, "event=x");
        log_str(&line, "k", values[i].value);
        logged(&line, out, sizeof out);
        g_assert_cmpstr(out, ==, values[i].expected);
    }
}

static void test_word(void)
{
    struct log_line line;
    char out[2 * LOG_LINE_MAX];
    g_autofree char *text = g_strnfill(3 * LOG_LINE_MAX, 'x');

    log_begin(&line, LOG_LEVEL_INFO, "event=x");
    log_word(&line, "client", "[2001:db8::7]:25");
    log_word(&line, "k", text);
    logged(&line, out, sizeof out);
    g_assert_true(g_str_has_prefix(out, "event=x client=[2001:db8::7]:25 k=xxx"));
    g_assert_cmpuint(strlen(out), ==, LOG_LINE_MAX);
    g_assert_true(g_str_has_suffix(out, "x\n"));
}

static void test_bound(void)
{
    struct log_line line;
    char out[2 * LOG_LINE_MAX];
    g_autofree char *text = g_strnfill(3 * LOG_LINE_MAX, '\n');
    log_begin(&line, LOG_LEVEL_INFO, "event=x");
    log_str(&line, "k", text);
    log_text(&line, "%s", text);
    logged(&line, out, sizeof out);
    g_assert_cmpuint(strlen(out), <=, LOG_LINE_MAX);
    g_assert_cmpint(out[strlen(out) - 1], ==, '\n');
    g_assert_true(strchr(out, '\n') == out + strlen(out) - 1);
}

/* Wherever a line is cut, it stays well-formed and no escape is split. */
static void test_cut(void)
{
    static const char *const units[] = {"\xe2\x82\xac", "\n", "\""};
    for (size_t i = 0; i < G_N_ELEMENTS(units); i++) {
        for (size_t shift = 0; shift < 4; shift++) {
            struct log_line line;
            char out[2 * LOG_LINE_MAX];
            g_autofree char *prefix = g_strnfill(shift, 'x');
            GString *value = g_string_new(prefix);
            for (size_t at = 0; at < LOG_LINE_MAX; at++)
                g_string_append(value, units[i]);
            log_begin(&line, LOG_LEVEL_INFO, "event=x");
            log_str(&line, "k", value->str);
            logged(&line, out, sizeof out);
            g_test_message("unit %zu, shift %zu: ...%s", i, shift, out + strlen(out) - 8);
            g_assert_true(g_utf8_validate(out, -1, NULL));
            const char *escape = strrchr(out, '\\');
            if (escape != NULL && escape[1] == 'x')
                g_assert_cmpuint(strlen(escape), >=, strlen("\\x0A\n"));
            else if (escape != NULL)
                g_assert_cmpint(escape[1], ==, '"');
            g_string_free(value, TRUE);
        }
    }
}

static void test_level(void)
{
    struct log_line line;
    char out[100];
    log_set_level(LOG_LEVEL_WARNING);
    log_begin(&line, LOG_LEVEL_INFO, "event=x");
    logged(&line, out, sizeof out);
    g_assert_cmpstr(out, ==, "");
    log_set_level(LOG_LEVEL_INFO);
}

/* In a Turkish locale the upper case of i is not I, and some locales write decimals with a comma. None of
 * that may reach protocol or log. */
static void test_locale(void)
{
    g_setenv("LC_ALL", "C.UTF-8", TRUE);
    i18n_init();
    g_assert_cmpstr(setlocale(LC_MESSAGES, NULL), ==, "C.UTF-8");
    g_assert_cmpstr(setlocale(LC_CTYPE, NULL), ==, "C");
    g_assert_cmpstr(setlocale(LC_NUMERIC, NULL), ==, "C");
    g_assert_cmpstr(setlocale(LC_COLLATE, NULL), ==, "C");
    g_assert_cmpstr(setlocale(LC_TIME, NULL), ==, "C");
}

/* A log that nobody reads costs one short wait, and later reports how many lines were lost. */
static void test_unread(void)
{
    enum { LINES = 2000 };
    char bytes[65536];
    int fds[2], saved = dup(STDERR_FILENO);
    g_assert_cmpint(pipe(fds), ==, 0);
    g_assert_cmpint(fcntl(fds[0], F_SETFL, O_NONBLOCK), ==, 0);
    dup2(fds[1], STDERR_FILENO);
    gint64 began = g_get_monotonic_time();
    for (int i = 0; i < LINES; i++)
        log_write(LOG_LEVEL_INFO, "event=x number=%d filling=%0200d", i, 0);
    gint64 took = g_get_monotonic_time() - began;
    size_t whole = 0, torn = 0;
    for (ssize_t len; (len = read(fds[0], bytes, sizeof bytes)) > 0;) {
        for (ssize_t i = 0; i < len; i++)
            whole += bytes[i] == '\n';
        torn = bytes[len - 1] != '\n';
    }
    log_write(LOG_LEVEL_INFO, "event=again");
    ssize_t len = read(fds[0], bytes, sizeof bytes - 1);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fds[0]);
    close(fds[1]);
    bytes[len > 0 ? len : 0] = '\0';
    g_autofree char *expected =
        g_strdup_printf("event=log-lost count=%zu\nevent=again\n", LINES - whole);
    g_assert_cmpstr(bytes, ==, expected);
    g_assert_cmpint(whole, >, 10);
    g_assert_cmpint(torn, ==, 0);
    g_assert_cmpint(took, <, 10 * G_USEC_PER_SEC);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_unsetenv("JOURNAL_STREAM");
    g_test_add_func("/log/values", test_values);
    g_test_add_func("/log/word", test_word);
    g_test_add_func("/log/bound", test_bound);
    g_test_add_func("/log/level", test_level);
    g_test_add_func("/log/cut", test_cut);
    g_test_add_func("/log/locale", test_locale);
    g_test_add_func("/log/unread", test_unread);
    return g_test_run();
}
