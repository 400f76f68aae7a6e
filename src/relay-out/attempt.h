/* relay-out/attempt.h - one address of a destination: connect, greeting, EHLO, TLS, EHLO, log-in
 *
 * What connect does with one candidate after the other. Whatever goes wrong is logged here, and is
 * connect's reply unless a later candidate does better; hosts that cannot be reached, or whose TLS
 * fails, are marked. Internal to relay-out/connect.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_ATTEMPT_H
#define POSTERN_RELAY_OUT_ATTEMPT_H

#include "base/log.h"
#include "relay-out/connect.h"

enum attempt_outcome {
    ATTEMPT_READY,      /* its remote is connected, and MAIL can follow */
    ATTEMPT_NEXT,       /* this address will not do; connect's reply says why */
    ATTEMPT_REFUSED,    /* nor will any other of this host: a policy forbids it */
    ATTEMPT_TLS_FAILED, /* the same as NEXT, but a fresh connection may do without TLS, under "may" */
};

struct attempt {
    struct connect *connect;
    const struct candidate *candidate;
    const struct route *route; /* the candidate's */
    struct remote_host host;   /* the candidate, for marks */
    struct tls_need need;
    struct security_check check;
};

/* `plain`: its TLS has failed. */
enum attempt_outcome attempt_make(struct connect *connect, const struct candidate *candidate,
                                  const struct remote_host *host, bool plain);

/* The log-in at a smarthost, where the route has one (attempt-login.c). */
enum attempt_outcome attempt_log_in(struct attempt *attempt);

/* For the steps. So many milliseconds, but not beyond its deadline. */
struct deadline attempt_step(const struct connect *connect, int64_t ms);
struct deadline attempt_reply_step(const struct connect *connect);
void attempt_log(const struct connect *connect, enum log_level level, const char *text);
/* ATTEMPT_NEXT, with this one, and its arguments as for reply_own_with(), in the log and as connect's
 * reply. */
#define attempt_fail(connect, why, ...)                                                            \
    attempt_fail_list(connect, why, (const char *const[]){__VA_ARGS__, NULL})
enum attempt_outcome attempt_fail_list(struct connect *connect, enum own_reply why,
                                       const char *const *arguments);
enum attempt_outcome attempt_fail_io(struct attempt *attempt, const char *at,
                                     enum io_result result);

#endif
