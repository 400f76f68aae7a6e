/* base/cidr.h - sets of networks: allow lists, private clients, no-TLS hosts
 *
 * Built once while a configuration is loaded, then only read: cidr_set_contains() is thread-safe
 * on a finished set. The set owns its memory.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_CIDR_H
#define POSTERN_BASE_CIDR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"
#include "base/error.h"

struct cidr_set;

/* An empty set, or NULL when out of memory. Free it with cidr_set_free() (NULL is fine). */
struct cidr_set *cidr_set_new(void);
void cidr_set_free(struct cidr_set *set);

/* Adds "10.0.0.0/8", "2001:db8::/32" or a single address. Returns 0, or -1 with a reason in `err`
 * (not a network, bits set after the prefix, prefix too long, out of memory). */
int cidr_set_add(struct cidr_set *set, const char *text, struct error *err);

/* How many networks are in it. */
size_t cidr_set_count(const struct cidr_set *set);

/* The network at `index`, as "address/bits". Returns `out`. */
const char *cidr_set_format(const struct cidr_set *set, size_t index, char out[ADDRESS_TEXT_MAX]);

/* Is the prefix of the network at `index` shorter than `v4_bits` (IPv4) or `v6_bits` (IPv6)? */
bool cidr_set_is_wider(const struct cidr_set *set, size_t index, unsigned v4_bits,
                       unsigned v6_bits);

/* A NULL set contains nothing. */
bool cidr_set_contains(const struct cidr_set *set, const struct address *address);

#endif
