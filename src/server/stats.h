/* server/stats.h - what a daemon reports on its control socket: all its numbers, and more
 *
 * The request is "stats". The answer, for `relayctl status` and the exporter, has these lines between "ok"
 * and "end", in any order except that a metric precedes its samples. The last field of a line may contain
 * spaces; control characters in it become "?".
 *
 *   daemon NAME VERSION                 "relay-in 0.1.0"
 *   since EPOCH                         seconds since 1970, here and below
 *   config EPOCH FILE                   the file in force, and when it was read
 *   reload failed                       only if the last reload failed
 *   reread failed                       only if the certificates have changed and could not be loaded
 *   listen TEXT                         as in the option; one line each
 *   metric NAME TYPE HELP               TYPE is counter, gauge or histogram
 *   sample NAME[{LABELS}] VALUE         a histogram's NAME ends in _bucket, _sum or _count
 *   today NAME[{LABELS}] VALUE          a counter's increase since midnight, local time
 *   certificate INDEX EPOCH FILE NAME   when it expires; spaces in FILE become "?"
 *   backend INDEX STATUS EPOCH MS NAME TEXT
 *                                       relay-in: STATUS is up, down or unknown, since EPOCH; the last
 *                                       connection took MS (-1: none yet); NAME lists its hosts with
 *                                       commas; TEXT is the last error, or "-"
 *   refusal EPOCH TEXT                  relay-out: the last final refusal by a next hop
 *   login-refused HOST TEXT             relay-out: a smarthost refuses our user or password, with its reply
 *
 * The answer to "sessions" has a line for each client connection, the longest in its STATE first:
 *
 *   session CLIENT STATE SECONDS        STATE is proxy, greeting, silent, parked, waiting or working
 *
 * Later versions may add lines with other words; readers must skip them.
 *
 * Keeps no state. Runs on the control socket's threads.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_STATS_H
#define POSTERN_SERVER_STATS_H

#include "net/tls.h"
#include "server/control.h"
#include "smtp/counters.h"

/* Writes all rows of the daemon (one of COUNTERS_...) with their values. */
void stats_put_counters(struct control_client *client, struct counters *counters, unsigned daemon);

/* Writes one value of a COUNTER_EACH; `label` is its label's value. */
void stats_put_each(struct control_client *client, enum counter which, unsigned daemon,
                    const char *label, double value);

/* Writes a line; `format` has no line end. */
void stats_put_line(struct control_client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Writes the certificate lines and their metric; `tls` may be NULL. */
void stats_put_certificates(struct control_client *client, const struct tls_server *tls,
                            unsigned daemon);

#endif
