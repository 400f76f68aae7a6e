/* relay-in/backend.h - what all sessions know together of one backend
 *
 * Which of its hosts answer, how many sessions are open, what it announced in EHLO, and a few
 * connections kept ready (spares): connected, greeted, TLS up for those that are meant for clients
 * under TLS, EHLO done where it was not known what the answer would be, XCLIENT not yet sent. They
 * are used once and replaced. One keeper thread makes them, and asks the backend what it offers
 * also where no spares are kept, so that what relay-in offers its clients never depends on the
 * backend being up this second, or when relay-in started (relay-in/remembered). Every backend connection also teaches what it saw.
 *
 * Thread-safe. Counted by references: the service snapshots that use it hold them; the keeper
 * leaves, and frees it, after the last is gone. Owns the TLS credentials towards the backend.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_IN_BACKEND_H
#define POSTERN_RELAY_IN_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/deadline.h"
#include "base/error.h"
#include "base/wakeup.h"
#include "config/config.h"
#include "relay-in/missed.h"
#include "net/tls.h"
#include "smtp/counters.h"
#include "smtp/nexthop.h"
#include "smtp/reply.h"

struct backend;

/* The backends that live: their keepers are threads, which it joins, at the program's end and when another
 * backend is made. */
struct backend_live_count;
struct backend_live_count *backend_live_count_new(void);
/* Waits (10 s at most) until all are gone, then frees. False when some are not: nothing is freed then,
 * and the process may only be left by _exit(). */
bool backend_live_count_free(struct backend_live_count *live_count);

/* How it was when it was tried last. */
struct backend_health {
    enum { BACKEND_UNKNOWN, BACKEND_UP, BACKEND_DOWN } status;
    int64_t since;      /* seconds since 1970 */
    int64_t connect_ms; /* the last connection took so long; -1: there was none */
    char reason[200];   /* what went wrong last; "": nothing yet */
    unsigned sessions, spares;
};
void backend_health(struct backend *backend, struct backend_health *out);
/* Its hosts, with commas between. Returns `out`. */
#define BACKEND_NAME_MAX 256
const char *backend_name(const struct backend *backend, char out[BACKEND_NAME_MAX]);

/* `settings` stands in `config`, of which a reference is taken. `submission`: clients log in there.
 * `counters` and `missed` are borrowed, and may be NULL. Starts the keeper. NULL with a reason. */
struct backend *backend_new(struct config *config, const struct config_backend *settings,
                            bool submission, struct backend_live_count *live_count,
                            struct counters *counters, struct missed *missed, struct error *err);
struct backend *backend_ref(struct backend *backend);
void backend_unref(struct backend *backend);

/* The same hosts, identity, TLS and times: a reload may keep using it. */
bool backend_serves(const struct backend *backend, const struct config *config,
                    const struct config_backend *settings, bool submission);

const struct config_backend *backend_settings(const struct backend *backend);
/* One client network may not have all slots. */
bool backend_limits_networks(const struct backend *backend);
const char *backend_hostname(const struct backend *backend);
/* Nothing goes there in plain text. */
bool backend_must_tls(const struct backend *backend);
struct tls_client *backend_tls(const struct backend *backend);
/* What its certificate must be for, and SNI; NULL: not said. */
const char *backend_tls_name(const struct backend *backend);

/* One of max_sessions: what every connection there needs, and who wants one gets it in the order of
 * asking. A client network that has half of them, and for which limits hold, comes behind all
 * others. All zero: neither held nor asked for. */
struct backend_slot {
    enum { BACKEND_SLOT_NONE, BACKEND_SLOT_WANTED, BACKEND_SLOT_HELD } state;
    struct backend_slot *next, *previous; /* of those in the same state */
    struct wakeup *wakeup;
    struct address network;
    bool limited;     /* limits hold for it */
    int64_t until_ms; /* it is waited for */
};

/* Asks for it, unless that was done before. 0: it is held. Otherwise the time until which to wait;
 * `wakeup`, borrowed until it is given back, is called when it is held. */
int64_t backend_ask_slot(struct backend *backend, struct backend_slot *slot,
                         const struct address *client, bool limited, struct wakeup *wakeup);
/* Does anybody wait for one? */
bool backend_is_wanted(struct backend *backend);
/* What is held, or asked for. */
void backend_give_slot(struct backend *backend, struct backend_slot *slot);

/* The same for the keeper's own connections: one that nobody waits for, or none. */
bool backend_reserve(struct backend *backend);
void backend_disconnected(struct backend *backend);

/* For who holds a slot: connects to the first host from `*next` on (0: all of them) that answers.
 * Returns the descriptor and the host, with `*next` the one behind it; or -1, with `why` the reply
 * for the client and the reason in `err`. A host of which it is not known whether it answers again
 * is tried by one at a time; for all others it does not answer. */
int backend_connect(struct backend *backend, size_t *next, struct address *host,
                    enum own_reply *why, struct error *err);
/* The host before `next` took the connection, but serves nobody. False when none is left to try. */
bool backend_try_next(struct backend *backend, size_t next);

/* For who holds a slot: a spare connection under TLS or not, moved into `hop` (which has no buffers
 * yet). False when none is ready. */
bool backend_take_spare(struct backend *backend, bool tls, struct nexthop *hop,
                        struct address *host);

/* What it was made with; NULL: none. */
struct counters *backend_counters(const struct backend *backend);
struct missed *backend_missed(const struct backend *backend);

/* A host took the connection and serves nobody, and no other is left. */
void backend_refused(struct backend *backend, const char *reason);

/* One was dead without having said so: the others are likely to be, and are replaced. */
void backend_doubt_spares(struct backend *backend);

/* An EHLO reply that was seen. The attributes of XCLIENT are announced only before XCLIENT was
 * used: `with_xclient` says that this was such a reply. */
void backend_learn(struct backend *backend, const struct nexthop_capabilities *seen,
                   bool with_xclient);

/* What it was last seen to announce, all zero while unknown. False while unknown. */
bool backend_capabilities(struct backend *backend, struct nexthop_capabilities *out);

/* What clients are offered of that: what it was last seen to announce, now or before a restart, and
 * while nothing at all is known, what mail servers have. */
void backend_offer(struct backend *backend, struct nexthop_capabilities *out);
/* The same, for the keeper, which writes it down when that is due. */
bool backend_take_unsaved(struct backend *backend, struct nexthop_capabilities *out);

#endif
