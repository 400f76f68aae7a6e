/* relayctl/doctor.h - relayctl doctor: the checks, and what they share
 *
 * A check is a row of a table: what it asks, why that matters, and one function that looks and says
 * what it saw. All run at the same time, each on a thread of its own, until one common deadline; so a
 * check waits only under doctor->deadline and writes only to its own finding. What several of them
 * need (the configuration, the resolver, this host's addresses) is put together before and only read.
 *
 * Nothing that a far host could mind is sent: probes end at RCPT, no message is delivered.
 *
 * doctor.c has the frame; one file has the checks of one group: doctor-ground, -dns, -name, -tls,
 * -backend. doctor-hop is the dialog that they lead with mail servers.
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
    DOCTOR_UNKNOWN, /* cannot be told from here; `seen` says what would be needed */
    DOCTOR_SKIPPED, /* not of this configuration; not shown */
};

#define DOCTOR_TEXT_MAX 700

struct doctor_finding {
    enum doctor_outcome outcome;
    char seen[DOCTOR_TEXT_MAX]; /* translated, one line */
    char fix[DOCTOR_TEXT_MAX];  /* translated; lines to paste are left as they are; "" = none */
};

/* What a check cannot do without. Where it is missing, the check is skipped. */
enum {
    DOCTOR_NEEDS_IN = 1 << 0,   /* relay-in is configured */
    DOCTOR_NEEDS_OUT = 1 << 1,  /* relay-out is */
    DOCTOR_NEEDS_ROOT = 1 << 2, /* without root the outcome is DOCTOR_UNKNOWN */
    DOCTOR_NEEDS_TLS = 1 << 3,  /* there is a certificate */
    DOCTOR_NEEDS_HOME = 1 << 4, /* run on the mail server's side, with --home */
};

#define DOCTOR_ADDRESSES_MAX 2 /* of one family: the one that mail leaves from, and one more */

struct doctor {
    const struct config *config; /* NULL with --home */
    const char *config_file;
    struct resolver *resolver;
    struct deadline deadline;
    /* This host's public addresses, by family. */
    struct address own4[DOCTOR_ADDRESSES_MAX], own6[DOCTOR_ADDRESSES_MAX];
    size_t own4_count, own6_count;
    bool root;
    const char *home_target; /* the VPS's name; NULL: run there */
};

struct doctor_check {
    const char *id; /* never changed nor translated */
    unsigned needs; /* DOCTOR_NEEDS_... */
    void (*look)(const struct doctor *doctor, struct doctor_finding *finding);
    const char *asks; /* N_(): the question */
    const char *why;  /* N_(): what comes of a wrong answer */
};

struct doctor_group {
    const char *name;
    const struct doctor_check *checks;
    size_t count;
};

extern const struct doctor_group doctor_ground, doctor_dns, doctor_name, doctor_tls, doctor_backend,
    doctor_home;

/* Sets outcome and `seen`. */
void doctor_say(struct doctor_finding *finding, enum doctor_outcome outcome, const char *format,
                ...) __attribute__((format(printf, 3, 4)));
/* Sets `fix`. */
void doctor_advise(struct doctor_finding *finding, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* DNS. An answer is freed by resolver_answer_free(). */
enum resolver_result doctor_ask(const struct doctor *doctor, const char *name, int type,
                                struct resolver_answer *answer);
/* The strings of one TXT record, joined; cut at `size`. */
void doctor_txt(const struct resolver_answer *answer, size_t index, char *out, size_t size);
/* The one TXT record of `name` that begins with `prefix`. The number of such records; `out` is the
 * first. -1: the DNS does not say now. */
int doctor_txt_find(const struct doctor *doctor, const char *name, const char *prefix, char *out,
                    size_t size);
/* The addresses of a name, of one family; -1: the DNS does not say now. */
int doctor_addresses(const struct doctor *doctor, const char *name, int family, struct address *out,
                     size_t max);
/* The hosts of the MX record of a domain by preference; -1: the DNS does not say now. */
int doctor_mx(const struct doctor *doctor, const char *domain, char hosts[][DNS_NAME_MAX],
              unsigned *preferences, size_t max);
/* The address that would be used towards the internet; no packet is sent. False: there is no route. */
bool doctor_source(int family, struct address *own);
/* Fills in this host's public addresses: out.source, or the one towards the internet (no packet is
 * sent), or out.own_addresses. */
void doctor_learn_own(struct doctor *doctor);
/* Where relay-in takes plain SMTP, and from where to ask as an ordinary client: a public address of
 * this host. False: it has no such listener. */
bool doctor_listener(const struct doctor *doctor, struct address *address, struct address *from,
                     bool *from_known);
/* Is it one of this host's public addresses? */
bool doctor_is_own(const struct doctor *doctor, const struct address *address);
/* "192.0.2.1, 2001:db8::1"; returns `out`. */
const char *doctor_list(const struct address *addresses, size_t count, char *out, size_t size);
/* The domains that relay-in takes mail for, without those that begin with a dot. At most `max`;
 * borrowed from the configuration. */
size_t doctor_domains(const struct doctor *doctor, const char **out, size_t max);
#define DOCTOR_DOMAINS_MAX 50

/* What a command prints, into `out`, cut at `size`; false: it cannot be run or fails. Bounded by
 * `seconds`. */
bool doctor_command(const char *const *arguments, int seconds, char *out, size_t size);

/* A dialog with a mail server. */
struct doctor_hop {
    struct stream_buffers buffers;
    struct nexthop hop;
    struct reply reply; /* the last one */
    bool open;
    int64_t connect_ms, greeting_ms; /* what these took */
    char trouble[ERROR_TEXT_MAX];               /* why it is not open */
};

/* Connects to the backend and takes its greeting and EHLO reply. `client`: introduced as that one, by
 * the identity that is configured; NULL: as this host itself. False, with `trouble`, when it did not
 * come to that. Always to be closed. */
bool doctor_hop_open(const struct doctor *doctor, struct doctor_hop *hop,
                     const struct config_backend *backend, const struct address *host,
                     const struct address *client);
/* Connects and takes the greeting of any host; no more is said. */
bool doctor_hop_greet(const struct doctor *doctor, struct doctor_hop *hop,
                      const struct address *host, const struct address *from);
/* One command; false when there is no reply. */
bool doctor_hop_say(const struct doctor *doctor, struct doctor_hop *hop, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The code that a recipient gets: MAIL FROM:<sender>, RCPT TO:<recipient>, RSET. 0: no reply. The
 * reply to RCPT, or to MAIL if that was refused, is in hop->reply. */
int doctor_hop_recipient(const struct doctor *doctor, struct doctor_hop *hop, const char *sender,
                         const char *recipient);
/* The last reply, one line, for people; returns `out`. */
const char *doctor_hop_words(const struct doctor_hop *hop, char *out, size_t size);
void doctor_hop_close(struct doctor_hop *hop);

#endif
