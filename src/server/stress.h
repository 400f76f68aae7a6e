/* server/stress.h - what happens when few workers, connections or places at a next hop are left
 *
 * Stress begins when few workers have been free for a while, or at once when few connections are left. It
 * ends after a longer time without a cause. smtp/session-wait.c has its effect on clients, connection.c on
 * idle ones. Under stress or not, clients that make their transactions wait are cut if there are too many
 * of them, or if others wait for what they hold. Owns nothing. Runs on the gate's thread.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_STRESS_H
#define POSTERN_SERVER_STRESS_H

#include "server/connection.h"

struct stress {
    int64_t busy_since_ms; /* since when few workers are free; 0 = enough are */
    int64_t caused_ms;     /* when there was last a cause */
    int64_t room_due_ms;   /* when to look for slow clients again */
};

/* Call it before new work is handed out: updates whether enough workers are free. */
void stress_look(struct stress *stress, struct connections *all, const struct service *service);

/* Call it after that: begins or ends stress, and cuts slow clients. Returns when to call it again unless
 * something changes. */
int64_t stress_judge(struct stress *stress, struct connections *all, const struct service *service);

#endif
