/* server/expiry.h - warns about expiring certificates, in time and repeatedly
 *
 * Warns with 30, 14, 7, 3 and 1 days left, and daily after the expiry: at the start, at a reload and while
 * the daemon runs. Owns nothing. Used by the main thread.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_EXPIRY_H
#define POSTERN_SERVER_EXPIRY_H

#include "net/tls.h"

#define EXPIRY_CERTIFICATES_MAX 32 /* more are not watched */

/* The last warning about each; all zero: none yet, as after each change of the certificates. */
struct expiry {
    long long stages[EXPIRY_CERTIFICATES_MAX];
};

/* The stage of a certificate. 0: more than 30 days are left. Positive: the days of the latest warning that is
 * due. Negative: the number of days, rounded up, since it expired. */
long long expiry_stage(long long seconds_left);

/* Logs the warnings that have become due since the last call. `tls` may be NULL; `now` is time(2). */
void expiry_look(struct expiry *expiry, const struct tls_server *tls, long long now);

#endif
