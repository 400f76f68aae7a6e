/* dns/resolver.h - questions to the DNS, validated, cached, asked without waiting
 *
 * One struct resolver is made by main and shared by all threads; every function is thread-safe. It
 * wraps libunbound. Until the first question it costs a small struct: context, cache and the two
 * threads (libunbound's own and the one here that hands out answers and keeps the deadlines) are
 * made then, so a daemon that never asks pays nothing.
 *
 * Bounds: RESOLVER_QUESTIONS_MAX open questions, RESOLVER_DESCRIPTORS_MAX descriptors, caches of a
 * few MiB in all, and each question has a deadline by which it is answered, if only by "not now".
 *
 * DNSSEC is validated when there is a trust anchor. Then `secure` is true for what was proven, and
 * what is forged or broken is never given out: it is `bogus`, RESOLVER_TEMPORARY, without records.
 *
 * Used by dns/reverse, dns/mx and server/dnsbl. Knows no mail.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_DNS_RESOLVER_H
#define POSTERN_DNS_RESOLVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/deadline.h"
#include "base/error.h"

#define RESOLVER_QUESTIONS_MAX 1000
#define RESOLVER_DESCRIPTORS_MAX 550 /* for a daemon's count of what it may need */

struct resolver;

struct resolver_config {
    /* Resolvers to ask (port 0: 53). None: those of resolv.conf, unless `recurse` is set: then the
     * root servers are asked, and what they refer to. */
    const struct address *servers;
    size_t server_count;
    bool recurse;
    /* NULL: /etc/resolv.conf. A file that is not there: as with `recurse`; one without servers:
     * 127.0.0.1, as resolv.conf(5) has it. What is no address is passed over. */
    const char *resolv_conf;
    /* Root keys (DS or DNSKEY records as zone files have them). NULL: the first of
     * /usr/share/dns/root.key and /var/lib/unbound/root.key that can be read, or no validation
     * when there is none. "": no validation. */
    const char *trust_anchor_file;
    /* Validation is given up, with an error in the log, when it turns out that the servers pass no
     * DNSSEC records on, so that nothing at all could be proven: as many resolvers of providers and
     * home routers. Always so without `trust_anchor_file`, never with `recurse`. */
    bool trust_anchor_optional;
};

enum resolver_result {
    RESOLVER_FOUND,     /* there are records */
    RESOLVER_NO_DATA,   /* the name exists, but has no record of that type */
    RESOLVER_NO_NAME,   /* the name does not exist (NXDOMAIN) */
    RESOLVER_TEMPORARY, /* not now: SERVFAIL and the like, too late, bogus, no memory */
};

struct ub_result;

struct resolver_answer {
    enum resolver_result result;
    bool secure; /* proven by DNSSEC, also that there is nothing */
    bool bogus;  /* DNSSEC says it is forged or broken; then RESOLVER_TEMPORARY */
    unsigned ttl;
    const char *reason; /* of RESOLVER_TEMPORARY, for a log: "timeout", "SERVFAIL", ...; or "" */
    const char
        *canonical;    /* the name at the end of the CNAMEs, without final dot; NULL unless FOUND */
    size_t count;      /* of records */
    char *const *data; /* count times the record's data, in wire format without compression */
    const int *lengths;      /* count times the octets of it */
    struct ub_result *owner; /* what all this points into */
};

/* Copies `config`. Fails only for what an operator can mend (a trust anchor that cannot be read) or
 * without memory; opens nothing yet. */
struct resolver *resolver_new(const struct resolver_config *config, struct error *err);

/* From now on questions are asked under this `config`, also those that are open. The files that it
 * names are read again; without a call a change of resolv.conf or of the trust anchor is noticed at
 * a question, a second later at most. -1, with nothing changed, where resolver_new() would fail. */
int resolver_configure(struct resolver *resolver, const struct resolver_config *config,
                       struct error *err);

/* Answers all open questions with RESOLVER_TEMPORARY, ends the threads, frees. NULL is fine. Not to
 * be called by a callback, nor while another thread may still ask. */
void resolver_free(struct resolver *resolver);

/* Called in the resolver's thread, so it must be short and never wait. `answer` is gone when it
 * returns, unless resolver_answer_move() took it. It may ask further questions. */
typedef void resolver_callback(void *context, struct resolver_answer *answer);

/* Asks for the records of `type` (class IN) of `name`, with or without final dot. Never waits.
 * 0: `callback` will be called exactly once, at `deadline` at the latest. -1: it will not be
 * called (too many questions, the resolver cannot be started or is being freed, `name` is none, no
 * memory); treat that as RESOLVER_TEMPORARY. */
int resolver_ask(struct resolver *resolver, const char *name, int type, struct deadline deadline,
                 resolver_callback *callback, void *context);

/* The same, waiting for the answer until `deadline`. Never call it in a callback. `answer` is
 * filled in any case and is the caller's, for resolver_answer_free(). */
enum resolver_result resolver_lookup(struct resolver *resolver, const char *name, int type,
                                     struct deadline deadline, struct resolver_answer *answer);

/* Several at the same time, waiting for all. The answers are the caller's. */
struct resolver_question {
    const char *name;
    int type;
    struct resolver_answer answer;
};
void resolver_lookup_all(struct resolver *resolver, struct resolver_question *questions,
                         size_t count, struct deadline deadline);

/* The same in two steps, so that other things can be asked meanwhile. `questions` need not live from
 * one to the other; NULL is fine for out of memory. What has not come by the deadline of the second
 * is "timeout", RESOLVER_TEMPORARY. */
struct resolver_pending;
struct resolver_pending *resolver_begin(struct resolver *resolver,
                                        const struct resolver_question *questions, size_t count,
                                        struct deadline deadline);
void resolver_finish(struct resolver_pending *pending, struct resolver_question *questions,
                     size_t count, struct deadline deadline);

/* Has it a trust anchor, and not been found to be of no use? Without, nothing is ever `secure`. */
bool resolver_validates(struct resolver *resolver);

/* What `from` holds is `to`'s from now on. */
void resolver_answer_move(struct resolver_answer *to, struct resolver_answer *from);
void resolver_answer_free(struct resolver_answer *answer);

#endif
