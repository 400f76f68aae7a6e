/* base/i18n.h - the gettext marks for what programs say to people
 *
 * Texts for the operator (errors, --help, --check) go through _(); SMTP replies and log keys are
 * protocol and stay English. i18n_init() is called once, first thing in main().
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_I18N_H
#define POSTERN_BASE_I18N_H

#include <libintl.h>

#define _(text) gettext(text)
#define N_(text) text

/* Takes the language of messages from the environment and binds the catalogue "postern", in UTF-8.
 * Nothing else of the locale is taken: letters, numbers and their order are those of the protocol,
 * whatever the operator speaks (the upper case of a Turkish i is no I). Call before threads. */
void i18n_init(void);

#endif
