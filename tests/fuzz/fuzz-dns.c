/* tests/fuzz/fuzz-dns.c - names and records from the DNS, names for it, blocklist rows
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dns/name.h"
#include "server/dnsbl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was parsed is text that may appear in a line of SMTP or a log. */
static void check_plain(const char *name)
{
    if (strlen(name) >= DNS_NAME_MAX)
        abort();
    for (const char *at = name; *at != '\0'; at++) {
        if (*at <= ' ' || *at > '~')
            abort();
    }
}

static void try_text(const char *text)
{
    char name[DNS_NAME_MAX];
    struct dnsbl_zone zone;

    if (dns_name_to_ascii(text, name) == 0) {
        check_plain(name);
        if (!dns_name_is_hostname(name))
            abort();
    }
    if (dnsbl_parse(text, &zone, NULL) == 0 && (zone.weight == 0 || zone.name[0] == '\0'))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[DNS_NAME_MAX], *text = malloc(size + 1);
    unsigned preference;

    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (dns_name_read(data, size, name) == 0)
        check_plain(name);
    if (dns_mx_read(data, size, &preference, name) == 0)
        check_plain(name);
    try_text(text);
    free(text);
    return 0;
}
