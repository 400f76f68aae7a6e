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
/* In syslog's order, like enum log_level. */
static const char *const level_names[] = {"",       "",     "",      "error", "warning",
                                          "notice", "info", "debug", NULL};

/* Shared by all backends. The first row is for in.backends only. */
static const struct option backend_rows[] = {
    {"domains", OPTION_DOMAINS, offsetof(struct config_backend, domains), NULL, 0, 0, NULL,
     N_("The domains whose mail goes to this backend. A leading dot means all subdomains. They "
        "need not be listed in in.domains as well.")},
    {"hosts", OPTION_HOSTS, offsetof(struct config_backend, hosts), NULL, 25, 0, NULL,
     N_("The mail server's addresses, tried in order. The port is 25 unless given.")},
    {"identity", OPTION_ENUM, offsetof(struct config_backend, identity), NULL, 0, 0, identity_names,
     N_("How the backend learns who the client is, so that SPF, blocklists and greylisting "
        "judge the client and not this host: by XCLIENT (Postfix), by a PROXY header of version "
        "2 or 1 (Exim, OpenSMTPD, postscreen), or not at all. \"none\" delivers as this host "
        "itself.")},
    {"tls", OPTION_ENUM, offsetof(struct config_backend, tls), "mirror", 0, 0, backend_tls_names,
     N_("TLS towards the backend. \"mirror\" uses it if the client did, \"none\" never, \"may\" "
        "if it is offered, \"encrypt\" always. \"verify\" also requires a valid certificate for "
        "tls_name; no other value checks the certificate.")},
    {"tls_name", OPTION_STRING, offsetof(struct config_backend, tls_name), "", 0, 0, NULL,
     N_("The name that the backend's certificate must carry under \"verify\", where it is "
        "required. It is also sent as SNI.")},
    {"ca_file", OPTION_FILE, offsetof(struct config_backend, ca_file), "", 0, 0, NULL,
     N_("The CA certificates for checking the backend's certificate. Empty means the system's.")},
    {"cert", OPTION_FILE, offsetof(struct config_backend, cert), "", 0, 0, NULL,
     N_("A client certificate to present if the backend asks for one, PEM.")},
    {"key", OPTION_FILE, offsetof(struct config_backend, key), "", 0, 0, NULL,
     N_("Its private key, PEM. Empty means that the certificate's file holds it.")},
    {"source", OPTION_ADDRESSES, offsetof(struct config_backend, source), "", 0, 0, NULL,
     N_("The local addresses to connect from, at most one IPv4 and one IPv6. Empty lets the "
        "system choose.")},
    {"spares", OPTION_INTEGER, offsetof(struct config_backend, spares), "2", 0, CONFIG_SPARES_MAX,
     NULL,
     N_("Connections to the backend kept open and greeted, so that a message finds one ready "
        "and saves two round trips. Not used with \"proxy-v1\" and \"proxy-v2\", where the "
        "client must be known before the connection is made.")},
    {"max_sessions", OPTION_INTEGER, offsetof(struct config_backend, max_sessions), "45", 1, 10000,
     NULL,
     N_("The most sessions with the backend at a time. Keep it below the backend's "
        "smtpd_client_connection_count_limit, beyond which the backend refuses the relay.")},
    {"connect_timeout", OPTION_DURATION, offsetof(struct config_backend, connect_timeout_ms), "5s",
     100, 60000, NULL, N_("Time limit for connecting to one host.")},
    {"command_timeout", OPTION_DURATION, offsetof(struct config_backend, command_timeout_ms), "60s",
     100, 300000, NULL, N_("Time limit for the backend's reply to one command.")},
    {"reply_timeout", OPTION_DURATION, offsetof(struct config_backend, reply_timeout_ms), "570s",
     100, 600000, NULL,
     N_("Time limit for the backend's reply to the end of the mail data. Keep it below the 10 "
        "minutes that senders wait: a sender that gives up first sends the message again.")},
    {"retry_after", OPTION_DURATION, offsetof(struct config_backend, retry_after_ms), "5s", 0,
     600000, NULL,
     N_("How long a host that could not be reached is left alone, so that not every client "
        "waits for it.")},
};
static const struct option_rows domain_backend_group = {
    backend_rows, sizeof backend_rows / sizeof *backend_rows, sizeof(struct config_backend)};
static const struct option_rows backend_group = {backend_rows + 1,
                                                 sizeof backend_rows / sizeof *backend_rows - 1,
                                                 sizeof(struct config_backend)};

/* Where mail goes: for out.routes, and without the first two rows for out.default_route. */
static const struct option route_rows[] = {
    {"domain", OPTION_PATTERNS, offsetof(struct config_route, domains), NULL, 0, 0, NULL,
     N_("The recipient domains that this route is for. A name matches just that domain, a name "
        "with a leading dot its subdomains, \"*\" all others.")},
    {"action", OPTION_ENUM, offsetof(struct config_route, action), "continue", 0, 0, action_names,
     N_("\"accept\" and \"continue\" take mail for these domains, \"deny\" refuses it. The "
        "first two mean the same; both are there for files that come from Haraka.")},
    {"next_hop", OPTION_NEXT_HOPS, offsetof(struct config_route, next_hops), "", 0, 0, NULL,
     N_("The hosts to deliver to, by name or IP address, tried in order. The port is 25 unless "
        "given; on port 465 TLS begins at once, without STARTTLS. MX records are not looked up. "
        "Empty means that mail goes as if there were no route.")},
    {"tls", OPTION_ENUM, offsetof(struct config_route, tls), "default", 0, 0, route_tls_names,
     N_("TLS towards these domains, whatever they publish and whatever out.tls.level says: more "
        "of it for a destination that matters, or less for one whose TLS is broken. \"dane\" "
        "delivers only to hosts that DANE authenticates.")},
    {"tls_name", OPTION_STRING, offsetof(struct config_route, tls_name), "", 0, 0, NULL,
     N_("The name that the certificate must carry, also sent as SNI. Empty means the next hop's "
        "own name, or the domain's if DNSSEC does not prove the MX records.")},
    {"ca_file", OPTION_FILE, offsetof(struct config_route, ca_file), "", 0, 0, NULL,
     N_("The CA certificates for checking the next hop's certificate, instead of "
        "out.tls.ca_file.")},
    {"user", OPTION_STRING, offsetof(struct config_route, user), "", 0, 0, NULL,
     N_("Log in at the next hop as this user (AUTH PLAIN or LOGIN). Only with tls = \"verify\", "
        "so that the password reaches no other host.")},
    {"password_file", OPTION_FILE, offsetof(struct config_route, password_file), "", 0, 0, NULL,
     N_("A file whose first line is that user's password, of at most 4096 octets. Passwords "
        "have files of their own so that relay.conf may be readable by all.")},
    {"family", OPTION_ENUM, offsetof(struct config_route, family), "default", 0, 0,
     route_family_names, N_("Which addresses are tried, instead of out.family.")},
    {"connections", OPTION_INTEGER, offsetof(struct config_route, connections), "0", 0, 1000, NULL,
     N_("The most connections to one destination at a time: to the next_hop, or to each domain "
        "if there is none. 0 means limits.sessions_per_destination.")},
    {"rate", OPTION_INTEGER, offsetof(struct config_route, rate), "0", 0, 60000, NULL,
     N_("The most messages to one destination per minute, evenly spaced, for destinations that "
        "throttle senders. A message that would have to wait longer than 20 s gets 451; a "
        "stored one waits for its turn. 0 means no limit.")},
};
static const struct option_rows route_group = {route_rows, sizeof route_rows / sizeof *route_rows,
                                               sizeof(struct config_route)};
static const struct option_rows default_route_group = {
    route_rows + 2, sizeof route_rows / sizeof *route_rows - 2, sizeof(struct config_route)};

static const struct option certificate_rows[] = {
    {"cert", OPTION_FILE, offsetof(struct tls_pair, cert), NULL, 0, 0, NULL,
     N_("The certificate with its chain, PEM.")},
    {"key", OPTION_FILE, offsetof(struct tls_pair, key), "", 0, 0, NULL,
     N_("Its private key, PEM. Empty means that the certificate's file holds it.")},
};
static const struct option_rows certificate_group = {
    certificate_rows, sizeof certificate_rows / sizeof *certificate_rows, sizeof(struct tls_pair)};

/* TLS settings towards clients: once for both daemons, once for relay-out alone.
 * The table keeps its layout. */
/* clang-format off */
#define TLS_ROWS(prefix, type, member)                                                             \
    {prefix "certificates",                                                                        \
     OPTION_GROUPS,                                                                                \
     offsetof(type, member.certificates),                                                          \
     "",                                                                                           \
     0,                                                                                            \
     0,                                                                                            \
     &certificate_group,                                                                           \
     N_("The certificates to present. Of several, one is chosen by the name that the "             \
        "client asks for and by key type, so RSA and ECDSA can stand side by side. "               \
        "Without any, STARTTLS is not offered. Renewed files are noticed and reread "              \
        "within seconds.")},                                                                       \
        {prefix "priority",                                                                        \
         OPTION_STRING,                                                                            \
         offsetof(type, member.priority),                                                          \
         "NORMAL:%SERVER_PRECEDENCE" TLS_ORDER,                                                    \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         N_("GnuTLS priority string: ciphers, groups and signature algorithms.")},                 \
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
         N_("Whether clients are asked for a certificate. Under \"request\" any certificate "      \
            "will do, and so will none; with ca_file, the log says whether it is valid. Under "    \
            "\"require\" the handshake fails without one signed by ca_file.")},                    \
        {prefix "ca_file",                                                                         \
         OPTION_FILE,                                                                              \
         offsetof(type, member.ca_file),                                                           \
         "",                                                                                       \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         N_("The CA certificates for checking client certificates.")},                             \
    {                                                                                              \
        prefix "dh_params", OPTION_FILE, offsetof(type, member.dh_params), "", 0, 0, NULL,         \
            N_("Diffie-Hellman parameters for old clients. Empty means those of RFC 7919.")        \
    }
/* clang-format on */

static const struct option listen_tls_rows[] = {TLS_ROWS("", struct config_listen_tls, tls)};
static const struct option_rows listen_tls_group = {
    listen_tls_rows, sizeof listen_tls_rows / sizeof *listen_tls_rows,
    sizeof(struct config_listen_tls)};

/* What both daemons have for their clients, of the group `part`, into its struct config_daemon.
 * The table keeps its layout. */
/* clang-format off */
#define DAEMON_ROW(part, name, type, fallback, min, max, names, help)                              \
    {                                                                                              \
#part "." #name, type, offsetof(struct config, part.daemon.name), fallback, min, max,      \
            names, help                                                                            \
    }
#define DAEMON_CLIENTS(part)                                                                       \
    DAEMON_ROW(part, no_tls_hosts, OPTION_NETWORKS, "", 0, 0, NULL,                                \
               N_("Clients that are not offered STARTTLS because their TLS is broken.")),          \
        DAEMON_ROW(                                                                                \
            part, bare_newlines, OPTION_ENUM, "normalize", 0, 0, newline_names,                    \
            N_("What to do with a bare CR or LF in mail data: make it canonical, or refuse the "   \
               "message. "                                                                         \
               "The next hop sees neither, since it might take one for the end of the data (SMTP " \
               "smuggling)."))
#define DAEMON_LIMITS(part, recipients_default, errors_default, errors_max, junk_default,          \
                      junk_max)                                                                    \
    DAEMON_ROW(part, limits.connections, OPTION_INTEGER, "1000", 1, 100000, NULL,                  \
               N_("The most client connections at a time; further ones get 421.")),                \
        DAEMON_ROW(                                                                                \
            part, limits.connections_per_client, OPTION_INTEGER, "20", 1, 100000, NULL,            \
            N_("The most connections at a time from one IPv4 address or one IPv6 /64. Clients in " \
               "in.clients.allow or out.allow have no such limit.")),                              \
        DAEMON_ROW(part, limits.message_size, OPTION_SIZE, "104857600", 1024, 1099511627776LL,     \
                   NULL,                                                                           \
                   N_("The largest message. If relay-in's backend announces a smaller limit, "     \
                      "that one applies.")),                                                       \
        DAEMON_ROW(part, limits.recipients, OPTION_INTEGER, recipients_default, 1, 10000, NULL,    \
                   N_("The most accepted recipients of one message; further ones get 452. RFC "    \
                      "5321 requires at "                                                          \
                      "least 100.")),                                                              \
        DAEMON_ROW(part, limits.errors, OPTION_INTEGER, errors_default, 1, errors_max, NULL,       \
                   N_("Refused or malformed commands in one session before it ends with 421; "     \
                      "refused recipients "                                                        \
                      "count.")),                                                                  \
        DAEMON_ROW(part, limits.junk_commands, OPTION_INTEGER, junk_default, 1, junk_max, NULL,    \
                   N_("NOOP, RSET, EHLO, VRFY and HELP commands in one session without a "         \
                      "delivered message "                                                         \
                      "before it ends with 421.")),                                                \
        DAEMON_ROW(part, limits.received_headers, OPTION_INTEGER, "100", 10, 1000, NULL,           \
                   N_("A message with more Received lines than this is taken for a loop."))
#define DAEMON_TIMEOUTS(part)                                                                      \
    DAEMON_ROW(part, timeouts.command, OPTION_DURATION, "300s", 1000, 3600000, NULL,               \
               N_("Time limit for the client's next command.")),                                   \
        DAEMON_ROW(part, timeouts.line, OPTION_DURATION, "30s", 100, 600000, NULL,                 \
                   N_("Time limit for a command line, from its first octet to its last.")),        \
        DAEMON_ROW(part, timeouts.handshake, OPTION_DURATION, "30s", 100, 600000, NULL,            \
                   N_("Time limit for a TLS handshake; relay-out's is for next hops, too.")),      \
        DAEMON_ROW(part, timeouts.data, OPTION_DURATION, "180s", 100, 3600000, NULL,               \
                   N_("The longest silence within the client's mail data.")),                      \
        DAEMON_ROW(part, timeouts.park_after, OPTION_DURATION, "1s", 0, 60000, NULL,               \
                   N_("A client silent for this long gives its worker back, wherever it is in "    \
                      "its dialog. Under "                                                         \
                      "stress it does so at once.")),                                              \
        DAEMON_ROW(part, timeouts.drain, OPTION_DURATION, "30s", 0, 600000, NULL,                  \
                   N_("How long messages in progress may take to finish at shutdown."))
/* clang-format on */

static const struct option all_rows[] = {
    {"hostname", OPTION_HOSTNAME, offsetof(struct config, hostname), NULL, 0, 0, NULL,
     N_("The name of this host: in the greeting, in EHLO and in Received lines. The address of "
        "this host should resolve to it, and the certificate should carry it.")},
    {"user", OPTION_STRING, offsetof(struct config, user), "postern", 0, 0, NULL,
     N_("The user to switch to after the ports are bound, when started as root.")},
    {"group", OPTION_STRING, offsetof(struct config, group), "", 0, 0, NULL,
     N_("The group to switch to. Empty means the user's own.")},
    TLS_ROWS("tls.", struct config, tls),
    {"dns.servers", OPTION_HOSTS, offsetof(struct config, dns.servers), "", 53, 0, NULL,
     N_("The resolvers to ask: IP addresses with or without a port. Empty means those of "
        "/etc/resolv.conf, whose changes are noticed. They must answer questions with EDNS, "
        "which some old routers drop; relayctl doctor says so.")},
    {"dns.recurse", OPTION_BOOLEAN, offsetof(struct config, dns.recurse), "false", 0, 0, NULL,
     N_("Resolve names from the root servers down and ask no other resolver. Useful if none "
        "nearby passes DNSSEC records on.")},
    {"dns.validate", OPTION_BOOLEAN, offsetof(struct config, dns.validate), "true", 0, 0, NULL,
     N_("Validate answers by DNSSEC if there is a trust anchor. DANE depends on it.")},
    {"dns.trust_anchor_file", OPTION_FILE, offsetof(struct config, dns.trust_anchor_file), "", 0, 0,
     NULL,
     N_("The keys of the root zone. Empty means those that the distribution installs (package "
        "dns-root-data).")},
    {"in.listen", OPTION_LISTEN, offsetof(struct config, in.listen), "[::]:25", 0, 0, NULL,
     N_("The addresses and ports to listen on. [::] includes IPv4. Words may follow the port: "
        "\"tls\" begins with the TLS handshake, as on port 465; \"proxy\" expects a load "
        "balancer's PROXY header of version 1 or 2 before everything else (see in.proxy_hosts); "
        "\"submission\" lets users log in (see in.submission).")},
    {"in.domains", OPTION_DOMAINS, offsetof(struct config, in.domains), "", 0, 0, NULL,
     N_("The domains to take mail for. A leading dot means all subdomains. Mail for any other "
        "domain is refused. An internationalized domain may be written in either of its forms, "
        "and is shown as A-labels (xn--...).")},
    {"in.domains_file", OPTION_DOMAINS_FILE, offsetof(struct config, in.domains), "", 0, 0, NULL,
     N_("A file with more such domains, one per line; # begins a comment. Haraka's host_list "
        "can be used as it is.")},
    {"in.private_clients", OPTION_NETWORKS, offsetof(struct config, in.private_clients), "", 0, 0,
     NULL,
     N_("Private, loopback or link-local networks whose clients may connect. All other such "
        "clients are refused, because the backend might trust them.")},
    {"in.xclient_hosts", OPTION_NETWORKS, offsetof(struct config, in.xclient_hosts), "", 0, 0, NULL,
     N_("Hosts that may name the client they speak for by XCLIENT: a relay of yours in front of "
        "this one. For all others the command is unknown.")},
    {"in.proxy_hosts", OPTION_NETWORKS, offsetof(struct config, in.proxy_hosts), "", 0, 0, NULL,
     N_("Load balancers that may name the client they speak for by a PROXY header, on listeners "
        "marked \"proxy\". Connections from others to such a listener are closed. A header that "
        "names no client (UNKNOWN, LOCAL) is taken for the balancer's own health check: it gets "
        "replies, but may not send mail.")},
    DAEMON_CLIENTS(in),
    {"in.reverse_dns", OPTION_BOOLEAN, offsetof(struct config, in.reverse_dns), "true", 0, 0, NULL,
     N_("Look up each client's name by reverse DNS, confirmed by a forward lookup, for the "
        "backend, the Received line and the log.")},
    {"in.state", OPTION_FOLDER, offsetof(struct config, in.state), STATEDIR, 0, 0, NULL,
     N_("The folder for what is remembered across restarts: what each backend offers, so that "
        "EHLO does not depend on whether it is up, and the ledger of missed mail. Empty means "
        "that nothing is remembered. Until a backend has been seen once, EHLO offers SIZE with "
        "limits.message_size, 8BITMIME, SMTPUTF8, ENHANCEDSTATUSCODES, DSN and CHUNKING; a "
        "message that needs one of them gets 451 if the backend turns out to lack it.")},
    {"in.missed", OPTION_BOOLEAN, offsetof(struct config, in.missed), "true", 0, 0, NULL,
     N_("Keep a ledger of who was put off while the backend could not be reached, and who has "
        "come back; see relayctl missed. It holds the sender's domain, the recipient and the "
        "client's name or network, for 14 days, and no mail.")},
    {"in.missed_sender", OPTION_BOOLEAN, offsetof(struct config, in.missed_sender), "false", 0, 0,
     NULL, N_("Keep the sender's whole address in that ledger, not just the domain.")},
    {"in.workers", OPTION_INTEGER, offsetof(struct config, in.workers), "64", 1, 1024, NULL,
     N_("Worker threads. A worker waits for the backend only, so the backend's max_sessions and "
        "8 more are enough to answer new clients at any time. Add stress.free_workers percent "
        "to keep a busy backend from counting as stress. Clients that are idle, slow or waiting "
        "for one of max_sessions need no worker.")},
    {"in.greet_delay", OPTION_DURATION, offsetof(struct config, in.greet_delay_ms), "0s", 0, 30000,
     NULL,
     N_("Time of silence before the greeting. Mail servers wait for the greeting, many spam "
        "programs do not: a client that talks during the delay is refused with 554. All other "
        "clients are delayed by it.")},
    {"in.backend", OPTION_GROUP, offsetof(struct config, in.backend), NULL, 0, 0, &backend_group,
     N_("The mail server behind this relay.")},
    {"in.backends", OPTION_GROUPS, offsetof(struct config, in.backends), "", 0, 0,
     &domain_backend_group,
     N_("Mail servers of particular domains. Mail for all other domains goes to in.backend.")},
    {"in.submission", OPTION_GROUP, offsetof(struct config, in.submission), "", 0, 0,
     &backend_group,
     N_("The mail server's submission port, for listeners marked \"submission\". Clients log in "
        "there, through this host, and may then send to anybody.")},
    {"in.clients.allow", OPTION_NETWORKS, offsetof(struct config, in.clients.allow), "", 0, 0, NULL,
     N_("Clients exempt from connection limits, the greet delay, blocklists and the deny list: "
        "correspondents that you know. Private addresses must be in in.private_clients as well.")},
    {"in.clients.allow_file", OPTION_NETWORKS_FILE, offsetof(struct config, in.clients.allow), "",
     0, 0, NULL, N_("A file with more such networks, one per line; # begins a comment.")},
    {"in.clients.deny", OPTION_NETWORKS, offsetof(struct config, in.clients.deny), "", 0, 0, NULL,
     N_("Clients that are refused with 554 before anything else.")},
    {"in.clients.deny_file", OPTION_NETWORKS_FILE, offsetof(struct config, in.clients.deny), "", 0,
     0, NULL, N_("A file with more such networks, one per line; # begins a comment.")},
    {"in.clients.over_limit", OPTION_ENUM, offsetof(struct config, in.clients.over_limit), "close",
     0, 0, over_limit_names,
     N_("What a client gets beyond connections_per_client, connections_per_network or a rate. "
        "\"close\" replies 421 and closes; \"tempfail\" opens a session in which each message "
        "gets 451. Beyond twice the connections it is 421 in any case.")},
    {"in.dnsbl.zones", OPTION_STRINGS, offsetof(struct config, in.dnsbl.zones), "", 0, 0, NULL,
     N_("DNS blocklists to ask about each client that is not in in.clients.allow, written as "
        "for postscreen_dnsbl_sites: \"zone\" or \"zone=127.0.0.[2..11]\", optionally followed "
        "by \"*weight\" (1 if absent). An allowlist has a negative weight. Mind the terms of "
        "use.")},
    {"in.dnsbl.threshold", OPTION_INTEGER, offsetof(struct config, in.dnsbl.threshold), "1", 1,
     32000, NULL, N_("The sum of weights at which a client counts as listed.")},
    {"in.dnsbl.action", OPTION_ENUM, offsetof(struct config, in.dnsbl.action), "reject", 0, 0,
     dnsbl_action_names,
     N_("What a listed client gets: 554 with the name of the zone, a session in which each "
        "message gets 451, or the greeting after a long delay.")},
    {"in.dnsbl.timeout", OPTION_DURATION, offsetof(struct config, in.dnsbl.timeout_ms), "3s", 100,
     30000, NULL,
     N_("Time limit for all answers; later ones do not count. Without a greet delay, the "
        "greeting waits for the answers.")},
    {"in.dnsbl.tarpit", OPTION_DURATION, offsetof(struct config, in.dnsbl.tarpit_ms), "60s", 1000,
     300000, NULL, N_("The delay of \"tarpit\".")},
    DAEMON_LIMITS(in, "100", "10", 1000, "50", 10000),
    {"in.limits.connections_per_network", OPTION_INTEGER,
     offsetof(struct config, in.limits.connections_per_network), "100", 0, 100000, NULL,
     N_("The most connections at a time from one IPv4 /24 or one IPv6 /48; never less than "
        "connections_per_client. 0 means no limit.")},
    {"in.limits.rate_per_client", OPTION_INTEGER,
     offsetof(struct config, in.limits.rate_per_client), "0", 0, 100000, NULL,
     N_("New connections per minute from one IPv4 address or one IPv6 /64. 0 means no limit.")},
    {"in.limits.rate_per_network", OPTION_INTEGER,
     offsetof(struct config, in.limits.rate_per_network), "0", 0, 100000, NULL,
     N_("New connections per minute from one IPv4 /24 or one IPv6 /48. 0 means no limit.")},
    {"in.limits.queue", OPTION_INTEGER, offsetof(struct config, in.limits.queue), "1000", 1, 100000,
     NULL,
     N_("The most new commands that may wait for a worker; further ones get 421. With "
        "limits.connections or more, no client that was let in is refused.")},
    {"in.limits.refused_recipients", OPTION_INTEGER,
     offsetof(struct config, in.limits.refused_recipients), "3", 1, 1000, NULL,
     N_("Recipients that the backend may refuse in one session; further ones get 451 without "
        "asking it. Backends slow down sessions with more errors.")},
    {"in.limits.min_data_rate", OPTION_INTEGER, offsetof(struct config, in.limits.min_data_rate),
     "500", 0, 1000000, NULL,
     N_("The least octets of mail data per second, on average after timeouts.data_grace; slower "
        "clients are cut off with 421. 0 means no limit.")},
    {"in.limits.waiting_transactions", OPTION_INTEGER,
     offsetof(struct config, in.limits.waiting_transactions), "20", 0, 10000, NULL,
     N_("The most clients that may be slow in mid-message. Beyond that, those that have sent "
        "least for their time since MAIL (at limits.min_data_rate) get 421, so that slow "
        "clients cannot use up the backend's max_sessions. They hold no worker. 0 means no "
        "limit.")},
    DAEMON_TIMEOUTS(in),
    {"in.timeouts.proxy_header", OPTION_DURATION, offsetof(struct config, in.timeouts.proxy_header),
     "5s", 100, 60000, NULL, N_("Time limit for a load balancer's PROXY header.")},
    {"in.timeouts.data_grace", OPTION_DURATION, offsetof(struct config, in.timeouts.data_grace),
     "300s", 100, 3600000, NULL,
     N_("Time limit for the mail data of a message, extended by what each octet earns at "
        "limits.min_data_rate.")},
    {"in.timeouts.message", OPTION_DURATION, offsetof(struct config, in.timeouts.message), "1h",
     1000, 86400000, NULL, N_("Time limit for a message, from MAIL to the end of its data.")},
    {"in.timeouts.session", OPTION_DURATION, offsetof(struct config, in.timeouts.session), "1h",
     1000, 86400000, NULL,
     N_("A session that has lasted this long begins no further message; the client may connect "
        "again.")},
    {"in.stress.free_workers", OPTION_INTEGER, offsetof(struct config, in.stress.free_workers),
     "20", 0, 100, NULL,
     N_("Stress begins when fewer workers than this are free, in percent, for as long as "
        "stress.after. 0 means never.")},
    {"in.stress.free_connections", OPTION_INTEGER,
     offsetof(struct config, in.stress.free_connections), "20", 0, 100, NULL,
     N_("Stress begins when fewer of limits.connections are free, in percent. 0 means never.")},
    {"in.stress.after", OPTION_DURATION, offsetof(struct config, in.stress.after_ms), "1s", 0,
     60000, NULL, N_("How long workers must be scarce before stress begins.")},
    {"in.stress.calm", OPTION_DURATION, offsetof(struct config, in.stress.calm_ms), "60s", 100,
     3600000, NULL, N_("Stress ends when it has had no cause for this long.")},
    {"in.stress.timeout", OPTION_DURATION, offsetof(struct config, in.stress.timeout_ms), "10s",
     100, 300000, NULL,
     N_("Under stress, no timeout that waits for a client is longer than this: command, line, "
        "handshake, data, data_grace.")},
    {"in.stress.errors", OPTION_INTEGER, offsetof(struct config, in.stress.errors), "3", 1, 1000,
     NULL, N_("limits.errors under stress.")},
    {"in.stress.junk_commands", OPTION_INTEGER, offsetof(struct config, in.stress.junk_commands),
     "5", 1, 10000, NULL, N_("limits.junk_commands under stress.")},
    {"out.listen", OPTION_LISTEN, offsetof(struct config, out.listen), "10.0.0.1:2526", 0, 0, NULL,
     N_("The addresses and ports on which relay-out takes mail: those of the tunnel, which may "
        "come up later. Words may follow the port: \"tls\" begins with the TLS handshake, "
        "\"submission\" requires users to log in.")},
    {"out.allow", OPTION_NETWORKS, offsetof(struct config, out.allow), "", 0, 0, NULL,
     N_("The hosts that may send through relay-out: the mail server behind the tunnel. All "
        "others get 554 instead of a greeting, unless out.users_file lets people log in.")},
    {"out.allow_file", OPTION_NETWORKS_FILE, offsetof(struct config, out.allow), "", 0, 0, NULL,
     N_("A file with more such networks, one per line; # begins a comment. Haraka's "
        "relay_acl_allow can be used as it is.")},
    {"out.users_file", OPTION_FILE, offsetof(struct config, out.users_file), "", 0, 0, NULL,
     N_("Users who may log in (AUTH PLAIN or LOGIN, only under TLS) and then send from "
        "anywhere. relayctl password writes it.")},
    {"out.listen_tls", OPTION_GROUP, offsetof(struct config, out.listen_tls), "", 0, 0,
     &listen_tls_group,
     N_("What relay-out presents to its clients, in place of the tls group: a certificate for "
        "its own name, another priority, client certificates that it requires.")},
    {"out.i_know_this_is_an_open_relay", OPTION_BOOLEAN, offsetof(struct config, out.open_relay),
     "false", 0, 0, NULL,
     N_("Take mail from everybody to everybody. Only for traps that catch spam.")},
    DAEMON_CLIENTS(out),
    {"out.workers", OPTION_INTEGER, offsetof(struct config, out.workers), "32", 1, 1024, NULL,
     N_("Worker threads: the most messages in progress at a time. Have no fewer than the mail "
        "server delivers at once (Postfix: default_destination_concurrency_limit, 20).")},
    {"out.hello", OPTION_HOSTNAME, offsetof(struct config, out.hello), "", 0, 0, NULL,
     N_("The name to give in EHLO. Empty means hostname. The source address should resolve to "
        "it: most receivers check.")},
    {"out.received_client", OPTION_BOOLEAN, offsetof(struct config, out.received_client), "true", 0,
     0, NULL,
     N_("Name the client and its address in the Received line; false hides them, such as the "
        "mail server's private address.")},
    {"out.routes", OPTION_GROUPS, offsetof(struct config, out.routes), "", 0, 0, &route_group,
     N_("What to do with mail for particular domains. The most specific match counts: the name "
        "itself, then the longest pattern with a leading dot, then \"*\". Mail for the domains "
        "of relay-in (in.domains, in.backends) goes to their backend before any of these.")},
    {"out.force_routing", OPTION_BOOLEAN, offsetof(struct config, out.force_routing), "true", 0, 0,
     NULL,
     N_("Use the next_hop of out.routes. If false, routes only say what is taken and what is "
        "denied; what belongs to a next_hop (tls, tls_name, user) has no effect either.")},
    {"out.soft_bounce", OPTION_BOOLEAN, offsetof(struct config, out.soft_bounce), "false", 0, 0,
     NULL,
     N_("For the days of a move: permanent refusals (5xx) by next hops or the DNS become "
        "temporary ones (4xx), so that the mail server tries again and nothing stored comes "
        "back before out.lifetime. Routes with \"deny\" still refuse permanently.")},
    {"out.default_route", OPTION_GROUP, offsetof(struct config, out.default_route), "", 0, 0,
     &default_route_group,
     N_("Where mail goes that no route and no domain of relay-in claims: a smarthost. Without "
        "it, such mail goes to the MX hosts of its domain.")},
    {"out.fallback_route", OPTION_GROUP, offsetof(struct config, out.fallback_route), "", 0, 0,
     &default_route_group,
     N_("Next hops for mail that goes by MX records, when no MX host took it and none refused "
        "it permanently: another way out if this host's is blocked.")},
    {"out.address_literals", OPTION_BOOLEAN, offsetof(struct config, out.address_literals), "false",
     0, 0, NULL, N_("Deliver to recipients like user@[192.0.2.1].")},
    {"out.own_addresses", OPTION_ADDRESSES, offsetof(struct config, out.own_addresses), "", 0, 0,
     NULL,
     N_("Further addresses of this host, if its public one is on none of its interfaces. Mail "
        "whose next hop is this host is refused, since it would loop.")},
    {"out.source", OPTION_ADDRESSES, offsetof(struct config, out.source), "", 0, 0, NULL,
     N_("The local addresses to connect from, at most one IPv4 and one IPv6. Empty lets the "
        "system choose.")},
    {"out.family", OPTION_ENUM, offsetof(struct config, out.family), "ipv6", 0, 0, family_names,
     N_("Which addresses of a host are tried first, or at all.")},
    {"out.reuse_for", OPTION_DURATION, offsetof(struct config, out.reuse_for_ms), "5s", 0, 240000,
     NULL,
     N_("How long a connection to a next hop is kept after a message, for the next one there. 0 "
        "means not at all.")},
    {"out.dead_for", OPTION_DURATION, offsetof(struct config, out.dead_for_ms), "4m", 0, 86400000,
     NULL,
     N_("How long a destination's host that could not be reached is left alone, so that not "
        "every message waits for it. It is longer if there was no time to try the destination's "
        "other hosts. Keep it below the first value of out.retry.")},
    {"out.delivery", OPTION_ENUM, offsetof(struct config, out.delivery), "live", 0, 0,
     delivery_names,
     N_("\"live\" speaks with the next hops while the client waits and gives it their replies; "
        "only what they disagree on is stored. \"spool\" stores every message first and "
        "delivers it then, for clients without a queue of their own.")},
    {"out.live_deadline", OPTION_DURATION, offsetof(struct config, out.live_deadline_ms), "120s",
     1000, 600000, NULL,
     N_("For a message to several next hops: time for them to answer the end of the mail data. "
        "Then the message is stored, and their replies are awaited from there until "
        "timeouts.final. A single next hop has until timeouts.final from the start.")},
    {"out.spool", OPTION_FOLDER, offsetof(struct config, out.spool), SPOOLDIR, 0, 0, NULL,
     N_("The folder of stored mail. Its parent must exist. Empty means that nothing is ever "
        "stored: a message then has one next hop, and recipients of further ones get 452 4.5.3.")},
    {"out.spool_reserve", OPTION_SIZE, offsetof(struct config, out.spool_reserve), "67108864", 0,
     1099511627776LL, NULL,
     N_("Space to keep free on the spool's file system. When less is left, mail that needs the "
        "spool gets 452.")},
    {"out.state", OPTION_FOLDER, offsetof(struct config, out.state), STATEDIR, 0, 0, NULL,
     N_("The folder for what is remembered across restarts: MTA-STS policies. Empty means that "
        "nothing is remembered.")},
    {"out.deliveries", OPTION_INTEGER, offsetof(struct config, out.deliveries), "16", 1, 256, NULL,
     N_("Threads that deliver from the spool, in addition to out.workers.")},
    {"out.retry", OPTION_DURATIONS, offsetof(struct config, out.retry), "5m 10m 20m 40m 1h 2h 4h",
     100, 86400000, NULL,
     N_("How long stored mail waits before each further attempt; the last value repeats. Up to "
        "a fifth of each wait is taken off at random, so that messages are not all tried at the "
        "same moment.")},
    {"out.lifetime", OPTION_DURATION, offsetof(struct config, out.lifetime_ms), "5d", 1000,
     2592000000LL, NULL,
     N_("Mail that could not be delivered for this long is tried once more and then returned to "
        "its sender. Time on hold does not count.")},
    {"out.delay_notice", OPTION_DURATION, offsetof(struct config, out.delay_notice_ms), "4h", 0,
     2592000000LL, NULL,
     N_("The sender is notified when a message has waited this long. 0 means never.")},
    {"out.bounce_route", OPTION_GROUP, offsetof(struct config, out.bounce_route), "", 0, 0,
     &default_route_group,
     N_("Where notices to senders go. Without it they go like any other mail for the sender's "
        "domain: to the backend for our own domains, otherwise by a route, the default route or "
        "MX.")},
    {"out.bounce_size", OPTION_SIZE, offsetof(struct config, out.bounce_size), "102400", 0,
     1073741824, NULL,
     N_("The largest message that is returned whole if its sender asked for that. Of larger "
        "ones only the header is returned.")},
    {"out.tls.level", OPTION_ENUM, offsetof(struct config, out.tls.level), "may", 0, 0,
     out_tls_names,
     N_("TLS towards next hops: never, where it is offered and works, always, or always and "
        "with a valid certificate. Under \"verify\" the certificate must be for the host's name "
        "if the configuration names the host or DNSSEC proves the MX records, and otherwise for "
        "the recipient's domain, which few are.")},
    {"out.tls.dane", OPTION_BOOLEAN, offsetof(struct config, out.tls.dane), "true", 0, 0, NULL,
     N_("Hosts with TLSA records that DNSSEC proves get mail only under TLS with a matching "
        "certificate (DANE, RFC 7672). Needs dns.validate.")},
    {"out.tls.mta_sts", OPTION_ENUM, offsetof(struct config, out.tls.mta_sts), "enforce", 0, 0,
     mta_sts_names,
     N_("Domains that publish an MTA-STS policy (RFC 8461) get mail as it says. \"log\" only "
        "logs and counts what would fail. DANE comes first.")},
    {"out.tls.no_tls", OPTION_PATTERNS, offsetof(struct config, out.tls.no_tls), "", 0, 0, NULL,
     N_("Domains and MX hosts to which \"may\" uses no TLS because theirs is broken.")},
    {"out.tls.failures_for", OPTION_DURATION, offsetof(struct config, out.tls.failures_for_ms),
     "15m", 0, 604800000, NULL,
     N_("How long relayctl hosts shows that a host's TLS failed. Under \"may\" the message at "
        "hand then goes in plain text, if the host itself failed and did not just fall silent; "
        "the next message tries TLS again.")},
    {"out.tls.priority", OPTION_STRING, offsetof(struct config, out.tls.priority),
     "NORMAL" TLS_ORDER, 0, 0, NULL, N_("GnuTLS priority string towards next hops.")},
    {"out.tls.ca_file", OPTION_FILE, offsetof(struct config, out.tls.ca_file), "", 0, 0, NULL,
     N_("The CA certificates for checking next hops' certificates. Empty means the system's.")},
    {"out.tls.cert", OPTION_FILE, offsetof(struct config, out.tls.cert), "", 0, 0, NULL,
     N_("A client certificate to present to next hops that ask for one, PEM.")},
    {"out.tls.key", OPTION_FILE, offsetof(struct config, out.tls.key), "", 0, 0, NULL,
     N_("Its private key, PEM. Empty means that the certificate's file holds it.")},
    DAEMON_LIMITS(out, "1000", "1000", 100000, "1000", 100000),
    {"out.limits.auth_failures", OPTION_INTEGER, offsetof(struct config, out.limits.auth_failures),
     "5", 1, 1000, NULL,
     N_("Failed log-ins from one IPv4 address or one IPv6 /64 within ten minutes; further "
        "attempts are not even checked.")},
    {"out.limits.next_hops", OPTION_INTEGER, offsetof(struct config, out.limits.next_hops), "8", 1,
     CONFIG_NEXT_HOPS_MAX, NULL,
     N_("The most next hops of one message at a time; recipients of further ones get 452 4.5.3.")},
    {"out.limits.sessions_per_destination", OPTION_INTEGER,
     offsetof(struct config, out.limits.sessions_per_destination), "10", 1, 1000, NULL,
     N_("The most connections to one destination (a domain, or a route) at a time. A message "
        "that finds all of them in use waits for a while and then gets 451.")},
    {"out.limits.deliveries_per_destination", OPTION_INTEGER,
     offsetof(struct config, out.limits.deliveries_per_destination), "5", 1, 256, NULL,
     N_("How many of those connections may deliver from the spool.")},
    DAEMON_TIMEOUTS(out),
    {"out.timeouts.dial", OPTION_DURATION, offsetof(struct config, out.timeouts.dial), "90s", 1000,
     240000, NULL,
     N_("Time limit for everything before the reply to a recipient: the DNS, all hosts that are "
        "tried, and their greetings. Then the recipient gets 451. Keep it well below the 300 s "
        "that clients wait.")},
    {"out.timeouts.connect", OPTION_DURATION, offsetof(struct config, out.timeouts.connect), "10s",
     100, 120000, NULL, N_("Time limit for connecting to one address.")},
    {"out.timeouts.greeting", OPTION_DURATION, offsetof(struct config, out.timeouts.greeting),
     "60s", 100, 300000, NULL, N_("Time limit for a next hop's greeting.")},
    {"out.timeouts.reply", OPTION_DURATION, offsetof(struct config, out.timeouts.reply), "200s",
     100, 300000, NULL, N_("Time limit for a next hop's reply to one command.")},
    {"out.timeouts.data_block", OPTION_DURATION, offsetof(struct config, out.timeouts.data_block),
     "180s", 100, 600000, NULL, N_("Time limit for a next hop to take one block of mail data.")},
    {"out.timeouts.final", OPTION_DURATION, offsetof(struct config, out.timeouts.final), "570s",
     100, 600000, NULL,
     N_("Time limit for a next hop's reply to the end of the mail data. Keep it below the 10 "
        "minutes that clients wait.")},
    {"exporter.listen", OPTION_HOSTS, offsetof(struct config, exporter.listen), "127.0.0.1:9925",
     9925, 0, NULL,
     N_("Where postern-exporter serves /metrics and its page: addresses of this host or of the "
        "tunnel. There is no log-in.")},
    {"exporter.public", OPTION_BOOLEAN, offsetof(struct config, exporter.open), "false", 0, 0, NULL,
     N_("Let it listen on an address that the internet can reach.")},
    {"exporter.state", OPTION_FOLDER, offsetof(struct config, exporter.state), STATEDIR "-exporter",
     0, 0, NULL,
     N_("The folder where it keeps the history for its plots. Empty means in memory only.")},
    {"control", OPTION_FOLDER, offsetof(struct config, control), "/run/postern", 0, 0, NULL,
     N_("The folder of the daemons' control sockets, through which relayctl talks to them. "
        "Empty means none.")},
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

/* The options that a reload cannot change, and the daemons that this holds for. */
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
