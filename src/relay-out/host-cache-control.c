/* relay-out/host-cache-control.c - tells relayctl what is remembered about other hosts, over the control socket
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/host-cache-control.h"

#include <inttypes.h>
#include <stdbool.h>

struct host_cache_control_answer {
    struct control_client *client;
    bool begun;
};

static void host_cache_begin(struct host_cache_control_answer *answer)
{
    if (!answer->begun)
        control_ok(answer->client);
    answer->begun = true;
}

static void host_cache_put(void *context, const struct remote_note *note)
{
    static const char *const marks[] = {[REMOTE_DEAD] = "dead",
                                        [REMOTE_DEFERRED] = "deferred",
                                        [REMOTE_TLS_FAILED] = "tls-failed",
                                        [REMOTE_LOGIN_REFUSED] = "login-refused"};
    struct host_cache_control_answer *answer = context;
    char address[ADDRESS_TEXT_MAX];

    host_cache_begin(answer);
    control_printf(answer->client, "host %s %" PRId64 " %s %s %s %s\n", marks[note->mark],
                   note->left_ms / 1000, note->destination, note->name,
                   address_format_endpoint(&note->address, address), note->reason);
}

void host_cache_control_handle(struct host_cache *host_cache, struct control_client *client)
{
    struct host_cache_control_answer answer = {.client = client};

    if (host_cache_list(host_cache, host_cache_put, &answer) != 0)
        control_error(client, "out of memory");
    else
        host_cache_begin(&answer);
}
