/* server/manual-main.c - build-time program: prints the parts of manual pages that come from tables
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <string.h>

#include "config/config.h"
#include "server/events.h"
#include "smtp/counters.h"

int main(int argc, char **argv)
{
    static const struct {
        const char *table;
        void (*print)(FILE *out);
    } tables[] = {{"options", config_print_manual},
                  {"metrics", counters_print_manual},
                  {"events", events_print_manual}};

    for (size_t i = 0; argc == 2 && i < sizeof tables / sizeof *tables; i++) {
        if (strcmp(argv[1], tables[i].table) == 0) {
            tables[i].print(stdout);
            return 0;
        }
    }
    return 64;
}
