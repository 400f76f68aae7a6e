/* relayctl/tunnel.c - the state of the WireGuard tunnel to a host, from wg(8), which needs root
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/tunnel.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cidr.h"
#include "relayctl/run.h"

#define TUNNEL_ASK_S 5
#define TUNNEL_OUTPUT_MAX 32768 /* some 400 peers */
#define TUNNEL_KEY_MAX 64       /* octets of a public key */

/* The prefix of the network that contains the host: WireGuard sends to the peer with the longest one. -1: no
 * network of the list does. */
static int tunnel_prefix(char *networks, const struct address *host)
{
    char *rest = NULL;
    int longest = -1;

    for (char *network = strtok_r(networks, " ", &rest); network != NULL;
         network = strtok_r(NULL, " ", &rest)) {
        struct cidr_set *set = cidr_set_new();
        const char *slash = strchr(network, '/');
        int prefix = slash != NULL ? atoi(slash + 1) : 0;
        /* "(none)" is no network. */
        if (set != NULL && cidr_set_add(set, network, NULL) == 0 && cidr_set_contains(set, host) &&
            prefix > longest)
            longest = prefix;
        cidr_set_free(set);
    }
    return longest;
}

/* Lines of "interface key network network ..." */
static bool tunnel_find_peer(char *text, const struct address *host, struct tunnel *out,
                             char peer[TUNNEL_KEY_MAX])
{
    char *rest = NULL, interface[sizeof out->interface], key[TUNNEL_KEY_MAX];
    int longest = -1, used = 0;

    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (sscanf(line, "%31s %63s %n", interface, key, &used) != 2)
            continue;
        int prefix = tunnel_prefix(line + used, host);
        if (prefix <= longest)
            continue;
        longest = prefix;
        strcpy(out->interface, interface);
        strcpy(peer, key);
    }
    return longest >= 0;
}

bool tunnel_find(const struct address *host, struct tunnel *out)
{
    static const char *const networks[] = {"wg", "show", "all", "allowed-ips", NULL};
    static const char *const handshakes[] = {"wg", "show", "all", "latest-handshakes", NULL};
    char text[TUNNEL_OUTPUT_MAX], interface[32], *rest = NULL;
    char peer[TUNNEL_KEY_MAX], key[TUNNEL_KEY_MAX];
    int64_t handshake;

    out->handshake = 0;
    if (!run_command(networks, TUNNEL_ASK_S, text, sizeof text) ||
        !tunnel_find_peer(text, host, out, peer) ||
        !run_command(handshakes, TUNNEL_ASK_S, text, sizeof text))
        return false;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (sscanf(line, "%31s %63s %" SCNd64, interface, key, &handshake) == 3 &&
            strcmp(key, peer) == 0 && strcmp(interface, out->interface) == 0)
            out->handshake = handshake;
    }
    return true;
}
