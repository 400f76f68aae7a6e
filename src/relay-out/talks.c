/* relay-out/talks.c - the connections to next hops in progress, for display
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/talks.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/deadline.h"
#include "base/i18n.h"

#define PHASE_BITS 4
#define PHASE_MASK ((1u << PHASE_BITS) - 1)

struct talks {
    struct counters *counters;
    pthread_mutex_t lock;
    struct talk *first;
    size_t count;
};

struct talks *talks_new(struct counters *counters, struct error *err)
{
    struct talks *talks = calloc(1, sizeof *talks);

    if (talks == NULL) {
        error_set(err, _("out of memory"));
        return NULL;
    }
    talks->counters = counters;
    pthread_mutex_init(&talks->lock, NULL);
    return talks;
}

void talks_free(struct talks *talks)
{
    if (talks == NULL)
        return;
    pthread_mutex_destroy(&talks->lock);
    free(talks);
}

static enum talk_phase talk_phase_of(const struct talk *talk)
{
    return atomic_load_explicit(&talk->at, memory_order_relaxed) & PHASE_MASK;
}

static void talk_enter_phase(struct talk *talk, enum talk_phase phase, int64_t now_ms)
{
    uint64_t at = (uint64_t)now_ms << PHASE_BITS | (uint64_t)phase;
    atomic_store_explicit(&talk->at, at, memory_order_relaxed);
}

/* Counts the time in the phase that ends now. */
static void talk_count_phase(const struct talk *talk, int64_t now_ms)
{
    static const enum counter_duration stages[] = {
        [TALK_LOOKUP] = COUNTER_DURATION_DELIVERY_DNS,
        [TALK_CONNECT] = COUNTER_DURATION_DELIVERY_CONNECT,
        [TALK_GREETING] = COUNTER_DURATION_DELIVERY_GREETING,
        [TALK_TLS] = COUNTER_DURATION_DELIVERY_TLS,
        [TALK_LOGIN] = COUNTER_DURATION_DELIVERY_LOGIN,
        [TALK_ENVELOPE] = COUNTER_DURATION_DELIVERY_DIALOG,
        [TALK_DATA] = COUNTER_DURATION_DELIVERY_DATA,
        [TALK_REPLY] = COUNTER_DURATION_DELIVERY_FINAL,
    };
    uint64_t at = atomic_load_explicit(&talk->at, memory_order_relaxed);
    counters_took(talk->counters, stages[at & PHASE_MASK], now_ms - (int64_t)(at >> PHASE_BITS));
}

void talk_set_phase(struct talk *talk, enum talk_phase phase)
{
    if (!talk->listed || talk_phase_of(talk) == phase)
        return;
    int64_t now_ms = deadline_now_ms();
    talk_count_phase(talk, now_ms);
    talk_enter_phase(talk, phase, now_ms);
}

/* On the mail path: no printf. */
static void talk_copy_host(struct talk *talk, const char *host)
{
    size_t len = strnlen(host, sizeof talk->host - 1);
    memcpy(talk->host, host, len);
    talk->host[len] = '\0';
}

void talks_begin(struct talks *talks, struct talk *talk, const char *destination, const char *host)
{
    if (talks == NULL || talk->listed)
        return;
    talk->counters = talks->counters;
    talk_enter_phase(talk, host != NULL ? TALK_ENVELOPE : TALK_LOOKUP, deadline_now_ms());
    talk->destination = destination;
    talk_copy_host(talk, host != NULL ? host : "");
    talk->previous = NULL;
    pthread_mutex_lock(&talks->lock);
    talk->next = talks->first;
    if (talk->next != NULL)
        talk->next->previous = talk;
    talks->first = talk;
    talks->count++;
    pthread_mutex_unlock(&talks->lock);
    talk->listed = true;
}

void talks_end(struct talks *talks, struct talk *talk)
{
    if (talks == NULL || !talk->listed)
        return;
    pthread_mutex_lock(&talks->lock);
    if (talk->previous != NULL)
        talk->previous->next = talk->next;
    else
        talks->first = talk->next;
    if (talk->next != NULL)
        talk->next->previous = talk->previous;
    talks->count--;
    pthread_mutex_unlock(&talks->lock);
    talk->listed = false;
    talk_count_phase(talk, deadline_now_ms());
}

void talks_set_host(struct talks *talks, struct talk *talk, const char *host)
{
    if (talks == NULL || !talk->listed)
        return;
    pthread_mutex_lock(&talks->lock);
    talk_copy_host(talk, host);
    pthread_mutex_unlock(&talks->lock);
}

/* Display. */

/* A copy being made. */
struct talks_copy {
    struct talk_note *notes;
    size_t count, most, total;
    int64_t now_ms;
};

static void talks_put(struct talks_copy *copy, enum talk_phase phase, int64_t since_ms,
                      const char *destination, const char *host)
{
    copy->total++;
    if (copy->count == copy->most)
        return;
    struct talk_note *note = &copy->notes[copy->count++];
    note->phase = phase;
    note->for_ms = copy->now_ms > since_ms ? copy->now_ms - since_ms : 0;
    snprintf(note->destination, sizeof note->destination, "%s", destination);
    snprintf(note->host, sizeof note->host, "%s", host);
}

static void talks_put_kept(void *context, const struct remote *remote, int64_t since_ms)
{
    talks_put(context, TALK_KEPT, since_ms, remote->key, remote->name);
}

static int talks_compare(const void *a, const void *b)
{
    const struct talk_note *one = a, *other = b;

    if ((one->phase == TALK_KEPT) != (other->phase == TALK_KEPT))
        return one->phase == TALK_KEPT ? 1 : -1;
    return one->for_ms > other->for_ms ? -1 : one->for_ms < other->for_ms;
}

/* How many there are, at least 1. It bounds the array, which is allocated before the lock is taken. */
static size_t talks_count(struct talks *talks, struct host_cache *host_cache)
{
    pthread_mutex_lock(&talks->lock);
    size_t count = talks->count;
    pthread_mutex_unlock(&talks->lock);
    return count + host_cache_count_kept(host_cache) + 1;
}

struct talk_note *talks_list(struct talks *talks, struct host_cache *host_cache, size_t most,
                             size_t *count, size_t *total)
{
    struct talks_copy copy = {.most = talks_count(talks, host_cache)};

    if (copy.most > most)
        copy.most = most;
    copy.notes = calloc(copy.most, sizeof *copy.notes);
    if (copy.notes == NULL)
        return NULL;
    pthread_mutex_lock(&talks->lock);
    copy.now_ms = deadline_now_ms();
    for (const struct talk *talk = talks->first; talk != NULL; talk = talk->next) {
        uint64_t at = atomic_load_explicit(&talk->at, memory_order_relaxed);
        talks_put(&copy, (enum talk_phase)(at & PHASE_MASK), (int64_t)(at >> PHASE_BITS),
                  talk->destination, talk->host);
    }
    pthread_mutex_unlock(&talks->lock);
    host_cache_list_kept(host_cache, talks_put_kept, &copy);
    qsort(copy.notes, copy.count, sizeof *copy.notes, talks_compare);
    *count = copy.count;
    *total = copy.total;
    return copy.notes;
}

const char *talk_phase_name(enum talk_phase phase)
{
    static const char names[][9] = {
        [TALK_LOOKUP] = "lookup", [TALK_CONNECT] = "connect", [TALK_GREETING] = "greeting",
        [TALK_TLS] = "tls",       [TALK_LOGIN] = "login",     [TALK_ENVELOPE] = "envelope",
        [TALK_DATA] = "data",     [TALK_REPLY] = "reply",     [TALK_KEPT] = "kept",
    };
    return names[phase];
}
