/* spool/dsn.h - delivery status notifications to senders (RFC 3464, RFC 3461, RFC 6533)
 *
 * Decides which recipients a sender is told about, and writes the multipart/report: prose for people,
 * fields for programs with the remote host's own reply, and the header of the message (or, for a
 * failure under RET=FULL, all of it up to a bound). The output is canonical mail data as the spool
 * stores it: CRLF, dots stuffed, no line over 998 octets.
 *
 * Stateless, thread-safe; owns nothing. The sender of a report is always the null reverse-path. Used by
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
    DSN_RELAYED, /* passed on to a host that sends no DSNs: success as far as we know */
};

/* Does the sender want this notice about that recipient? Never for a null sender or NOTIFY=NEVER. Failures
 * and delays unless NOTIFY excludes them, success only if asked for (RFC 3461 4.1). */
bool dsn_wanted(const struct spool_envelope *envelope, const struct spool_recipient *recipient,
                enum dsn_action action);

struct dsn {
    enum dsn_action action;
    const char *hostname;                  /* ours */
    const struct spool_envelope *envelope; /* of the message that is reported on */
    const bool *about;                     /* for each of its recipients: report it? */
    bool expired;      /* DSN_FAILED: its lifetime is over; replies are only the last ones */
    int64_t now;       /* seconds since the epoch */
    uint64_t unique;   /* the id of the report itself, for Message-ID and boundary */
    int original_fd;   /* the mail data that is reported on, or -1; borrowed */
    uint64_t full_max; /* octets up to which RET=FULL returns the whole message */
};

/* What the report requires of next hops; the caller sets it in the report's envelope. */
struct dsn_needs {
    bool eight_bit; /* BODY=8BITMIME */
    bool smtputf8;  /* it goes to an internationalized address */
};

/* Receives mail data, like spool_write(). Returns 0, or -1 with a reason in `err`. */
typedef int dsn_sink(void *context, const struct iovec *iov, int count, struct error *err);

/* Writes the report. Returns 0, or -1 with a reason in `err` if the sink or reading the original failed. */
int dsn_write(const struct dsn *dsn, dsn_sink *sink, void *context, struct dsn_needs *needs,
              struct error *err);

#endif
