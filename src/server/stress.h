/* server/stress.h - when workers, connections or places at a next hop are getting few
 *
 * Stress sets in when for a while few workers are free, or at once when few connections are; it is
 * over when for a longer while there was no cause. What it means for a client is in
 * smtp/session-wait.c, and for idle ones in connection.c. In stress or not, clients that make their
 * transactions wait have to go when there are too many of them, or when others wait for what they
 * hold. On the gate's thread.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_STRESS_H
#define POSTERN_SERVER_STRESS_H

#include "server/connection.h"

struct stress {
    int64_t busy_since_ms; /* few workers are free; 0 = enough are */
    int64_t caused_ms;     /* when there was a cause last */
    int64_t room_due_ms;   /* when slow ones may be looked for again */
};

/* Before anybody new gets to work: are enough workers free by now? */
void stress_look(struct stress *stress, struct connections *all, const struct service *service);

/* And after: what has changed? Returns until when nothing but such a change can. */
int64_t stress_judge(struct stress *stress, struct connections *all, const struct service *service);

#endif
