/* relay-out/own-addresses.c - this host, to which mail must not be sent
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/own-addresses.h"

#include <ifaddrs.h>
#include <string.h>

static void own_addresses_add_address(struct own_addresses *ours, const struct address *address)
{
    if (address->family != AF_UNSPEC && ours->address_count < OWN_ADDRESSES_MAX &&
        !own_addresses_has_address(ours, address))
        ours->addresses[ours->address_count++] = *address;
}

static void own_addresses_add_interfaces(struct own_addresses *ours)
{
    struct ifaddrs *list;

    if (getifaddrs(&list) != 0)
        return;
    for (const struct ifaddrs *item = list; item != NULL; item = item->ifa_next) {
        struct address address;
        if (item->ifa_addr == NULL)
            continue;
        address_from_sockaddr(&address, item->ifa_addr);
        own_addresses_add_address(ours, &address);
    }
    freeifaddrs(list);
}

static void own_addresses_add_listeners(struct own_addresses *ours, const struct listen_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        ours->ports[ours->port_count++] = list->items[i].address.port;
        own_addresses_add_address(ours, &list->items[i].address);
    }
}

void own_addresses_find(struct own_addresses *ours, const struct config *config)
{
    memset(ours, 0, sizeof *ours);
    ours->names[ours->name_count++] = config->hostname;
    if (config->out.hello[0] != '\0')
        ours->names[ours->name_count++] = config->out.hello;
    for (size_t i = 0; i < config->out.own_addresses.count; i++)
        own_addresses_add_address(ours, &config->out.own_addresses.items[i]);
    if (config->parts & CONFIG_PART_IN)
        own_addresses_add_listeners(ours, &config->in.listen);
    own_addresses_add_listeners(ours, &config->out.listen);
    own_addresses_add_interfaces(ours);
}

bool own_addresses_has_address(const struct own_addresses *ours, const struct address *address)
{
    return address_is_among(address, ours->addresses, ours->address_count);
}

bool own_addresses_has_name(const struct own_addresses *ours, const char *name)
{
    for (size_t i = 0; i < ours->name_count; i++) {
        if (dns_name_equal(ours->names[i], name))
            return true;
    }
    return false;
}

/* All of 127.0.0.0/8 is this host. */
static bool own_addresses_is_loopback(const struct address *address)
{
    return address->family == AF_INET && address->ip[0] == 127;
}

bool own_addresses_listen(const struct own_addresses *ours, const struct address *address,
                          uint16_t port)
{
    if (!own_addresses_is_loopback(address) && !own_addresses_has_address(ours, address))
        return false;
    for (size_t i = 0; i < ours->port_count; i++) {
        if (ours->ports[i] == port)
            return true;
    }
    return false;
}
