/* relay-out/talks-control.c - tells relayctl about connections to next hops, over the control socket
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/talks-control.h"

#include <stdlib.h>

#include "server/stats.h"

#define TALKS_SHOWN 1000

void talks_control_handle(struct talks *talks, struct host_cache *host_cache,
                          struct control_client *client)
{
    size_t count, total;
    struct talk_note *notes = talks_list(talks, host_cache, TALKS_SHOWN, &count, &total);

    if (notes == NULL) {
        control_error(client, "out of memory");
        return;
    }
    control_ok(client);
    for (size_t i = 0; i < count; i++)
        stats_put_line(client, "talk %s %.1f %s %s", talk_phase_name(notes[i].phase),
                       (double)notes[i].for_ms / 1000, notes[i].destination,
                       notes[i].host[0] != '\0' ? notes[i].host : "-");
    if (total > count)
        stats_put_line(client, "more %zu", total - count);
    free(notes);
}
