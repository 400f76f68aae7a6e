/* relayctl/ports.c - which process holds a port of this host, and whether an address is local
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/ports.h"

#include <ctype.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The inode of the socket that listens on that port, from /proc/net/tcp or tcp6; 0: none. */
static unsigned long ports_listener(const char *table, unsigned port)
{
    char line[300];
    unsigned long found = 0;
    FILE *file = fopen(table, "r");

    while (file != NULL && found == 0 && fgets(line, sizeof line, file) != NULL) {
        unsigned at, state;
        unsigned long inode;
        if (sscanf(line, " %*u: %*[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %*s %*s %lu", &at, &state,
                   &inode) == 3 &&
            state == 0x0a && at == port)
            found = inode;
    }
    if (file != NULL)
        fclose(file);
    return found;
}

/* Stores the name of the process that holds the socket. False if it cannot be seen. */
static bool ports_owner(unsigned long inode, char *out, size_t size)
{
    char wanted[64], path[600], link[64];
    bool found = false;
    DIR *processes = opendir("/proc");

    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    for (struct dirent *p; processes != NULL && !found && (p = readdir(processes)) != NULL;) {
        if (!isdigit((unsigned char)p->d_name[0]))
            continue;
        snprintf(path, sizeof path, "/proc/%s/fd", p->d_name);
        DIR *fds = opendir(path);
        for (struct dirent *f; fds != NULL && !found && (f = readdir(fds)) != NULL;) {
            ssize_t len = readlinkat(dirfd(fds), f->d_name, link, sizeof link - 1);
            link[len > 0 ? len : 0] = '\0';
            found = strcmp(link, wanted) == 0;
        }
        if (fds != NULL)
            closedir(fds);
        snprintf(path, sizeof path, "/proc/%s/comm", p->d_name);
        FILE *comm = found ? fopen(path, "r") : NULL;
        found = comm != NULL && fgets(out, (int)size, comm) != NULL;
        out[found ? strcspn(out, "\n") : 0] = '\0';
        if (comm != NULL)
            fclose(comm);
    }
    if (processes != NULL)
        closedir(processes);
    return found;
}

enum ports_result ports_holder(uint16_t port, char *holder, size_t size)
{
    unsigned long inode = ports_listener("/proc/net/tcp6", port);

    if (inode == 0)
        inode = ports_listener("/proc/net/tcp", port);
    if (inode == 0)
        return PORTS_FREE;
    return ports_owner(inode, holder, size) ? PORTS_HELD : PORTS_UNSEEN;
}

bool ports_is_local(const struct address *address)
{
    static const struct address any;
    struct ifaddrs *all = NULL;
    bool found = memcmp(address->ip, any.ip, sizeof any.ip) == 0;

    /* If it cannot be checked, don't complain. */
    if (getifaddrs(&all) != 0)
        return true;
    for (struct ifaddrs *one = all; one != NULL && !found; one = one->ifa_next) {
        struct address own;
        if (one->ifa_addr == NULL)
            continue;
        address_from_sockaddr(&own, one->ifa_addr);
        found = own.family != AF_UNSPEC && address_same_ip(&own, address);
    }
    freeifaddrs(all);
    return found;
}
