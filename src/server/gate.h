/* server/gate.h - the thread that owns every connection that no worker has
 *
 * It accepts, enforces the limits, waits for the greet delay, sends the banner, and watches in one epoll set
 * the connections that have not sent anything yet and the sessions that are parked. A connection that
 * becomes readable goes to the pool; one that is silent too long is dismissed. So a thousand idle clients
 * cost a thousand small structs and no worker. The gate never blocks: it tries its own writes only once.
 *
 * Threads: gate_run() runs on one thread, the gate's, until a drain is complete. gate_set_service(),
 * gate_drain(), gate_counts(), gate_list() and gate_is_alive() may be called from any other thread.
 * Workers give connections back through locked lists and an eventfd, and close those whose sessions have
 * ended. The gate owns the connections and the pool's jobs, and borrows the listening descriptors.
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

/* Current numbers, for STATUS=, metrics and tests. What the gate counts is in the counters of the first service's
 * rules. */
struct gate_counts {
    unsigned connections; /* open now */
    unsigned working;     /* with the pool now (queued or running) */
    unsigned greeting;    /* have not said anything yet */
    uint64_t accepted;    /* since the start */
    bool stressed;        /* under stress now */
};

/* Starts the workers; listening begins with gate_run(). Takes its own reference to `service`. NULL with a reason
 * in `err` on failure. */
struct gate *gate_new(const struct gate_listener *listeners, size_t count, struct service *service,
                      unsigned workers, unsigned queue_max, struct error *err);

/* The gate thread's body: returns when a drain is complete. */
void gate_run(struct gate *gate);

/* Serves new connections with this snapshot from now on. Takes its own reference. */
void gate_set_service(struct gate *gate, struct service *service);

/* Stops accepting: the kernel refuses clients from now on, so that they try the next MX, unless the listener was
 * handed over. Dismisses idle connections with 421 4.3.2, and lets open transactions finish. After `timeout_ms`
 * it shuts down the sockets of those still working. gate_run() returns when no connection is left, or two
 * seconds after that. */
void gate_drain(struct gate *gate, int64_t timeout_ms);

/* For the watchdog, called regularly: has the gate's thread done a round since the last call, and do connections
 * reach their workers? */
bool gate_is_alive(struct gate *gate);

/* The numbers of this moment. Any thread. */
struct gate_counts gate_counts(struct gate *gate);

/* A current connection, for the control socket. */
struct gate_session {
    struct address client;
    const char
        *stage; /* static text: "proxy", "greeting", "silent", "parked", "waiting", "working" */
    int64_t stage_ms; /* how long it has been in that stage */
};
/* Lists up to `max` connections, in any order. Waits until `deadline` for the gate's thread to fill them in.
 * Returns their number; 0 too if there was no answer. Threads that ask at the same time take turns. */
size_t gate_list(struct gate *gate, struct gate_session *sessions, size_t max,
                 struct deadline deadline);

/* Call it after gate_run() has returned and no connection is working (see gate_counts()): dismisses the idle ones,
 * joins the workers and frees. */
void gate_free(struct gate *gate);

#endif
