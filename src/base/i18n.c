/* base/i18n.c - gettext marks for the texts that programs show to people
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
    /* Otherwise gettext would convert to the character set of LC_CTYPE, which is ASCII here. */
    bind_textdomain_codeset(PACKAGE, "UTF-8");
    bind_textdomain_codeset("libc", "UTF-8");
    textdomain(PACKAGE);
}
