/* dns/name.h - domain names: off the wire, as host names, and of addresses
 *
 * What the modules that ask the DNS (dns/reverse, dns/mx, server/dnsbl) need to read records and to
 * make the names they ask for. Names are text without the final dot. Nothing to free, thread-safe.
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

/* Record types that are asked for here (RFC 1035 3.2.2, RFC 3596, RFC 6698). */
enum {
    DNS_TYPE_A = 1,
    DNS_TYPE_CNAME = 5,
    DNS_TYPE_PTR = 12,
    DNS_TYPE_MX = 15,
    DNS_TYPE_TXT = 16,
    DNS_TYPE_AAAA = 28,
    DNS_TYPE_TLSA = 52,
};

/* An uncompressed name that fills data[0..len) (the data of a PTR record). The root becomes "".
 * 0; -1 when it is malformed or holds an octet that is not printable ASCII, a dot or a backslash:
 * such a name is nobody's host. */
int dns_name_read(const uint8_t *data, size_t len, char name[DNS_NAME_MAX]);

/* The data of an MX record: preference and exchange. 0, or -1 as above. */
int dns_mx_read(const uint8_t *data, size_t len, unsigned *preference, char name[DNS_NAME_MAX]);

/* The data of an A (4 octets) or AAAA (16 octets) record; port 0. 0, or -1 for another length. */
int dns_address_read(const uint8_t *data, size_t len, struct address *address);

/* A host name by the rules Postfix has for XCLIENT NAME: letters, digits, '_' and inner '-', labels
 * of 1 to 63 octets, 255 in all, no final dot, and not all digits and dots. */
bool dns_name_is_hostname(const char *name);

/* A domain as people write it, in UTF-8 too (RFC 6531 3.2), as the host name to ask the DNS for:
 * labels that are not ASCII become A-labels (RFC 5891). 0; -1 when that can't be or is none. */
int dns_name_to_ascii(const char *domain, char name[DNS_NAME_MAX]);

/* The one form in which domains are compared: lower case, labels that are not ASCII as A-labels.
 * What can't be an internationalized name stays as it is, with its ASCII letters in lower case.
 * False when it is empty or longer than DNS_NAME_MAX. */
bool dns_name_fold(const char *domain, char name[DNS_NAME_MAX]);

/* Same name? Neither case counts, nor whether a label is written as A-label or U-label. */
bool dns_name_equal(const char *a, const char *b);

/* "7.100.51.198.SUFFIX" or the 32 nibbles of IPv6, SUFFIX. `suffix` NULL: in-addr.arpa, ip6.arpa.
 * 0; -1 when the whole would be too long or the address is none. */
int dns_name_of_address(const struct address *address, const char *suffix, char name[DNS_NAME_MAX]);

#endif
