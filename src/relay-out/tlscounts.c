/* relay-out/tlscounts.c - counts the results of TLS sessions for each published policy
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/tlscounts.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/i18n.h"

#define DAY_S 86400

struct tlscounts_entry {
    struct tlscounts_entry *next; /* used less recently than this one */
    int64_t failed_s;             /* the last failure that got a log line; 0: none */
    struct tlscounts_row row;
};

struct tlscounts {
    struct counters *counters;
    pthread_mutex_t lock;
    struct tlscounts_entry *latest;
    size_t count;
};

const char *tls_policy_type_name(enum tls_policy_type type)
{
    static const char *const names[] = {"no-policy-found", "tlsa", "sts"};
    return names[type];
}

const char *tls_result_name(enum tls_result result)
{
    static const char *const names[TLS_RESULTS] = {
        [TLS_RESULT_SUCCESS] = "success",
        [TLS_RESULT_STARTTLS_NOT_SUPPORTED] = "starttls-not-supported",
        [TLS_RESULT_CERTIFICATE_HOST_MISMATCH] = "certificate-host-mismatch",
        [TLS_RESULT_CERTIFICATE_EXPIRED] = "certificate-expired",
        [TLS_RESULT_CERTIFICATE_NOT_TRUSTED] = "certificate-not-trusted",
        [TLS_RESULT_VALIDATION_FAILURE] = "validation-failure",
        [TLS_RESULT_TLSA_INVALID] = "tlsa-invalid",
        [TLS_RESULT_DNSSEC_INVALID] = "dnssec-invalid",
        [TLS_RESULT_DANE_REQUIRED] = "dane-required",
        [TLS_RESULT_STS_POLICY_FETCH_ERROR] = "sts-policy-fetch-error",
        [TLS_RESULT_STS_POLICY_INVALID] = "sts-policy-invalid",
        [TLS_RESULT_STS_WEBPKI_INVALID] = "sts-webpki-invalid",
    };
    return names[result];
}

struct tlscounts *tlscounts_new(struct counters *counters, struct error *err)
{
    struct tlscounts *counts = calloc(1, sizeof *counts);

    if (counts == NULL) {
        error_set(err, _("out of memory"));
        return NULL;
    }
    counts->counters = counters;
    pthread_mutex_init(&counts->lock, NULL);
    return counts;
}

void tlscounts_free(struct tlscounts *counts)
{
    if (counts == NULL)
        return;
    while (counts->latest != NULL) {
        struct tlscounts_entry *entry = counts->latest;
        counts->latest = entry->next;
        free(entry);
    }
    pthread_mutex_destroy(&counts->lock);
    free(counts);
}

/* The link to the entry. If there is none: to the last one if there is no room, else the list's end. */
static struct tlscounts_entry **tlscounts_find(struct tlscounts *counts, const char *domain,
                                               enum tls_policy_type type)
{
    struct tlscounts_entry **at = &counts->latest;

    for (; *at != NULL; at = &(*at)->next) {
        if ((*at)->row.type == type && strcasecmp((*at)->row.domain, domain) == 0)
            break;
        if ((*at)->next == NULL && counts->count == TLSCOUNTS_MAX)
            break;
    }
    return at;
}

/* Finds or makes the entry, and moves it to the front. NULL when out of memory. */
static struct tlscounts_entry *tlscounts_get(struct tlscounts *counts, const char *domain,
                                             enum tls_policy_type type)
{
    struct tlscounts_entry **at = tlscounts_find(counts, domain, type), *entry = *at;

    if (entry == NULL) {
        entry = calloc(1, sizeof *entry);
        if (entry == NULL)
            return NULL;
        counts->count++;
    } else {
        *at = entry->next;
        if (entry->row.type != type || strcasecmp(entry->row.domain, domain) != 0)
            memset(entry, 0, sizeof *entry);
    }
    entry->row.type = type;
    snprintf(entry->row.domain, sizeof entry->row.domain, "%s", domain);
    entry->next = counts->latest;
    counts->latest = entry;
    return entry;
}

/* Rows and results have the same order. */
_Static_assert(COUNTER_POLICY_STS_WEBPKI_INVALID - COUNTER_POLICY_STARTTLS_NOT_SUPPORTED + 2 ==
                   TLS_RESULTS,
               "each failure has its row");

static enum counter tlscounts_row(enum tls_result failure)
{
    return COUNTER_POLICY_STARTTLS_NOT_SUPPORTED + failure - TLS_RESULT_STARTTLS_NOT_SUPPORTED;
}

/* Lets the days pass that have passed since the row was counted last. If the clock was set back, the later day's
 * counts continue. */
static void tlscounts_turn_days(struct tlscounts_row *row, int64_t now_s)
{
    const int64_t passed = now_s / DAY_S - row->day;

    if (passed <= 0)
        return;
    if (passed == 1)
        memcpy(row->days[TLSCOUNTS_YESTERDAY], row->days[TLSCOUNTS_TODAY],
               sizeof row->days[TLSCOUNTS_TODAY]);
    else
        memset(row->days[TLSCOUNTS_YESTERDAY], 0, sizeof row->days[TLSCOUNTS_YESTERDAY]);
    memset(row->days[TLSCOUNTS_TODAY], 0, sizeof row->days[TLSCOUNTS_TODAY]);
    row->day = now_s / DAY_S;
}

bool tlscounts_add(struct tlscounts *counts, const char *domain, enum tls_policy_type type,
                   enum tls_result result, const char *host, const char *reason, int64_t now_s)
{
    bool is_first = false;

    if (type != TLS_POLICY_NONE && result != TLS_RESULT_SUCCESS)
        counters_add(counts->counters, tlscounts_row(result), 1);
    pthread_mutex_lock(&counts->lock);
    struct tlscounts_entry *entry = tlscounts_get(counts, domain, type);
    if (entry != NULL) {
        struct tlscounts_row *row = &entry->row;
        tlscounts_turn_days(row, now_s);
        row->counts[result]++;
        row->days[TLSCOUNTS_TODAY][result]++;
        row->changed_s = now_s;
        if (result != TLS_RESULT_SUCCESS) {
            snprintf(row->host, sizeof row->host, "%s", host);
            snprintf(row->reason, sizeof row->reason, "%s", reason);
            /* Before it, if the clock was set back. */
            is_first =
                entry->failed_s == 0 || now_s < entry->failed_s || now_s - entry->failed_s >= DAY_S;
            if (is_first)
                entry->failed_s = now_s;
        }
    }
    pthread_mutex_unlock(&counts->lock);
    return is_first;
}

int tlscounts_list(struct tlscounts *counts, int64_t now_s,
                   void (*take)(void *context, const struct tlscounts_row *row), void *context)
{
    size_t count = 0;

    pthread_mutex_lock(&counts->lock);
    struct tlscounts_row *rows = malloc((counts->count + 1) * sizeof *rows);
    for (struct tlscounts_entry *entry = counts->latest; rows != NULL && entry != NULL;
         entry = entry->next)
        rows[count++] = entry->row;
    pthread_mutex_unlock(&counts->lock);
    if (rows == NULL)
        return -1;
    for (size_t i = 0; i < count; i++) {
        tlscounts_turn_days(&rows[i], now_s);
        take(context, &rows[i]);
    }
    free(rows);
    return 0;
}
