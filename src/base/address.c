/* base/address.c - IP addresses with a port, as the wire and the operator write them
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "base/address.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static void address_set_v6(struct address *address, const uint8_t ip[16])
{
    memset(address, 0, sizeof *address);
    if (memcmp(ip, mapped_prefix, sizeof mapped_prefix) == 0) {
        address->family = AF_INET;
        memcpy(address->ip, ip + 12, 4);
    } else {
        address->family = AF_INET6;
        memcpy(address->ip, ip, 16);
    }
}

void address_from_sockaddr(struct address *address, const struct sockaddr *sockaddr)
{
    memset(address, 0, sizeof *address);
    if (sockaddr->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sockaddr, sizeof in);
        address->family = AF_INET;
        memcpy(address->ip, &in.sin_addr, 4);
        address->port = ntohs(in.sin_port);
    } else if (sockaddr->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sockaddr, sizeof in6);
        address_set_v6(address, in6.sin6_addr.s6_addr);
        address->port = ntohs(in6.sin6_port);
    }
}

bool address_of_socket(struct address *address, int fd)
{
    struct sockaddr_storage sockaddr;
    socklen_t len = sizeof sockaddr;

    if (getsockname(fd, (struct sockaddr *)&sockaddr, &len) != 0)
        return false;
    address_from_sockaddr(address, (struct sockaddr *)&sockaddr);
    return true;
}

socklen_t address_to_sockaddr(const struct address *address, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (address->family == AF_INET) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(address->port)};
        memcpy(&in.sin_addr, address->ip, 4);
        memcpy(out, &in, sizeof in);
        return sizeof in;
    }
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(address->port)};
    memcpy(&in6.sin6_addr, address->ip, 16);
    memcpy(out, &in6, sizeof in6);
    return sizeof in6;
}

static int address_parse_bare(struct address *address, const char *text)
{
    uint8_t ip[16];
    memset(address, 0, sizeof *address);
    if (inet_pton(AF_INET, text, ip) == 1) {
        address->family = AF_INET;
        memcpy(address->ip, ip, 4);
        return 0;
    }
    if (inet_pton(AF_INET6, text, ip) != 1)
        return -1;
    address_set_v6(address, ip);
    return 0;
}

/* Copies text[0..len) into `out` as a string. Returns 0, or -1 if it does not fit. */
static int address_cut(char *out, size_t size, const char *text, size_t len)
{
    if (len >= size)
        return -1;
    memcpy(out, text, len);
    out[len] = '\0';
    return 0;
}

int address_parse_ip(struct address *address, const char *text)
{
    char bare[ADDRESS_TEXT_MAX];
    size_t len = strlen(text);
    if (len > 2 && text[0] == '[' && text[len - 1] == ']')
        return address_cut(bare, sizeof bare, text + 1, len - 2) == 0 && strchr(bare, ':') != NULL
                   ? address_parse_bare(address, bare)
                   : -1;
    return address_parse_bare(address, text);
}

int address_parse_port(const char *text, uint16_t *port)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || *end != '\0' || end - text > 5 || value > UINT16_MAX)
        return -1;
    *port = (uint16_t)value;
    return 0;
}

int address_parse_endpoint(struct address *address, const char *text, uint16_t default_port)
{
    char host[ADDRESS_TEXT_MAX];
    const char *colon = text[0] == '[' ? strstr(text, "]:") : strchr(text, ':');
    uint16_t port = default_port;

    if (colon != NULL && text[0] == '[')
        colon++;
    /* Several colons without brackets: an IPv6 address without a port. */
    if (colon != NULL && text[0] != '[' && strchr(colon + 1, ':') != NULL)
        colon = NULL;
    if (address_cut(host, sizeof host, text,
                    colon != NULL ? (size_t)(colon - text) : strlen(text)) != 0)
        return -1;
    if (colon != NULL ? address_parse_port(colon + 1, &port) != 0 : default_port == 0)
        return -1;
    if (address_parse_ip(address, strcmp(host, "*") == 0 ? "::" : host) != 0)
        return -1;
    address->port = port;
    return 0;
}

/* IPv4 is by far the most common, and inet_ntop() is slow. */
static void address_format_v4(const uint8_t ip[4], char *out)
{
    for (int i = 0; i < 4; i++) {
        unsigned value = ip[i];
        if (value >= 100)
            *out++ = (char)('0' + value / 100);
        if (value >= 10)
            *out++ = (char)('0' + value / 10 % 10);
        *out++ = (char)('0' + value % 10);
        *out++ = i < 3 ? '.' : '\0';
    }
}

const char *address_format_ip(const struct address *address, char out[ADDRESS_TEXT_MAX])
{
    if (address->family == AF_INET)
        address_format_v4(address->ip, out);
    else if (address->family != AF_INET6 ||
             inet_ntop(AF_INET6, address->ip, out, ADDRESS_TEXT_MAX) == NULL)
        strcpy(out, "unknown");
    return out;
}

const char *address_format_endpoint(const struct address *address, char out[ADDRESS_TEXT_MAX])
{
    char ip[ADDRESS_TEXT_MAX];
    bool v6 = address->family == AF_INET6;
    struct buffer text;

    buffer_init(&text, out, ADDRESS_TEXT_MAX);
    buffer_puts(&text, v6 ? "[" : "");
    buffer_puts(&text, address_format_ip(address, ip));
    buffer_puts(&text, v6 ? "]:" : ":");
    buffer_number(&text, address->port, 1);
    return out;
}

bool address_same_ip(const struct address *a, const struct address *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

bool address_equal(const struct address *a, const struct address *b)
{
    return a->port == b->port && address_same_ip(a, b);
}

bool address_is_wildcard(const struct address *address)
{
    static const uint8_t zeros[sizeof address->ip];
    return memcmp(address->ip, zeros, sizeof zeros) == 0;
}

static bool address_includes(const struct address *wide, const struct address *other)
{
    return address_same_ip(wide, other) ||
           (address_is_wildcard(wide) && (wide->family == AF_INET6 || other->family == AF_INET));
}

bool address_collides(const struct address *a, const struct address *b)
{
    return a->port == b->port && a->port != 0 && (address_includes(a, b) || address_includes(b, a));
}

struct network {
    uint8_t prefix[4];
    unsigned bits;
};

bool address_same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    return memcmp(a, b, whole) == 0 && (rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0);
}

bool address_is_among(const struct address *address, const struct address *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (address_same_ip(address, &list[i]))
            return true;
    }
    return false;
}

static bool address_in_any(const struct address *address, const struct network *networks,
                           size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (address_same_prefix(address->ip, networks[i].prefix, networks[i].bits))
            return true;
    }
    return false;
}

bool address_is_private(const struct address *address)
{
    static const struct network v4[] = {
        {{0}, 8},        {{10}, 8},        {{100, 64}, 10}, {{127}, 8}, {{169, 254}, 16},
        {{172, 16}, 12}, {{192, 168}, 16}, {{224}, 4},      {{240}, 4},
    };
    static const struct network v6[] = {
        {{0xfc}, 7},
        {{0xfe, 0x80}, 10},
        {{0xfe, 0xc0}, 10},
        {{0xff}, 8},
    };
    static const uint8_t zero[15];

    if (address->family == AF_INET)
        return address_in_any(address, v4, sizeof v4 / sizeof v4[0]);
    if (address->family != AF_INET6)
        return true;
    /* "::" and "::1" */
    if (memcmp(address->ip, zero, sizeof zero) == 0 && address->ip[15] <= 1)
        return true;
    return address_in_any(address, v6, sizeof v6 / sizeof v6[0]);
}

struct address address_client_network(const struct address *address)
{
    struct address network = *address;
    network.port = 0;
    if (network.family == AF_INET6)
        memset(network.ip + 8, 0, 8);
    return network;
}

struct address address_site_network(const struct address *address)
{
    struct address network = address_client_network(address);
    size_t kept = network.family == AF_INET ? 3 : 6;
    memset(network.ip + kept, 0, sizeof network.ip - kept);
    return network;
}
