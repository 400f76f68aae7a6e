/* server/dnsbl.c - a client's score in DNS blocklists and allowlists (RFC 5782)
 *
 * A zone that is listed several times (with different filters) is asked once. The lock of a check is held
 * while its questions are asked, so that the last answer always finds all of them counted.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/dnsbl.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define LOG_EVERY_MS (3600 * 1000)

struct dnsbl {
    atomic_int references;
    int threshold;
    int64_t timeout_ms;
    size_t count;
    struct dnsbl_zone *zones;
    _Atomic int64_t *logged_ms; /* when each zone's odd answers were last logged; 0 = never */
};

struct dnsbl_check {
    pthread_mutex_t lock;
    int references; /* the caller's, and one per open question */
    unsigned open;  /* questions */
    struct dnsbl *dnsbl;
    dnsbl_callback *callback; /* NULL: the check was ended, or it has been called */
    void *context;
    struct dnsbl_verdict verdict;
    int worst_weight;
    struct question {
        struct dnsbl_check *check;
        size_t zone; /* the first of that name */
    } questions[];
};

struct dnsbl *dnsbl_new(const struct dnsbl_zone *zones, size_t count, int threshold,
                        int64_t timeout_ms)
{
    struct dnsbl *dnsbl = calloc(1, sizeof *dnsbl);

    if (dnsbl == NULL)
        return NULL;
    atomic_init(&dnsbl->references, 1);
    dnsbl->threshold = threshold;
    dnsbl->timeout_ms = timeout_ms;
    dnsbl->count = count < DNSBL_ZONES_MAX ? count : DNSBL_ZONES_MAX;
    dnsbl->zones = calloc(dnsbl->count + 1, sizeof *dnsbl->zones);
    dnsbl->logged_ms = calloc(dnsbl->count + 1, sizeof *dnsbl->logged_ms);
    if (dnsbl->zones == NULL || dnsbl->logged_ms == NULL) {
        dnsbl_unref(dnsbl);
        return NULL;
    }
    for (size_t i = 0; i < dnsbl->count; i++)
        dnsbl->zones[i] = zones[i];
    return dnsbl;
}

void dnsbl_unref(struct dnsbl *dnsbl)
{
    if (dnsbl == NULL || atomic_fetch_sub(&dnsbl->references, 1) != 1)
        return;
    free(dnsbl->zones);
    free(dnsbl->logged_ms);
    free(dnsbl);
}

/* Answers. */

/* Is the answer a refusal of the query? 127.255.255.0/24 by convention; 127.0.0.1 from lists without another way
 * (RFC 5782 2.1: it is never an entry). */
static bool dnsbl_is_refusal(const uint8_t answer[4])
{
    static const uint8_t not_an_entry[4] = {127, 0, 0, 1};
    return (answer[0] == 127 && answer[1] == 255 && answer[2] == 255) ||
           memcmp(answer, not_an_entry, sizeof not_an_entry) == 0;
}

static const char *dnsbl_odd_answer_hint(const uint8_t answer[4])
{
    if (!dnsbl_is_refusal(answer))
        return "no blocklist answers like this: the zone was abandoned, or the name servers invent "
               "answers; remove the zone, or use other name servers";
    if (answer[3] == 252)
        return "the list does not know this zone: correct its name";
    return "the list refuses to answer: ask it through a resolver of your own, not a public or "
           "shared one, or register with it; until then it does not count";
}

static void dnsbl_log_odd(struct dnsbl *dnsbl, size_t zone, const struct address *answer)
{
    int64_t now = deadline_now_ms(), before = atomic_load(&dnsbl->logged_ms[zone]);
    char text[ADDRESS_TEXT_MAX];
    struct log_line line;

    if ((before != 0 && now - before < LOG_EVERY_MS) ||
        !atomic_compare_exchange_strong(&dnsbl->logged_ms[zone], &before, now))
        return;
    log_begin(&line, LOG_LEVEL_ERROR, "event=dnsbl-unusable");
    log_str(&line, "zone", dnsbl->zones[zone].name);
    log_str(&line, "answer", address_format_ip(answer, text));
    log_str(&line, "hint", dnsbl_odd_answer_hint(answer->ip));
    log_end(&line);
}

static void dnsbl_add_hit(struct dnsbl_check *check, const struct dnsbl_zone *zone,
                          const struct address *answer)
{
    struct dnsbl_verdict *verdict = &check->verdict;
    char ip[ADDRESS_TEXT_MAX], text[DNS_NAME_MAX + ADDRESS_TEXT_MAX + 16];
    size_t used = strlen(verdict->hits);

    verdict->score += zone->weight;
    if (zone->weight > check->worst_weight) {
        check->worst_weight = zone->weight;
        memcpy(verdict->worst, zone->name, sizeof verdict->worst);
    }
    int len = snprintf(text, sizeof text, "%s%s=%s*%d", used > 0 ? "," : "", zone->name,
                       address_format_ip(answer, ip), zone->weight);
    if (used + (size_t)len < sizeof verdict->hits)
        memcpy(verdict->hits + used, text, (size_t)len + 1);
}

/* Scores one configured zone by the answer to its name: the first matching address counts. */
static void dnsbl_score_zone(struct dnsbl_check *check, size_t index,
                             const struct resolver_answer *answer)
{
    const struct dnsbl_zone *zone = &check->dnsbl->zones[index];
    struct address address;

    for (size_t i = 0; i < answer->count; i++) {
        if (dns_address_read((const uint8_t *)answer->data[i], (size_t)answer->lengths[i],
                             &address) != 0)
            continue;
        if (address.family != AF_INET || address.ip[0] != 127 || dnsbl_is_refusal(address.ip)) {
            dnsbl_log_odd(check->dnsbl, index, &address);
        } else if (dnsbl_fits(zone, address.ip)) {
            dnsbl_add_hit(check, zone, &address);
            return;
        }
    }
}

static bool dnsbl_same_zone(const struct dnsbl *dnsbl, size_t a, size_t b)
{
    return dns_name_equal(dnsbl->zones[a].name, dnsbl->zones[b].name);
}

/* Drops a reference. The caller holds the lock, which this releases. */
static void dnsbl_leave(struct dnsbl_check *check)
{
    bool last = --check->references == 0;
    pthread_mutex_unlock(&check->lock);
    if (!last)
        return;
    pthread_mutex_destroy(&check->lock);
    dnsbl_unref(check->dnsbl);
    free(check);
}

static void dnsbl_take_answer(void *context, struct resolver_answer *answer)
{
    const struct question *question = context;
    struct dnsbl_check *check = question->check;

    pthread_mutex_lock(&check->lock);
    if (answer->result == RESOLVER_TEMPORARY)
        check->verdict.unanswered++;
    for (size_t i = question->zone; answer->count > 0 && i < check->dnsbl->count; i++) {
        if (dnsbl_same_zone(check->dnsbl, question->zone, i))
            dnsbl_score_zone(check, i, answer);
    }
    /* Call it with the lock held, so that dnsbl_end() can guarantee that it is over. */
    if (--check->open == 0 && check->callback != NULL) {
        check->verdict.listed = check->verdict.score >= check->dnsbl->threshold;
        check->callback(check->context, &check->verdict);
        check->callback = NULL;
    }
    dnsbl_leave(check);
}

/* Asking. */

static bool dnsbl_asked_before(const struct dnsbl *dnsbl, size_t zone)
{
    for (size_t i = 0; i < zone; i++) {
        if (dnsbl_same_zone(dnsbl, i, zone))
            return true;
    }
    return false;
}

/* The caller holds the lock. */
static void dnsbl_ask_all(struct dnsbl_check *check, struct resolver *resolver,
                          const struct address *client)
{
    struct deadline deadline = deadline_in_ms(check->dnsbl->timeout_ms);
    char name[DNS_NAME_MAX];

    for (size_t i = 0; i < check->dnsbl->count; i++) {
        if (dnsbl_asked_before(check->dnsbl, i))
            continue;
        check->questions[i] = (struct question){check, i};
        if (dns_name_of_address(client, check->dnsbl->zones[i].name, name) == 0 &&
            resolver_ask(resolver, name, DNS_TYPE_A, deadline, dnsbl_take_answer,
                         &check->questions[i]) == 0) {
            check->references++;
            check->open++;
        } else {
            check->verdict.unanswered++;
        }
    }
}

struct dnsbl_check *dnsbl_start(struct dnsbl *dnsbl, struct resolver *resolver,
                                const struct address *client, dnsbl_callback *callback,
                                void *context)
{
    struct dnsbl_check *check;

    if (dnsbl == NULL || dnsbl->count == 0)
        return NULL;
    check = calloc(1, sizeof *check + dnsbl->count * sizeof check->questions[0]);
    if (check == NULL)
        return NULL;
    pthread_mutex_init(&check->lock, NULL);
    check->references = 1;
    atomic_fetch_add(&dnsbl->references, 1);
    check->dnsbl = dnsbl;
    check->callback = callback;
    check->context = context;
    pthread_mutex_lock(&check->lock);
    dnsbl_ask_all(check, resolver, client);
    if (check->open > 0) {
        pthread_mutex_unlock(&check->lock);
        return check;
    }
    dnsbl_leave(check);
    return NULL;
}

void dnsbl_end(struct dnsbl_check *check)
{
    if (check == NULL)
        return;
    pthread_mutex_lock(&check->lock);
    check->callback = NULL;
    dnsbl_leave(check);
}
