/* server/gate-stress.c - when workers or connections are getting few
 *
 * Stress sets in when for a while few workers are free, or at once when few connections are; it is
 * over when for a longer while there was no cause. What it means for a client is in
 * smtp/session-wait.c, and for idle ones in gate-connection.c.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/gate-internal.h"

#include "base/deadline.h"
#include "base/log.h"

static bool few_left(unsigned used, unsigned all, unsigned percent)
{
    uint64_t left = used < all ? all - used : 0;
    return left * 100 < (uint64_t)all * percent;
}

static const char *find_cause(struct gate *gate, int64_t now)
{
    const struct service_stress *stress = &gate->service->stress;
    unsigned working = atomic_load(&gate->working), patient = atomic_load(&gate->signals.patient);

    if (!few_left(working > patient ? working - patient : 0, gate->workers, stress->free_workers))
        gate->busy_since_ms = 0;
    else if (gate->busy_since_ms == 0)
        gate->busy_since_ms = now;
    if (gate->busy_since_ms != 0 && now - gate->busy_since_ms >= stress->after_ms)
        return "workers";
    if (few_left(atomic_load(&gate->connections), gate->service->connections,
                 stress->free_connections))
        return "connections";
    return NULL;
}

static void log_stress(struct gate *gate, const char *status, const char *reason)
{
    struct log_line line;
    log_begin(&line, LOG_LEVEL_NOTICE, "event=stress");
    log_str(&line, "status", status);
    if (reason != NULL)
        log_str(&line, "reason", reason);
    log_int(&line, "connections", atomic_load(&gate->connections));
    log_int(&line, "working", atomic_load(&gate->working));
    log_end(&line);
}

int gate_judge_stress(struct gate *gate)
{
    const struct service_stress *stress = &gate->service->stress;
    int64_t now = deadline_now_ms();
    const char *cause = find_cause(gate, now);

    if (cause != NULL)
        gate->stressed_ms = now;
    if (cause != NULL && !atomic_load(&gate->signals.stressed)) {
        atomic_store(&gate->signals.stressed, true);
        atomic_fetch_add(&gate->stresses, 1);
        log_stress(gate, "begins", cause);
        if (stress->idle_timeout_ms > 0)
            gate_shorten_waits(gate, stress->idle_timeout_ms);
    } else if (atomic_load(&gate->signals.stressed) && now - gate->stressed_ms >= stress->calm_ms) {
        atomic_store(&gate->signals.stressed, false);
        log_stress(gate, "ends", NULL);
    }
    if (atomic_load(&gate->signals.stressed))
        return (int)(gate->stressed_ms + stress->calm_ms - now);
    if (gate->busy_since_ms != 0)
        return (int)(gate->busy_since_ms + stress->after_ms - now);
    /* Workers that are patient now may be busy in a moment, and tell nobody. */
    return few_left(atomic_load(&gate->working), gate->workers, stress->free_workers)
               ? (int)stress->after_ms / 2 + 1
               : -1;
}
