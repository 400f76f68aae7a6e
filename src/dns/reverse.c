/* dns/reverse.c - the name of a client: reverse DNS, confirmed by a forward look-up
 *
 * Asks for the PTR record, then for the addresses of all its names at once. Each open question holds
 * a reference. Callbacks run one at a time in the resolver's thread; the lock protects what they
 * share with the waiters.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "dns/reverse.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/condition.h"

/* One PTR name that is being confirmed. */
struct candidate {
    struct reverse_lookup *lookup;
    char name[DNS_NAME_MAX];
};

struct reverse_lookup {
    pthread_mutex_t lock;
    pthread_cond_t ready;
    int references;
    bool done;
    struct wakeup *wakeup;      /* of the waiter, or NULL */
    struct reverse_names names; /* final once `done` */

    /* Only the resolver's thread uses these once the PTR question is asked. */
    struct resolver *resolver;
    struct address address;
    struct deadline deadline;
    struct candidate *candidates;
    unsigned open;  /* forward questions without an answer yet */
    bool temporary; /* one of them could not be answered now */
};

struct reverse_lookup *reverse_ref(struct reverse_lookup *lookup)
{
    if (lookup == NULL)
        return NULL;
    pthread_mutex_lock(&lookup->lock);
    lookup->references++;
    pthread_mutex_unlock(&lookup->lock);
    return lookup;
}

void reverse_unref(struct reverse_lookup *lookup)
{
    if (lookup == NULL)
        return;
    pthread_mutex_lock(&lookup->lock);
    bool last = --lookup->references == 0;
    pthread_mutex_unlock(&lookup->lock);
    if (!last)
        return;
    pthread_cond_destroy(&lookup->ready);
    pthread_mutex_destroy(&lookup->lock);
    free(lookup->candidates);
    free(lookup);
}

static void reverse_finish(struct reverse_lookup *lookup, enum reverse_status status,
                           const char *name)
{
    pthread_mutex_lock(&lookup->lock);
    if (!lookup->done) {
        lookup->names.status = status;
        if (name != NULL) {
            strcpy(lookup->names.name, name);
            strcpy(lookup->names.reverse_name, name);
        }
        lookup->done = true;
        pthread_cond_broadcast(&lookup->ready);
        wakeup_call(lookup->wakeup);
    }
    pthread_mutex_unlock(&lookup->lock);
}

static bool reverse_has_address(const struct resolver_answer *answer, const struct address *address)
{
    for (size_t i = 0; i < answer->count; i++) {
        struct address found;
        if (dns_address_read((const uint8_t *)answer->data[i], (size_t)answer->lengths[i],
                             &found) == 0 &&
            address_same_ip(&found, address))
            return true;
    }
    return false;
}

/* If no more answers are to come, the names are not verified. */
static void reverse_finish_unverified(struct reverse_lookup *lookup)
{
    if (lookup->open == 0)
        reverse_finish(lookup, lookup->temporary ? REVERSE_TEMPORARY : REVERSE_UNAVAILABLE, NULL);
}

static void reverse_take_forward(void *context, struct resolver_answer *answer)
{
    struct candidate *candidate = context;
    struct reverse_lookup *lookup = candidate->lookup;

    lookup->open--;
    if (reverse_has_address(answer, &lookup->address))
        reverse_finish(lookup, REVERSE_VERIFIED, candidate->name);
    else if (answer->result == RESOLVER_TEMPORARY)
        lookup->temporary = true;
    reverse_finish_unverified(lookup);
    reverse_unref(lookup);
}

/* Collects the host names among the PTR records and returns their number. */
static unsigned reverse_read_candidates(struct reverse_lookup *lookup,
                                        const struct resolver_answer *answer)
{
    unsigned count = 0;

    lookup->candidates = calloc(REVERSE_NAMES_MAX, sizeof *lookup->candidates);
    for (size_t i = 0; lookup->candidates != NULL && i < answer->count && count < REVERSE_NAMES_MAX;
         i++) {
        struct candidate *candidate = &lookup->candidates[count];
        if (dns_name_read((const uint8_t *)answer->data[i], (size_t)answer->lengths[i],
                          candidate->name) != 0 ||
            !dns_name_is_hostname(candidate->name))
            continue;
        candidate->lookup = lookup;
        count++;
    }
    return count;
}

static void reverse_confirm(struct reverse_lookup *lookup, unsigned count)
{
    int type = lookup->address.family == AF_INET6 ? DNS_TYPE_AAAA : DNS_TYPE_A;

    pthread_mutex_lock(&lookup->lock);
    strcpy(lookup->names.reverse_name, lookup->candidates[0].name);
    pthread_mutex_unlock(&lookup->lock);
    for (unsigned i = 0; i < count; i++) {
        reverse_ref(lookup);
        lookup->open++;
        if (resolver_ask(lookup->resolver, lookup->candidates[i].name, type, lookup->deadline,
                         reverse_take_forward, &lookup->candidates[i]) == 0)
            continue;
        lookup->open--;
        lookup->temporary = true;
        reverse_unref(lookup);
    }
    reverse_finish_unverified(lookup);
}

static void reverse_take_ptr(void *context, struct resolver_answer *answer)
{
    struct reverse_lookup *lookup = context;
    unsigned count = answer->result == RESOLVER_FOUND ? reverse_read_candidates(lookup, answer) : 0;

    if (answer->result == RESOLVER_TEMPORARY)
        reverse_finish(lookup, REVERSE_TEMPORARY, NULL);
    else if (count == 0)
        reverse_finish(lookup, REVERSE_UNAVAILABLE, NULL);
    else
        reverse_confirm(lookup, count);
    reverse_unref(lookup);
}

struct reverse_lookup *reverse_start(struct resolver *resolver, const struct address *address)
{
    struct reverse_lookup *lookup = calloc(1, sizeof *lookup);
    char question[DNS_NAME_MAX];

    if (lookup == NULL || condition_init(&lookup->ready) != 0) {
        free(lookup);
        return NULL;
    }
    pthread_mutex_init(&lookup->lock, NULL);
    lookup->references = 2; /* the caller, and the PTR question */
    lookup->resolver = resolver;
    lookup->address = *address;
    lookup->deadline = deadline_in_ms(REVERSE_TIMEOUT_MS);
    if (dns_name_of_address(address, NULL, question) == 0 &&
        resolver_ask(resolver, question, DNS_TYPE_PTR, lookup->deadline, reverse_take_ptr,
                     lookup) == 0)
        return lookup;
    reverse_finish(lookup, REVERSE_TEMPORARY, NULL);
    reverse_unref(lookup);
    return lookup;
}

int64_t reverse_await(struct reverse_lookup *lookup, struct wakeup *wakeup)
{
    if (lookup == NULL)
        return 0;
    pthread_mutex_lock(&lookup->lock);
    lookup->wakeup = wakeup;
    int64_t until_ms = lookup->done ? 0 : lookup->deadline.at_ms;
    pthread_mutex_unlock(&lookup->lock);
    return until_ms == 0 || deadline_now_ms() < until_ms ? until_ms : 0;
}

void reverse_leave(struct reverse_lookup *lookup)
{
    if (lookup != NULL)
        reverse_await(lookup, NULL);
    reverse_unref(lookup);
}

bool reverse_wait(struct reverse_lookup *lookup, struct deadline deadline,
                  struct reverse_names *names)
{
    bool in_time = true;

    *names = (struct reverse_names){.status = REVERSE_TEMPORARY};
    if (lookup == NULL)
        return false;
    pthread_mutex_lock(&lookup->lock);
    while (!lookup->done && in_time)
        in_time = condition_wait(&lookup->ready, &lookup->lock, deadline);
    bool done = lookup->done;
    if (done)
        *names = lookup->names;
    else
        strcpy(names->reverse_name, lookup->names.reverse_name);
    pthread_mutex_unlock(&lookup->lock);
    return done;
}

bool reverse_peek(struct reverse_lookup *lookup, struct reverse_names *names)
{
    return reverse_wait(lookup, (struct deadline){0}, names);
}
