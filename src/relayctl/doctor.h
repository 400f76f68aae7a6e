/* relayctl/doctor.h - relayctl doctor: the checks, and what they share
 *
 * A check is a row of a table: the question, why it matters, and one function that looks and reports.
 * Checks run in parallel on several threads until one common deadline, so a check waits only under
 * doctor->deadline and writes only to its own finding. What several of them need (the configuration,
 * the resolver, this host's addresses) is prepared beforehand and only read.
 *
 * Checks send nothing that another host could object to: probes end at RCPT and deliver no message.
 *
 * doctor.c is the framework. Each group of checks has a file: doctor-ground, -dns, -name, -tls,
 * -backend. doctor-hop is their dialog with mail servers.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_DOCTOR_H
#define POSTERN_RELAYCTL_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/deadline.h"
#include "base/error.h"
#include "config/config.h"
#include "dns/name.h"
#include "dns/resolver.h"
#include "net/stream.h"
#include "smtp/nexthop.h"
#include "smtp/reply.h"

enum doctor_outcome {
    DOCTOR_OK,
    DOCTOR_WARNING,
    DOCTOR_FAILED,
    DOCTOR_UNKNOWN, /* cannot be checked from here; `seen` says what would be needed */
    DOCTOR_SKIPPED, /* does not apply to this configuration; not shown */
};

#define DOCTOR_TEXT_MAX 700

struct doctor_finding {
    int family; /* AF_INET, or AF_INET6 for a check with DOCTOR_BY_IPV6; set before the check */
    enum doctor_outcome outcome;
    char seen[DOCTOR_TEXT_MAX]; /* translated, one line */
    char fix[DOCTOR_TEXT_MAX];  /* translated, except for lines to paste; "" = none */
};

/* What a check needs, and what it is for. A check is skipped if something that it needs is missing. */
enum {
    DOCTOR_NEEDS_IN = 1 << 0,   /* relay-in is configured */
    DOCTOR_NEEDS_OUT = 1 << 1,  /* relay-out is configured */
    DOCTOR_NEEDS_ROOT = 1 << 2, /* without root the outcome is DOCTOR_UNKNOWN */
    DOCTOR_NEEDS_TLS = 1 << 3,  /* there is a certificate */
    DOCTOR_NEEDS_HOME = 1 << 4, /* doctor runs on the mail server's side, with --home */
    DOCTOR_BY_IPV6 = 1 << 5,    /* no need: it is for IPv6 what another row is for IPv4 */
};

#define DOCTOR_ADDRESSES_MAX 2 /* per family: the one that mail leaves from, and one more */

struct doctor {
    const struct config *config; /* NULL with --home */
    const char *config_file;
    struct resolver *resolver;
    struct deadline deadline;
    /* This host's public addresses, by family. */
    struct address own4[DOCTOR_ADDRESSES_MAX], own6[DOCTOR_ADDRESSES_MAX];
    size_t own4_count, own6_count;
    bool root;
    const char *home_target; /* the VPS's name; NULL: doctor runs on the VPS */
};

struct doctor_check {
    const char *id; /* never changed or translated */
    unsigned needs; /* DOCTOR_NEEDS_... */
    void (*look)(const struct doctor *doctor, struct doctor_finding *finding);
    const char *asks; /* N_(): the question */
    const char *why;  /* N_(): the consequence of a bad answer */
};

struct doctor_group {
    const char *name; /* those of one name stand one behind the other, and are one to the user */
    const struct doctor_check *checks;
    size_t count;
};

extern const struct doctor_group doctor_ground, doctor_dns, doctor_name, doctor_tls, doctor_backend,
    doctor_ways, doctor_home;

/* Sets outcome and `seen`. */
void doctor_say(struct doctor_finding *finding, enum doctor_outcome outcome, const char *format,
                ...) __attribute__((format(printf, 3, 4)));
/* Sets `fix`. */
void doctor_advise(struct doctor_finding *finding, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Asks the DNS. The caller frees the answer with resolver_answer_free(). */
enum resolver_result doctor_ask(const struct doctor *doctor, const char *name, int type,
                                struct resolver_answer *answer);
/* Finds the TXT records of `name` that begin with `prefix` and stores the first in `out`. Returns their
 * number, or -1 if the DNS has no answer now. */
int doctor_txt_find(const struct doctor *doctor, const char *name, const char *prefix, char *out,
                    size_t size);
/* Stores the addresses of a name in one family. Returns their number, or -1 if the DNS has no answer
 * now. */
int doctor_addresses(const struct doctor *doctor, const char *name, int family, struct address *out,
                     size_t max);
/* Stores the hosts in a domain's MX records by preference. Returns their number, or -1 if the DNS has no
 * answer now. */
int doctor_mx(const struct doctor *doctor, const char *domain, char hosts[][DNS_NAME_MAX],
              unsigned *preferences, size_t max);
/* Finds the local address for packets to the internet, without sending any. False if there is no
 * route. */
bool doctor_source(int family, struct address *own);
/* Fills in this host's public addresses: out.source, or the local address for packets to the internet
 * (none is sent), or out.own_addresses. */
void doctor_learn_own(struct doctor *doctor);
/* Finds where relay-in accepts plain SMTP, and a public address of this host to connect from as an
 * ordinary client. False if relay-in has no such listener. */
bool doctor_listener(const struct doctor *doctor, struct address *address, struct address *from,
                     bool *from_known);
/* Is it one of this host's public addresses? */
bool doctor_is_own(const struct doctor *doctor, const struct address *address);
/* "192.0.2.1, 2001:db8::1"; returns `out`. */
const char *doctor_list(const struct address *addresses, size_t count, char *out, size_t size);
/* Stores at most `max` of the domains that relay-in accepts mail for, without those that begin with a
 * dot. They are borrowed from the configuration. Returns their number. */
size_t doctor_domains(const struct doctor *doctor, const char **out, size_t max);
#define DOCTOR_DOMAINS_MAX 50

/* A dialog with a mail server. */
struct doctor_hop {
    struct stream_buffers buffers;
    struct nexthop hop;
    struct reply reply; /* the last one */
    bool open;
    int64_t connect_ms, greeting_ms; /* how long they took */
    char trouble[ERROR_TEXT_MAX];    /* why it is not open */
};

/* Connects to the backend and reads its greeting and EHLO reply. With `client` it introduces itself as
 * that client, by the configured identity; with NULL, as this host itself. False, with `trouble` set,
 * if it does not get that far. The caller always calls doctor_hop_close(). */
bool doctor_hop_open(const struct doctor *doctor, struct doctor_hop *hop,
                     const struct config_backend *backend, const struct address *host,
                     const struct address *client);
/* Connects to any host and reads its greeting, and says nothing more. */
bool doctor_hop_greet(const struct doctor *doctor, struct doctor_hop *hop,
                      const struct address *host, const struct address *from);
/* Sends one command and reads the reply. False if there is none. */
bool doctor_hop_say(const struct doctor *doctor, struct doctor_hop *hop, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Sends MAIL FROM:<sender>, RCPT TO:<recipient> and RSET. Returns the recipient's reply code, or 0 if
 * there was no reply. hop->reply is the reply to RCPT, or to MAIL if that was refused. */
int doctor_hop_recipient(const struct doctor *doctor, struct doctor_hop *hop, const char *sender,
                         const char *recipient);
/* Writes the last reply as one line for people. Returns `out`. */
const char *doctor_hop_words(const struct doctor_hop *hop, char *out, size_t size);
void doctor_hop_close(struct doctor_hop *hop);

#endif
