/* out/contact.c - from a destination to a connection on which MAIL can follow
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "out/contact.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "out/attempt.h"

#define DNS_TIMEOUT_MS 30000
#define REUSE_MESSAGES 100      /* of one connection */
#define REUSE_AGE_MS 300000     /* as Postfix has it */
#define DEFERRED_FOR_MS 3600000 /* longer than a mail server waits between its first tries */
#define PING_TIMEOUT_MS 10000   /* for RSET on a connection that was kept */

/* Addresses in one try: a stranger's zone must not send us through the whole internet. */
#define CONTACT_ATTEMPTS_MAX 20
/* Where there was no time for all hosts, the dead ones are left alone for so many times dead_for, or
 * the next try would meet the same again. */
#define CONTACT_TURNS 4

/* The fallback is a destination of its own, the same for all that fall back to it. */
static struct remote_host contact_host(const struct contact *contact,
                                       const struct candidate *candidate)
{
    const char *key = candidate->route == contact->route ? contact->key : candidate->route->name;
    return (struct remote_host){key, candidate->host, &candidate->address};
}

static void contact_pass_over(struct contact *contact, const char *host)
{
    for (size_t i = 0; i < contact->candidates.count; i++) {
        struct candidate *other = &contact->candidates.items[i];
        other->asked |= strcasecmp(other->host, host) == 0;
    }
}

/* There was no time for all of them. */
static void contact_leave_dead_alone(struct contact *contact)
{
    struct remotes *remotes = contact->out->remotes;
    char reason[REMOTE_REASON_MAX];

    for (size_t i = 0; i < contact->candidates.count; i++) {
        struct remote_host host = contact_host(contact, &contact->candidates.items[i]);
        if (remotes_is_marked(remotes, REMOTE_DEAD, &host, reason))
            remotes_mark(remotes, REMOTE_DEAD, &host, reason,
                         CONTACT_TURNS * contact->out->config->out.dead_for_ms);
    }
}

static bool contact_is_marked(const struct contact *contact, enum remote_mark mark,
                              const struct candidate *candidate, char reason[REMOTE_REASON_MAX])
{
    const struct remote_host host = contact_host(contact, candidate);
    return remotes_is_marked(contact->out->remotes, mark, &host, reason);
}

/* There is no time for the others. */
static bool contact_is_over(struct contact *contact)
{
    if (!deadline_passed(contact->deadline) && contact->attempts < CONTACT_ATTEMPTS_MAX)
        return false;
    contact_leave_dead_alone(contact);
    return true;
}

static bool contact_try(struct contact *contact, struct candidate *candidate, bool plain)
{
    const struct remote_host host = contact_host(contact, candidate);

    candidate->asked = true;
    candidate->tls_failed = false;
    contact->attempts++;
    enum attempt_outcome outcome = attempt_make(contact, candidate, &host, plain);
    if (outcome == ATTEMPT_REFUSED)
        contact_pass_over(contact, candidate->host);
    candidate->tls_failed = outcome == ATTEMPT_TLS_FAILED;
    return outcome == ATTEMPT_READY;
}

/* Those that are known to be dead cost no place. */
static int contact_try_some(struct contact *contact, bool deferred)
{
    char reason[REMOTE_REASON_MAX];

    for (size_t i = 0; i < contact->candidates.count; i++) {
        struct candidate *candidate = &contact->candidates.items[i];
        if (candidate->asked ||
            contact_is_marked(contact, REMOTE_DEFERRED, candidate, NULL) != deferred)
            continue;
        if (contact_is_marked(contact, REMOTE_DEAD, candidate, reason)) {
            if (contact->attempts == 0)
                reply_set(contact->verdict, 451, "4.4.1",
                          "%s; not tried again for a while (host %.200s)", reason, candidate->host);
            continue;
        }
        if (contact_is_over(contact))
            return -1;
        if (contact_try(contact, candidate, false))
            return 0;
    }
    return -1;
}

/* In plain text, those whose TLS has failed. */
static int contact_try_plain(struct contact *contact)
{
    for (size_t i = 0; i < contact->candidates.count; i++) {
        struct candidate *candidate = &contact->candidates.items[i];
        if (candidate->tls_failed && !contact_is_over(contact) &&
            contact_try(contact, candidate, true))
            return 0;
    }
    return -1;
}

/* In order, but last who took no message just now. Where no host could be spoken with otherwise, plain
 * text does. */
static int contact_try_all(struct contact *contact)
{
    if (contact_try_some(contact, false) == 0 || contact_try_some(contact, true) == 0) {
        contact->met = true;
        return 0;
    }
    return contact->met ? -1 : contact_try_plain(contact);
}

static int contact_look_up(struct contact *contact)
{
    struct deadline deadline = attempt_step(contact, DNS_TIMEOUT_MS);

    security_clear(&contact->security);
    security_begin(&contact->security, contact->out, contact->route, contact->domain,
                   !contact->tls_optional, deadline);
    enum own_reply why = candidates_find(contact->out, contact->route, contact->domain, deadline,
                                         &contact->candidates);
    if (why == REPLY_OK && !contact->tls_optional &&
        security_find(&contact->security, contact->out, contact->route, &contact->candidates,
                      attempt_step(contact, DNS_TIMEOUT_MS)) != 0)
        why = REPLY_SERVER_BUSY;
    if (why == REPLY_OK)
        return 0;
    attempt_log(contact, LOG_LEVEL_INFO, contact->candidates.reason);
    reply_own(contact->verdict, why);
    return -1;
}

static int contact_dial(struct contact *contact)
{
    if (contact->candidates.items == NULL && contact_look_up(contact) != 0)
        return -1;
    reply_set(contact->verdict, 451, "4.4.1", "No time left to reach a mail server of %s",
              contact->domain);
    if (contact_try_all(contact) != 0)
        return -1;
    memcpy(contact->remote->key, contact->key, sizeof contact->key);
    contact->remote->generation = contact->out->generation;
    return 0;
}

/* A connection kept from a message before. It may have died without our hearing of it, or not be good
 * enough for this one. */
static bool contact_is_alive(struct contact *contact)
{
    struct remote *remote = contact->remote;

    stream_lend(&remote->hop.stream, contact->buffers);
    return (remote->proven || !contact->require_tls) && remote->messages < REUSE_MESSAGES &&
           deadline_now_ms() - remote->since_ms < REUSE_AGE_MS &&
           nexthop_reset(&remote->hop, contact->verdict, attempt_step(contact, PING_TIMEOUT_MS));
}

/* A place at the destination: the one that is held, or any; who has a claim has waited. */
static enum remotes_place contact_enter(struct contact *contact)
{
    const struct outbound *out = contact->out;
    struct deadline deadline = attempt_step(contact, REMOTES_PLACE_WAIT_MS);
    enum remotes_place place = REMOTES_FULL;

    if (contact->claim != NULL) {
        place = remotes_redeem(out->remotes, contact->claim, contact->remote);
        deadline = deadline_in_ms(0);
    }
    return place != REMOTES_FULL
               ? place
               : remotes_enter(out->remotes, contact->key, out->generation,
                               contact->route->connections, deadline, contact->remote);
}

int contact_make(struct contact *contact)
{
    const struct outbound *out = contact->out;
    struct remote *remote = contact->remote;
    struct remotes *remotes = out->remotes;

    route_key(contact->route, contact->domain, contact->key);
    if (contact->route->rate > 0 &&
        !remotes_take_turn(remotes, contact->key, contact->route->rate,
                           attempt_step(contact, REMOTES_PLACE_WAIT_MS))) {
        attempt_log(contact, LOG_LEVEL_WARNING, "event=busy reason=rate");
        reply_own(contact->verdict, REPLY_DESTINATION_RATE);
        contact->busy = true;
        return -1;
    }
    switch (contact_enter(contact)) {
    case REMOTES_KEPT:
        contact->met = contact_is_alive(contact);
        if (contact->met)
            return 0;
        nexthop_quit(&remote->hop);
        break;
    case REMOTES_NEW:
        break;
    case REMOTES_NO_MEMORY:
        reply_own(contact->verdict, REPLY_SERVER_BUSY);
        return -1;
    case REMOTES_FULL:
        attempt_log(contact, LOG_LEVEL_WARNING, "event=busy reason=connections");
        reply_own(contact->verdict, REPLY_DESTINATION_BUSY);
        contact->busy = true;
        return -1;
    }
    if (contact_dial(contact) == 0)
        return 0;
    remotes_leave(remotes, contact->key);
    return -1;
}

static bool contact_is_same(const struct address *a, const struct address *b)
{
    return address_same_ip(a, b) && a->port == b->port;
}

/* The one that the connection is with. */
static const struct candidate *contact_current(const struct contact *contact)
{
    const struct candidate *items = contact->candidates.items;
    for (size_t i = 0; i < contact->candidates.count; i++) {
        if (contact_is_same(&items[i].address, &contact->remote->address))
            return &items[i];
    }
    return NULL;
}

/* The host that has answered has answered for all of its addresses, and an address for all of its
 * names. */
static void contact_pass_over_host(struct contact *contact)
{
    const struct candidate *current = contact_current(contact);
    for (size_t i = 0; current != NULL && i < contact->candidates.count; i++) {
        struct candidate *other = &contact->candidates.items[i];
        other->asked |= other->address.port == current->address.port &&
                        (strcasecmp(other->host, current->host) == 0 ||
                         address_same_ip(&other->address, &current->address));
    }
}

/* Only a connection of its own will do. */
static bool contact_take_place(struct contact *contact)
{
    struct remote *remote = contact->remote;

    switch (contact_enter(contact)) {
    case REMOTES_KEPT:
        remote_say_goodbye(remote);
        return true;
    case REMOTES_NEW:
        return true;
    case REMOTES_FULL:
    case REMOTES_NO_MEMORY:
        break;
    }
    return false;
}

int contact_renew(struct contact *contact, bool connected)
{
    struct remote *remote = contact->remote, before = *remote;
    const struct reply verdict = *contact->verdict;

    if (connected)
        stream_reclaim(&before.hop.stream);
    else if (!contact_take_place(contact))
        return -1;
    if (contact_dial(contact) == 0) {
        if (connected)
            remote_say_goodbye(&before);
        return 0;
    }
    *remote = before;
    *contact->verdict = verdict;
    if (connected)
        stream_lend(&remote->hop.stream, contact->buffers);
    else
        remotes_leave(contact->out->remotes, contact->key);
    return -1;
}

int contact_next(struct contact *contact, bool connected)
{
    const struct reply verdict = *contact->verdict;

    if (contact->candidates.items == NULL && contact_look_up(contact) != 0) {
        *contact->verdict = verdict;
        return -1;
    }
    contact_pass_over_host(contact);
    return contact_renew(contact, connected);
}

void contact_defer(const struct contact *contact, const char *reason)
{
    const struct remote *remote = contact->remote;
    const struct candidate *current = contact_current(contact);
    char name[DNS_NAME_MAX];

    snprintf(name, sizeof name, "%.*s", (int)strcspn(remote->name, "["), remote->name);
    const struct remote_host host =
        current != NULL ? contact_host(contact, current)
                        : (struct remote_host){contact->key, name, &remote->address};
    remotes_mark(contact->out->remotes, REMOTE_DEFERRED, &host, reason, DEFERRED_FOR_MS);
}

void contact_clear(struct contact *contact)
{
    candidates_clear(&contact->candidates);
    security_clear(&contact->security);
}

void contact_end(const struct outbound *out, struct remote *remote, bool orderly)
{
    if (orderly)
        nexthop_quit(&remote->hop);
    else
        stream_abort(&remote->hop.stream);
    remotes_leave(out->remotes, remote->key);
}
