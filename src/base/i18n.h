/* base/i18n.h - gettext marks for the texts that programs show to people
 *
 * Texts for the operator (errors, --help, --check) go through _(); SMTP replies and log keys are
 * protocol and stay English. main() calls i18n_init() once, before anything else.
 *
 * Owns nothing; thread-safe once i18n_init() has returned.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_I18N_H
#define POSTERN_BASE_I18N_H

#include <libintl.h>

#define _(text) gettext(text)
#define N_(text) text

/* Takes the message language from the environment and binds the catalogue "postern", in UTF-8. It
 * takes nothing else from the locale: case, numbers and collation must follow the protocol in every
 * language (in Turkish, the upper case of i is not I). Call before any thread starts. */
void i18n_init(void);

#endif
