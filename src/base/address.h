/* base/address.h - IP addresses with a port, as the wire and the operator write them
 *
 * An IPv4-mapped IPv6 address (::ffff:a.b.c.d, what a dual-stack listener yields) is IPv4 from the
 * moment it becomes a struct address, so it is logged, counted, looked up and sent as IPv4
 * everywhere. Plain values, nothing to free, thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_ADDRESS_H
#define POSTERN_BASE_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDRESS_TEXT_MAX 64 /* fits "[ipv6]:port" and its NUL */

struct address {
    int family;     /* AF_INET or AF_INET6; AF_UNSPEC = none */
    uint8_t ip[16]; /* network order; the first 4 octets for IPv4, the rest zero */
    uint16_t port;  /* host order; 0 = none */
};

/* Converts what accept(2) or getsockname(2) returned. Other families become AF_UNSPEC. */
void address_from_sockaddr(struct address *address, const struct sockaddr *sockaddr);

/* The local address of the socket `fd` (getsockname(2)). False, with `address` unchanged, if it has
 * none. */
bool address_of_socket(struct address *address, int fd);

/* For connect(2)/bind(2). Returns the length used. */
socklen_t address_to_sockaddr(const struct address *address, struct sockaddr_storage *out);

/* Parses "198.51.100.7", "2001:db8::7" or "[2001:db8::7]"; the port becomes 0. Returns 0, or -1 if
 * `text` is not an address. */
int address_parse_ip(struct address *address, const char *text);

/* Reads a port: five digits at most and nothing else, 0 to 65535. Returns 0, or -1 if `text` is anything else. */
int address_parse_port(const char *text, uint16_t *port);

/* Parses "10.0.0.2:25" or "[::1]:25". Without ":port" the port is `default_port`; 0 makes the port
 * mandatory. The host "*" means "::". Returns 0, or -1 if malformed. */
int address_parse_endpoint(struct address *address, const char *text, uint16_t default_port);

/* The bare address, and the address with its port: "ip:port" or "[ip]:port". Both return `out`. */
const char *address_format_ip(const struct address *address, char out[ADDRESS_TEXT_MAX]);
const char *address_format_endpoint(const struct address *address, char out[ADDRESS_TEXT_MAX]);

/* Compares the addresses and ignores the ports. */
bool address_same_ip(const struct address *a, const struct address *b);

/* Compares the ports too. */
bool address_equal(const struct address *a, const struct address *b);

/* Is it 0.0.0.0 or [::]? */
bool address_is_wildcard(const struct address *address);

/* Can only one of them be listened on? A wildcard includes all of its family, and [::] those of IPv4 too. Port 0,
 * which is any free one, never collides. */
bool address_collides(const struct address *a, const struct address *b);

/* Are the first `bits` bits of two addresses in network order the same? */
bool address_same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits);

/* Is it one of these `count`, whatever the ports? */
bool address_is_among(const struct address *address, const struct address *list, size_t count);

/* True for any address that no host on the public internet has: loopback, private (RFC 1918),
 * shared (RFC 6598), link-local, unique-local (RFC 4193), multicast, unspecified, broadcast, "this
 * network". */
bool address_is_private(const struct address *address);

/* What counts as one client: an IPv4 address, or the /64 of an IPv6 address (port zeroed). */
struct address address_client_network(const struct address *address);

/* What counts as one site: an IPv4 /24, an IPv6 /48 (RFC 6177). */
struct address address_site_network(const struct address *address);

#endif
