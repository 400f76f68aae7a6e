/* tests/unit/test-mbox.c - smtp/mbox
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "smtp/mbox.h"

/* `before`: how many octets of it are mailbox file lines. */
static const struct {
    const char *text;
    size_t before;
} cases[] = {
    {"Subject: x\r\n\r\nFrom y\r\n", 0},
    {"From: a\r\nFrom b\r\n", 0},
    {"From a@b Sat Nov 28\r\nSubject: x\r\n", 21},
    {">From a\r\nSubject: x\r\n", 9},
    {">>>From a\r\n\r\nbody", 11},
    {"From a\r\nFrom b\r\n>From c\r\nTo: x\r\n", 25},
    {"From \r\nx", 7},
    {"From a\r\n>to\r\n", 8},
    {"From a\r\nFrom", 8},
    {"From a\r\n b\r\n", 8},
    {"From a\r\n", 8},
    {"From\ta\r\n", 0},
    {"from a\r\n", 0},
    {"From-a\r\n", 0},
    {" From a\r\n", 0},
    {"> From a\r\n", 0},
    {">>>>>>>>>>>>>>>>From a\r\nx", 24},
    {">>>>>>>>>>>>>>>>>From a\r\nx", 0}, /* one more than MBOX_QUOTES_MAX */
    {"Fr>om a\r\n", 0},
    {"", 0},
};

/* Feeds pieces of `size` octets, as the session does, and puts a bar where the message proper begins. */
static char *put_bar(const char *text, size_t size)
{
    struct mbox_lines lines = {.over = false};
    GString *out = g_string_new(NULL);
    bool put = false;

    for (size_t len = strlen(text); len > 0; len -= MIN(size, len), text += size) {
        size_t now = MIN(size, len), held_len;
        const char *held = mbox_held(&lines, &held_len);
        if (put) {
            g_string_append_len(out, text, (gssize)now);
            continue;
        }
        size_t sure = mbox_take(&lines, text, now);
        g_assert_cmpuint(sure, <=, now);
        if (sure > 0)
            g_string_append_len(g_string_append_len(out, held, (gssize)held_len), text, (gssize)sure);
        if (!lines.over)
            continue;
        g_string_append_c(out, '|');
        put = true;
        if (sure == 0)
            g_string_append_len(out, held, (gssize)held_len);
        g_string_append_len(out, text + sure, (gssize)(now - sure));
    }
    size_t held_len;
    const char *held = mbox_held(&lines, &held_len);
    if (!put)
        g_string_append_len(g_string_append_c(out, '|'), held, (gssize)held_len);
    return g_string_free(out, FALSE);
}

static void test_lines(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *expected = g_strdup_printf("%.*s|%s", (int)cases[i].before, cases[i].text,
                                                    cases[i].text + cases[i].before);
        for (size_t size = 1; size <= strlen(cases[i].text) + 1; size++) {
            g_autofree char *got = put_bar(cases[i].text, size);
            g_test_message("%s, in pieces of %zu", cases[i].text, size);
            g_assert_cmpstr(got, ==, expected);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mbox/lines", test_lines);
    return g_test_run();
}
