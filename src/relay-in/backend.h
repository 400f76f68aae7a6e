/* relay-in/backend.h - what all sessions share about one backend
 *
 * It knows which hosts answer, how many sessions are open and what EHLO announced, and keeps a few spare
 * connections ready: connected, greeted, with TLS if they are for clients under TLS, with EHLO done unless
 * its reply was known, and without XCLIENT yet. Each spare is used once and replaced. One keeper thread
 * makes spares. It also asks the backend what it offers, even without spares, so that relay-in's offer to
 * clients does not depend on the backend being up this second, or when relay-in started
 * (relay-in/remembered). Every backend connection also updates what is known.
 *
 * Thread-safe. Reference-counted: the service snapshots that use it hold the references. After the last
 * one is gone, the keeper ends and the backend is freed. Owns the TLS credentials towards the backend.
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

/* The live backends. It joins their keeper threads at the end of the program, and when another backend is made. */
struct backend_live_count;
struct backend_live_count *backend_live_count_new(void);
/* Waits for at most 10 s until all are gone, then frees. False if some are not: then nothing is freed, and the
 * process must end with _exit(). */
bool backend_live_count_free(struct backend_live_count *live_count);

/* The backend's state at the last attempt. */
struct backend_health {
    enum { BACKEND_UNKNOWN, BACKEND_UP, BACKEND_DOWN } status;
    int64_t since;      /* seconds since 1970 */
    int64_t connect_ms; /* how long the last connection took; -1: none yet */
    char reason[200];   /* the last error; "": none yet */
    unsigned sessions, spares;
};
void backend_health(struct backend *backend, struct backend_health *out);
/* Writes its hosts, separated by commas. Returns `out`. */
#define BACKEND_NAME_MAX 256
const char *backend_name(const struct backend *backend, char out[BACKEND_NAME_MAX]);

/* Makes a backend and starts its keeper. `settings` is part of `config`, to which it takes a reference.
 * `submission`: clients log in there. `counters` and `missed` are borrowed and may be NULL. Returns the caller's
 * reference, or NULL with a reason. */
struct backend *backend_new(struct config *config, const struct config_backend *settings,
                            bool submission, struct backend_live_count *live_count,
                            struct counters *counters, struct missed *missed, struct error *err);
struct backend *backend_ref(struct backend *backend);
void backend_unref(struct backend *backend);

/* Are hosts, identity, TLS and times the same, so that a reload can keep using it? */
bool backend_serves(const struct backend *backend, const struct config *config,
                    const struct config_backend *settings, bool submission);

const struct config_backend *backend_settings(const struct backend *backend);
/* Is a single client network kept from taking all slots? */
bool backend_limits_networks(const struct backend *backend);
/* Must every connection use TLS? */
bool backend_must_tls(const struct backend *backend);
/* Is TLS wanted for a client, which uses it itself or not? */
bool backend_wants_tls(const struct backend *backend, bool client_tls);
/* The name that its certificate must have, and SNI; NULL: not set. */
const char *backend_tls_name(const struct backend *backend);

/* One of max_sessions. Every connection needs a slot, and waiters get one in the order of asking. A client network
 * that has half of them, and to which limits apply, comes after all others. All zero: neither held nor asked
 * for. */
struct backend_slot {
    enum { BACKEND_SLOT_NONE, BACKEND_SLOT_WANTED, BACKEND_SLOT_HELD } state;
    struct backend_slot *next, *previous; /* among slots in the same state */
    struct wakeup *wakeup;
    struct address network;
    bool limited;     /* limits apply to its network */
    int64_t until_ms; /* how long it is waited for */
    bool has_asked;   /* its holder was told whether to wait for a spare */
};

/* Asks for a slot, unless that was done before. Returns 0 if it is held, otherwise the time in ms until which to wait.
 * `wakeup`, borrowed until the slot is given back, is called when it is held. */
int64_t backend_ask_slot(struct backend *backend, struct backend_slot *slot,
                         const struct address *client, bool limited, struct wakeup *wakeup);
bool backend_holds_slot(struct backend *backend, const struct backend_slot *slot);
/* For the holder of a slot: if a spare, with TLS or without, is being made for which nobody waits, it is there sooner
 * than a connection of the holder's own. Returns the time in ms until which to wait for it; the slot's wakeup is called
 * when it is there, or will not be. 0: take a spare, or connect; from then on this is the answer while the slot is
 * held. */
int64_t backend_await_spare(struct backend *backend, struct backend_slot *slot, bool tls);
/* Does anybody wait for a slot? */
bool backend_is_wanted(struct backend *backend);
/* Gives a slot back, or withdraws the request. */
void backend_give_slot(struct backend *backend, struct backend_slot *slot);

/* The same for the keeper's own connections: takes a slot only if nobody waits for one. */
bool backend_reserve(struct backend *backend);
void backend_disconnected(struct backend *backend);

/* Notes that the host before `next` accepted the connection but serves nobody. False if none is left to try. */
bool backend_try_next(struct backend *backend, size_t next);
/* Notes that it has greeted, or keeps only one client out. Only then is a host that failed before tried by several
 * callers again. */
void backend_greeted(struct backend *backend, size_t next);

/* How long a host may take to greet, and for each step until MAIL, if there is another one. */
#define BACKEND_STEP_MS 20000

/* For the holder of a slot: moves a spare connection, with TLS or without, into `hop`, which has no buffers yet.
 * False if none is ready. */
bool backend_take_spare(struct backend *backend, bool tls, struct nexthop *hop,
                        struct address *host);

/* What it was made with; may be NULL. */
struct counters *backend_counters(const struct backend *backend);
struct missed *backend_missed(const struct backend *backend);

/* Notes that a spare was silently dead: the others probably are too, and are replaced. */
void backend_doubt_spares(struct backend *backend);

/* Learns from an EHLO reply. The attributes of XCLIENT are only announced before XCLIENT is used; `with_xclient` says
 * that this was such a reply. */
void backend_learn(struct backend *backend, const struct nexthop_capabilities *seen,
                   bool with_xclient);

/* Stores what it last announced, all zero while unknown. False while unknown. */
bool backend_capabilities(struct backend *backend, struct nexthop_capabilities *out);

/* Stores what clients are offered: what the backend last announced, now or before a restart; while nothing is known,
 * what mail servers usually have. */
void backend_offer(struct backend *backend, struct nexthop_capabilities *out);
/* The same for the keeper, which saves it. False if there is nothing new to save. */
bool backend_take_unsaved(struct backend *backend, struct nexthop_capabilities *out);

#endif
