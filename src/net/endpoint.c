/* net/endpoint.c - a host and a port as an operator writes them: a name or an IP address
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "net/endpoint.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/i18n.h"

static bool endpoint_parse_name(struct endpoint *endpoint, const char *text)
{
    char ascii[DNS_NAME_MAX];
    size_t len = strcspn(text, ":");
    if (len == 0 || len >= sizeof endpoint->host ||
        (text[len] == ':' &&
         (address_parse_port(text + len + 1, &endpoint->port) != 0 || endpoint->port == 0)))
        return false;
    snprintf(endpoint->host, sizeof endpoint->host, "%.*s", (int)len, text);
    return dns_name_to_ascii(endpoint->host, ascii) == 0 && dns_name_is_hostname(ascii);
}

int endpoint_parse(struct endpoint *endpoint, const char *text, uint16_t default_port,
                   struct error *err)
{
    memset(endpoint, 0, sizeof *endpoint);
    endpoint->port = default_port;
    if (text[0] != '*' && address_parse_endpoint(&endpoint->address, text, default_port) == 0 &&
        endpoint->address.port != 0) {
        char ip[ADDRESS_TEXT_MAX];
        endpoint->port = endpoint->address.port;
        snprintf(endpoint->host, sizeof endpoint->host, "%s",
                 address_format_ip(&endpoint->address, ip));
        return 0;
    }
    endpoint->address.family = AF_UNSPEC;
    if (endpoint_parse_name(endpoint, text))
        return 0;
    error_set(err,
              _("found \"%s\"; expected a host name or an IP address, with or without a port, like "
                "smtp.example.net:587 or [2001:db8::2]:25"),
              text);
    return -1;
}
