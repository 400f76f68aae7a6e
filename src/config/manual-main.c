/* config/manual-main.c - build-time program: the options of relay.conf(5) from the option table
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "config/config.h"

int main(void)
{
    config_print_manual(stdout);
    return 0;
}
