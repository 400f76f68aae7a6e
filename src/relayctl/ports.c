/* relayctl/ports.c - which process holds a port of this host, and whether an address is local
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/ports.h"

#include <ctype.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The address in /proc/net/tcp or tcp6: words of eight digits, in the order of the host. */
static void ports_read_address(const char *digits, struct address *out)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } socket = {.any = {.sa_family = strlen(digits) == 8 ? AF_INET : AF_INET6}};
    uint8_t *at =
        strlen(digits) == 8 ? (uint8_t *)&socket.v4.sin_addr : socket.v6.sin6_addr.s6_addr;
    unsigned word;

    for (; sscanf(digits, "%8x", &word) == 1; digits += 8, at += sizeof word)
        memcpy(at, &word, sizeof word);
    address_from_sockaddr(out, &socket.any);
}

/* The inode of the socket that listens at that address and port, from /proc/net/tcp or tcp6; 0: none. */
static unsigned long ports_listener(const char *table, const struct address *address)
{
    char line[300], digits[33];
    struct address there;
    unsigned long found = 0;
    FILE *file = fopen(table, "r");

    while (file != NULL && found == 0 && fgets(line, sizeof line, file) != NULL) {
        unsigned port, state;
        unsigned long inode;
        if (sscanf(line, " %*u: %32[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %*s %*s %lu", digits, &port,
                   &state, &inode) != 4 ||
            state != 0x0a)
            continue;
        ports_read_address(digits, &there);
        there.port = (uint16_t)port;
        if (address_collides(&there, address))
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

enum ports_result ports_holder(const struct address *address, char *holder, size_t size)
{
    unsigned long inode = ports_listener("/proc/net/tcp6", address);

    if (inode == 0)
        inode = ports_listener("/proc/net/tcp", address);
    if (inode == 0)
        return PORTS_FREE;
    return ports_owner(inode, holder, size) ? PORTS_HELD : PORTS_UNSEEN;
}

const char *ports_unit(const char *holder)
{
    static const char *const units[][2] = {
        {"master", "postfix"},  {"exim4", "exim4"}, {"smtpd", "opensmtpd"},
        {"haproxy", "haproxy"}, {"nginx", "nginx"}, {"sendmail-mta", "sendmail"},
    };

    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(holder, units[i][0]) == 0)
            return units[i][1];
    }
    return NULL;
}

bool ports_is_local(const struct address *address)
{
    struct ifaddrs *all = NULL;
    bool found = address_is_wildcard(address);

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
