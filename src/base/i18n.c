/* base/i18n.c - the gettext marks for what programs say to people
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "base/i18n.h"

#include <config.h>
#include <locale.h>

void i18n_init(void)
{
    setlocale(LC_MESSAGES, "");
    bindtextdomain(PACKAGE, LOCALEDIR);
    /* Else a text would be put into the character set of LC_CTYPE, which is ASCII here. */
    bind_textdomain_codeset(PACKAGE, "UTF-8");
    bind_textdomain_codeset("libc", "UTF-8");
    textdomain(PACKAGE);
}
