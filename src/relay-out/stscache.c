/* relay-out/stscache.c - the MTA-STS policies of the domains that mail goes to
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/stscache.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/assert.h"
#include "base/condition.h"
#include "base/i18n.h"
#include "base/log.h"
#include "base/thread.h"
#include "relay-out/stsfiles.h"

#define BUCKETS 1024
#define FETCHER_STACK_SIZE (512 * 1024) /* GnuTLS and libcurl */
#define RETRY_MS 300000                 /* after a fetch that failed (RFC 8461 3.3) */
#define REFRESH_RETRY_S 3600
#define REFRESH_AFTER_S 43200  /* after a fetch, refresh from then on ... */
#define REFRESH_WITHIN_S 43200 /* ... within this time, at random */
#define UNUSED_MAX_S 15552000  /* 180 days: then dropped, not refreshed */
#define IDLE_MS 3600000
#define BARE_MAX_S 3600

enum stscache_state { STSCACHE_IDLE, STSCACHE_QUEUED, STSCACHE_FETCHING };

struct stscache_entry {
    struct stscache_entry *next;   /* in its bucket */
    struct stscache_entry *behind; /* in the queue */
    enum stscache_state state;
    unsigned waiters;
    bool is_refresh;          /* nobody waits: look the record up first */
    char id[STS_ID_MAX + 1];  /* of the record that the fetch is for */
    struct deadline retry_at; /* after a failure */
    int64_t refresh_s, used_s;
    struct stscache_policy *policy;
    enum stscache_failure failure;
    char why[STSCACHE_WHY_MAX];
    char domain[];
};

struct stscache {
    struct stscache_source source;
    struct stsfiles files;
    atomic_bool ending;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    struct stscache_entry *buckets[BUCKETS];
    size_t count;
    struct stscache_entry *first, *last; /* of the queue */
    struct stscache_bare {
        char *domain; /* NULL: none */
        struct deadline until;
    } bare[STSCACHE_BARE_MAX]; /* by hash; the next domain with the same one replaces it */
    unsigned queued, idle;
    unsigned thread_count;
    pthread_t threads[STSCACHE_FETCHERS];
};

/* Policies. */

void stscache_policy_unref(struct stscache_policy *policy)
{
    if (policy == NULL || atomic_fetch_sub(&policy->references, 1) > 1)
        return;
    free(policy->policy);
    free(policy);
}

/* Takes ownership of the parsed policy. */
static struct stscache_policy *stscache_policy_new(struct sts_policy *parsed, const char *id,
                                                   int64_t fetched_s)
{
    struct stscache_policy *policy = calloc(1, sizeof *policy);

    if (policy == NULL) {
        free(parsed);
        return NULL;
    }
    atomic_init(&policy->references, 1);
    policy->policy = parsed;
    snprintf(policy->id, sizeof policy->id, "%s", id);
    policy->fetched_s = fetched_s;
    policy->expires_s = fetched_s + parsed->max_age_s;
    return policy;
}

static int64_t stscache_now(const struct stscache *cache)
{
    return cache->source.now_s(cache->source.context);
}

/* Random, so that many domains are not refreshed at the same time. */
static int64_t stscache_refresh_time(int64_t fetched_s)
{
    unsigned number = 0;
    if (getrandom(&number, sizeof number, GRND_NONBLOCK) != (ssize_t)sizeof number)
        number = 0;
    return fetched_s + REFRESH_AFTER_S + number % REFRESH_WITHIN_S;
}

/* The table. All with the lock held. */

static unsigned stscache_hash(const char *domain)
{
    unsigned hash = 5381;
    for (const char *at = domain; *at != '\0'; at++)
        hash = hash * 33 ^ (unsigned char)*at;
    return hash;
}

static struct stscache_entry **stscache_bucket(struct stscache *cache, const char *domain)
{
    return &cache->buckets[stscache_hash(domain) % BUCKETS];
}

static struct stscache_entry *stscache_get(struct stscache *cache, const char *domain)
{
    struct stscache_entry *entry = *stscache_bucket(cache, domain);
    while (entry != NULL && strcmp(entry->domain, domain) != 0)
        entry = entry->next;
    return entry;
}

static void stscache_remove(struct stscache *cache, struct stscache_entry *entry)
{
    struct stscache_entry **at = stscache_bucket(cache, entry->domain);

    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    cache->count--;
    if (entry->policy != NULL)
        stsfiles_remove(&cache->files, entry->domain);
    stscache_policy_unref(entry->policy);
    free(entry);
}

static bool stscache_is_free(const struct stscache_entry *entry)
{
    return entry->state == STSCACHE_IDLE && entry->waiters == 0;
}

/* False if the table is full and no entry can be dropped. */
static bool stscache_make_room(struct stscache *cache)
{
    struct stscache_entry *oldest = NULL;

    if (cache->count < STSCACHE_DOMAINS_MAX)
        return true;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct stscache_entry *entry = cache->buckets[i]; entry != NULL; entry = entry->next) {
            if (stscache_is_free(entry) && (oldest == NULL || entry->used_s < oldest->used_s))
                oldest = entry;
        }
    }
    if (oldest != NULL)
        stscache_remove(cache, oldest);
    return oldest != NULL;
}

static struct stscache_entry *stscache_add(struct stscache *cache, const char *domain)
{
    size_t len = strlen(domain) + 1;
    struct stscache_entry *entry =
        stscache_make_room(cache) ? calloc(1, sizeof *entry + len) : NULL;

    if (entry == NULL)
        return NULL;
    memcpy(entry->domain, domain, len);
    struct stscache_entry **bucket = stscache_bucket(cache, domain);
    entry->next = *bucket;
    *bucket = entry;
    cache->count++;
    return entry;
}

/* Ignores a policy that has expired. */
static bool stscache_take_file(void *context, const char *domain,
                               const struct stsfiles_record *record, struct sts_policy *parsed)
{
    struct stscache *cache = context;
    struct stscache_policy *policy = stscache_policy_new(parsed, record->id, record->fetched_s);
    struct stscache_entry *entry = policy != NULL && record->expires_s == policy->expires_s &&
                                           record->expires_s > stscache_now(cache)
                                       ? stscache_add(cache, domain)
                                       : NULL;

    if (entry == NULL) {
        stscache_policy_unref(policy);
        return true;
    }
    entry->policy = policy;
    entry->used_s = record->used_s;
    entry->refresh_s = stscache_refresh_time(record->fetched_s);
    return cache->count < STSCACHE_DOMAINS_MAX;
}

/* Fetches. */

/* Takes over the caller's reference. */
static void stscache_take(struct stscache *cache, struct stscache_entry *entry,
                          struct stscache_policy *policy, const struct stscache_fetched *fetched)
{
    int64_t now_s = stscache_now(cache);

    entry->failure = fetched->failure;
    snprintf(entry->why, sizeof entry->why, "%s", fetched->why);
    if (policy == NULL) {
        entry->retry_at = deadline_in_ms(RETRY_MS);
        entry->refresh_s = now_s + REFRESH_RETRY_S;
        return;
    }
    stscache_policy_unref(entry->policy);
    entry->policy = policy;
    entry->refresh_s = stscache_refresh_time(now_s);
    entry->retry_at = deadline_in_ms(0);
}

static void stscache_log_failure(const char *domain, const struct stscache_fetched *fetched)
{
    struct log_line line;
    log_begin(&line, LOG_LEVEL_NOTICE, "event=mta-sts");
    log_str(&line, "domain", domain);
    log_str(&line, "status", "no policy fetched");
    log_str(&line, "reason", fetched->why);
    log_end(&line);
}

/* If the record is gone, the policy is neither dropped nor fetched again. */
static bool stscache_is_worth_fetching(struct stscache *cache, struct stscache_entry *entry)
{
    char id[STS_ID_MAX + 1];

    if (!entry->is_refresh)
        return true;
    if (cache->source.record(cache->source.context, entry->domain, id) != STSCACHE_RECORD)
        return false;
    memcpy(entry->id, id, sizeof entry->id);
    return true;
}

static void stscache_write(struct stscache *cache, const char *domain,
                           const struct stscache_policy *policy, int64_t used_s,
                           const struct stscache_fetched *fetched)
{
    struct stsfiles_record record = {
        .fetched_s = policy->fetched_s, .expires_s = policy->expires_s, .used_s = used_s};

    snprintf(record.id, sizeof record.id, "%s", policy->id);
    stsfiles_write(&cache->files, domain, &record, fetched->text, fetched->len);
}

/* Without the lock: while the entry is FETCHING, its id and domain belong to the fetcher. */
static struct stscache_policy *stscache_fetch(struct stscache *cache, struct stscache_entry *entry,
                                              int64_t used_s, struct stscache_fetched *fetched)
{
    struct stscache_policy *policy = NULL;
    const char *why = "";

    *fetched = (struct stscache_fetched){.failure = STSCACHE_FETCH_FAILED};
    if (!stscache_is_worth_fetching(cache, entry)) {
        fetched->failure = STSCACHE_NOTHING_FAILED;
        return NULL;
    }
    cache->source.fetch(cache->source.context, entry->domain, &cache->ending, fetched);
    if (fetched->failure == STSCACHE_NOTHING_FAILED) {
        struct sts_policy *parsed = sts_read_policy(fetched->text, fetched->len, &why);
        if (parsed != NULL) {
            policy = stscache_policy_new(parsed, entry->id, stscache_now(cache));
        } else {
            fetched->failure = STSCACHE_POLICY_INVALID;
            snprintf(fetched->why, sizeof fetched->why, "the policy is invalid: %s", why);
        }
    }
    if (policy != NULL)
        stscache_write(cache, entry->domain, policy, used_s, fetched);
    else if (!atomic_load(&cache->ending))
        stscache_log_failure(entry->domain, fetched);
    free(fetched->text);
    return policy;
}

static void stscache_work_on(struct stscache *cache, struct stscache_entry *entry)
{
    struct stscache_fetched fetched;
    int64_t used_s = entry->used_s;

    entry->state = STSCACHE_FETCHING;
    pthread_mutex_unlock(&cache->lock);
    struct stscache_policy *policy = stscache_fetch(cache, entry, used_s, &fetched);
    pthread_mutex_lock(&cache->lock);
    stscache_take(cache, entry, policy, &fetched);
    entry->state = STSCACHE_IDLE;
    pthread_cond_broadcast(&cache->done);
}

static void *stscache_run(void *argument);

static void stscache_start_thread(struct stscache *cache)
{
    if (cache->thread_count < STSCACHE_FETCHERS &&
        thread_start(&cache->threads[cache->thread_count], FETCHER_STACK_SIZE, stscache_run,
                     cache) == 0)
        cache->thread_count++;
}

static void stscache_append(struct stscache *cache, struct stscache_entry *entry, bool is_refresh)
{
    entry->is_refresh = is_refresh;
    entry->state = STSCACHE_QUEUED;
    entry->behind = NULL;
    if (cache->first == NULL)
        cache->first = entry;
    else
        cache->last->behind = entry;
    cache->last = entry;
    cache->queued++;
}

static struct stscache_entry *stscache_dequeue(struct stscache *cache)
{
    struct stscache_entry *entry = cache->first;
    if (entry == NULL)
        return NULL;
    cache->first = entry->behind;
    ASSERT(cache->queued > 0);
    cache->queued--;
    return entry;
}

/* Finds the policy to refresh first; NULL: none. Drops policies that have expired, or that nobody has
 * used for long. */
static struct stscache_entry *stscache_next_refresh(struct stscache *cache, int64_t now_s)
{
    struct stscache_entry *soonest = NULL;

    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct stscache_entry *entry = cache->buckets[i], *next; entry != NULL; entry = next) {
            next = entry->next;
            if (!stscache_is_free(entry) || entry->policy == NULL)
                continue;
            if (now_s - entry->used_s > UNUSED_MAX_S || entry->policy->expires_s <= now_s)
                stscache_remove(cache, entry);
            else if (soonest == NULL || entry->refresh_s < soonest->refresh_s)
                soonest = entry;
        }
    }
    return soonest;
}

static void stscache_rest(struct stscache *cache)
{
    int64_t now_s = stscache_now(cache), wait_ms = IDLE_MS;
    struct stscache_entry *soonest = stscache_next_refresh(cache, now_s);

    if (soonest != NULL && soonest->refresh_s <= now_s) {
        stscache_append(cache, soonest, true);
        return;
    }
    if (soonest != NULL && soonest->refresh_s - now_s < IDLE_MS / 1000)
        wait_ms = (soonest->refresh_s - now_s) * 1000;
    cache->idle++;
    condition_wait(&cache->work, &cache->lock, deadline_in_ms(wait_ms));
    cache->idle--;
}

static void *stscache_run(void *argument)
{
    struct stscache *cache = argument;

    pthread_mutex_lock(&cache->lock);
    while (!atomic_load(&cache->ending)) {
        struct stscache_entry *entry = stscache_dequeue(cache);
        if (entry != NULL)
            stscache_work_on(cache, entry);
        else
            stscache_rest(cache);
    }
    pthread_mutex_unlock(&cache->lock);
    return NULL;
}

/* Lookups. */

static bool stscache_holds(const struct stscache *cache, const struct stscache_entry *entry)
{
    return entry->policy != NULL && entry->policy->expires_s > stscache_now(cache);
}

static void stscache_fill(struct stscache *cache, struct stscache_entry *entry,
                          struct stscache_answer *answer)
{
    if (entry == NULL)
        return;
    answer->failure = entry->failure;
    snprintf(answer->why, sizeof answer->why, "%s", entry->why);
    if (!stscache_holds(cache, entry))
        return;
    atomic_fetch_add(&entry->policy->references, 1);
    answer->policy = entry->policy;
}

/* With the lock held. */
static void stscache_await(struct stscache *cache, struct stscache_entry *entry,
                           struct deadline deadline)
{
    entry->waiters++;
    while (entry->state != STSCACHE_IDLE && !atomic_load(&cache->ending) &&
           condition_wait(&cache->done, &cache->lock, deadline))
        ;
    entry->waiters--;
}

static bool stscache_needs_fetch(const struct stscache *cache, const struct stscache_entry *entry,
                                 const char *id)
{
    if (entry->state != STSCACHE_IDLE || !deadline_passed(entry->retry_at))
        return false;
    return !stscache_holds(cache, entry) || strcmp(entry->policy->id, id) != 0;
}

void stscache_note_bare(struct stscache *cache, const char *domain, unsigned ttl_s)
{
    char folded[DNS_NAME_MAX];

    dns_name_fold(domain, folded);
    pthread_mutex_lock(&cache->lock);
    struct stscache_bare *bare = &cache->bare[stscache_hash(folded) % STSCACHE_BARE_MAX];
    free(bare->domain);
    bare->domain = strdup(folded);
    bare->until = deadline_in_ms((ttl_s < BARE_MAX_S ? ttl_s : BARE_MAX_S) * (int64_t)1000);
    pthread_mutex_unlock(&cache->lock);
}

bool stscache_is_bare(struct stscache *cache, const char *domain)
{
    char folded[DNS_NAME_MAX];

    dns_name_fold(domain, folded);
    pthread_mutex_lock(&cache->lock);
    const struct stscache_bare *bare = &cache->bare[stscache_hash(folded) % STSCACHE_BARE_MAX];
    bool is_bare =
        bare->domain != NULL && strcmp(bare->domain, folded) == 0 && !deadline_passed(bare->until);
    pthread_mutex_unlock(&cache->lock);
    return is_bare;
}

static void stscache_request(struct stscache *cache, struct stscache_entry *entry, const char *id)
{
    snprintf(entry->id, sizeof entry->id, "%s", id);
    stscache_append(cache, entry, false);
    /* An idle thread may already have been woken for another request. */
    if (cache->queued <= cache->idle)
        pthread_cond_signal(&cache->work);
    else
        stscache_start_thread(cache);
}

void stscache_find(struct stscache *cache, const char *domain, enum stscache_record record,
                   const char *id, struct deadline deadline, struct stscache_answer *answer)
{
    char folded[DNS_NAME_MAX];

    *answer = (struct stscache_answer){.policy = NULL};
    dns_name_fold(domain, folded);
    pthread_mutex_lock(&cache->lock);
    struct stscache_entry *entry = stscache_get(cache, folded);
    if (entry == NULL && record == STSCACHE_RECORD)
        entry = stscache_add(cache, folded);
    if (entry != NULL) {
        entry->used_s = stscache_now(cache);
        if (record == STSCACHE_RECORD && stscache_needs_fetch(cache, entry, id))
            stscache_request(cache, entry, id);
        /* While there is a policy, nobody waits for its daily refresh. */
        if (entry->state != STSCACHE_IDLE && !(entry->is_refresh && stscache_holds(cache, entry)))
            stscache_await(cache, entry, deadline);
    }
    stscache_fill(cache, entry, answer);
    pthread_mutex_unlock(&cache->lock);
}

void stscache_refresh(struct stscache *cache, const char *domain, const char *id,
                      struct deadline deadline, struct stscache_answer *answer)
{
    char folded[DNS_NAME_MAX];

    *answer = (struct stscache_answer){.policy = NULL};
    dns_name_fold(domain, folded);
    pthread_mutex_lock(&cache->lock);
    struct stscache_entry *entry = stscache_get(cache, folded);
    if (entry == NULL)
        entry = stscache_add(cache, folded);
    if (entry != NULL) {
        entry->used_s = stscache_now(cache);
        stscache_await(cache, entry, deadline);
        if (entry->state == STSCACHE_IDLE)
            stscache_request(cache, entry, id);
        stscache_await(cache, entry, deadline);
    }
    stscache_fill(cache, entry, answer);
    pthread_mutex_unlock(&cache->lock);
}

/* Life. */

struct stscache *stscache_new(const char *folder, const struct stscache_source *source,
                              struct error *err)
{
    struct stscache *cache = calloc(1, sizeof *cache);

    if (cache == NULL || stsfiles_open(&cache->files, folder) != 0 ||
        condition_init(&cache->work) != 0 || condition_init(&cache->done) != 0) {
        error_set(err, _("out of memory"));
        if (cache != NULL)
            stsfiles_free(&cache->files);
        free(cache);
        return NULL;
    }
    cache->source = *source;
    pthread_mutex_init(&cache->lock, NULL);
    pthread_mutex_lock(&cache->lock);
    stsfiles_load(&cache->files, stscache_take_file, cache);
    if (cache->count > 0)
        stscache_start_thread(cache);
    pthread_mutex_unlock(&cache->lock);
    return cache;
}

void stscache_free(struct stscache *cache)
{
    if (cache == NULL)
        return;
    pthread_mutex_lock(&cache->lock);
    atomic_store(&cache->ending, true);
    pthread_cond_broadcast(&cache->work);
    pthread_cond_broadcast(&cache->done);
    pthread_mutex_unlock(&cache->lock);
    for (unsigned i = 0; i < cache->thread_count; i++)
        pthread_join(cache->threads[i], NULL);
    stsfiles_close(&cache->files);
    for (size_t i = 0; i < BUCKETS; i++) {
        while (cache->buckets[i] != NULL)
            stscache_remove(cache, cache->buckets[i]);
    }
    for (size_t i = 0; i < STSCACHE_BARE_MAX; i++)
        free(cache->bare[i].domain);
    pthread_cond_destroy(&cache->work);
    pthread_cond_destroy(&cache->done);
    pthread_mutex_destroy(&cache->lock);
    stsfiles_free(&cache->files);
    free(cache);
}
