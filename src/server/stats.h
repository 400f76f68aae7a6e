/* server/stats.h - what a daemon tells of itself by its control socket: all of its numbers, and more
 *
 * The request is "stats". The answer, for `relayctl status` and for exporters, holds these lines after
 * "ok" and before "end", in any order but that a metric comes before its samples. What stands last
 * in a line may hold spaces; control characters in it are "?".
 *
 *   daemon NAME VERSION                 "relay-in 0.1.0"
 *   since EPOCH                         seconds since 1970, here and below
 *   config EPOCH FILE                   the file in force, and when it was read
 *   reload failed                       the last one did; absent: it did not
 *   listen TEXT                         as in the option; one for each
 *   metric NAME TYPE HELP               TYPE is counter, gauge or histogram
 *   sample NAME[{LABELS}] VALUE         NAME of a histogram's have _bucket, _sum or _count behind it
 *   today NAME[{LABELS}] VALUE          of a counter: since midnight, local time
 *   certificate INDEX EPOCH FILE NAME   when it expires; FILE has no spaces ("?" for each)
 *   backend INDEX STATUS EPOCH MS NAME TEXT
 *                                       relay-in: STATUS is up, down or unknown, since EPOCH; the last
 *                                       connection took MS (-1: none yet); NAME are its hosts, with
 *                                       commas; TEXT says what went wrong last, or "-"
 *   refusal EPOCH TEXT                  relay-out: the last final refusal by a next hop
 *
 * "sessions" is answered by a line for each connection of a client, who has been longest in its
 * STATE first:
 *
 *   session CLIENT STATE SECONDS        STATE is proxy, greeting, silent, parked, waiting or working
 *
 * Lines of other words may come with later versions and are to be passed over.
 *
 * Owns nothing. On the control socket's threads.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_STATS_H
#define POSTERN_SERVER_STATS_H

#include "net/tls.h"
#include "server/control.h"
#include "smtp/counters.h"

/* All rows of the daemon (one of COUNTERS_...), with the values that they have. */
void stats_put_counters(struct control_client *client, struct counters *counters, unsigned daemon);

/* A value of a COUNTER_EACH: `label` is the value of its label. */
void stats_put_each(struct control_client *client, enum counter which, unsigned daemon,
                    const char *label, double value);

/* A line: what `format` makes, without its end. */
void stats_put_line(struct control_client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The certificate lines and their metric; `tls` may be NULL. */
void stats_put_certificates(struct control_client *client, const struct tls_server *tls,
                            unsigned daemon);

#endif
