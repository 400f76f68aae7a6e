/* dns/reverse.h - the name of a client: reverse DNS, confirmed by a forward look-up
 *
 * The holder of an address can write any name into its PTR record, so the name counts only if its
 * own A or AAAA records contain the address. The look-up starts when the client is accepted, runs
 * in the background for at most REVERSE_TIMEOUT_MS, and is read when the name is needed. Its result
 * is what XCLIENT tells the backend:
 *
 *   DNS says                               status       name   reverse_name
 *   PTR, and its A/AAAA has the address    VERIFIED     PTR    PTR
 *   PTR, forward mismatch or nothing       UNAVAILABLE  ""     PTR
 *   no PTR, or none that is a host name    UNAVAILABLE  ""     ""
 *   no answer for the PTR now              TEMPORARY    ""     ""
 *   PTR, no answer for the forward now     TEMPORARY    ""     PTR
 *
 * XCLIENT's NAME is `name`, [UNAVAILABLE] or [TEMPUNAVAIL], depending on the status. REVERSE_NAME,
 * needed if NAME is a bracketed word, is `reverse_name` or, if that is "", the same word. The
 * resolver does the caching. A look-up is reference-counted and thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_DNS_REVERSE_H
#define POSTERN_DNS_REVERSE_H

#include <stdbool.h>

#include "base/address.h"
#include "base/deadline.h"
#include "base/wakeup.h"
#include "dns/name.h"
#include "dns/resolver.h"

#define REVERSE_TIMEOUT_MS 5000
#define REVERSE_NAMES_MAX 5 /* PTR names that are checked; the first host names count */

struct reverse_lookup;

enum reverse_status { REVERSE_VERIFIED, REVERSE_UNAVAILABLE, REVERSE_TEMPORARY };

struct reverse_names {
    enum reverse_status status;
    char name[DNS_NAME_MAX];         /* "" unless verified */
    char reverse_name[DNS_NAME_MAX]; /* a valid host name from a PTR record; "" = none known */
};

/* Starts a look-up and returns the caller's reference; never waits. NULL if out of memory; all
 * functions here treat that as a look-up with status REVERSE_TEMPORARY. The resolver must outlive
 * the look-up's questions (resolver_free() answers them). */
struct reverse_lookup *reverse_start(struct resolver *resolver, const struct address *address);

/* References; the last one frees it. Thread-safe. */
struct reverse_lookup *reverse_ref(struct reverse_lookup *lookup);
void reverse_unref(struct reverse_lookup *lookup);

/* Returns 0 if the names are known. Otherwise returns the time (in ms, on the clock of
 * deadline_now_ms()) by which they will be, and calls `wakeup` if they are known sooner. `wakeup` is
 * borrowed until reverse_leave(). */
int64_t reverse_await(struct reverse_lookup *lookup, struct wakeup *wakeup);

/* Drops the reference of a caller that may have called reverse_await(). Its wakeup is not called any
 * more. */
void reverse_leave(struct reverse_lookup *lookup);

/* Waits for the names until `deadline`. False if they are not known by then; `names` then says
 * REVERSE_TEMPORARY. Don't call it from a resolver callback. */
bool reverse_wait(struct reverse_lookup *lookup, struct deadline deadline,
                  struct reverse_names *names);

/* The same, without waiting. */
bool reverse_peek(struct reverse_lookup *lookup, struct reverse_names *names);

#endif
