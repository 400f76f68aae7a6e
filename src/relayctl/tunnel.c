/* relayctl/tunnel.c - the state of the WireGuard tunnel to a host, from wg(8), which needs root
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/tunnel.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cidr.h"

#define PEER_MAX 64 /* octets of a public key */

static bool tunnel_allows(char *networks, const struct address *host)
{
    struct cidr_set *set = cidr_set_new();
    char *rest = NULL;

    for (char *network = strtok_r(networks, " \t\n", &rest); network != NULL && set != NULL;
         network = strtok_r(NULL, " \t\n", &rest))
        cidr_set_add(set, network, NULL); /* refuses "(none)", as it should */
    bool allows = cidr_set_contains(set, host);
    cidr_set_free(set);
    return allows;
}

/* "interface key network network ..." */
static bool tunnel_find_peer(const struct address *host, struct tunnel *out, char peer[PEER_MAX])
{
    FILE *wg = popen("wg show all allowed-ips 2>/dev/null", "re");
    char *line = NULL;
    size_t size = 0;
    int used = 0;
    bool found = false;

    while (wg != NULL && !found && getline(&line, &size, wg) >= 0)
        found = sscanf(line, "%31s %63s %n", out->interface, peer, &used) == 2 &&
                tunnel_allows(line + used, host);
    free(line);
    if (wg != NULL)
        pclose(wg);
    return found;
}

bool tunnel_find(const struct address *host, struct tunnel *out)
{
    char peer[PEER_MAX], interface[32], key[PEER_MAX];
    int64_t handshake;

    out->handshake = 0;
    if (geteuid() != 0 || !tunnel_find_peer(host, out, peer))
        return false;
    FILE *wg = popen("wg show all latest-handshakes 2>/dev/null", "re");
    while (wg != NULL && fscanf(wg, "%31s %63s %" SCNd64, interface, key, &handshake) == 3) {
        if (strcmp(key, peer) == 0 && strcmp(interface, out->interface) == 0)
            out->handshake = handshake;
    }
    if (wg != NULL)
        pclose(wg);
    return true;
}
