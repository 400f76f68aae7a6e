/* server/gate.h - the thread that owns every connection nobody is working on
 *
 * It accepts, enforces the limits, waits out the greet delay, sends the banner, and holds in one
 * epoll set the connections that have not spoken yet and the sessions parked between commands.
 * What becomes readable goes to the pool; what stays silent too long is dismissed. So a thousand
 * idle clients cost a thousand small structs and no worker. The gate never blocks: its own writes
 * are tried once.
 *
 * Threads: gate_run() runs on one thread (the gate thread) until a drain is complete;
 * gate_set_service(), gate_drain() and gate_counts() may be called from any other. Workers give
 * connections back through internal locked lists and an eventfd; those whose sessions have ended
 * they close. Owns the connections and the pool's jobs; borrows the listening descriptors.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_GATE_H
#define POSTERN_SERVER_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/deadline.h"
#include "base/error.h"
#include "net/listener.h"
#include "server/acceptor.h"
#include "server/service.h"

struct gate;


/* Numbers of the moment, for STATUS=, tests and (later) metrics. */
struct gate_counts {
    unsigned connections; /* open now */
    unsigned working;     /* with the pool now (queued or running) */
    uint64_t accepted, refused_limit, refused_client, refused_listed, refused_dnsbl,
        refused_private, refused_proxy, early_talkers, idle_dropped;
    uint64_t evicted;  /* slow ones in a transaction, to make room */
    uint64_t stresses; /* times that stress set in */
    bool stressed;     /* now */
};

/* Starts the workers; listening begins with gate_run(). Takes its own reference of `service`. */
struct gate *gate_new(const struct gate_listener *listeners, size_t count, struct service *service,
                      unsigned workers, unsigned queue_max, struct error *err);

/* The gate thread's body: returns when a drain is complete. */
void gate_run(struct gate *gate);

/* New connections are served under this snapshot from now on. Takes its own reference. */
void gate_set_service(struct gate *gate, struct service *service);

/* Stop accepting (from now on clients are refused by the kernel, so that they try the next MX, unless
 * the listener was handed over), dismiss idle connections with 421 4.3.2, let open transactions finish. After
 * timeout_ms the sockets of those still at work are shut down; gate_run() returns when no
 * connection is left, or two seconds after that. */
void gate_drain(struct gate *gate, int64_t timeout_ms);

/* For the watchdog, asked again and again: has the gate's thread come round since this was asked last,
 * and do connections get to their workers? */
bool gate_is_alive(struct gate *gate);

/* The numbers of this moment. Any thread. */
struct gate_counts gate_counts(struct gate *gate);

/* A connection of the moment, for the control socket. */
struct gate_session {
    struct address client;
    const char
        *stage; /* static text: "proxy", "greeting", "silent", "parked", "waiting", "working" */
    int64_t stage_ms; /* so long it has been there */
};
/* Up to `max` of them, in any order; the gate's thread fills them in, and is waited for until
 * `deadline`. Returns their number; 0 also when there was no answer, or somebody else is asking. */
size_t gate_list(struct gate *gate, struct gate_session *sessions, size_t max,
                 struct deadline deadline);

/* After gate_run() has returned and with no connection at work (see gate_counts): dismisses the
 * idle ones, joins the workers, frees. */
void gate_free(struct gate *gate);

#endif
