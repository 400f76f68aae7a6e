/* dns/reverse.h - the name of a client: reverse DNS, confirmed forward
 *
 * A PTR record is written by whoever holds the address, so its name counts only when the name's own
 * A or AAAA records hold the address. The look-up runs by itself from accept on (at most
 * REVERSE_TIMEOUT_MS) and is asked for when the name is needed. Its result is what a backend must
 * be told by XCLIENT:
 *
 *   DNS says                               status       name   reverse_name
 *   PTR, and its A/AAAA has the address    VERIFIED     PTR    PTR
 *   PTR, forward mismatch or nothing       UNAVAILABLE  ""     PTR
 *   no PTR, or none that is a host name    UNAVAILABLE  ""     ""
 *   PTR not to be had now                  TEMPORARY    ""     ""
 *   PTR, forward not to be had now         TEMPORARY    ""     PTR
 *
 * NAME is `name`, [UNAVAILABLE] or [TEMPUNAVAIL] by the status; REVERSE_NAME, needed when NAME is
 * no name, is `reverse_name` or, where that is "", the same bracketed word. Nothing is cached here:
 * the resolver does. Counted by references; thread-safe.
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
#define REVERSE_NAMES_MAX 5 /* PTR records that are looked at; the first host names win */

struct reverse_lookup;

enum reverse_status { REVERSE_VERIFIED, REVERSE_UNAVAILABLE, REVERSE_TEMPORARY };

struct reverse_names {
    enum reverse_status status;
    char name[DNS_NAME_MAX];         /* verified; "" otherwise */
    char reverse_name[DNS_NAME_MAX]; /* from a PTR record, a valid host name; "" = none known */
};

/* Starts to look up; never waits. NULL without memory, which all functions here take for a look-up
 * with status REVERSE_TEMPORARY. The resolver must outlive the look-up's answers (resolver_free()
 * gives them). */
struct reverse_lookup *reverse_start(struct resolver *resolver, const struct address *address);

struct reverse_lookup *reverse_ref(struct reverse_lookup *lookup);
void reverse_unref(struct reverse_lookup *lookup);

/* 0 when the names are known. Otherwise the time (on the clock of deadline_now_ms()) by which they
 * are, and `wakeup` is called when they are known before; it is borrowed until reverse_leave(). */
int64_t reverse_await(struct reverse_lookup *lookup, struct wakeup *wakeup);

/* The end for who may have called reverse_await(): his reference goes, and nobody is woken. */
void reverse_leave(struct reverse_lookup *lookup);

/* Waits for the names until `deadline`. false: not known by then, `names` says TEMPORARY. Not for
 * callbacks of the resolver. */
bool reverse_wait(struct reverse_lookup *lookup, struct deadline deadline,
                  struct reverse_names *names);

/* The same without waiting. */
bool reverse_peek(struct reverse_lookup *lookup, struct reverse_names *names);

#endif
