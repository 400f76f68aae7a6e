/* relay-out/refusal.h - counts the outcomes of recipients at next hops and keeps the last final refusal
 *
 * One for the process, owned by main; thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_REFUSAL_H
#define POSTERN_RELAY_OUT_REFUSAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "smtp/counters.h"

#define REFUSAL_TEXT_MAX 600

struct outbound;

struct refusal {
    pthread_mutex_t lock;
    int64_t at; /* seconds since 1970; 0: there was none */
    char text[REFUSAL_TEXT_MAX];
};

/* Starts empty. Call before any thread uses it. */
void refusal_init(struct refusal *refusal);

/* Records the end of an attempt for a recipient of this domain, with the next hop's reply or ours. `outcome` is
 * COUNTER_SENT, COUNTER_PUT_OFF or COUNTER_BOUNCED. */
void refusal_note(const struct outbound *out, enum counter outcome, const char *domain,
                  const char *relay, const char *reply);

/* Copies the last refusal. False if there was none. */
bool refusal_get(struct refusal *refusal, int64_t *at, char out[REFUSAL_TEXT_MAX]);

#endif
