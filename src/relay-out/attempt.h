/* relay-out/attempt.h - one address of a destination: connect, greeting, EHLO, TLS, EHLO, login
 *
 * What connect does with each candidate in turn. Failures are logged here and become connect's
 * reply unless a later candidate succeeds; hosts that cannot be reached, or whose TLS fails, are
 * marked. Internal to relay-out/connect.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_ATTEMPT_H
#define POSTERN_RELAY_OUT_ATTEMPT_H

#include "base/log.h"
#include "relay-out/connect.h"

enum attempt_outcome {
    ATTEMPT_READY,      /* the remote is connected and ready for MAIL */
    ATTEMPT_NEXT,       /* this address failed; connect's reply says why */
    ATTEMPT_REFUSED,    /* a policy forbids this host: skip its other addresses too */
    ATTEMPT_TLS_FAILED, /* as NEXT, but under "may" a new connection without TLS is allowed */
};

/* How long no log-in is tried after one was refused: no more than one in the ten minutes in which servers
 * count what they ban for. */
#define LOGIN_REFUSED_FOR_MS 600000

struct attempt {
    struct connect *connect;
    const struct candidate *candidate;
    const struct route *route; /* the candidate's */
    struct remote_host host;   /* the candidate, for marks */
    struct tls_need need;
    struct security_check check;
};

/* `plain`: without TLS, because TLS with this candidate has failed. */
enum attempt_outcome attempt_make(struct connect *connect, const struct candidate *candidate,
                                  const struct remote_host *host, bool plain);

/* Logs in at a smarthost, if the route has a login (attempt-login.c). */
enum attempt_outcome attempt_log_in(struct attempt *attempt);

/* The deadline of one step: `ms` from now, but not beyond connect's own deadline. */
struct deadline attempt_step(const struct connect *connect, int64_t ms);
struct deadline attempt_reply_step(const struct connect *connect);
void attempt_log(const struct connect *connect, enum log_level level, const char *text);
/* Logs the reply `why`, with arguments as for reply_own_with(), makes it connect's reply, and returns
 * ATTEMPT_NEXT. */
#define attempt_fail(connect, why, ...)                                                            \
    attempt_fail_list(connect, why, (const char *const[]){__VA_ARGS__, NULL})
enum attempt_outcome attempt_fail_list(struct connect *connect, enum own_reply why,
                                       const char *const *arguments);
enum attempt_outcome attempt_fail_io(struct attempt *attempt, const char *at,
                                     enum io_result result);

#endif
