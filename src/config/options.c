/* config/options.c - the one table of options
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "config/options.h"

#include <string.h>

#include "base/i18n.h"

static const char *const version_names[] = {"1.0", "1.1", "1.2", "1.3", NULL};
static const char *const request_names[] = {"none", "request", "require", NULL};
static const char *const newline_names[] = {"normalize", "reject", NULL};
static const char *const dnsbl_action_names[] = {"reject", "tempfail", "tarpit", NULL};
static const char *const over_limit_names[] = {"close", "tempfail", NULL};
static const char *const identity_names[] = {"", "xclient", "proxy-v2", "proxy-v1", "none", NULL};
static const char *const backend_tls_names[] = {"mirror", "none", "may", "encrypt", "verify", NULL};
static const char *const action_names[] = {"accept", "continue", "deny", NULL};
static const char *const route_tls_names[] = {"default", "none", "may", "encrypt",
                                              "verify",  "dane", NULL};
static const char *const mta_sts_names[] = {"enforce", "log", "off", NULL};
static const char *const out_tls_names[] = {"", "none", "may", "encrypt", "verify", NULL};
static const char *const delivery_names[] = {"live", "spool", NULL};
static const char *const family_names[] = {"ipv6", "ipv4", "ipv6-only", "ipv4-only", NULL};
static const char *const route_family_names[] = {"ipv6",      "ipv4",    "ipv6-only",
                                                 "ipv4-only", "default", NULL};
/* In syslog's order, as enum log_level counts. */
static const char *const level_names[] = {"",       "",     "",      "error", "warning",
                                          "notice", "info", "debug", NULL};

/* Shared by all that are backends. The first row is for in.backends only. */
static const struct option backend_rows[] = {
    {"domains", OPTION_DOMAINS, offsetof(struct config_backend, domains), NULL, 0, 0, NULL,
     N_("The domains whose mail goes there; a leading dot means all subdomains. They need "
        "not stand in in.domains as well.")},
    {"hosts", OPTION_HOSTS, offsetof(struct config_backend, hosts), NULL, 25, 0, NULL,
     N_("The mail server's addresses, tried in order; the port is 25 unless given.")},
    {"identity", OPTION_ENUM, offsetof(struct config_backend, identity), NULL, 0, 0, identity_names,
     N_("How the backend is told who the client is: by XCLIENT, by a PROXY header of "
        "version 2 or 1, or not at all. \"none\" delivers as this host itself.")},
    {"tls", OPTION_ENUM, offsetof(struct config_backend, tls), "mirror", 0, 0, backend_tls_names,
     N_("TLS towards the backend: as the client does, never, where offered, always, or "
        "always and with a certificate that is valid for tls_name. Only \"verify\" checks "
        "the certificate.")},
    {"tls_name", OPTION_STRING, offsetof(struct config_backend, tls_name), "", 0, 0, NULL,
     N_("The name that the backend's certificate must be for, under \"verify\"; also sent "
        "as SNI. Needed there.")},
    {"ca_file", OPTION_FILE, offsetof(struct config_backend, ca_file), "", 0, 0, NULL,
     N_("The CA certificates against which the backend's is checked; empty means the "
        "system's.")},
    {"cert", OPTION_FILE, offsetof(struct config_backend, cert), "", 0, 0, NULL,
     N_("A certificate to show to the backend if it asks for one, PEM.")},
    {"key", OPTION_FILE, offsetof(struct config_backend, key), "", 0, 0, NULL,
     N_("Its key, PEM; empty means that it stands in the certificate's file.")},
    {"source", OPTION_ADDRESSES, offsetof(struct config_backend, source), "", 0, 0, NULL,
     N_("The addresses to connect from, one IPv4 and one IPv6 at most; empty lets the "
        "system choose.")},
    {"spares", OPTION_INTEGER, offsetof(struct config_backend, spares), "2", 0, CONFIG_SPARES_MAX,
     NULL,
     N_("Connections to the backend kept open and greeted, so that a message finds one "
        "ready. Not with \"proxy-v1\" and \"proxy-v2\", where the client must be known "
        "first.")},
    {"max_sessions", OPTION_INTEGER, offsetof(struct config_backend, max_sessions), "45", 1, 10000,
     NULL,
     N_("Sessions with the backend at one time. Keep it below the backend's "
        "smtpd_client_connection_count_limit.")},
    {"connect_timeout", OPTION_DURATION, offsetof(struct config_backend, connect_timeout_ms), "5s",
     100, 60000, NULL, N_("Time to connect to one host.")},
    {"command_timeout", OPTION_DURATION, offsetof(struct config_backend, command_timeout_ms), "60s",
     100, 300000, NULL, N_("Time for the backend to answer one command.")},
    {"reply_timeout", OPTION_DURATION, offsetof(struct config_backend, reply_timeout_ms), "570s",
     100, 600000, NULL,
     N_("Time for the backend to answer the end of the mail data. Keep it below the 10 "
        "minutes that senders wait.")},
    {"retry_after", OPTION_DURATION, offsetof(struct config_backend, retry_after_ms), "5s", 0,
     600000, NULL, N_("A host that could not be reached is left alone for so long.")},
};
static const struct option_rows domain_backend_group = {
    backend_rows, sizeof backend_rows / sizeof *backend_rows, sizeof(struct config_backend)};
static const struct option_rows backend_group = {backend_rows + 1,
                                                 sizeof backend_rows / sizeof *backend_rows - 1,
                                                 sizeof(struct config_backend)};

/* Where mail goes: of out.routes, and but for the first two of out.default_route. */
static const struct option route_rows[] = {
    {"domain", OPTION_PATTERNS, offsetof(struct config_route, domains), NULL, 0, 0, NULL,
     N_("The recipients' domains that it is for: a name means just that domain, one with a "
        "leading dot its subdomains, \"*\" all others.")},
    {"action", OPTION_ENUM, offsetof(struct config_route, action), "continue", 0, 0, action_names,
     N_("\"accept\" and \"continue\" take mail for these domains, \"deny\" refuses it.")},
    {"next_hop", OPTION_NEXT_HOPS, offsetof(struct config_route, next_hops), "", 0, 0, NULL,
     N_("The hosts to deliver to, by name or IP address, tried in order; the port is 25 unless "
        "given. MX records are not asked for. Empty means that mail goes as if there were no "
        "route.")},
    {"tls", OPTION_ENUM, offsetof(struct config_route, tls), "default", 0, 0, route_tls_names,
     N_("TLS towards these domains, whatever they publish and out.tls.level says; \"dane\": only "
        "to hosts that DANE proves.")},
    {"tls_name", OPTION_STRING, offsetof(struct config_route, tls_name), "", 0, 0, NULL,
     N_("The name that the certificate must be for, and SNI; empty means the next hop's own, or "
        "with "
        "MX records that DNSSEC does not prove the domain's.")},
    {"ca_file", OPTION_FILE, offsetof(struct config_route, ca_file), "", 0, 0, NULL,
     N_("The CA certificates against which the next hop's is checked, instead of "
        "out.tls.ca_file.")},
    {"user", OPTION_STRING, offsetof(struct config_route, user), "", 0, 0, NULL,
     N_("Log in at the next hop as this user (AUTH PLAIN or LOGIN). Only with tls = "
        "\"verify\".")},
    {"password_file", OPTION_FILE, offsetof(struct config_route, password_file), "", 0, 0, NULL,
     N_("A file whose first line is the password for that, of 4096 octets at most.")},
    {"family", OPTION_ENUM, offsetof(struct config_route, family), "default", 0, 0,
     route_family_names, N_("Which addresses are tried, instead of out.family.")},
    {"connections", OPTION_INTEGER, offsetof(struct config_route, connections), "0", 0, 1000, NULL,
     N_("Connections at one time to one destination: the next_hop, or each domain without one. 0 "
        "means limits.sessions_per_destination.")},
    {"rate", OPTION_INTEGER, offsetof(struct config_route, rate), "0", 0, 60000, NULL,
     N_("Messages to one destination in a minute, at even distances. Who would have to wait for "
        "longer than 20 s gets 451, and what is stored is tried again later. 0 means no limit.")},
};
static const struct option_rows route_group = {route_rows, sizeof route_rows / sizeof *route_rows,
                                               sizeof(struct config_route)};
static const struct option_rows default_route_group = {
    route_rows + 2, sizeof route_rows / sizeof *route_rows - 2, sizeof(struct config_route)};

static const struct option certificate_rows[] = {
    {"cert", OPTION_FILE, offsetof(struct tls_pair, cert), NULL, 0, 0, NULL,
     N_("The certificate with its chain, PEM.")},
    {"key", OPTION_FILE, offsetof(struct tls_pair, key), "", 0, 0, NULL,
     N_("Its key, PEM; empty means that it stands in the certificate's file.")},
};
static const struct option_rows certificate_group = {
    certificate_rows, sizeof certificate_rows / sizeof *certificate_rows, sizeof(struct tls_pair)};

/* What a server shows to its clients: for both daemons, and for relay-out alone. */
/* clang-format off: a table stays a table */
#define TLS_ROWS(prefix, type, member)                                                             \
    {prefix "certificates",                                                                        \
     OPTION_GROUPS,                                                                                \
     offsetof(type, member.certificates),                                                          \
     "",                                                                                           \
     0,                                                                                            \
     0,                                                                                            \
     &certificate_group,                                                                           \
     N_("A list of certificates. Several are chosen from by the name that the client asks "        \
        "for and by key type (RSA and ECDSA side by side). Without any, STARTTLS is not "          \
        "offered. Changed files are noticed and reread within seconds.")},                         \
        {prefix "priority",                                                                        \
         OPTION_STRING,                                                                            \
         offsetof(type, member.priority),                                                          \
         "NORMAL:%SERVER_PRECEDENCE" TLS_ORDER,                                                    \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         N_("GnuTLS priority string: ciphers, groups, signature algorithms.")},                    \
        {prefix "minimum_version",                                                                 \
         OPTION_ENUM,                                                                              \
         offsetof(type, member.minimum_version),                                                   \
         "1.2",                                                                                    \
         0,                                                                                        \
         0,                                                                                        \
         version_names,                                                                            \
         N_("The oldest TLS version that clients may use.")},                                      \
        {prefix "client_certificates",                                                             \
         OPTION_ENUM,                                                                              \
         offsetof(type, member.client_certificates),                                               \
         "none",                                                                                   \
         0,                                                                                        \
         0,                                                                                        \
         request_names,                                                                            \
         N_("Whether clients are asked for a certificate. Under \"request\" any will do, and "     \
            "none as "                                                                             \
            "well; with ca_file the log says whether it is valid. Under \"require\" a handshake "  \
            "without one signed by ca_file fails.")},                                              \
        {prefix "ca_file",                                                                         \
         OPTION_FILE,                                                                              \
         offsetof(type, member.ca_file),                                                           \
         "",                                                                                       \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         N_("The CA certificates against which client certificates are checked.")},                \
    {                                                                                              \
        prefix "dh_params", OPTION_FILE, offsetof(type, member.dh_params), "", 0, 0, NULL,         \
            N_("Diffie-Hellman parameters for old clients; without, those of RFC 7919 are used.")  \
    }
/* clang-format on */

static const struct option listen_tls_rows[] = {TLS_ROWS("", struct config_listen_tls, tls)};
static const struct option_rows listen_tls_group = {
    listen_tls_rows, sizeof listen_tls_rows / sizeof *listen_tls_rows,
    sizeof(struct config_listen_tls)};

static const struct option all_rows[] = {
    {"hostname", OPTION_HOSTNAME, offsetof(struct config, hostname), NULL, 0, 0, NULL,
     N_("The name of this host: in the greeting, in EHLO replies and in Received lines. "
        "It should be the name that the address of this host resolves to, and the one "
        "in the certificate.")},
    {"user", OPTION_STRING, offsetof(struct config, user), "postern", 0, 0, NULL,
     N_("The user to become after the ports are bound, when started as root.")},
    {"group", OPTION_STRING, offsetof(struct config, group), "", 0, 0, NULL,
     N_("The group to become; empty means the user's own.")},
    TLS_ROWS("tls.", struct config, tls),
    {"dns.servers", OPTION_HOSTS, offsetof(struct config, dns.servers), "", 53, 0, NULL,
     N_("Resolvers to ask, IP addresses with or without a port. Empty means those of "
        "/etc/resolv.conf; when they change there, it is noticed.")},
    {"dns.recurse", OPTION_BOOLEAN, offsetof(struct config, dns.recurse), "false", 0, 0, NULL,
     N_("Ask nobody else, but the root servers and those that they refer to.")},
    {"dns.validate", OPTION_BOOLEAN, offsetof(struct config, dns.validate), "true", 0, 0, NULL,
     N_("Check answers by DNSSEC, if a trust anchor is there.")},
    {"dns.trust_anchor_file", OPTION_FILE, offsetof(struct config, dns.trust_anchor_file), "", 0, 0,
     NULL,
     N_("The keys of the root. Empty means those that the distribution installs "
        "(package dns-root-data).")},
    {"in.listen", OPTION_LISTEN, offsetof(struct config, in.listen), "[::]:25", 0, 0, NULL,
     N_("Addresses and ports to listen on. [::] takes IPv4 as well. Words may stand behind "
        "the port: \"tls\", the TLS handshake comes first (as on port 465); \"proxy\", a "
        "load balancer's PROXY header of version 1 or 2 comes before everything (see "
        "in.proxy_hosts); \"submission\", users log in (see in.submission).")},
    {"in.domains", OPTION_DOMAINS, offsetof(struct config, in.domains), "", 0, 0, NULL,
     N_("The domains to take mail for; a leading dot means all subdomains. Mail for any "
        "other is refused. An internationalized domain may be written in either of its forms, "
        "and is shown as A-labels (xn--...).")},
    {"in.domains_file", OPTION_DOMAINS_FILE, offsetof(struct config, in.domains), "", 0, 0, NULL,
     N_("A file with more such domains, one a line; # begins a comment. Haraka's "
        "host_list reads as it is.")},
    {"in.private_clients", OPTION_NETWORKS, offsetof(struct config, in.private_clients), "", 0, 0,
     NULL,
     N_("Private, loopback or link-local networks whose clients are served all the "
        "same. Others of that kind are refused, because the backend might trust them.")},
    {"in.xclient_hosts", OPTION_NETWORKS, offsetof(struct config, in.xclient_hosts), "", 0, 0, NULL,
     N_("Hosts that may say by XCLIENT for whom they speak: a relay of yours in front of "
        "this one. To all others the command is unknown.")},
    {"in.proxy_hosts", OPTION_NETWORKS, offsetof(struct config, in.proxy_hosts), "", 0, 0, NULL,
     N_("Load balancers that may say by a PROXY header for whom they speak, on listeners "
        "marked \"proxy\". Connections of others to such a listener are closed. A header that "
        "names no client (UNKNOWN, LOCAL) is for the balancer's own health check: it is "
        "answered, and may not send.")},
    {"in.no_tls_hosts", OPTION_NETWORKS, offsetof(struct config, in.no_tls_hosts), "", 0, 0, NULL,
     N_("Clients to which STARTTLS is not offered, because theirs is broken.")},
    {"in.reverse_dns", OPTION_BOOLEAN, offsetof(struct config, in.reverse_dns), "true", 0, 0, NULL,
     N_("Look up the name of each client, confirmed forward, for the backend, the Received "
        "line and the log.")},
    {"in.bare_newlines", OPTION_ENUM, offsetof(struct config, in.bare_newlines), "normalize", 0, 0,
     newline_names,
     N_("What happens to a bare CR or LF in mail data: made canonical, or the message "
        "refused.")},
    {"in.state", OPTION_FOLDER, offsetof(struct config, in.state), STATEDIR, 0, 0, NULL,
     N_("The folder for what is remembered over a restart: what each backend offers, so that EHLO "
        "does not depend on whether it is up; and the ledger of missed mail. Empty: nothing is. "
        "Until a backend has been seen "
        "once, SIZE as limits.message_size, 8BITMIME, SMTPUTF8, ENHANCEDSTATUSCODES, DSN and "
        "CHUNKING are offered, and what then turns out to be missing is 451.")},
    {"in.missed", OPTION_BOOLEAN, offsetof(struct config, in.missed), "true", 0, 0, NULL,
     N_("Keep a ledger of who was put off while the backend could not be reached, and who has come "
        "back; see relayctl missed. It holds the sender's domain, the recipient and the client's "
        "name or network, for 14 days, and no mail.")},
    {"in.missed_sender", OPTION_BOOLEAN, offsetof(struct config, in.missed_sender), "false", 0, 0,
     NULL, N_("Keep the sender's whole address in it.")},
    {"in.workers", OPTION_INTEGER, offsetof(struct config, in.workers), "64", 1, 1024, NULL,
     N_("Worker threads. A worker waits for the backend only, so the backend's max_sessions and "
        "8 more leave enough to answer new clients at any time; with stress.free_workers more it "
        "is no stress either. Clients that are idle, slow, or wait for one of max_sessions need "
        "none.")},
    {"in.greet_delay", OPTION_DURATION, offsetof(struct config, in.greet_delay_ms), "0s", 0, 30000,
     NULL,
     N_("Time of silence before the greeting. Clients that talk during it are refused with 554: "
        "mail servers wait, many spam programs do not. It delays every client; 0s means none.")},
    {"in.backend", OPTION_GROUP, offsetof(struct config, in.backend), NULL, 0, 0, &backend_group,
     N_("The mail server.")},
    {"in.backends", OPTION_GROUPS, offsetof(struct config, in.backends), "", 0, 0,
     &domain_backend_group, N_("Mail servers of single domains; all others go to in.backend.")},
    {"in.submission", OPTION_GROUP, offsetof(struct config, in.submission), "", 0, 0,
     &backend_group,
     N_("The mail server's submission port, for the listeners marked \"submission\": "
        "clients log in there, through this host, and may then send to anybody.")},
    {"in.clients.allow", OPTION_NETWORKS, offsetof(struct config, in.clients.allow), "", 0, 0, NULL,
     N_("Clients that no limit of connections, no greet delay and no deny list holds up: "
        "correspondents you know. Private ones must stand in in.private_clients as well.")},
    {"in.clients.allow_file", OPTION_NETWORKS_FILE, offsetof(struct config, in.clients.allow), "",
     0, 0, NULL, N_("A file with more such networks, one a line; # begins a comment.")},
    {"in.clients.deny", OPTION_NETWORKS, offsetof(struct config, in.clients.deny), "", 0, 0, NULL,
     N_("Clients that are refused with 554 before anything else.")},
    {"in.clients.deny_file", OPTION_NETWORKS_FILE, offsetof(struct config, in.clients.deny), "", 0,
     0, NULL, N_("A file with more such networks, one a line; # begins a comment.")},
    {"in.clients.over_limit", OPTION_ENUM, offsetof(struct config, in.clients.over_limit), "close",
     0, 0, over_limit_names,
     N_("What clients get that are over connections_per_client, connections_per_network or "
        "a rate: 421 and an end of the connection, or a session in which each message is "
        "answered 451 (beyond twice the connections 421 all the same).")},
    {"in.dnsbl.zones", OPTION_STRINGS, offsetof(struct config, in.dnsbl.zones), "", 0, 0, NULL,
     N_("DNS blocklists to ask about each client that in.clients.allow does not list, as "
        "postscreen_dnsbl_sites has them: \"zone\", \"zone=127.0.0.[2..11]\", each with "
        "\"*weight\" behind it or without (1). An allowlist has a negative weight. Mind "
        "the terms of use.")},
    {"in.dnsbl.threshold", OPTION_INTEGER, offsetof(struct config, in.dnsbl.threshold), "1", 1,
     32000, NULL, N_("The sum of weights from which on a client counts as listed.")},
    {"in.dnsbl.action", OPTION_ENUM, offsetof(struct config, in.dnsbl.action), "reject", 0, 0,
     dnsbl_action_names,
     N_("What a listed client gets: 554 with the zone's name, a session in which each "
        "message is answered 451, or the greeting after a long time.")},
    {"in.dnsbl.timeout", OPTION_DURATION, offsetof(struct config, in.dnsbl.timeout_ms), "3s", 100,
     30000, NULL,
     N_("Time for all answers; what has not come by then does not count. Without a greet "
        "delay the greeting waits for the answers.")},
    {"in.dnsbl.tarpit", OPTION_DURATION, offsetof(struct config, in.dnsbl.tarpit_ms), "60s", 1000,
     300000, NULL, N_("The long time of \"tarpit\".")},
    {"in.limits.connections", OPTION_INTEGER, offsetof(struct config, in.limits.connections),
     "1000", 1, 100000, NULL, N_("Connections at one time; more are answered 421.")},
    {"in.limits.connections_per_client", OPTION_INTEGER,
     offsetof(struct config, in.limits.connections_per_client), "20", 1, 100000, NULL,
     N_("The same from one IPv4 address or one IPv6 /64.")},
    {"in.limits.connections_per_network", OPTION_INTEGER,
     offsetof(struct config, in.limits.connections_per_network), "100", 0, 100000, NULL,
     N_("The same from one IPv4 /24 or one IPv6 /48; never less than "
        "connections_per_client. 0 means no limit.")},
    {"in.limits.rate_per_client", OPTION_INTEGER,
     offsetof(struct config, in.limits.rate_per_client), "0", 0, 100000, NULL,
     N_("New connections a minute from one IPv4 address or one IPv6 /64. 0 means no "
        "limit.")},
    {"in.limits.rate_per_network", OPTION_INTEGER,
     offsetof(struct config, in.limits.rate_per_network), "0", 0, 100000, NULL,
     N_("New connections a minute from one IPv4 /24 or one IPv6 /48. 0 means no limit.")},
    {"in.limits.queue", OPTION_INTEGER, offsetof(struct config, in.limits.queue), "1000", 1, 100000,
     NULL,
     N_("New commands that may wait for a worker; further ones are answered 421. Not fewer than "
        "limits.connections refuses nobody that was let in.")},
    {"in.limits.message_size", OPTION_SIZE, offsetof(struct config, in.limits.message_size),
     "104857600", 1024, 1099511627776LL, NULL,
     N_("The largest message. A smaller limit of the backend goes first.")},
    {"in.limits.recipients", OPTION_INTEGER, offsetof(struct config, in.limits.recipients), "100",
     1, 10000, NULL,
     N_("Accepted recipients of one message; further ones get 452. RFC 5321 wants at "
        "least 100.")},
    {"in.limits.errors", OPTION_INTEGER, offsetof(struct config, in.limits.errors), "10", 1, 1000,
     NULL, N_("Refused or malformed commands of one session before 421.")},
    {"in.limits.junk_commands", OPTION_INTEGER, offsetof(struct config, in.limits.junk_commands),
     "50", 1, 10000, NULL,
     N_("NOOP, RSET, EHLO, VRFY and HELP of one session without a message delivered "
        "before 421.")},
    {"in.limits.refused_recipients", OPTION_INTEGER,
     offsetof(struct config, in.limits.refused_recipients), "3", 1, 1000, NULL,
     N_("Recipients that the backend may refuse in one session; further ones get 451 "
        "without asking it. Backends slow down sessions with more errors.")},
    {"in.limits.received_headers", OPTION_INTEGER,
     offsetof(struct config, in.limits.received_headers), "100", 10, 1000, NULL,
     N_("Received lines beyond which a message is taken for a loop.")},
    {"in.limits.min_data_rate", OPTION_INTEGER, offsetof(struct config, in.limits.min_data_rate),
     "500", 0, 1000000, NULL,
     N_("Octets of mail data a second, on average after timeouts.data_grace; slower clients "
        "are cut with 421. 0 means no limit.")},
    {"in.limits.waiting_transactions", OPTION_INTEGER,
     offsetof(struct config, in.limits.waiting_transactions), "20", 0, 10000, NULL,
     N_("The most clients that may keep us waiting in the middle of a message. Beyond that those "
        "get 421 that have done so for longest since MAIL, less what their octets have earned "
        "at limits.min_data_rate, so that they cannot use up the backend's max_sessions. They "
        "hold no worker. 0 means no limit.")},
    {"in.timeouts.command", OPTION_DURATION, offsetof(struct config, in.timeouts.command), "300s",
     1000, 3600000, NULL, N_("Time for the client's next command.")},
    {"in.timeouts.proxy_header", OPTION_DURATION, offsetof(struct config, in.timeouts.proxy_header),
     "5s", 100, 60000, NULL, N_("Time for a load balancer's PROXY header.")},
    {"in.timeouts.line", OPTION_DURATION, offsetof(struct config, in.timeouts.line), "30s", 100,
     600000, NULL, N_("Time from the first to the last octet of a command line.")},
    {"in.timeouts.handshake", OPTION_DURATION, offsetof(struct config, in.timeouts.handshake),
     "30s", 100, 600000, NULL, N_("Time for a TLS handshake.")},
    {"in.timeouts.data", OPTION_DURATION, offsetof(struct config, in.timeouts.data), "180s", 100,
     3600000, NULL, N_("Time without an octet of mail data.")},
    {"in.timeouts.data_grace", OPTION_DURATION, offsetof(struct config, in.timeouts.data_grace),
     "300s", 100, 3600000, NULL,
     N_("Time for all mail data of a message, beside what each octet gives by "
        "limits.min_data_rate.")},
    {"in.timeouts.message", OPTION_DURATION, offsetof(struct config, in.timeouts.message), "1h",
     1000, 86400000, NULL, N_("Time for a message, from MAIL to the end of its data.")},
    {"in.timeouts.session", OPTION_DURATION, offsetof(struct config, in.timeouts.session), "1h",
     1000, 86400000, NULL,
     N_("A session that has lasted so long begins no further message; the client may "
        "connect again.")},
    {"in.timeouts.park_after", OPTION_DURATION, offsetof(struct config, in.timeouts.park_after),
     "1s", 0, 60000, NULL,
     N_("A client silent for so long gives its worker back, wherever it is in its dialog. "
        "Under stress it does so at once.")},
    {"in.timeouts.drain", OPTION_DURATION, offsetof(struct config, in.timeouts.drain), "30s", 0,
     600000, NULL, N_("At a shutdown, time for messages under way to finish.")},
    {"in.stress.free_workers", OPTION_INTEGER, offsetof(struct config, in.stress.free_workers),
     "20", 0, 100, NULL,
     N_("Stress sets in when fewer workers than this are free, in percent, for stress.after. "
        "0 means never.")},
    {"in.stress.free_connections", OPTION_INTEGER,
     offsetof(struct config, in.stress.free_connections), "20", 0, 100, NULL,
     N_("Stress sets in when fewer of limits.connections are free, in percent. 0 means "
        "never.")},
    {"in.stress.after", OPTION_DURATION, offsetof(struct config, in.stress.after_ms), "1s", 0,
     60000, NULL, N_("How long workers must be few before it is stress.")},
    {"in.stress.calm", OPTION_DURATION, offsetof(struct config, in.stress.calm_ms), "60s", 100,
     3600000, NULL, N_("Stress is over when there was no cause for so long.")},
    {"in.stress.timeout", OPTION_DURATION, offsetof(struct config, in.stress.timeout_ms), "10s",
     100, 300000, NULL,
     N_("Under stress no timeout that waits for a client is longer than this: command, line, "
        "handshake, data, data_grace.")},
    {"in.stress.errors", OPTION_INTEGER, offsetof(struct config, in.stress.errors), "3", 1, 1000,
     NULL, N_("limits.errors under stress.")},
    {"in.stress.junk_commands", OPTION_INTEGER, offsetof(struct config, in.stress.junk_commands),
     "5", 1, 10000, NULL, N_("limits.junk_commands under stress.")},
    {"out.listen", OPTION_LISTEN, offsetof(struct config, out.listen), "10.0.0.1:2526", 0, 0, NULL,
     N_("Addresses and ports on which relay-out takes mail: those of the tunnel. The word \"tls\" "
        "behind the port: the TLS handshake comes first; \"submission\": users must log in.")},
    {"out.allow", OPTION_NETWORKS, offsetof(struct config, out.allow), "", 0, 0, NULL,
     N_("The hosts that may send through relay-out: the mail server behind the tunnel. All others "
        "get 554 instead of a greeting, unless out.users_file lets people log in.")},
    {"out.allow_file", OPTION_NETWORKS_FILE, offsetof(struct config, out.allow), "", 0, 0, NULL,
     N_("A file with more such networks, one a line; # begins a comment. Haraka's "
        "relay_acl_allow reads as it is.")},
    {"out.users_file", OPTION_FILE, offsetof(struct config, out.users_file), "", 0, 0, NULL,
     N_("Users that may log in (AUTH PLAIN or LOGIN, under TLS only) and then send from anywhere; "
        "written by relayctl password.")},
    {"out.listen_tls", OPTION_GROUP, offsetof(struct config, out.listen_tls), "", 0, 0,
     &listen_tls_group,
     N_("What relay-out shows to those who send through it, in place of the group tls: a "
        "certificate "
        "for its own name, another priority, certificates that its clients must show.")},
    {"out.i_know_this_is_an_open_relay", OPTION_BOOLEAN, offsetof(struct config, out.open_relay),
     "false", 0, 0, NULL,
     N_("Take mail from everybody to everybody. Only for traps that catch spam.")},
    {"out.no_tls_hosts", OPTION_NETWORKS, offsetof(struct config, out.no_tls_hosts), "", 0, 0, NULL,
     N_("Clients to which STARTTLS is not offered, because theirs is broken.")},
    {"out.workers", OPTION_INTEGER, offsetof(struct config, out.workers), "32", 1, 1024, NULL,
     N_("Worker threads: messages that can be under way at one time. Not fewer than the mail "
        "server delivers at once (Postfix: default_destination_concurrency_limit, 20).")},
    {"out.bare_newlines", OPTION_ENUM, offsetof(struct config, out.bare_newlines), "normalize", 0,
     0, newline_names,
     N_("What happens to a bare CR or LF in mail data: made canonical, or the message "
        "refused.")},
    {"out.hello", OPTION_HOSTNAME, offsetof(struct config, out.hello), "", 0, 0, NULL,
     N_("The name to give in EHLO; empty means hostname. The source address should resolve to "
        "it.")},
    {"out.received_client", OPTION_BOOLEAN, offsetof(struct config, out.received_client), "true", 0,
     0, NULL, N_("Name the client and its address in the Received line; false hides them.")},
    {"out.routes", OPTION_GROUPS, offsetof(struct config, out.routes), "", 0, 0, &route_group,
     N_("What happens to mail for single domains. The most exact match counts: the name "
        "itself, then the longest of those with a leading dot, then \"*\". Mail for the domains "
        "of relay-in (in.domains, in.backends) goes to their backend before any of these.")},
    {"out.force_routing", OPTION_BOOLEAN, offsetof(struct config, out.force_routing), "true", 0, 0,
     NULL,
     N_("Use the next_hop of out.routes; false: they only say what is taken and what is "
        "denied, and what stands beside a next_hop (tls, tls_name, user) does not count either.")},
    {"out.soft_bounce", OPTION_BOOLEAN, offsetof(struct config, out.soft_bounce), "false", 0, 0,
     NULL,
     N_("For the days of a move: what next hops, or the DNS, refuse for good (5xx) is refused for "
        "now "
        "(4xx), so that the mail server tries again and nothing stored comes back before "
        "out.lifetime. out.routes with \"deny\" still refuse for good.")},
    {"out.default_route", OPTION_GROUP, offsetof(struct config, out.default_route), "", 0, 0,
     &default_route_group,
     N_("Where all mail goes that no route and no domain of relay-in claims: a smarthost. Without "
        "it, to the MX hosts of the domain.")},
    {"out.fallback_route", OPTION_GROUP, offsetof(struct config, out.fallback_route), "", 0, 0,
     &default_route_group,
     N_("Next hops for what goes by MX records and was taken by none of the MX hosts, and refused "
        "for good by none either: another way out, when this one is blocked.")},
    {"out.address_literals", OPTION_BOOLEAN, offsetof(struct config, out.address_literals), "false",
     0, 0, NULL, N_("Deliver to recipients like user@[192.0.2.1].")},
    {"out.own_addresses", OPTION_ADDRESSES, offsetof(struct config, out.own_addresses), "", 0, 0,
     NULL,
     N_("Further addresses of this host, where its public one is not on any of its interfaces. "
        "Mail whose next hop is this host is refused.")},
    {"out.source", OPTION_ADDRESSES, offsetof(struct config, out.source), "", 0, 0, NULL,
     N_("The addresses to connect from, one IPv4 and one IPv6 at most; empty lets the "
        "system choose.")},
    {"out.family", OPTION_ENUM, offsetof(struct config, out.family), "ipv6", 0, 0, family_names,
     N_("Which addresses of a host are tried first, or at all.")},
    {"out.reuse_for", OPTION_DURATION, offsetof(struct config, out.reuse_for_ms), "5s", 0, 240000,
     NULL,
     N_("A connection to a next hop is kept for so long after a message, for the next one there; "
        "0 means not at all.")},
    {"out.dead_for", OPTION_DURATION, offsetof(struct config, out.dead_for_ms), "4m", 0, 86400000,
     NULL,
     N_("A host of a destination that could not be reached is left alone for so long, and longer "
        "where there was no time to try the destination's other hosts. Keep it below the first of "
        "out.retry.")},
    {"out.delivery", OPTION_ENUM, offsetof(struct config, out.delivery), "live", 0, 0,
     delivery_names,
     N_("\"live\": next hops are spoken with while the client waits, and their answers are its "
        "answers; only what they do not agree on is stored. \"spool\": every message is stored at "
        "once and delivered then, for clients that have no queue of their own.")},
    {"out.live_deadline", OPTION_DURATION, offsetof(struct config, out.live_deadline_ms), "120s",
     1000, 600000, NULL,
     N_("Where a message goes to several next hops: time for them to answer the end of the mail "
        "data. The message is stored then, and their answers are waited for from there on, "
        "until timeouts.final, which a single next hop has at once.")},
    {"out.spool", OPTION_FOLDER, offsetof(struct config, out.spool), SPOOLDIR, 0, 0, NULL,
     N_("The folder of stored mail. Its parent must be there. Empty means that nothing is ever "
        "stored: then a message has one next hop, and recipients of further ones get 452 4.5.3.")},
    {"out.spool_reserve", OPTION_SIZE, offsetof(struct config, out.spool_reserve), "67108864", 0,
     1099511627776LL, NULL,
     N_("What is kept free on the spool's file system: when there is less, mail that would have to "
        "be stored gets 452.")},
    {"out.state", OPTION_FOLDER, offsetof(struct config, out.state), STATEDIR, 0, 0, NULL,
     N_("The folder for what is remembered over a restart: MTA-STS policies. Empty: nothing is.")},
    {"out.deliveries", OPTION_INTEGER, offsetof(struct config, out.deliveries), "16", 1, 256, NULL,
     N_("Threads that deliver from the spool, beside out.workers.")},
    {"out.retry", OPTION_DURATIONS, offsetof(struct config, out.retry), "5m 10m 20m 40m 1h 2h 4h",
     100, 86400000, NULL,
     N_("What is stored is tried again after these times, one after the other; the last one "
        "repeats. Up to a fifth of each is taken off at random.")},
    {"out.lifetime", OPTION_DURATION, offsetof(struct config, out.lifetime_ms), "5d", 1000,
     2592000000LL, NULL,
     N_("Mail that could not be delivered for so long is tried once more, and then returned to its "
        "sender. Time on hold does not count.")},
    {"out.delay_notice", OPTION_DURATION, offsetof(struct config, out.delay_notice_ms), "4h", 0,
     2592000000LL, NULL,
     N_("The sender is told when his mail has waited for so long; 0 means never.")},
    {"out.bounce_route", OPTION_GROUP, offsetof(struct config, out.bounce_route), "", 0, 0,
     &default_route_group,
     N_("Where notices to senders go. Without it, as any other mail for the sender's domain: "
        "to the backend for our own domains, and else by a route, the default route or MX.")},
    {"out.bounce_size", OPTION_SIZE, offsetof(struct config, out.bounce_size), "102400", 0,
     1073741824, NULL,
     N_("The largest message that is returned whole where its sender has asked for that; of others "
        "only the header.")},
    {"out.tls.level", OPTION_ENUM, offsetof(struct config, out.tls.level), "may", 0, 0,
     out_tls_names,
     N_("TLS towards next hops: never, where it is offered and works, always, or always and with "
        "a valid certificate. That must be for the host's name where the configuration names the "
        "host "
        "or DNSSEC proves the MX records, and else for the recipient's domain, which few are.")},
    {"out.tls.dane", OPTION_BOOLEAN, offsetof(struct config, out.tls.dane), "true", 0, 0, NULL,
     N_("Hosts that publish TLSA records, proven by DNSSEC, get mail under TLS with a certificate "
        "that matches them, and not otherwise (DANE, RFC 7672). Needs dns.validate.")},
    {"out.tls.mta_sts", OPTION_ENUM, offsetof(struct config, out.tls.mta_sts), "enforce", 0, 0,
     mta_sts_names,
     N_("Domains that publish an MTA-STS policy (RFC 8461) get mail as it says; \"log\": what "
        "would fail is only logged and counted. DANE comes first.")},
    {"out.tls.no_tls", OPTION_PATTERNS, offsetof(struct config, out.tls.no_tls), "", 0, 0, NULL,
     N_("Domains and MX hosts to which no TLS is used under \"may\", because theirs is "
        "broken.")},
    {"out.tls.failures_for", OPTION_DURATION, offsetof(struct config, out.tls.failures_for_ms),
     "15m", 0, 604800000, NULL,
     N_("How long relayctl hosts shows that the TLS of a host failed. Under \"may\" the message at "
        "hand then goes in plain text, where the failure was the host's and not silence; with the "
        "next message TLS is tried again.")},
    {"out.tls.priority", OPTION_STRING, offsetof(struct config, out.tls.priority),
     "NORMAL" TLS_ORDER, 0, 0, NULL, N_("GnuTLS priority string towards next hops.")},
    {"out.tls.ca_file", OPTION_FILE, offsetof(struct config, out.tls.ca_file), "", 0, 0, NULL,
     N_("The CA certificates against which next hops' are checked; empty means the "
        "system's.")},
    {"out.tls.cert", OPTION_FILE, offsetof(struct config, out.tls.cert), "", 0, 0, NULL,
     N_("A certificate to show to next hops that ask for one, PEM.")},
    {"out.tls.key", OPTION_FILE, offsetof(struct config, out.tls.key), "", 0, 0, NULL,
     N_("Its key, PEM; empty means that it stands in the certificate's file.")},
    {"out.limits.connections", OPTION_INTEGER, offsetof(struct config, out.limits.connections),
     "1000", 1, 100000, NULL, N_("Connections of clients at one time.")},
    {"out.limits.connections_per_client", OPTION_INTEGER,
     offsetof(struct config, out.limits.connections_per_client), "20", 1, 100000, NULL,
     N_("The same from one address outside out.allow; those inside have no limit.")},
    {"out.limits.message_size", OPTION_SIZE, offsetof(struct config, out.limits.message_size),
     "104857600", 1024, 1099511627776LL, NULL, N_("The largest message.")},
    {"out.limits.recipients", OPTION_INTEGER, offsetof(struct config, out.limits.recipients),
     "1000", 1, 10000, NULL, N_("Accepted recipients of one message; further ones get 452.")},
    {"out.limits.errors", OPTION_INTEGER, offsetof(struct config, out.limits.errors), "1000", 1,
     100000, NULL,
     N_("Refused or malformed commands of one session before 421; refused recipients count.")},
    {"out.limits.junk_commands", OPTION_INTEGER, offsetof(struct config, out.limits.junk_commands),
     "1000", 1, 100000, NULL,
     N_("NOOP, RSET, EHLO, VRFY and HELP of one session without a message delivered "
        "before 421.")},
    {"out.limits.received_headers", OPTION_INTEGER,
     offsetof(struct config, out.limits.received_headers), "100", 10, 1000, NULL,
     N_("Received lines beyond which a message is taken for a loop.")},
    {"out.limits.auth_failures", OPTION_INTEGER, offsetof(struct config, out.limits.auth_failures),
     "5", 1, 1000, NULL,
     N_("Failed log-ins from one IPv4 address or one IPv6 /64 within ten minutes; further ones "
        "are not even checked.")},
    {"out.limits.next_hops", OPTION_INTEGER, offsetof(struct config, out.limits.next_hops), "8", 1,
     CONFIG_NEXT_HOPS_MAX, NULL,
     N_("Next hops of one message at one time; recipients of further ones get 452 4.5.3.")},
    {"out.limits.sessions_per_destination", OPTION_INTEGER,
     offsetof(struct config, out.limits.sessions_per_destination), "10", 1, 1000, NULL,
     N_("Connections to one destination (a domain, or a route) at one time. Who finds all in use "
        "waits for a while, and then gets 451.")},
    {"out.limits.deliveries_per_destination", OPTION_INTEGER,
     offsetof(struct config, out.limits.deliveries_per_destination), "5", 1, 256, NULL,
     N_("How many of these may come from the spool.")},
    {"out.timeouts.command", OPTION_DURATION, offsetof(struct config, out.timeouts.command), "300s",
     1000, 3600000, NULL, N_("Time for the client's next command.")},
    {"out.timeouts.line", OPTION_DURATION, offsetof(struct config, out.timeouts.line), "30s", 100,
     600000, NULL, N_("Time from the first to the last octet of a command line.")},
    {"out.timeouts.handshake", OPTION_DURATION, offsetof(struct config, out.timeouts.handshake),
     "30s", 100, 600000, NULL, N_("Time for a TLS handshake, on either side.")},
    {"out.timeouts.data", OPTION_DURATION, offsetof(struct config, out.timeouts.data), "180s", 100,
     3600000, NULL, N_("Time without an octet of mail data from the client.")},
    {"out.timeouts.park_after", OPTION_DURATION, offsetof(struct config, out.timeouts.park_after),
     "1s", 0, 60000, NULL,
     N_("A client silent for so long between commands gives its worker back.")},
    {"out.timeouts.drain", OPTION_DURATION, offsetof(struct config, out.timeouts.drain), "30s", 0,
     600000, NULL, N_("At a shutdown, time for messages under way to finish.")},
    {"out.timeouts.dial", OPTION_DURATION, offsetof(struct config, out.timeouts.dial), "90s", 1000,
     240000, NULL,
     N_("Time for all that comes before the answer to a recipient: the DNS, all hosts that are "
        "tried, and their greetings. Then the recipient gets 451. Keep it well below the 300 s "
        "that clients wait.")},
    {"out.timeouts.connect", OPTION_DURATION, offsetof(struct config, out.timeouts.connect), "10s",
     100, 120000, NULL, N_("Time to connect to one address.")},
    {"out.timeouts.greeting", OPTION_DURATION, offsetof(struct config, out.timeouts.greeting),
     "60s", 100, 300000, NULL, N_("Time for a next hop's greeting.")},
    {"out.timeouts.reply", OPTION_DURATION, offsetof(struct config, out.timeouts.reply), "200s",
     100, 300000, NULL, N_("Time for a next hop to answer one command.")},
    {"out.timeouts.data_block", OPTION_DURATION, offsetof(struct config, out.timeouts.data_block),
     "180s", 100, 600000, NULL, N_("Time for a next hop to take a piece of mail data.")},
    {"out.timeouts.final", OPTION_DURATION, offsetof(struct config, out.timeouts.final), "570s",
     100, 600000, NULL,
     N_("Time for a next hop to answer the end of the mail data. Keep it below the 10 minutes "
        "that clients wait.")},
    {"exporter.listen", OPTION_HOSTS, offsetof(struct config, exporter.listen), "127.0.0.1:9925",
     9925, 0, NULL,
     N_("Where postern-exporter serves /metrics and its page: addresses of this host or of the "
        "tunnel. "
        "Nobody has to log in.")},
    {"exporter.public", OPTION_BOOLEAN, offsetof(struct config, exporter.open), "false", 0, 0, NULL,
     N_("Let it listen on an address that the internet can reach.")},
    {"exporter.state", OPTION_FOLDER, offsetof(struct config, exporter.state), STATEDIR "-exporter",
     0, 0, NULL, N_("The folder where it keeps what its plots show. Empty means in memory.")},
    {"control", OPTION_FOLDER, offsetof(struct config, control), "/run/postern", 0, 0, NULL,
     N_("The folder of the daemons' control sockets, by which relayctl speaks with them. Empty "
        "means "
        "none.")},
    {"log.level", OPTION_ENUM, offsetof(struct config, log_level), "info", 0, 0, level_names,
     N_("What is logged; each level includes those before it.")},
};

const struct option_rows options = {all_rows, sizeof all_rows / sizeof *all_rows,
                                    sizeof(struct config)};

static const struct option_former formers[] = {
    {"in.greet_delay_ms", "in.greet_delay", "ms"},
};

const struct option_former *option_former_find(const char *path)
{
    for (size_t i = 0; i < sizeof formers / sizeof *formers; i++) {
        if (strcmp(path, formers[i].path) == 0 || strcmp(path, formers[i].now) == 0)
            return &formers[i];
    }
    return NULL;
}

/* What a reload cannot change, and for which daemons. */
static const struct {
    const char *path;
    unsigned parts;
} restarts[] = {
    {"user", CONFIG_PART_IN | CONFIG_PART_OUT},
    {"group", CONFIG_PART_IN | CONFIG_PART_OUT},
    {"control", CONFIG_PART_IN | CONFIG_PART_OUT},
    {"in.listen", CONFIG_PART_IN},
    {"in.workers", CONFIG_PART_IN},
    {"in.state", CONFIG_PART_IN},
    {"in.missed", CONFIG_PART_IN},
    {"in.missed_sender", CONFIG_PART_IN},
    {"in.limits.queue", CONFIG_PART_IN},
    {"hostname", CONFIG_PART_OUT}, /* in notices to senders */
    {"out.listen", CONFIG_PART_OUT},
    {"out.workers", CONFIG_PART_OUT},
    {"out.limits.connections", CONFIG_PART_OUT},
    {"out.limits.deliveries_per_destination", CONFIG_PART_OUT},
    {"out.spool", CONFIG_PART_OUT},
    {"out.spool_reserve", CONFIG_PART_OUT},
    {"out.state", CONFIG_PART_OUT},
    {"out.deliveries", CONFIG_PART_OUT},
    {"out.retry", CONFIG_PART_OUT},
    {"out.lifetime", CONFIG_PART_OUT},
    {"out.delay_notice", CONFIG_PART_OUT},
    {"out.bounce_size", CONFIG_PART_OUT},
};

unsigned option_restarts(const struct option *option)
{
    bool whole_path = option >= all_rows && option < all_rows + options.count;

    for (size_t i = 0; i < sizeof restarts / sizeof *restarts && whole_path; i++) {
        if (strcmp(option->path, restarts[i].path) == 0)
            return restarts[i].parts;
    }
    return 0;
}
