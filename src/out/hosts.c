/* out/hosts.c - what relay-out tells relayctl of the hosts out there, by its control socket
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "out/hosts.h"

#include <inttypes.h>
#include <stdbool.h>

struct hosts_answer {
    struct control_client *client;
    bool begun;
};

static void hosts_begin(struct hosts_answer *answer)
{
    if (!answer->begun)
        control_ok(answer->client, "%s", "");
    answer->begun = true;
}

static void hosts_put(void *context, const struct remote_note *note)
{
    static const char *const marks[] = {
        [REMOTE_DEAD] = "dead", [REMOTE_DEFERRED] = "deferred", [REMOTE_TLS_FAILED] = "tls-failed"};
    struct hosts_answer *answer = context;
    char address[ADDRESS_TEXT_MAX];

    hosts_begin(answer);
    control_printf(answer->client, "host %s %" PRId64 " %s %s %s %s\n", marks[note->mark],
                   note->left_ms / 1000, note->destination, note->name,
                   address_format_endpoint(&note->address, address), note->reason);
}

void hosts_handle(struct remotes *remotes, struct control_client *client)
{
    struct hosts_answer answer = {.client = client};

    if (remotes_list(remotes, hosts_put, &answer) != 0)
        control_error(client, "out of memory");
    else
        hosts_begin(&answer);
}
