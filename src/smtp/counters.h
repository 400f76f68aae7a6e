/* smtp/counters.h - everything that the daemons count, in one table
 *
 * A row is one number: its metric's name and labels (as in Prometheus and OpenMetrics), the daemons
 * that have it, its kind and its meaning. The struct below, the answer to "stats" on the control socket,
 * `relayctl status`, the exporter's output and postern-metrics(7) all come from these rows. To count
 * something else, add a row here and a counters_add() where it happens.
 *
 * Rows of one metric are adjacent and differ in their labels; the first row has the meaning. A '*' in a
 * name stands for "in" or "out", if both daemons count it; without one, both tell the same. Labels are
 * closed sets: never a domain, an address or a host. A row of the kind COUNTER_EACH has one value for each
 * of several things (a backend, a certificate), which the daemon supplies when asked; the row has the
 * label's name.
 *
 * main makes one struct per daemon, and the modules that count borrow it. Numbers are atomic; NULL
 * counts nothing. All functions are thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_COUNTERS_H
#define POSTERN_SMTP_COUNTERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { COUNTERS_IN = 1 << 0, COUNTERS_OUT = 1 << 1, COUNTERS_BOTH = COUNTERS_IN | COUNTERS_OUT };

enum counter_kind {
    COUNTER_TOTAL, /* only grows, from the start of the daemon */
    COUNTER_GAUGE, /* the current value */
    COUNTER_EACH,  /* a gauge for each value of its label */
};

/* clang-format off */
/* X(id, daemons, kind, name, labels, meaning) */
#define COUNTERS(X) \
    X(BUILD, BOTH, EACH, "postern_*_build_info", "version", "1, labelled with the version of the daemon.") \
    X(STARTED, BOTH, GAUGE, "postern_*_start_time_seconds", "", "When the daemon started, in seconds since 1970.") \
    X(RELOAD_OK, BOTH, GAUGE, "postern_*_reload_success", "", "1 if the last reload succeeded or there was none, 0 if it failed.") \
    X(RELOADED, BOTH, GAUGE, "postern_*_reload_timestamp_seconds", "", "When the configuration in force was read.") \
    X(CERTIFICATE, BOTH, EACH, "postern_*_certificate_expiry_timestamp_seconds", "certificate", "When each of tls.certificates expires.") \
    X(CONNECTIONS_IPV4_NONE, BOTH, TOTAL, "postern_*_connections_total", "family=\"ipv4\",tls=\"none\"", "Connections that clients have made and that have ended, refused ones included. tls is starttls if the client has used STARTTLS, implicit if TLS comes first at this port.") \
    X(CONNECTIONS_IPV4_STARTTLS, BOTH, TOTAL, "postern_*_connections_total", "family=\"ipv4\",tls=\"starttls\"", "") \
    X(CONNECTIONS_IPV4_IMPLICIT, BOTH, TOTAL, "postern_*_connections_total", "family=\"ipv4\",tls=\"implicit\"", "") \
    X(CONNECTIONS_IPV6_NONE, BOTH, TOTAL, "postern_*_connections_total", "family=\"ipv6\",tls=\"none\"", "") \
    X(CONNECTIONS_IPV6_STARTTLS, BOTH, TOTAL, "postern_*_connections_total", "family=\"ipv6\",tls=\"starttls\"", "") \
    X(CONNECTIONS_IPV6_IMPLICIT, BOTH, TOTAL, "postern_*_connections_total", "family=\"ipv6\",tls=\"implicit\"", "") \
    X(REJECTED_EARLY, BOTH, TOTAL, "postern_*_connections_rejected_total", "reason=\"early_talker\"", "Connections refused before the client's first command: it talked before the greeting, is on a blocklist or on the deny list, has a private address, has too many connections itself or together with its network, opens them too fast, found no room, or is no load balancer.") \
    X(REJECTED_DNSBL, BOTH, TOTAL, "postern_*_connections_rejected_total", "reason=\"dnsbl\"", "") \
    X(REJECTED_DENIED, BOTH, TOTAL, "postern_*_connections_rejected_total", "reason=\"denied\"", "") \
    X(REJECTED_PRIVATE, BOTH, TOTAL, "postern_*_connections_rejected_total", "reason=\"private\"", "") \
    X(REJECTED_CLIENT, BOTH, TOTAL, "postern_*_connections_rejected_total", "reason=\"limit_client\"", "") \
    X(REJECTED_NETWORK, BOTH, TOTAL, "postern_*_connections_rejected_total", "reason=\"limit_network\"", "") \
    X(REJECTED_RATE, BOTH, TOTAL, "postern_*_connections_rejected_total", "reason=\"rate\"", "") \
    X(REJECTED_BUSY, BOTH, TOTAL, "postern_*_connections_rejected_total", "reason=\"busy\"", "") \
    X(REJECTED_PROXY, BOTH, TOTAL, "postern_*_connections_rejected_total", "reason=\"proxy\"", "") \
    X(DROPPED_IDLE, BOTH, TOTAL, "postern_*_connections_dropped_total", "reason=\"idle\"", "Connections ended because the client was silent for too long, or was among the slowest when too many clients were in mid-message.") \
    X(DROPPED_SLOW, BOTH, TOTAL, "postern_*_connections_dropped_total", "reason=\"slow\"", "") \
    X(OPEN_WORKING, BOTH, GAUGE, "postern_*_open_connections", "state=\"working\"", "Connections open now: those that have or need a worker, those that wait for their client or for something else without one, and those that have not said anything yet.") \
    X(OPEN_PARKED, BOTH, GAUGE, "postern_*_open_connections", "state=\"parked\"", "") \
    X(OPEN_GREETING, BOTH, GAUGE, "postern_*_open_connections", "state=\"greeting\"", "") \
    X(OPEN_LIMIT, BOTH, GAUGE, "postern_*_open_connections_limit", "", "The most connections that may be open (limits.connections).") \
    X(WORKERS, BOTH, GAUGE, "postern_*_workers", "", "Worker threads.") \
    X(WORKERS_BUSY, BOTH, GAUGE, "postern_*_workers_busy", "", "Worker threads that have a connection now.") \
    X(STRESSED, BOTH, GAUGE, "postern_*_stressed", "", "1 under stress: few workers or connections are free, and waits for clients are short.") \
    X(STRESSES, BOTH, TOTAL, "postern_*_stress_total", "", "How often stress has begun.") \
    X(MESSAGES_DELIVERED, BOTH, TOTAL, "postern_*_messages_total", "result=\"delivered\"", "Messages by the reply to the end of their data: delivered (2xx by the next hop), stored (2xx by relay-out itself), deferred (4xx) and refused (5xx). aborted ones broke off before that.") \
    X(MESSAGES_STORED, OUT, TOTAL, "postern_*_messages_total", "result=\"stored\"", "") \
    X(MESSAGES_DEFERRED, BOTH, TOTAL, "postern_*_messages_total", "result=\"deferred\"", "") \
    X(MESSAGES_REFUSED, BOTH, TOTAL, "postern_*_messages_total", "result=\"refused\"", "") \
    X(MESSAGES_ABORTED, BOTH, TOTAL, "postern_*_messages_total", "result=\"aborted\"", "") \
    X(RECIPIENTS_ACCEPTED, IN, TOTAL, "postern_in_recipients_total", "result=\"accepted\"", "Recipients named by clients, by the reply: accepted (2xx), deferred (4xx), or refused (5xx) because their domain is not served, by the mail server, or by relay-in for another reason.") \
    X(RECIPIENTS_DEFERRED, IN, TOTAL, "postern_in_recipients_total", "result=\"deferred\"", "") \
    X(RECIPIENTS_REFUSED_DOMAIN, IN, TOTAL, "postern_in_recipients_total", "result=\"refused_domain\"", "") \
    X(RECIPIENTS_REFUSED_BACKEND, IN, TOTAL, "postern_in_recipients_total", "result=\"refused_backend\"", "") \
    X(RECIPIENTS_REFUSED_OTHER, IN, TOTAL, "postern_in_recipients_total", "result=\"refused_other\"", "") \
    X(RECIPIENTS_2XX_FAR, OUT, TOTAL, "postern_out_recipients_total", "result=\"accepted\",class=\"2xx\",by=\"far\"", "Recipients named by clients, by the reply, by its class, and by whose it is: the next hop's (far), or relay-out's own (us), which also stands for a next hop that gave none.") \
    X(RECIPIENTS_2XX_US, OUT, TOTAL, "postern_out_recipients_total", "result=\"accepted\",class=\"2xx\",by=\"us\"", "") \
    X(RECIPIENTS_4XX_FAR, OUT, TOTAL, "postern_out_recipients_total", "result=\"deferred\",class=\"4xx\",by=\"far\"", "") \
    X(RECIPIENTS_4XX_US, OUT, TOTAL, "postern_out_recipients_total", "result=\"deferred\",class=\"4xx\",by=\"us\"", "") \
    X(RECIPIENTS_5XX_FAR, OUT, TOTAL, "postern_out_recipients_total", "result=\"refused\",class=\"5xx\",by=\"far\"", "") \
    X(RECIPIENTS_5XX_US, OUT, TOTAL, "postern_out_recipients_total", "result=\"refused\",class=\"5xx\",by=\"us\"", "") \
    X(OCTETS, BOTH, TOTAL, "postern_*_octets_total", "", "Octets of mail data received.") \
    X(TLS_1_0, BOTH, TOTAL, "postern_*_tls_handshakes_total", "version=\"1.0\",result=\"ok\"", "TLS handshakes with clients, by version. Failed ones have none.") \
    X(TLS_1_1, BOTH, TOTAL, "postern_*_tls_handshakes_total", "version=\"1.1\",result=\"ok\"", "") \
    X(TLS_1_2, BOTH, TOTAL, "postern_*_tls_handshakes_total", "version=\"1.2\",result=\"ok\"", "") \
    X(TLS_1_3, BOTH, TOTAL, "postern_*_tls_handshakes_total", "version=\"1.3\",result=\"ok\"", "") \
    X(TLS_FAILED, BOTH, TOTAL, "postern_*_tls_handshakes_total", "version=\"none\",result=\"failed\"", "") \
    X(LOGINS_OK, BOTH, TOTAL, "postern_*_logins_total", "result=\"ok\"", "Log-ins of users (AUTH): accepted, refused, and deferred for a reason that is not the user's.") \
    X(LOGINS_REFUSED, BOTH, TOTAL, "postern_*_logins_total", "result=\"refused\"", "") \
    X(LOGINS_DEFERRED, BOTH, TOTAL, "postern_*_logins_total", "result=\"deferred\"", "") \
    X(BACKEND_UP, IN, EACH, "postern_backend_up", "backend", "1 if the last attempt to reach the mail server succeeded.") \
    X(BACKEND_SESSIONS, IN, EACH, "postern_backend_sessions", "backend", "Connections to the mail server now, spares included.") \
    X(BACKEND_LIMIT, IN, EACH, "postern_backend_sessions_limit", "backend", "The most there may be (max_sessions).") \
    X(BACKEND_SPARES, IN, EACH, "postern_backend_spares", "backend", "Spare connections, ready for the next client.") \
    X(BACKEND_LATENCY, IN, EACH, "postern_backend_connect_seconds", "backend", "How long the last connection to it took to establish.") \
    X(BACKEND_UNREACHABLE, IN, TOTAL, "postern_backend_failures_total", "reason=\"unreachable\"", "Sessions that could not reach the mail server, were refused by its greeting or in reply to EHLO, had no answer in time, found all of max_sessions in use, were not allowed to introduce the client, lacked TLS where it is required, or lost the connection.") \
    X(BACKEND_GREETING, IN, TOTAL, "postern_backend_failures_total", "reason=\"greeting\"", "") \
    X(BACKEND_TIMEOUT, IN, TOTAL, "postern_backend_failures_total", "reason=\"timeout\"", "") \
    X(BACKEND_BUSY, IN, TOTAL, "postern_backend_failures_total", "reason=\"busy\"", "") \
    X(BACKEND_IDENTITY, IN, TOTAL, "postern_backend_failures_total", "reason=\"identity\"", "") \
    X(BACKEND_TLS, IN, TOTAL, "postern_backend_failures_total", "reason=\"tls\"", "") \
    X(BACKEND_LOST, IN, TOTAL, "postern_backend_failures_total", "reason=\"lost\"", "") \
    X(MISSED_PENDING, IN, GAUGE, "postern_missed_pending", "", "Messages that the relay put off (4xx) for reasons of its own and that have not come back yet.") \
    X(MISSED_OLDEST, IN, GAUGE, "postern_missed_oldest_seconds", "", "How long ago the oldest of them was put off.") \
    X(SENT, OUT, TOTAL, "postern_out_deliveries_total", "result=\"sent\"", "Recipients by their fate at the next hop. Each deferred attempt counts.") \
    X(PUT_OFF, OUT, TOTAL, "postern_out_deliveries_total", "result=\"deferred\"", "") \
    X(BOUNCED, OUT, TOTAL, "postern_out_deliveries_total", "result=\"bounced\"", "") \
    X(OUT_TLS_NONE_OK, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"none\",result=\"ok\"", "Connections to next hops by the TLS policy in force and by result. dane and sts are published by the domain (TLSA records, MTA-STS), the others configured; none is plain text by configuration. A next hop that offers no STARTTLS counts as failed.") \
    X(OUT_TLS_MAY_OK, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"may\",result=\"ok\"", "") \
    X(OUT_TLS_MAY_FAILED, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"may\",result=\"failed\"", "") \
    X(OUT_TLS_ENCRYPT_OK, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"encrypt\",result=\"ok\"", "") \
    X(OUT_TLS_ENCRYPT_FAILED, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"encrypt\",result=\"failed\"", "") \
    X(OUT_TLS_VERIFY_OK, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"verify\",result=\"ok\"", "") \
    X(OUT_TLS_VERIFY_FAILED, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"verify\",result=\"failed\"", "") \
    X(OUT_TLS_DANE_OK, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"dane\",result=\"ok\"", "") \
    X(OUT_TLS_DANE_FAILED, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"dane\",result=\"failed\"", "") \
    X(OUT_TLS_STS_OK, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"sts\",result=\"ok\"", "") \
    X(OUT_TLS_STS_FAILED, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"sts\",result=\"failed\"", "") \
    X(POLICY_STARTTLS_NOT_SUPPORTED, OUT, TOTAL, "postern_out_tls_policy_failures_total", "type=\"starttls-not-supported\"", "Failures of published TLS policies (DANE, MTA-STS) by the result types of RFC 8460.") \
    X(POLICY_CERTIFICATE_HOST_MISMATCH, OUT, TOTAL, "postern_out_tls_policy_failures_total", "type=\"certificate-host-mismatch\"", "") \
    X(POLICY_CERTIFICATE_EXPIRED, OUT, TOTAL, "postern_out_tls_policy_failures_total", "type=\"certificate-expired\"", "") \
    X(POLICY_CERTIFICATE_NOT_TRUSTED, OUT, TOTAL, "postern_out_tls_policy_failures_total", "type=\"certificate-not-trusted\"", "") \
    X(POLICY_VALIDATION_FAILURE, OUT, TOTAL, "postern_out_tls_policy_failures_total", "type=\"validation-failure\"", "") \
    X(POLICY_TLSA_INVALID, OUT, TOTAL, "postern_out_tls_policy_failures_total", "type=\"tlsa-invalid\"", "") \
    X(POLICY_DNSSEC_INVALID, OUT, TOTAL, "postern_out_tls_policy_failures_total", "type=\"dnssec-invalid\"", "") \
    X(POLICY_DANE_REQUIRED, OUT, TOTAL, "postern_out_tls_policy_failures_total", "type=\"dane-required\"", "") \
    X(POLICY_STS_POLICY_FETCH_ERROR, OUT, TOTAL, "postern_out_tls_policy_failures_total", "type=\"sts-policy-fetch-error\"", "") \
    X(POLICY_STS_POLICY_INVALID, OUT, TOTAL, "postern_out_tls_policy_failures_total", "type=\"sts-policy-invalid\"", "") \
    X(POLICY_STS_WEBPKI_INVALID, OUT, TOTAL, "postern_out_tls_policy_failures_total", "type=\"sts-webpki-invalid\"", "") \
    X(DNS_BOGUS, OUT, TOTAL, "postern_out_dns_failures_total", "type=\"bogus\"", "Look-ups of next hops without an answer for the moment: those that failed DNSSEC validation, those that got none in time, and all others.") \
    X(DNS_TIMEOUT, OUT, TOTAL, "postern_out_dns_failures_total", "type=\"timeout\"", "") \
    X(DNS_SERVFAIL, OUT, TOTAL, "postern_out_dns_failures_total", "type=\"servfail\"", "") \
    X(NOTICES_FAILURE, OUT, TOTAL, "postern_dsn_total", "kind=\"failure\"", "Notices to senders: of failure, of delay, and of relaying to hosts that send none themselves.") \
    X(NOTICES_DELAY, OUT, TOTAL, "postern_dsn_total", "kind=\"delay\"", "") \
    X(NOTICES_RELAYED, OUT, TOTAL, "postern_dsn_total", "kind=\"relayed\"", "") \
    X(SPOOL_MESSAGES_WAITING, OUT, GAUGE, "postern_spool_messages", "state=\"waiting\"", "Messages in the spool: those that wait for their next attempt, those that are due or being tried, and those on hold (relayctl queue hold).") \
    X(SPOOL_MESSAGES_DUE, OUT, GAUGE, "postern_spool_messages", "state=\"due\"", "") \
    X(SPOOL_MESSAGES_HELD, OUT, GAUGE, "postern_spool_messages", "state=\"held\"", "") \
    X(SPOOL_RECIPIENTS_WAITING, OUT, GAUGE, "postern_spool_recipients", "state=\"waiting\"", "Recipients of these messages that are neither delivered nor given up.") \
    X(SPOOL_RECIPIENTS_DUE, OUT, GAUGE, "postern_spool_recipients", "state=\"due\"", "") \
    X(SPOOL_RECIPIENTS_HELD, OUT, GAUGE, "postern_spool_recipients", "state=\"held\"", "") \
    X(SPOOL_OCTETS_WAITING, OUT, GAUGE, "postern_spool_octets", "state=\"waiting\"", "Octets of mail data of these messages.") \
    X(SPOOL_OCTETS_DUE, OUT, GAUGE, "postern_spool_octets", "state=\"due\"", "") \
    X(SPOOL_OCTETS_HELD, OUT, GAUGE, "postern_spool_octets", "state=\"held\"", "") \
    X(SPOOL_OLDEST, OUT, GAUGE, "postern_spool_oldest_seconds", "", "How long the oldest message has been in the spool.") \
    X(NOTICES_LOST, OUT, TOTAL, "postern_spool_notices_lost_total", "", "Notices to senders that were refused or could not be delivered in time.") \
    X(SPOOL_QUARANTINED, OUT, GAUGE, "postern_spool_quarantined", "", "Files that made no sense and were moved to the spool's quarantine folder.") \
    X(SPOOL_FREE, OUT, GAUGE, "postern_spool_free_octets", "", "Free space on the spool's file system.") \
    X(DOCTOR_FAILED, BOTH, GAUGE, "postern_doctor_failed", "", "Checks that failed in the last run of relayctl doctor --changes. Both daemons tell it.") \
    X(DOCTOR_RAN, BOTH, GAUGE, "postern_doctor_timestamp_seconds", "", "When that was; 0: never.")
/* clang-format on */

enum counter {
#define COUNTERS_ID(id, daemons, kind, name, labels, meaning) COUNTER_##id,
    COUNTERS(COUNTERS_ID)
#undef COUNTERS_ID
        COUNTERS_COUNT
};

struct counter_row {
    unsigned daemons;
    enum counter_kind kind;
    const char *name, *labels, *meaning;
};
extern const struct counter_row counter_rows[COUNTERS_COUNT];

/* Durations, as histograms. X(id, daemons, name, labels, meaning); rows are as above. */
/* clang-format off */
#define COUNTERS_DURATIONS(X) \
    X(MESSAGE_DIALOG, BOTH, "postern_*_message_duration_seconds", "stage=\"dialog\"", "Time of messages from clients by stage: from MAIL to the request for data, to the end of the data, and to the reply.") \
    X(MESSAGE_DATA, BOTH, "postern_*_message_duration_seconds", "stage=\"data\"", "") \
    X(MESSAGE_FINAL, BOTH, "postern_*_message_duration_seconds", "stage=\"final\"", "") \
    X(DELIVERY_DNS, OUT, "postern_out_delivery_duration_seconds", "stage=\"dns\"", "Time spent with next hops by stage, failed ones included: look-ups, TCP, greeting and EHLO, TLS, log-in, envelope, mail data, and the wait for the reply to it. In live mode, dialog and data include the waits for the client.") \
    X(DELIVERY_CONNECT, OUT, "postern_out_delivery_duration_seconds", "stage=\"connect\"", "") \
    X(DELIVERY_GREETING, OUT, "postern_out_delivery_duration_seconds", "stage=\"greeting\"", "") \
    X(DELIVERY_TLS, OUT, "postern_out_delivery_duration_seconds", "stage=\"tls\"", "") \
    X(DELIVERY_LOGIN, OUT, "postern_out_delivery_duration_seconds", "stage=\"login\"", "") \
    X(DELIVERY_DIALOG, OUT, "postern_out_delivery_duration_seconds", "stage=\"dialog\"", "") \
    X(DELIVERY_DATA, OUT, "postern_out_delivery_duration_seconds", "stage=\"data\"", "") \
    X(DELIVERY_FINAL, OUT, "postern_out_delivery_duration_seconds", "stage=\"final\"", "") \
    X(BACKEND_CONNECT, IN, "postern_backend_connect_duration_seconds", "", "Time to connect to the mail server.")
/* clang-format on */

enum counter_duration {
#define COUNTERS_DURATION_ID(id, daemons, name, labels, meaning) COUNTER_DURATION_##id,
    COUNTERS_DURATIONS(COUNTERS_DURATION_ID)
#undef COUNTERS_DURATION_ID
        COUNTER_DURATIONS_COUNT
};
extern const struct counter_row counter_durations[COUNTER_DURATIONS_COUNT];

/* Upper bounds in ms; one more bucket holds the rest. */
#define COUNTER_BUCKETS 12
extern const int64_t counter_bounds_ms[COUNTER_BUCKETS];

struct counters {
    atomic_ullong values[COUNTERS_COUNT];
    atomic_ullong at_midnight[COUNTERS_COUNT]; /* their values when the day, or the daemon, began */
    struct {
        atomic_ullong buckets[COUNTER_BUCKETS + 1], sum_ms;
    } durations[COUNTER_DURATIONS_COUNT];
};

void counters_add(struct counters *counters, enum counter which, uint64_t amount);
void counters_set(struct counters *counters, enum counter which, uint64_t value);
void counters_took(struct counters *counters, enum counter_duration which, int64_t ms);
uint64_t counters_get(struct counters *counters, enum counter which);
/* The increase of a total since midnight. */
uint64_t counters_today(struct counters *counters, enum counter which);
/* Call it when a day begins. */
void counters_begin_day(struct counters *counters);

/* Writes a row's name for relay-in or relay-out (one of COUNTERS_...), with the '*' filled in. Returns
 * `out`. */
#define COUNTER_NAME_MAX 80
const char *counter_name(const struct counter_row *row, unsigned daemon,
                         char out[COUNTER_NAME_MAX]);

/* Prints all rows as mdoc(7), for postern-metrics(7). */
void counters_print_manual(FILE *out);

#endif
