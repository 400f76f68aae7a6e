/* net/proxy.c - PROXY protocol headers, versions 1 and 2
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "net/proxy.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define V1_MAX 107 /* octets with CRLF */
#define V2_FIXED 16

static const char v2_signature[12] = "\r\n\r\n\0\r\nQUIT\n";

static bool proxy_begins_like(const char *bytes, size_t len, const char *what, size_t what_len)
{
    return memcmp(bytes, what, len < what_len ? len : what_len) == 0;
}

/* "PROXY TCP4 1.2.3.4 5.6.7.8 111 222", without its CRLF. Exactly one space between words. */
static enum proxy_result proxy_parse_v1_line(char *line, struct proxy_header *header)
{
    char *words[6];
    int count = 0;

    while (line != NULL && count < 6)
        words[count++] = strsep(&line, " ");
    /* The specification says to ignore what follows UNKNOWN. */
    if (strcmp(words[1], "UNKNOWN") == 0) {
        header->local = true;
        return PROXY_DONE;
    }
    if (line != NULL || count != 6 ||
        (strcmp(words[1], "TCP4") != 0 && strcmp(words[1], "TCP6") != 0))
        return PROXY_BAD;
    bool source_v6 = strchr(words[2], ':') != NULL, destination_v6 = strchr(words[3], ':') != NULL;
    bool v6 = words[1][3] == '6';
    if (source_v6 != v6 || destination_v6 != v6 ||
        address_parse_ip(&header->source, words[2]) != 0 ||
        address_parse_ip(&header->destination, words[3]) != 0 ||
        address_parse_port(words[4], &header->source.port) != 0 ||
        address_parse_port(words[5], &header->destination.port) != 0)
        return PROXY_BAD;
    return PROXY_DONE;
}

static enum proxy_result proxy_parse_v1(const char *bytes, size_t len, struct proxy_header *header,
                                        size_t *used)
{
    char line[V1_MAX + 1];
    size_t limit = len < V1_MAX ? len : V1_MAX;
    const char *lf = memchr(bytes, '\n', limit);

    if (lf == NULL)
        return len >= V1_MAX ? PROXY_BAD : PROXY_MORE;
    size_t line_len = (size_t)(lf - bytes);
    if (bytes[line_len - 1] != '\r' || memchr(bytes, '\0', line_len) != NULL)
        return PROXY_BAD;
    memcpy(line, bytes, line_len - 1);
    line[line_len - 1] = '\0';
    *used = line_len + 1;
    return proxy_parse_v1_line(line, header);
}

static void proxy_read_address(struct address *address, int family, const uint8_t *ip,
                               const uint8_t *port)
{
    struct sockaddr_storage storage;
    struct address raw = {.family = family, .port = (uint16_t)(port[0] << 8 | port[1])};
    memcpy(raw.ip, ip, family == AF_INET ? 4 : 16);
    /* Convert through a sockaddr, so that IPv4-mapped addresses become IPv4 as everywhere. */
    address_to_sockaddr(&raw, &storage);
    address_from_sockaddr(address, (struct sockaddr *)&storage);
}

static enum proxy_result proxy_parse_v2(const char *bytes, size_t len, struct proxy_header *header,
                                        size_t *used)
{
    const uint8_t *octets = (const uint8_t *)bytes;

    if (len < V2_FIXED)
        return PROXY_MORE;
    size_t body = (size_t)(octets[14] << 8 | octets[15]);
    if (octets[12] >> 4 != 2 || (octets[12] & 15) > 1)
        return PROXY_BAD;
    *used = V2_FIXED + body;
    int family = octets[13] >> 4 == 1 ? AF_INET : AF_INET6;
    size_t ip_len = family == AF_INET ? 4 : 16, addresses = 2 * ip_len + 4;
    if ((octets[12] & 15) == 0 || (octets[13] != 0x11 && octets[13] != 0x21)) {
        header->local = true;
        return PROXY_DONE;
    }
    if (body < addresses)
        return PROXY_BAD;
    if (len < V2_FIXED + addresses)
        return PROXY_MORE;
    const uint8_t *ips = octets + V2_FIXED, *ports = ips + 2 * ip_len;
    proxy_read_address(&header->source, family, ips, ports);
    proxy_read_address(&header->destination, family, ips + ip_len, ports + 2);
    return PROXY_DONE;
}

enum proxy_result proxy_parse(const char *bytes, size_t len, struct proxy_header *header,
                              size_t *used)
{
    memset(header, 0, sizeof *header);
    if (proxy_begins_like(bytes, len, v2_signature, sizeof v2_signature))
        return proxy_parse_v2(bytes, len, header, used);
    if (proxy_begins_like(bytes, len, "PROXY ", 6))
        return len < 6 ? PROXY_MORE : proxy_parse_v1(bytes, len, header, used);
    return PROXY_BAD;
}

static size_t proxy_format_v1(const struct proxy_header *header, char *out, size_t size)
{
    char source[ADDRESS_TEXT_MAX], destination[ADDRESS_TEXT_MAX];

    if (header->local)
        return (size_t)snprintf(out, size, "PROXY UNKNOWN\r\n");
    return (size_t)snprintf(out, size, "PROXY TCP%c %s %s %u %u\r\n",
                            header->source.family == AF_INET ? '4' : '6',
                            address_format_ip(&header->source, source),
                            address_format_ip(&header->destination, destination),
                            header->source.port, header->destination.port);
}

static size_t proxy_format_v2(const struct proxy_header *header, uint8_t *out)
{
    size_t ip_len = header->source.family == AF_INET ? 4 : 16;
    size_t body = header->local ? 0 : 2 * ip_len + 4;
    uint8_t *ips = out + V2_FIXED, *ports = ips + 2 * ip_len;

    memcpy(out, v2_signature, sizeof v2_signature);
    out[12] = header->local ? 0x20 : 0x21;
    out[13] = header->local ? 0x00 : ip_len == 4 ? 0x11 : 0x21;
    out[14] = 0;
    out[15] = (uint8_t)body;
    if (body > 0) {
        memcpy(ips, header->source.ip, ip_len);
        memcpy(ips + ip_len, header->destination.ip, ip_len);
        ports[0] = (uint8_t)(header->source.port >> 8);
        ports[1] = (uint8_t)header->source.port;
        ports[2] = (uint8_t)(header->destination.port >> 8);
        ports[3] = (uint8_t)header->destination.port;
    }
    return V2_FIXED + body;
}

/* The client's address must be exact; the destination is only for the log. */
static struct address proxy_in_family(const struct address *address, int family)
{
    struct address same = {.family = family, .port = address->port};

    if (address->family == family)
        return *address;
    if (family == AF_INET6 && address->family == AF_INET) {
        memset(same.ip + 10, 0xff, 2);
        memcpy(same.ip + 12, address->ip, 4);
    }
    return same;
}

size_t proxy_format(const struct proxy_header *header, enum proxy_version version,
                    char out[PROXY_HEADER_MAX])
{
    struct proxy_header said = *header;
    int family = header->source.family;

    if (!header->local && family != AF_INET && family != AF_INET6)
        return 0;
    said.destination = proxy_in_family(&header->destination, family);
    return version == PROXY_V1 ? proxy_format_v1(&said, out, PROXY_HEADER_MAX)
                               : proxy_format_v2(&said, (uint8_t *)out);
}
