/* tests/unit/test-tunnel.c - relayctl/tunnel, with a wg(8) of its own
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <glib/gstdio.h>

#include "relayctl/tunnel.h"

#define HOME "KEYOFHOME="
#define OTHER "KEYOFANOTHER="

static const struct tunnel_case {
    const char *name, *networks, *handshakes, *host;
    const char *interface; /* NULL: no peer is found */
    gint64 handshake;
} cases[] = {
    {"alone", "wg0\t" HOME "\t10.0.0.2/32\n", "wg0\t" HOME "\t1000\n", "10.0.0.2", "wg0", 1000},
    {"in-a-network", "wg0\t" HOME "\t10.0.0.0/24\n", "wg0\t" HOME "\t1000\n", "10.0.0.2", "wg0",
     1000},
    {"one-of-several", "wg0\t" HOME "\t192.168.0.0/16 fd00::2/128\n", "wg0\t" HOME "\t1000\n",
     "fd00::2", "wg0", 1000},
    {"longest-prefix", "wg0\t" OTHER "\t0.0.0.0/0\nwg0\t" HOME "\t10.0.0.2/32\n",
     "wg0\t" OTHER "\t2000\nwg0\t" HOME "\t1000\n", "10.0.0.2", "wg0", 1000},
    {"same-key-twice", "wg0\t" HOME "\t10.1.0.0/24\nwg1\t" HOME "\t10.0.0.2/32\n",
     "wg0\t" HOME "\t2000\nwg1\t" HOME "\t1000\n", "10.0.0.2", "wg1", 1000},
    {"no-handshake", "wg0\t" HOME "\t10.0.0.2/32\n", "wg0\t" HOME "\t0\n", "10.0.0.2", "wg0", 0},
    {"another-host", "wg0\t" HOME "\t10.0.0.20/32\n", "wg0\t" HOME "\t1000\n", "10.0.0.2", NULL, 0},
    {"none", "wg0\t" HOME "\t(none)\n", "wg0\t" HOME "\t1000\n", "10.0.0.2", NULL, 0},
    {"no-interface", "", "", "10.0.0.2", NULL, 0},
};

static void test_find(gconstpointer data)
{
    const struct tunnel_case *one = data;
    g_autofree char *folder = g_dir_make_tmp("tunnel-XXXXXX", NULL);
    g_autofree char *wg = g_build_filename(folder, "wg", NULL);
    g_autofree char *path = g_strdup_printf("%s:%s", folder, g_getenv("PATH"));
    g_autofree char *before = g_strdup(g_getenv("PATH"));
    g_autofree char *script =
        g_strdup_printf("#!/bin/sh\ncase \"$*\" in\n"
                        "'show all allowed-ips') cat << end\n%send\n;;\n"
                        "'show all latest-handshakes') cat << end\n%send\n;;\n"
                        "*) exit 1;;\nesac\n",
                        one->networks, one->handshakes);
    struct address host;
    struct tunnel tunnel;

    g_assert_true(g_file_set_contents_full(wg, script, -1, G_FILE_SET_CONTENTS_NONE, 0700, NULL));
    g_setenv("PATH", path, TRUE);
    g_assert_cmpint(address_parse_ip(&host, one->host), ==, 0);
    bool found = tunnel_find(&host, &tunnel);
    g_setenv("PATH", before, TRUE);
    g_assert_cmpint(found, ==, one->interface != NULL);
    if (found) {
        g_assert_cmpstr(tunnel.interface, ==, one->interface);
        g_assert_cmpint(tunnel.handshake, ==, one->handshake);
    }
    g_assert_cmpint(g_unlink(wg), ==, 0);
    g_assert_cmpint(g_rmdir(folder), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *name = g_strdup_printf("/tunnel/%s", cases[i].name);
        g_test_add_data_func(name, &cases[i], test_find);
    }
    return g_test_run();
}
