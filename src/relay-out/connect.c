/* relay-out/connect.c - from a destination to a connection on which MAIL can follow
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/connect.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "relay-out/attempt.h"

#define DNS_TIMEOUT_MS 30000
#define REUSE_MESSAGES 100      /* of one connection */
#define REUSE_AGE_MS 300000     /* as in Postfix */
#define DEFERRED_FOR_MS 3600000 /* longer than a mail server waits between its first attempts */
#define PLACE_LOOK_MS 1000      /* until a caller that does not wait for a place tries again */
#define PING_TIMEOUT_MS 10000   /* for RSET on a kept connection */
/* A connection that ended a transaction this recently need not prove by RSET that it lives. Within a
 * transaction, nothing proves it between two commands either. */
#define PING_SPARED_MS 1000

/* Most addresses to try for one message: a stranger's zone must not send us all over the internet. */
#define CONNECT_ATTEMPTS_MAX 20
/* If there is no time for all hosts, the dead ones are left alone for this many times dead_for.
 * Otherwise the next attempt would get no further. */
#define CONNECT_TURNS 4

/* The fallback is a destination of its own, shared by all destinations that fall back to it. */
static struct remote_host connect_host(const struct connect *connect,
                                       const struct candidate *candidate)
{
    const char *key = candidate->route == connect->route ? connect->key : candidate->route->name;
    return (struct remote_host){key, candidate->host, &candidate->address,
                                connect->out->generation};
}

static void connect_pass_over(struct connect *connect, const char *host)
{
    for (size_t i = 0; i < connect->hosts.count; i++) {
        struct candidate *other = &connect->hosts.items[i];
        other->asked |= strcasecmp(other->host, host) == 0;
    }
}

/* Call when there was no time for all hosts. */
static void connect_leave_dead_alone(struct connect *connect)
{
    struct host_cache *host_cache = connect->out->host_cache;
    char reason[REMOTE_REASON_MAX];

    for (size_t i = 0; i < connect->hosts.count; i++) {
        struct remote_host host = connect_host(connect, &connect->hosts.items[i]);
        if (host_cache_is_marked(host_cache, REMOTE_DEAD, &host, reason))
            host_cache_mark(host_cache, REMOTE_DEAD, &host, reason,
                            CONNECT_TURNS * connect->out->config->out.dead_for_ms);
    }
}

static bool connect_is_marked(const struct connect *connect, enum remote_mark mark,
                              const struct candidate *candidate, char reason[REMOTE_REASON_MAX])
{
    const struct remote_host host = connect_host(connect, candidate);
    return host_cache_is_marked(connect->out->host_cache, mark, &host, reason);
}

/* Not all hosts could be asked, so that the failure of the others is not final. */
static void connect_leave_open(struct connect *connect)
{
    connect->open = true;
    if (reply_is_permanent(connect->reply))
        reply_own_with(connect->reply, REPLY_REMOTE_NO_TIME, connect->domain);
}

/* Is there no time left for more addresses, or have enough been tried? */
static bool connect_is_over(struct connect *connect)
{
    if (!deadline_passed(connect->deadline) && connect->attempts < CONNECT_ATTEMPTS_MAX)
        return false;
    connect_leave_dead_alone(connect);
    connect_leave_open(connect);
    return true;
}

static bool connect_try(struct connect *connect, struct candidate *candidate, bool plain)
{
    const struct remote_host host = connect_host(connect, candidate);

    candidate->asked = true;
    candidate->tls_failed = false;
    const struct reply before = *connect->reply;
    connect->attempts++;
    enum attempt_outcome outcome = attempt_make(connect, candidate, &host, plain);
    /* A host that may take the message later counts for more than one that never will. */
    if (outcome != ATTEMPT_READY && !reply_is_permanent(connect->reply))
        connect->open = true;
    else if (outcome != ATTEMPT_READY && connect->open)
        *connect->reply = before;
    if (outcome == ATTEMPT_REFUSED)
        connect_pass_over(connect, candidate->host);
    candidate->tls_failed = outcome == ATTEMPT_TLS_FAILED;
    return outcome == ATTEMPT_READY;
}

/* Why the candidate is not asked now, with the reason; REPLY_OK: it is. */
static enum own_reply connect_leave_alone(const struct connect *connect,
                                          const struct candidate *candidate,
                                          char reason[REMOTE_REASON_MAX])
{
    const struct remote_host host = connect_host(connect, candidate);

    if (host_cache_is_marked(connect->out->host_cache, REMOTE_DEAD, &host, reason))
        return REPLY_REMOTE_DEAD;
    if (candidate->route->user[0] != '\0' &&
        !host_cache_may_log_in(connect->out->host_cache, &host, LOGIN_REFUSED_FOR_MS, reason))
        return REPLY_REMOTE_LOGIN_WAITS;
    return REPLY_OK;
}

/* Hosts known to be dead, or to refuse our log-in, are skipped, and do not count as attempts. */
static int connect_try_some(struct connect *connect, bool deferred)
{
    char reason[REMOTE_REASON_MAX];

    for (size_t i = 0; i < connect->hosts.count; i++) {
        struct candidate *candidate = &connect->hosts.items[i];
        if (candidate->asked ||
            connect_is_marked(connect, REMOTE_DEFERRED, candidate, NULL) != deferred)
            continue;
        const enum own_reply why = connect_leave_alone(connect, candidate, reason);
        if (why != REPLY_OK) {
            if (connect->attempts == 0 || reply_is_permanent(connect->reply))
                reply_own_with(connect->reply, why, reason, candidate->host);
            connect->open = true;
            continue;
        }
        if (connect_is_over(connect))
            return -1;
        if (connect_try(connect, candidate, false))
            return 0;
    }
    return -1;
}

/* Tries the hosts whose TLS has failed, in plain text. */
static int connect_try_plain(struct connect *connect)
{
    for (size_t i = 0; i < connect->hosts.count; i++) {
        struct candidate *candidate = &connect->hosts.items[i];
        if (candidate->tls_failed && !connect_is_over(connect) &&
            connect_try(connect, candidate, true))
            return 0;
    }
    return -1;
}

/* Tries the hosts in order, but last those that recently deferred a message. Falls back to plain text
 * only if no host has answered otherwise. */
static int connect_try_all(struct connect *connect)
{
    if (connect_try_some(connect, false) == 0 || connect_try_some(connect, true) == 0) {
        connect->met = true;
        return 0;
    }
    return connect->met ? -1 : connect_try_plain(connect);
}

static int connect_look_up(struct connect *connect)
{
    struct deadline deadline = attempt_step(connect, DNS_TIMEOUT_MS);

    talk_set_phase(&connect->talk, TALK_LOOKUP);
    security_clear(&connect->security);
    security_begin(&connect->security, connect->out, connect->route, connect->domain,
                   !connect->tls_optional, deadline);
    enum own_reply why =
        hosts_find(connect->out, connect->route, connect->domain, deadline, &connect->hosts);
    if (why == REPLY_OK && !connect->tls_optional &&
        security_find(&connect->security, connect->out, connect->route, &connect->hosts,
                      attempt_step(connect, DNS_TIMEOUT_MS)) != 0)
        why = REPLY_SERVER_BUSY;
    if (why == REPLY_OK)
        return 0;
    attempt_log(connect, LOG_LEVEL_INFO, connect->hosts.reason);
    reply_own(connect->reply, why);
    return -1;
}

static int connect_dial(struct connect *connect)
{
    if (connect->hosts.items == NULL && connect_look_up(connect) != 0)
        return -1;
    reply_own_with(connect->reply, REPLY_REMOTE_NO_TIME, connect->domain);
    if (connect_try_all(connect) != 0)
        return -1;
    memcpy(connect->remote->key, connect->key, sizeof connect->key);
    connect->remote->generation = connect->out->generation;
    return 0;
}

/* Can MAIL follow? RSET ends what is left of the last transaction, and shows whether the connection has died
 * unnoticed. If that ended properly a moment ago, MAIL comes at once: a kept connection lost there is renewed. */
static bool connect_is_ready(struct connect *connect)
{
    struct remote *remote = connect->remote;

    return deadline_now_ms() - remote->done_ms < PING_SPARED_MS ||
           nexthop_reset(&remote->hop, connect->reply, attempt_step(connect, PING_TIMEOUT_MS));
}

/* Is the connection kept from an earlier message usable? It may have died unnoticed, be too old, or
 * not be secure enough for this message. */
static bool connect_is_alive(struct connect *connect)
{
    struct remote *remote = connect->remote;

    stream_lend(&remote->hop.stream, connect->buffers);
    if (connect->require_tls &&
        !(remote->proven && (remote->hop.capabilities.extensions & EXTENSION_REQUIRETLS)))
        return false;
    return remote->messages < REUSE_MESSAGES &&
           deadline_now_ms() - remote->since_ms < REUSE_AGE_MS && connect_is_ready(connect);
}

static enum host_cache_place connect_begin_talk(struct connect *connect,
                                                enum host_cache_place place)
{
    if (place == HOST_CACHE_NEW || place == HOST_CACHE_KEPT)
        talks_begin(connect->out->talks, &connect->talk, connect->key,
                    place == HOST_CACHE_KEPT ? connect->remote->name : NULL);
    return place;
}

/* Gets a place at the destination: the one that the claim holds, or else any. Does not wait if there is
 * a claim, which has waited already. */
static enum host_cache_place connect_enter(struct connect *connect)
{
    const struct outbound *out = connect->out;
    struct deadline deadline = attempt_step(connect, HOST_CACHE_PLACE_WAIT_MS);
    enum host_cache_place place = HOST_CACHE_FULL;

    if (connect->claim != NULL) {
        place = host_cache_redeem(out->host_cache, connect->claim, connect->remote);
        deadline = deadline_in_ms(0);
    }
    if (place == HOST_CACHE_FULL)
        place = host_cache_enter(out->host_cache, connect->key, out->generation,
                                 connect->route->connections, deadline, connect->remote);
    return connect_begin_talk(connect, place);
}

/* Likewise for stored mail, without waiting. */
static enum host_cache_place connect_enter_stored(struct connect *connect)
{
    const struct outbound *out = connect->out;
    return connect_begin_talk(
        connect, host_cache_enter_stored(out->host_cache, connect->key, out->generation,
                                         connect->route->connections, connect->remote));
}

/* Likewise takes a turn, if the destination has a rate limit. */
static bool connect_take_turn(const struct connect *connect, struct deadline *turn)
{
    struct host_cache *host_cache = connect->out->host_cache;
    const unsigned rate = connect->route->rate;

    *turn = deadline_in_ms(0);
    if (connect->claim != NULL)
        return host_cache_has_turn(host_cache, connect->claim);
    if (rate == 0)
        return true;
    if (connect->postpones)
        return host_cache_book_turn(host_cache, connect->key, rate, turn);
    return host_cache_take_turn(host_cache, connect->key, rate,
                                attempt_step(connect, HOST_CACHE_PLACE_WAIT_MS), turn);
}

/* There is no turn or no place, for `wait_ms` or an unknown time (0 or less). */
static int connect_give_up(struct connect *connect, const char *event, enum own_reply reply,
                           int64_t wait_ms)
{
    if (connect->postpones)
        connect->postponed_ms = wait_ms > 0 ? wait_ms : PLACE_LOOK_MS;
    else
        attempt_log(connect, LOG_LEVEL_WARNING, event);
    reply_own(connect->reply, reply);
    connect->busy = true;
    return -1;
}

int connect_make(struct connect *connect)
{
    struct remote *remote = connect->remote;
    const unsigned rate = connect->route->rate;
    struct deadline turn;

    if (!connect_take_turn(connect, &turn))
        return connect_give_up(connect, "event=busy reason=rate", REPLY_DESTINATION_RATE,
                               deadline_left_ms(turn));
    switch (connect->postpones ? connect_enter_stored(connect) : connect_enter(connect)) {
    case HOST_CACHE_KEPT:
        connect->met = connect_is_alive(connect);
        if (connect->met)
            return 0;
        nexthop_quit(&remote->hop);
        break;
    case HOST_CACHE_NEW:
        break;
    case HOST_CACHE_NO_MEMORY:
        reply_own(connect->reply, REPLY_SERVER_BUSY);
        return -1;
    case HOST_CACHE_FULL:
        if (connect->postpones && rate > 0)
            host_cache_return_turn(connect->out->host_cache, connect->key, rate, turn);
        return connect_give_up(connect, "event=busy reason=connections", REPLY_DESTINATION_BUSY,
                               PLACE_LOOK_MS);
    }
    if (connect_dial(connect) == 0)
        return 0;
    connect_leave(connect);
    return -1;
}

/* The candidate we are connected to; NULL if it is not in the list. */
static const struct candidate *connect_current(const struct connect *connect)
{
    const struct candidate *items = connect->hosts.items;
    for (size_t i = 0; i < connect->hosts.count; i++) {
        if (address_equal(&items[i].address, &connect->remote->address))
            return &items[i];
    }
    return NULL;
}

/* A host's answer stands for all of its addresses, and an address's answer for all of its names. */
static void connect_pass_over_host(struct connect *connect)
{
    const struct candidate *current = connect_current(connect);
    for (size_t i = 0; current != NULL && i < connect->hosts.count; i++) {
        struct candidate *other = &connect->hosts.items[i];
        other->asked |= other->address.port == current->address.port &&
                        (strcasecmp(other->host, current->host) == 0 ||
                         address_same_ip(&other->address, &current->address));
    }
}

/* Gets a place for a new connection. If it comes with a kept one, that is closed. */
static bool connect_take_place(struct connect *connect)
{
    struct remote *remote = connect->remote;

    switch (connect_enter(connect)) {
    case HOST_CACHE_KEPT:
        nexthop_quit(&remote->hop);
        return true;
    case HOST_CACHE_NEW:
        return true;
    case HOST_CACHE_FULL:
    case HOST_CACHE_NO_MEMORY:
        break;
    }
    return false;
}

/* Makes another connection at the place of the existing one, which is then ended if it is still `connected`. */
static int connect_replace(struct connect *connect, bool connected)
{
    struct remote *remote = connect->remote, before = *remote;
    const struct reply reply = *connect->reply;

    if (connected)
        stream_reclaim(&before.hop.stream);
    if (connect_dial(connect) == 0) {
        if (connected && connect->breaks_off)
            stream_abort(&before.hop.stream);
        else if (connected)
            nexthop_quit(&before.hop);
        return 0;
    }
    *remote = before;
    *connect->reply = reply;
    if (connected) {
        stream_lend(&remote->hop.stream, connect->buffers);
        talks_set_host(connect->out->talks, &connect->talk, remote->name);
        talk_set_phase(&connect->talk, TALK_ENVELOPE);
    }
    return -1;
}

int connect_renew(struct connect *connect, bool connected)
{
    /* That a host once answered on a connection that is lost says nothing about how it answers now. */
    connect->met = connected;
    return connected ? connect_replace(connect, true) : connect_dial(connect);
}

int connect_next(struct connect *connect, bool connected)
{
    const struct reply before = *connect->reply;

    if (connect->hosts.items == NULL && connect_look_up(connect) != 0) {
        *connect->reply = before;
        return -1;
    }
    connect_pass_over_host(connect);
    if (!connected && !connect_take_place(connect))
        return -1;
    int result = connect_replace(connect, connected);
    if (result != 0 && !connected)
        connect_leave(connect);
    return result;
}

void connect_defer(const struct connect *connect, const char *reason)
{
    const struct remote *remote = connect->remote;
    const struct candidate *current = connect_current(connect);
    char name[DNS_NAME_MAX];

    snprintf(name, sizeof name, "%.*s", (int)strcspn(remote->name, "["), remote->name);
    const struct remote_host host =
        current != NULL ? connect_host(connect, current)
                        : (struct remote_host){connect->key, name, &remote->address, 0};
    host_cache_mark(connect->out->host_cache, REMOTE_DEFERRED, &host, reason, DEFERRED_FOR_MS);
}

void connect_clear(struct connect *connect)
{
    hosts_clear(&connect->hosts);
    security_clear(&connect->security);
}

void connect_leave(struct connect *connect)
{
    talks_end(connect->out->talks, &connect->talk);
    host_cache_leave(connect->out->host_cache, connect->key);
}

void connect_keep(struct connect *connect)
{
    talks_end(connect->out->talks, &connect->talk);
    host_cache_keep(connect->out->host_cache, connect->remote,
                    connect->out->config->out.reuse_for_ms);
}

void connect_end(struct connect *connect, bool orderly)
{
    if (orderly)
        nexthop_quit(&connect->remote->hop);
    else
        stream_abort(&connect->remote->hop.stream);
    connect_leave(connect);
}
