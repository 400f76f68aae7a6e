/* relay-out/refusal.h - what became of recipients at next hops, counted, and the last final refusal kept
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

#define REFUSAL_TEXT_MAX 600

struct outbound;

struct refusal {
    pthread_mutex_t lock;
    int64_t at; /* seconds since 1970; 0: there was none */
    char text[REFUSAL_TEXT_MAX];
};

/* Nothing counted, nothing refused. Before any thread uses it. */
void refusal_init(struct refusal *refusal);

enum refusal_outcome { REFUSAL_SENT, REFUSAL_PUT_OFF, REFUSAL_BOUNCED };

/* A try for a recipient of this domain is over, with this reply of the next hop's or of ours. */
void refusal_note(const struct outbound *out, enum refusal_outcome outcome, const char *domain,
                  const char *relay, const char *reply);

/* False when there was none. */
bool refusal_get(struct refusal *refusal, int64_t *at, char out[REFUSAL_TEXT_MAX]);

#endif
