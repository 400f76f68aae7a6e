/* tests/unit/dns-server.h - a name server with a scripted answer for each name
 *
 * Answers on one UDP and TCP port of 127.0.0.1, in its own thread. A name without a row does not exist;
 * a name that has only rows of other types has no data. CNAME rows are followed.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_TESTS_DNS_SERVER_H
#define POSTERN_TESTS_DNS_SERVER_H

#include <stddef.h>
#include <stdint.h>

#include "dns/resolver.h"

struct dns_row {
    const char *name;
    int type;
    /* Records separated by '|': "192.0.2.1", "2001:db8::1", "10 mx.example", "host.example",
     * "text", or "\hex" for any record's data. Or one of "!NXDOMAIN", "!SERVFAIL", "!REFUSED",
     * "!DROP" (no answer at all). "!TC " before records: truncated on UDP, whole on TCP. */
    const char *answer;
};

struct dns_server;

/* Borrows the rows until it is closed. Ends the test on failure. */
struct dns_server *dns_server_open(const struct dns_row *rows, size_t count);
void dns_server_close(struct dns_server *server);

/* How the server treats a question with EDNS (RFC 6891). */
enum dns_server_edns {
    DNS_SERVER_EDNS,         /* understands it */
    DNS_SERVER_EDNS_UNKNOWN, /* FORMERR, like a server that knows only RFC 1035 */
    DNS_SERVER_EDNS_IGNORED, /* answers as if it were not there */
    DNS_SERVER_EDNS_DROPPED, /* does not answer, like some old routers */
};
void dns_server_set_edns(struct dns_server *server, enum dns_server_edns edns);

/* Leaves out all signatures from now on, or no longer. */
void dns_server_set_stripping(struct dns_server *server, bool strips);

/* Questions for that name and type so far (name NULL: all). */
unsigned dns_server_asked(struct dns_server *server, const char *name, int type);

/* Where it listens. */
const struct address *dns_server_address(const struct dns_server *server);

/* A resolver that asks only this server, without DNSSEC unless `anchor` is a file. */
struct resolver *dns_server_resolver(struct dns_server *server, const char *anchor);

/* The same with the given settings, except for the servers. */
struct resolver *dns_server_resolver_with(struct dns_server *server,
                                          struct resolver_config *config);

/* A server and its resolver, without more. */
struct dns_bed {
    struct dns_server *server;
    struct resolver *resolver;
};
void dns_bed_open(struct dns_bed *bed, const struct dns_row *rows, size_t count);
void dns_bed_close(struct dns_bed *bed);

/* Writes a record's data as the server sends it (for a name, use the type CNAME). Returns its length. */
size_t dns_server_data(int type, const char *text, uint8_t *out, size_t size);

#endif
