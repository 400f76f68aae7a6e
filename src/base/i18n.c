/* base/i18n.c - the gettext marks for what programs say to people
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "base/i18n.h"

#include <config.h>
#include <locale.h>

void i18n_init(void)
{
    setlocale(LC_ALL, "");
    bindtextdomain(PACKAGE, LOCALEDIR);
    textdomain(PACKAGE);
}
