/* config/config.h - relay.conf as a checked, immutable snapshot
 *
 * config_load() reads the file with libconfig and checks every setting against the one option table
 * (config/options.c). It returns a complete snapshot, or reports every error with file, line, option,
 * what was found and what was expected. Nothing is half applied. Relative paths in the file become
 * absolute, starting from the file's folder. A snapshot owns all it points to. It is read-only after
 * loading, reference-counted and thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_CONFIG_CONFIG_H
#define POSTERN_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/address.h"
#include "base/cidr.h"
#include "base/error.h"
#include "base/log.h"
#include "net/listener.h"
#include "net/proxy.h"
#include "dns/resolver.h"
#include "net/tls.h"

#define CONFIG_HOSTS_MAX 8
#define CONFIG_DNSBL_ZONES_MAX 32
#define CONFIG_SPARES_MAX 100   /* per backend */
#define CONFIG_NEXT_HOPS_MAX 64 /* per message */
#define CONFIG_DURATIONS_MAX 32 /* per list */

enum config_identity {
    CONFIG_IDENTITY_UNSET,
    CONFIG_IDENTITY_XCLIENT,
    CONFIG_IDENTITY_PROXY_V2,
    CONFIG_IDENTITY_PROXY_V1,
    CONFIG_IDENTITY_NONE,
};
enum config_backend_tls {
    CONFIG_TLS_MIRROR,
    CONFIG_TLS_NONE,
    CONFIG_TLS_MAY,
    CONFIG_TLS_ENCRYPT,
    CONFIG_TLS_VERIFY,
};
enum config_dnsbl_action { CONFIG_DNSBL_REJECT, CONFIG_DNSBL_TEMPFAIL, CONFIG_DNSBL_TARPIT };
enum config_over_limit { CONFIG_OVER_CLOSE, CONFIG_OVER_TEMPFAIL };
enum config_newlines { CONFIG_NEWLINES_NORMALIZE, CONFIG_NEWLINES_REJECT };

struct string_list {
    char **items;
    size_t count;
};

/* A list of groups: an array of `count` structs. Owned by the snapshot. */
struct config_list {
    void *items;
    size_t count;
};

struct duration_list { /* milliseconds */
    int64_t items[CONFIG_DURATIONS_MAX];
    size_t count;
};

struct host_list {
    struct address items[CONFIG_HOSTS_MAX];
    size_t count;
};

struct listen_list {
    struct listen_spec items[LISTENERS_MAX];
    size_t count;
};

struct config_tls {
    struct config_list certificates; /* struct tls_pair, absolute paths */
    char *priority;
    int minimum_version;     /* enum tls_minimum_version */
    int client_certificates; /* enum tls_client_certificates */
    char *ca_file;           /* "" = none */
    char *dh_params;         /* "" = none */
};

/* out.listen_tls: the same options as the group tls. */
struct config_listen_tls {
    bool given; /* first: see OPTION_GROUP */
    struct config_tls tls;
};

struct config_dns {
    struct host_list servers; /* empty: those in resolv.conf */
    bool recurse;
    bool validate;
    char *trust_anchor_file; /* "" = the distribution's */
};

struct config_backend {
    bool given;                 /* the group is in the file (first: see OPTION_GROUP) */
    struct string_list domains; /* in.backends only: whose mail goes there; lower case */
    struct host_list hosts;     /* tried in order */
    int identity;               /* enum config_identity; must be set */
    int tls;                    /* enum config_backend_tls */
    char *tls_name;             /* the name its certificate must have; "" = the host's address */
    char *ca_file;              /* "" = the system's */
    char *cert, *key;           /* our client certificate; "" = none */
    struct host_list source;    /* our local addresses, at most one per family */
    int64_t spares;             /* connections kept warm */
    int64_t max_sessions;
    int64_t connect_timeout_ms;
    int64_t command_timeout_ms; /* for each of greeting, XCLIENT, EHLO, MAIL, RCPT, DATA */
    int64_t reply_timeout_ms;   /* after the end of data */
    int64_t retry_after_ms;     /* how long a host that failed is not tried again */
};

/* What both daemons have for their clients. */
struct config_daemon {
    struct cidr_set *no_tls_hosts;
    int bare_newlines; /* enum config_newlines */
    struct {
        int64_t connections;
        int64_t connections_per_client;
        int64_t message_size; /* octets */
        int64_t recipients;
        int64_t errors;
        int64_t junk_commands;
        int64_t received_headers;
    } limits;
    struct { /* in milliseconds */
        int64_t command;
        int64_t line;
        int64_t handshake;
        int64_t data;
        int64_t park_after;
        int64_t drain; /* for open transactions at shutdown */
    } timeouts;
};

struct config_limits {
    int64_t connections_per_network;
    int64_t rate_per_client; /* new connections a minute; 0 = no limit */
    int64_t rate_per_network;
    int64_t queue; /* connections waiting for a worker */
    int64_t refused_recipients;
    int64_t min_data_rate;        /* octets/s; 0 = no limit */
    int64_t waiting_transactions; /* 0 = no limit */
};

struct config_stress {
    int64_t free_workers;     /* percent */
    int64_t free_connections; /* percent */
    int64_t after_ms, calm_ms;
    int64_t timeout_ms;
    int64_t errors;
    int64_t junk_commands;
};

struct config_timeouts { /* all in milliseconds */
    int64_t proxy_header;
    int64_t data_grace; /* for all mail data, on top of the time its octets earn */
    int64_t message;
    int64_t session;
};

struct config_clients {
    struct cidr_set *allow; /* `allow` and `allow_file` together */
    struct cidr_set *deny;
    int over_limit; /* enum config_over_limit */
};

struct config_dnsbl {
    struct string_list zones; /* for dnsbl_parse() */
    int64_t threshold;
    int action; /* enum config_dnsbl_action */
    int64_t timeout_ms;
    int64_t tarpit_ms;
};

struct config_in {
    struct config_daemon daemon;
    struct listen_list listen;
    struct string_list domains; /* `domains` and `domains_file` together; lower case */
    struct config_backend backend;
    struct config_list backends;      /* struct config_backend: for certain domains */
    struct config_backend submission; /* for mail from authenticated clients */
    struct cidr_set *private_clients;
    struct cidr_set *xclient_hosts; /* who may send XCLIENT */
    struct cidr_set *proxy_hosts;   /* who may send a PROXY header */
    bool reverse_dns;
    char *state;        /* "" = nothing survives a restart */
    bool missed;        /* keep the ledger of missed mail ... */
    bool missed_sender; /* ... with whole senders */
    int64_t workers;
    int64_t greet_delay_ms;
    struct config_clients clients;
    struct config_dnsbl dnsbl;
    struct config_limits limits;
    struct config_timeouts timeouts;
    struct config_stress stress;
};

enum config_family {
    CONFIG_FAMILY_IPV6,
    CONFIG_FAMILY_IPV4,
    CONFIG_FAMILY_ONLY_IPV6,
    CONFIG_FAMILY_ONLY_IPV4,
    CONFIG_FAMILY_DEFAULT, /* routes only: as out.family */
};

/* What happens to mail for some domains. */
enum config_action { CONFIG_ACTION_ACCEPT, CONFIG_ACTION_CONTINUE, CONFIG_ACTION_DENY };
enum config_out_tls {
    CONFIG_OUT_TLS_DEFAULT,
    CONFIG_OUT_TLS_NONE,
    CONFIG_OUT_TLS_MAY,
    CONFIG_OUT_TLS_ENCRYPT,
    CONFIG_OUT_TLS_VERIFY,
    CONFIG_OUT_TLS_DANE, /* routes only: accept nothing but DANE */
};
enum config_mta_sts { CONFIG_MTA_STS_ENFORCE, CONFIG_MTA_STS_LOG, CONFIG_MTA_STS_OFF };
struct config_route {
    bool given;                   /* for out.default_route (first: see OPTION_GROUP) */
    struct string_list domains;   /* lower case */
    int action;                   /* enum config_action */
    struct string_list next_hops; /* for endpoint_parse() */
    int tls;                      /* enum config_out_tls */
    char *tls_name;               /* "" = the next hop's */
    char *ca_file;                /* "" = as out.tls */
    char *user;                   /* "" = no login */
    char *password_file;
    int family;          /* enum config_family */
    int64_t connections; /* at once per destination; 0 = limits.sessions_per_destination */
    int64_t rate;        /* messages a minute per destination; 0 = no limit */
};

enum config_delivery { CONFIG_DELIVERY_LIVE, CONFIG_DELIVERY_SPOOL };

struct config_out_tls_options {
    int level; /* enum config_out_tls */
    bool dane;
    int mta_sts; /* enum config_mta_sts */
    struct string_list no_tls;
    int64_t failures_for_ms;
    char *priority;
    char *ca_file; /* "" = the system's */
    char *cert;    /* "" = none */
    char *key;
};

struct config_out_limits {
    int64_t auth_failures;
    int64_t next_hops;
    int64_t sessions_per_destination;
    int64_t deliveries_per_destination;
};

struct config_out_timeouts { /* towards next hops, in milliseconds */
    int64_t dial, connect, greeting, reply, data_block, final;
};

struct config_out {
    struct config_daemon daemon;
    struct listen_list listen;
    struct config_listen_tls listen_tls;
    struct cidr_set *allow; /* `allow` and `allow_file` together */
    char *users_file;       /* "" = none */
    bool open_relay;
    int64_t workers;
    char *hello; /* "" = hostname */
    bool received_client;
    struct config_list routes; /* struct config_route */
    bool force_routing;
    bool soft_bounce;
    struct config_route default_route;
    struct config_route fallback_route;
    bool address_literals;
    struct host_list own_addresses;
    struct host_list source;
    int family; /* enum config_family */
    int64_t reuse_for_ms;
    int64_t dead_for_ms;
    int delivery; /* enum config_delivery */
    int64_t live_deadline_ms;
    char *spool; /* "" = nothing is stored */
    int64_t spool_reserve;
    char *state;        /* "" = nothing survives a restart */
    int64_t deliveries; /* threads */
    struct duration_list retry;
    int64_t lifetime_ms;
    int64_t delay_notice_ms; /* 0 = never */
    struct config_route bounce_route;
    int64_t bounce_size; /* octets */
    struct config_out_tls_options tls;
    struct config_out_limits limits;
    struct config_out_timeouts timeouts;
};

struct config_exporter {
    struct host_list listen;
    bool open;   /* may be reached from anywhere */
    char *state; /* "" = none */
};

/* The halves of a configuration, one for each daemon. */
enum { CONFIG_PART_IN = 1 << 0, CONFIG_PART_OUT = 1 << 1, CONFIG_PART_EXPORTER = 1 << 2 };

struct config {
    char *file; /* absolute path of the file that was read */
    char *hostname;
    char *user;  /* to switch to after binding, if started as root */
    char *group; /* "" = the user's own */
    struct config_tls tls;
    struct config_dns dns;
    unsigned parts; /* CONFIG_PART_...: those in the file and those asked for */
    struct config_in in;
    struct config_out out;
    struct config_exporter exporter;
    char *control;               /* folder of the control sockets; "" = none */
    int log_level;               /* enum log_level */
    struct string_list warnings; /* from loading: valid settings that are hardly intended */
    struct string_list advice;   /* for config_advise() */
    char *certificates_place;    /* "FILE:LINE" of tls.certificates; NULL: not in the file */
};

/* Receives each error as one line of text, starting with "FILE:LINE: option: ...". */
typedef void config_report(void *context, const char *text);

/* The default configuration file, $sysconfdir/postern/relay.conf. */
extern const char config_default_file[];

/* Loads and checks `file`. `parts` (CONFIG_PART_...) names the daemon that asks; errors in the other
 * daemon's half are then only warnings. The exporter needs only its own group and `control`: it may not
 * read the keys, for instance. Returns the caller's reference, or NULL if anything was
 * wrong; `report` has then been called at least once. Mandatory options of `in` and `out` are
 * required only if that group is in the file or in `parts`. A file with neither group is taken to be
 * relay-in's. */
struct config *config_load_for(const char *file, unsigned parts, config_report *report,
                               void *context);
/* The same for everything in the file. */
struct config *config_load(const char *file, config_report *report, void *context);
/* What a file says that may still have errors, such as a certificate that is not there yet: for
 * questions about hostname and dns only. NULL if it cannot be read or has no valid hostname. */
struct config *config_load_unfinished(const char *file);

/* Reports settings that are valid but dangerous or without effect. If it returns false, --check fails;
 * a daemon still runs, so that an upgrade stops nobody's mail. */
bool config_warn(const struct config *config, config_report *report, void *context);

/* Reports settings that are valid and safe but probably not intended. For a person who asks. */
void config_advise(const struct config *config, config_report *report, void *context);
/* Reports the paths of options that differ and that take effect only after a restart of the daemons in
 * `parts` (CONFIG_PART_...). */
void config_report_restarts(const struct config *before, const struct config *after, unsigned parts,
                            config_report *report, void *context);

/* References to a snapshot; the last one frees it. Thread-safe. NULL is fine for config_unref(). */
struct config *config_ref(struct config *config);
void config_unref(struct config *config);

/* Prints every option with its value in force, in the file's own syntax (--print-config). */
void config_print(const struct config *config, FILE *out);

/* Prints a string as a value of the file, with its quotes. What a terminal must not get is escaped; libconfig reads
 * back the same octets. */
void config_print_string(const char *text, FILE *out);

/* Prints the options whose value is not the default, one line "option = value" each. */
void config_print_changed(const struct config *config, FILE *out);

/* Prints every option with type, range, default and help, as mdoc(7) list items for relay.conf(5). */
void config_print_manual(FILE *out);

/* The address of that family among those of a `source` option: what connections come from. NULL: the system's choice. */
const struct address *config_source_for(const struct host_list *source, int family);

/* The version of the PROXY header with which connections to the backend begin; 0: none. */
enum proxy_version config_proxy_of(const struct config_backend *backend);

/* The TLS settings that the daemon of that part (CONFIG_PART_...) uses for its clients. */
const struct config_tls *config_tls_of(const struct config *config, unsigned part);
/* Fills `out` from `tls` for tls_server_new(). `out` borrows from the snapshot. */
void config_tls_server(const struct config_tls *tls, struct tls_server_config *out);

/* Fills `out` from the DNS settings for resolver_new(). `out` borrows from the snapshot. */
void config_resolver(const struct config *config, struct resolver_config *out);

#endif
