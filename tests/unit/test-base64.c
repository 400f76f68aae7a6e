/* tests/unit/test-base64.c - base64
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "base/base64.h"

static void test_round(void)
{
    /* RFC 4648 10 */
    static const char *const cases[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        char text[16], back[16];
        g_assert_cmpstr(base64_encode(cases[i][0], strlen(cases[i][0]), text), ==, cases[i][1]);
        long len = base64_decode(text, strlen(text), back);
        g_assert_cmpmem(back, (size_t)len, cases[i][0], strlen(cases[i][0]));
    }
}

static void test_all_octets(void)
{
    unsigned char all[256], back[258];
    char text[BASE64_SIZE(sizeof all)];
    for (int i = 0; i < 256; i++)
        all[i] = (unsigned char)i;
    base64_encode(all, sizeof all, text);
    g_assert_cmpint(base64_decode(text, strlen(text), back), ==, 256);
    g_assert_cmpmem(back, 256, all, 256);
}

static void test_bad(void)
{
    static const char *const bad[] = {
        "Z", "Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm9\n", "Zm 9"};
    char out[16];
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("%s", bad[i]);
        g_assert_cmpint(base64_decode(bad[i], strlen(bad[i]), out), ==, -1);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base64/round", test_round);
    g_test_add_func("/base64/all-octets", test_all_octets);
    g_test_add_func("/base64/bad", test_bad);
    return g_test_run();
}
