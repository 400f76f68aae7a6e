/* dns/name.c - domain names: read from records, checked as host names, made from addresses
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "dns/name.h"

#include <idn2.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define LABEL_MAX 63
#define TEXT_MAX 253 /* octets of text that are 255 on the wire (RFC 1035 2.3.4) */

static bool dns_name_is_plain(uint8_t octet)
{
    return octet > ' ' && octet < 0x7f && octet != '.' && octet != '\\';
}

int dns_name_read(const uint8_t *data, size_t len, char name[DNS_NAME_MAX])
{
    size_t at = 0, out = 0;

    while (at < len && data[at] != 0) {
        size_t label = data[at++];
        if (label > LABEL_MAX || label > len - at || out + (out > 0) + label > TEXT_MAX)
            return -1;
        if (out > 0)
            name[out++] = '.';
        for (size_t i = 0; i < label; i++) {
            if (!dns_name_is_plain(data[at + i]))
                return -1;
            name[out++] = (char)data[at + i];
        }
        at += label;
    }
    name[out] = '\0';
    return at + 1 == len ? 0 : -1; /* the root label ends it */
}

int dns_mx_read(const uint8_t *data, size_t len, unsigned *preference, char name[DNS_NAME_MAX])
{
    if (len < 3)
        return -1;
    *preference = (unsigned)data[0] << 8 | data[1];
    return dns_name_read(data + 2, len - 2, name);
}

int dns_address_read(const uint8_t *data, size_t len, struct address *address)
{
    memset(address, 0, sizeof *address);
    if (len != 4 && len != 16)
        return -1;
    if (len == 4) {
        address->family = AF_INET;
        memcpy(address->ip, data, len);
        return 0;
    }
    /* Through a sockaddr, so that ::ffff:a.b.c.d is IPv4 here too. */
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    memcpy(&in6.sin6_addr, data, len);
    address_from_sockaddr(address, (const struct sockaddr *)&in6);
    return 0;
}

static bool dns_is_digit(char octet)
{
    return octet >= '0' && octet <= '9';
}

static bool dns_name_is_letter(char octet)
{
    return (octet >= 'a' && octet <= 'z') || (octet >= 'A' && octet <= 'Z') || octet == '_';
}

bool dns_name_is_hostname(const char *name)
{
    size_t label = 0, at;
    bool numeric = true;

    for (at = 0; name[at] != '\0' && at < DNS_NAME_MAX; at++) {
        bool last = name[at + 1] == '\0' || name[at + 1] == '.';
        if (name[at] == '.') {
            if (label == 0 || name[at + 1] == '\0')
                return false;
            label = 0;
            continue;
        }
        if (name[at] == '-' ? label == 0 || last
                            : !dns_is_digit(name[at]) && !dns_name_is_letter(name[at]))
            return false;
        numeric = numeric && dns_is_digit(name[at]);
        if (++label > LABEL_MAX)
            return false;
    }
    return !numeric && at < DNS_NAME_MAX;
}

static bool dns_name_is_ascii(const char *text)
{
    while (*text != '\0' && (unsigned char)*text < 0x80)
        text++;
    return *text == '\0';
}

int dns_name_to_ascii(const char *domain, char name[DNS_NAME_MAX])
{
    char *converted = NULL;
    const char *ascii = domain;
    int result = -1;

    if (!dns_name_is_ascii(domain) &&
        idn2_to_ascii_8z(domain, &converted, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) == IDN2_OK)
        ascii = converted;
    if (strlen(ascii) <= TEXT_MAX && dns_name_is_hostname(ascii)) {
        strcpy(name, ascii);
        result = 0;
    }
    idn2_free(converted);
    return result;
}

bool dns_name_fold(const char *domain, char name[DNS_NAME_MAX])
{
    char *converted = NULL;
    const char *form = domain;
    size_t len;

    if (!dns_name_is_ascii(domain) &&
        idn2_to_ascii_8z(domain, &converted, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) == IDN2_OK)
        form = converted;
    len = strlen(form);
    for (size_t i = 0; i <= len && len < DNS_NAME_MAX; i++)
        name[i] = form[i] >= 'A' && form[i] <= 'Z' ? (char)(form[i] + 32) : form[i];
    idn2_free(converted);
    return len > 0 && len < DNS_NAME_MAX;
}

bool dns_name_equal(const char *a, const char *b)
{
    char folded_a[DNS_NAME_MAX], folded_b[DNS_NAME_MAX];

    if (strcasecmp(a, b) == 0)
        return true;
    return !(dns_name_is_ascii(a) && dns_name_is_ascii(b)) && dns_name_fold(a, folded_a) &&
           dns_name_fold(b, folded_b) && strcmp(folded_a, folded_b) == 0;
}

int dns_name_of_address(const struct address *address, const char *suffix, char name[DNS_NAME_MAX])
{
    char reversed[2 * 2 * sizeof address->ip + 1];
    size_t len = 0;

    if (address->family == AF_INET) {
        len = (size_t)snprintf(reversed, sizeof reversed, "%u.%u.%u.%u.", address->ip[3],
                               address->ip[2], address->ip[1], address->ip[0]);
        suffix = suffix != NULL ? suffix : "in-addr.arpa";
    } else if (address->family == AF_INET6) {
        for (size_t i = sizeof address->ip; i-- > 0; len += 4)
            snprintf(reversed + len, sizeof reversed - len, "%x.%x.", address->ip[i] & 15u,
                     (unsigned)address->ip[i] >> 4);
        suffix = suffix != NULL ? suffix : "ip6.arpa";
    }
    if (len == 0 || len + strlen(suffix) > TEXT_MAX)
        return -1;
    snprintf(name, DNS_NAME_MAX, "%s%s", reversed, suffix);
    return 0;
}
