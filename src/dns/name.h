/* dns/name.h - domain names: read from records, checked as host names, made from addresses
 *
 * The modules that ask the DNS (dns/reverse, dns/mx, server/dnsbl) use it to read records and to
 * build the names they ask for. Names are text without the final dot. Nothing to free, thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_DNS_NAME_H
#define POSTERN_DNS_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

#define DNS_NAME_MAX 256 /* octets, the NUL included */

/* The record types that Postern asks for (RFC 1035 3.2.2, RFC 3596, RFC 6698). */
enum {
    DNS_TYPE_A = 1,
    DNS_TYPE_CNAME = 5,
    DNS_TYPE_PTR = 12,
    DNS_TYPE_MX = 15,
    DNS_TYPE_TXT = 16,
    DNS_TYPE_AAAA = 28,
    DNS_TYPE_TLSA = 52,
};

/* Reads an uncompressed name that fills data[0..len), such as the data of a PTR record. The root
 * becomes "". Returns 0, or -1 if it is malformed, or if a label holds a dot, a backslash or
 * anything but printable ASCII: no host has such a name. */
int dns_name_read(const uint8_t *data, size_t len, char name[DNS_NAME_MAX]);

/* Reads the data of an MX record: preference and exchange. Returns 0, or -1 as above. */
int dns_mx_read(const uint8_t *data, size_t len, unsigned *preference, char name[DNS_NAME_MAX]);

/* Reads the data of an A (4 octets) or AAAA (16 octets) record; the port becomes 0. Returns 0, or -1
 * for any other length. */
int dns_address_read(const uint8_t *data, size_t len, struct address *address);

/* Is it a host name by Postfix's rules for XCLIENT NAME? Letters, digits, '_' and inner '-', labels
 * of 1 to 63 octets, 255 in all, no final dot, and not only digits and dots. */
bool dns_name_is_hostname(const char *name);

/* Turns a domain as people write it, possibly in UTF-8 (RFC 6531 3.2), into the host name to ask the
 * DNS for: labels that are not ASCII become A-labels (RFC 5891). Returns 0, or -1 if it cannot be
 * converted or is not a host name. */
int dns_name_to_ascii(const char *domain, char name[DNS_NAME_MAX]);

/* Writes the one form in which domains are compared: lower case, with A-labels for labels that are
 * not ASCII. A name that cannot be converted stays as it is, with its ASCII letters in lower case.
 * False if it is empty or does not fit DNS_NAME_MAX. */
bool dns_name_fold(const char *domain, char name[DNS_NAME_MAX]);

/* Same name? Ignores case, and whether a label is an A-label or a U-label. */
bool dns_name_equal(const char *a, const char *b);

/* Writes "7.100.51.198.SUFFIX", or the 32 nibbles of an IPv6 address before SUFFIX. A NULL `suffix`
 * means in-addr.arpa or ip6.arpa. Returns 0, or -1 if the name would be too long or `address` is
 * AF_UNSPEC. */
int dns_name_of_address(const struct address *address, const char *suffix, char name[DNS_NAME_MAX]);

#endif
