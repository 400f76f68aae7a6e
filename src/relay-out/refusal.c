/* relay-out/refusal.c - counts the outcomes of recipients at next hops and keeps the last final refusal
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/refusal.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "relay-out/outbound.h"

void refusal_init(struct refusal *refusal)
{
    memset(refusal, 0, sizeof *refusal);
    pthread_mutex_init(&refusal->lock, NULL);
}

void refusal_note(const struct outbound *out, enum counter outcome, const char *domain,
                  const char *relay, const char *reply)
{
    struct refusal *refusal = out->refusal;

    counters_add(out->counters, outcome, 1);
    if (outcome != COUNTER_BOUNCED || refusal == NULL)
        return;
    pthread_mutex_lock(&refusal->lock);
    refusal->at = (int64_t)time(NULL);
    /* The domain says enough about the recipient. */
    snprintf(refusal->text, sizeof refusal->text, "%.64s for %.64s: %.400s", relay, domain, reply);
    pthread_mutex_unlock(&refusal->lock);
}

bool refusal_get(struct refusal *refusal, int64_t *at, char out[REFUSAL_TEXT_MAX])
{
    pthread_mutex_lock(&refusal->lock);
    *at = refusal->at;
    memcpy(out, refusal->text, REFUSAL_TEXT_MAX);
    pthread_mutex_unlock(&refusal->lock);
    return *at != 0;
}
