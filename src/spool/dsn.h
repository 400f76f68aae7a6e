/* spool/dsn.h - telling a sender what became of his message (RFC 3464, RFC 3461, RFC 6533)
 *
 * Decides who is to be told of which recipient, and writes the multipart/report: prose for people,
 * fields for programs with the remote's own words, and the header of the message (or, for a failure
 * under RET=FULL, all of it up to a bound). What it writes is canonical mail data as the spool
 * stores it: CRLF, dots stuffed, no line over 998 octets.
 *
 * Stateless; owns nothing. The sender of a report is always the null reverse-path. Used by
 * spool/delivery.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SPOOL_DSN_H
#define POSTERN_SPOOL_DSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "spool/spool-envelope.h"

enum dsn_action {
    DSN_FAILED,  /* it will not be delivered */
    DSN_DELAYED, /* not yet */
    DSN_RELAYED, /* passed on to a host that gives no DSNs: success as far as we know */
};

/* Whether the sender wants to hear this of that recipient: never a null sender, never under
 * NOTIFY=NEVER; failures and delays unless NOTIFY leaves them out; success only when asked for. */
bool dsn_wanted(const struct spool_envelope *envelope, const struct spool_recipient *recipient,
                enum dsn_action action);

struct dsn {
    enum dsn_action action;
    const char *hostname;                  /* ours */
    const struct spool_envelope *envelope; /* of the message that is reported on */
    const bool *about;                     /* for each of its recipients: is it reported? */
    bool expired;      /* DSN_FAILED: its time is over (their replies are only the last ones) */
    int64_t now;       /* seconds since the epoch */
    uint64_t unique;   /* the id of the report itself, for Message-ID and boundary */
    int original_fd;   /* the mail data that is reported on, or -1 */
    uint64_t full_max; /* RET=FULL returns messages up to so many octets whole */
};

/* What the report needs on its way: to be set in its envelope. */
struct dsn_needs {
    bool eight_bit; /* BODY=8BITMIME */
    bool smtputf8;  /* it goes to an internationalized address */
};

/* Takes mail data as spool_write() does. 0, or -1 with a reason. */
typedef int dsn_sink(void *context, const struct iovec *iov, int count, struct error *err);

/* 0; -1 with a reason when the sink or the original failed. */
int dsn_write(const struct dsn *dsn, dsn_sink *sink, void *context, struct dsn_needs *needs,
              struct error *err);

#endif
