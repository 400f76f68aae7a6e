/* server/stress.c - what happens when few workers, connections or places at a next hop are left
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/stress.h"

#include "base/log.h"

#define ROOM_INTERVAL_MS 100 /* between two searches for slow clients */
#define SLOW_MS 1000
#define SLOT_PATIENCE_MS 500 /* wait for a place at a next hop before slow clients are cut */

static bool stress_few_left(unsigned used, unsigned all, unsigned percent)
{
    uint64_t left = used < all ? all - used : 0;
    return left * 100 < (uint64_t)all * percent;
}

static bool stress_few_workers(struct connections *all, const struct service *service)
{
    unsigned working = atomic_load(&all->working), patient = atomic_load(&all->signals.patient);

    return stress_few_left(working > patient ? working - patient : 0, all->workers,
                           service->stress.free_workers);
}

void stress_look(struct stress *stress, struct connections *all, const struct service *service)
{
    if (stress->busy_since_ms != 0 && !stress_few_workers(all, service))
        stress->busy_since_ms = 0;
}

static const char *stress_find_cause(struct stress *stress, struct connections *all,
                                     const struct service *service, int64_t now)
{
    const struct service_stress *limits = &service->stress;

    if (!stress_few_workers(all, service))
        stress->busy_since_ms = 0;
    else if (stress->busy_since_ms == 0)
        stress->busy_since_ms = now;
    if (stress->busy_since_ms != 0 && now - stress->busy_since_ms >= limits->after_ms)
        return "workers";
    if (stress_few_left(atomic_load(&all->count), service->connections, limits->free_connections))
        return "connections";
    return NULL;
}

static void stress_log(struct connections *all, const char *status, const char *reason)
{
    struct log_line line;
    log_begin(&line, LOG_LEVEL_NOTICE, "event=stress");
    log_str(&line, "status", status);
    if (reason != NULL)
        log_str(&line, "reason", reason);
    log_int(&line, "connections", atomic_load(&all->count));
    log_int(&line, "working", atomic_load(&all->working));
    log_end(&line);
}

/* Returns when to look again. */
static int64_t stress_judge_causes(struct stress *stress, struct connections *all,
                                   const struct service *service, int64_t now)
{
    const struct service_stress *limits = &service->stress;
    const char *cause = stress_find_cause(stress, all, service, now);

    if (cause != NULL)
        stress->caused_ms = now;
    if (cause != NULL && !atomic_load(&all->signals.stressed)) {
        atomic_store(&all->signals.stressed, true);
        counters_add(all->counters, COUNTER_STRESSES, 1);
        stress_log(all, "begins", cause);
        if (limits->idle_timeout_ms > 0)
            connections_shorten_waits(all, limits->idle_timeout_ms);
    } else if (atomic_load(&all->signals.stressed) && now - stress->caused_ms >= limits->calm_ms) {
        atomic_store(&all->signals.stressed, false);
        stress_log(all, "ends", NULL);
    }
    if (atomic_load(&all->signals.stressed))
        return stress->caused_ms + limits->calm_ms;
    if (stress->busy_since_ms != 0)
        return stress->busy_since_ms + limits->after_ms;
    /* Workers that linger now may be busy soon, without a notice. */
    return stress_few_left(atomic_load(&all->working), all->workers, limits->free_workers)
               ? now + limits->after_ms / 2 + 1
               : WAITER_NEVER;
}

/* Among the clients that make a transaction with this next hop (NULL: any) wait, the one that has done so longest,
 * less what its octets have earned, and for at least SLOW_MS. */
static struct connection *stress_find_slowest(struct connections *all, int64_t now,
                                              const void *route)
{
    struct connection *slowest = NULL;
    int64_t most_ms = SLOW_MS;

    for (struct connection *c = all->first; c != NULL; c = c->next) {
        if (!c->is_waited_for || (route != NULL && session_route(c->session) != route))
            continue;
        int64_t ms = session_slowness_ms(c->session, now);
        if (ms > most_ms) {
            slowest = c;
            most_ms = ms;
        }
    }
    return slowest;
}

/* Cuts a slow client. Its session sends the reply, on a worker. */
static void stress_evict(struct connections *all, struct connection *connection)
{
    counters_add(all->counters, COUNTER_DROPPED_SLOW, 1);
    session_evict(connection->session);
    connection_hand_over(connection);
}

/* How many of the clients that make this next hop wait are in this client's network? */
static unsigned stress_count_neighbours(struct connections *all,
                                        const struct connection *connection)
{
    struct address network = address_site_network(&connection->client), other;
    unsigned count = 0;

    for (struct connection *c = all->first; c != NULL; c = c->next) {
        if (!c->is_waited_for || session_route(c->session) != session_route(connection->session))
            continue;
        other = address_site_network(&c->client);
        count += address_same_ip(&network, &other);
    }
    return count;
}

/* Makes a place for a client that waits for its next hop: cuts one that has had its time there. A client has no
 * time at all while its network has most of the places that do not move. */
static void stress_make_place(struct connections *all, int64_t now,
                              const struct connection *waiting)
{
    const void *route = session_route(waiting->session);
    struct address network = address_site_network(&waiting->client), other;
    struct connection *slowest = stress_find_slowest(all, now, route);

    if (slowest == NULL)
        return;
    other = address_site_network(&slowest->client);
    bool crowds = !address_same_ip(&network, &other) && !slowest->allowed &&
                  2 * stress_count_neighbours(all, slowest) > all->waiting_transactions;
    if (crowds || session_slowness_ms(slowest->session, now) >= session_grace_ms(slowest->session))
        stress_evict(all, slowest);
}

static struct connection *stress_find_wanting(struct connections *all, int64_t now)
{
    struct connection *first = NULL;

    for (struct connection *c = all->first; c != NULL; c = c->next) {
        if (c->wants_slot && now - c->since_ms >= SLOT_PATIENCE_MS &&
            (first == NULL || c->since_ms < first->since_ms))
            first = c;
    }
    return first;
}

/* Makes room for clients that do not make us wait. Returns when to look again. */
static int64_t stress_make_room(struct stress *stress, struct connections *all, unsigned most,
                                int64_t now)
{
    struct connection *slowest;
    const struct connection *wanting;

    if ((most == 0 || all->waiting_transactions <= most) && all->waiting_slots == 0)
        return WAITER_NEVER;
    if (now < stress->room_due_ms)
        return stress->room_due_ms;
    stress->room_due_ms = now + ROOM_INTERVAL_MS;
    while (most > 0 && all->waiting_transactions > most &&
           (slowest = stress_find_slowest(all, now, NULL)) != NULL)
        stress_evict(all, slowest);
    wanting = all->waiting_slots > 0 ? stress_find_wanting(all, now) : NULL;
    if (wanting != NULL)
        stress_make_place(all, now, wanting);
    return stress->room_due_ms;
}

int64_t stress_judge(struct stress *stress, struct connections *all, const struct service *service)
{
    int64_t now = waiter_now_ms(all->waiter);
    int64_t room_ms = stress_make_room(stress, all, service->waiting_transactions, now);
    int64_t causes_ms = stress_judge_causes(stress, all, service, now);

    return room_ms < causes_ms ? room_ms : causes_ms;
}
