/* smtp/counters.h - everything that the daemons count, in one table
 *
 * A row is one number: its metric's name and labels (as in Prometheus and OpenMetrics), the daemons
 * that have it, its kind and its meaning. The struct below, the answer to "stats" on the control socket,
 * `relayctl status`, the exporter's output and postern-metrics(7) all come from these rows. To count
 * something else, add a row here and a counters_add() where it happens.
 *
 * Rows of one metric are adjacent and differ in their labels; the first row has the meaning. A '*' in a
 * name stands for "in" or "out", if both daemons count it. Labels are closed sets: never a domain, an
 * address or a host. A row of the kind COUNTER_EACH has one value for each of several things (a backend,
 * a certificate), which the daemon supplies when asked; the row has the label's name.
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
    X(CONNECTIONS, BOTH, TOTAL, "postern_*_connections_total", "", "Connections that clients have made.") \
    X(REJECTED_EARLY, BOTH, TOTAL, "postern_*_connections_rejected_total", "reason=\"early_talker\"", "Connections refused before the client's first command: it talked before the greeting, is on a blocklist or on the deny list, has a private address, has too many connections or opens them too fast, found all connections in use, or is no load balancer.") \
    X(REJECTED_BLOCKLIST, BOTH, TOTAL, "postern_*_connections_rejected_total", "reason=\"blocklist\"", "") \
    X(REJECTED_DENIED, BOTH, TOTAL, "postern_*_connections_rejected_total", "reason=\"denied\"", "") \
    X(REJECTED_PRIVATE, BOTH, TOTAL, "postern_*_connections_rejected_total", "reason=\"private\"", "") \
    X(REJECTED_CLIENT, BOTH, TOTAL, "postern_*_connections_rejected_total", "reason=\"client_limit\"", "") \
    X(REJECTED_FULL, BOTH, TOTAL, "postern_*_connections_rejected_total", "reason=\"full\"", "") \
    X(REJECTED_PROXY, BOTH, TOTAL, "postern_*_connections_rejected_total", "reason=\"proxy\"", "") \
    X(DROPPED_IDLE, BOTH, TOTAL, "postern_*_connections_dropped_total", "reason=\"idle\"", "Connections ended because the client was silent for too long, or was among the slowest when too many clients were in mid-message.") \
    X(DROPPED_SLOW, BOTH, TOTAL, "postern_*_connections_dropped_total", "reason=\"slow\"", "") \
    X(OPEN_WORKING, BOTH, GAUGE, "postern_*_open_connections", "state=\"working\"", "Connections open now: those that have or need a worker, and those that wait for their client.") \
    X(OPEN_WAITING, BOTH, GAUGE, "postern_*_open_connections", "state=\"waiting\"", "") \
    X(OPEN_LIMIT, BOTH, GAUGE, "postern_*_open_connections_limit", "", "The most connections that may be open (limits.connections).") \
    X(WORKERS, BOTH, GAUGE, "postern_*_workers", "", "Worker threads.") \
    X(STRESSED, BOTH, GAUGE, "postern_*_stressed", "", "1 under stress: few workers or connections are free, and waits for clients are short.") \
    X(STRESSES, BOTH, TOTAL, "postern_*_stress_total", "", "How often stress has begun.") \
    X(MESSAGES_DELIVERED, BOTH, TOTAL, "postern_*_messages_total", "result=\"delivered\"", "Messages by the reply to the end of their data: delivered (2xx by the next hop), stored (2xx by relay-out itself), deferred (4xx) and refused (5xx). aborted ones broke off before that.") \
    X(MESSAGES_STORED, OUT, TOTAL, "postern_*_messages_total", "result=\"stored\"", "") \
    X(MESSAGES_DEFERRED, BOTH, TOTAL, "postern_*_messages_total", "result=\"deferred\"", "") \
    X(MESSAGES_REFUSED, BOTH, TOTAL, "postern_*_messages_total", "result=\"refused\"", "") \
    X(MESSAGES_ABORTED, BOTH, TOTAL, "postern_*_messages_total", "result=\"aborted\"", "") \
    X(RECIPIENTS_ACCEPTED, BOTH, TOTAL, "postern_*_recipients_total", "result=\"accepted\"", "Recipients named by clients, by the reply.") \
    X(RECIPIENTS_DEFERRED, BOTH, TOTAL, "postern_*_recipients_total", "result=\"deferred\"", "") \
    X(RECIPIENTS_REFUSED, BOTH, TOTAL, "postern_*_recipients_total", "result=\"refused\"", "") \
    X(OCTETS, BOTH, TOTAL, "postern_*_message_octets_total", "", "Octets of mail data received.") \
    X(TLS_OK, BOTH, TOTAL, "postern_*_tls_handshakes_total", "result=\"ok\"", "TLS handshakes with clients.") \
    X(TLS_FAILED, BOTH, TOTAL, "postern_*_tls_handshakes_total", "result=\"failed\"", "") \
    X(LOGINS_OK, BOTH, TOTAL, "postern_*_logins_total", "result=\"ok\"", "Log-ins of users (AUTH): accepted, refused, and deferred for a reason that is not the user's.") \
    X(LOGINS_REFUSED, BOTH, TOTAL, "postern_*_logins_total", "result=\"refused\"", "") \
    X(LOGINS_DEFERRED, BOTH, TOTAL, "postern_*_logins_total", "result=\"deferred\"", "") \
    X(BACKEND_UP, IN, EACH, "postern_backend_up", "backend", "1 if the last attempt to reach the mail server succeeded.") \
    X(BACKEND_SESSIONS, IN, EACH, "postern_backend_sessions", "backend", "Connections to the mail server now, spares included.") \
    X(BACKEND_LIMIT, IN, EACH, "postern_backend_sessions_limit", "backend", "The most there may be (max_sessions).") \
    X(BACKEND_SPARES, IN, EACH, "postern_backend_spares", "backend", "Spare connections, ready for the next client.") \
    X(BACKEND_LATENCY, IN, EACH, "postern_backend_connect_seconds", "backend", "How long the last connection to it took to establish.") \
    X(BACKEND_UNREACHABLE, IN, TOTAL, "postern_backend_failures_total", "reason=\"unreachable\"", "Sessions that could not reach the mail server, found all of max_sessions in use, were not allowed to introduce the client, lacked TLS where it is required, or lost the connection.") \
    X(BACKEND_BUSY, IN, TOTAL, "postern_backend_failures_total", "reason=\"busy\"", "") \
    X(BACKEND_IDENTITY, IN, TOTAL, "postern_backend_failures_total", "reason=\"identity\"", "") \
    X(BACKEND_TLS, IN, TOTAL, "postern_backend_failures_total", "reason=\"tls\"", "") \
    X(BACKEND_LOST, IN, TOTAL, "postern_backend_failures_total", "reason=\"lost\"", "") \
    X(MISSED_PENDING, IN, GAUGE, "postern_missed_pending", "", "Messages that the relay put off (4xx) for reasons of its own and that have not come back yet.") \
    X(MISSED_OLDEST, IN, GAUGE, "postern_missed_oldest_seconds", "", "How long ago the oldest of them was put off.") \
    X(SENT, OUT, TOTAL, "postern_out_deliveries_total", "result=\"sent\"", "Recipients by their fate at the next hop. Each deferred attempt counts.") \
    X(PUT_OFF, OUT, TOTAL, "postern_out_deliveries_total", "result=\"deferred\"", "") \
    X(BOUNCED, OUT, TOTAL, "postern_out_deliveries_total", "result=\"bounced\"", "") \
    X(OUT_TLS_OK, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"none\",result=\"ok\"", "TLS sessions with next hops, by the policy that the domain publishes (dane: TLSA records, sts: MTA-STS) and by result. A next hop that offers no STARTTLS counts as failed.") \
    X(OUT_TLS_FAILED, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"none\",result=\"failed\"", "") \
    X(OUT_TLS_DANE_OK, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"dane\",result=\"ok\"", "") \
    X(OUT_TLS_DANE_FAILED, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"dane\",result=\"failed\"", "") \
    X(OUT_TLS_STS_OK, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"sts\",result=\"ok\"", "") \
    X(OUT_TLS_STS_FAILED, OUT, TOTAL, "postern_out_tls_sessions_total", "policy=\"sts\",result=\"failed\"", "") \
    X(DNS_BOGUS, OUT, TOTAL, "postern_out_dns_failures_total", "type=\"bogus\"", "Look-ups of next hops without an answer: bogus ones failed DNSSEC validation, temporary ones may succeed later.") \
    X(DNS_TEMPORARY, OUT, TOTAL, "postern_out_dns_failures_total", "type=\"temporary\"", "") \
    X(NOTICES_FAILURE, OUT, TOTAL, "postern_dsn_total", "kind=\"failure\"", "Notices to senders: of failure, of delay, and of relaying to hosts that send none themselves.") \
    X(NOTICES_DELAY, OUT, TOTAL, "postern_dsn_total", "kind=\"delay\"", "") \
    X(NOTICES_RELAYED, OUT, TOTAL, "postern_dsn_total", "kind=\"relayed\"", "") \
    X(SPOOL_MESSAGES, OUT, GAUGE, "postern_spool_messages", "", "Messages in the spool.") \
    X(SPOOL_HELD, OUT, GAUGE, "postern_spool_held_messages", "", "Messages in the spool that are on hold (relayctl queue hold).") \
    X(SPOOL_OLDEST, OUT, GAUGE, "postern_spool_oldest_seconds", "", "How long the oldest message has been in the spool.") \
    X(NOTICES_LOST, OUT, TOTAL, "postern_spool_notices_lost_total", "", "Notices to senders that were refused or could not be delivered in time.") \
    X(SPOOL_FREE, OUT, GAUGE, "postern_spool_free_octets", "", "Free space on the spool's file system.")
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

/* Durations, as histograms. X(id, daemons, name, meaning) */
#define COUNTERS_DURATIONS(X)                                                                      \
    X(MESSAGE, BOTH, "postern_*_message_duration_seconds",                                         \
      "Time from MAIL to the reply to the end of the data.")                 \
    X(DELIVERY, OUT, "postern_out_delivery_duration_seconds",                                      \
      "Time from the first contact with a next hop to its reply to the end of the data.")          \
    X(BACKEND_CONNECT, IN, "postern_backend_connect_duration_seconds",                             \
      "Time to connect to the mail server.")

enum counter_duration {
#define COUNTERS_DURATION_ID(id, daemons, name, meaning) COUNTER_DURATION_##id,
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
    atomic_ullong
        at_midnight[COUNTERS_COUNT]; /* their values when the day, or the daemon, began */
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
