/* server/expiry.h - says when a certificate expires, in time and again
 *
 * With 30, 14, 7, 3 and 1 days left, and every day once it is overdue: at the start, at a reload and
 * while the daemon runs. Used by the main thread.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_EXPIRY_H
#define POSTERN_SERVER_EXPIRY_H

#include "net/tls.h"

#define EXPIRY_CERTIFICATES_MAX 32 /* more are not watched */

/* What was said of each; all zero: nothing yet, as after each change of the certificates. */
struct expiry {
    long long stages[EXPIRY_CERTIFICATES_MAX];
};

/* 0: more than 30 days are left. Positive: the days of the last warning that is due. Negative: so
 * many days, begun ones too, it is overdue. */
long long expiry_stage(long long seconds_left);

/* Logs what has become due since the last call; `tls` may be NULL. `now` is time(2). */
void expiry_look(struct expiry *expiry, const struct tls_server *tls, long long now);

#endif
