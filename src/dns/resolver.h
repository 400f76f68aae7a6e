/* dns/resolver.h - asks the DNS: validated, cached, without blocking
 *
 * Wraps libunbound. main makes one struct resolver and all threads share it; every function is
 * thread-safe. The context, the cache and two threads (libunbound's own, and one that hands out
 * answers and keeps the deadlines) are made at the first question, so a daemon that never asks pays
 * only for a small struct.
 *
 * Bounds: RESOLVER_QUESTIONS_MAX open questions, RESOLVER_DESCRIPTORS_MAX descriptors, and a few MiB
 * of cache in all. Each question has a deadline by which it is answered, if only with
 * RESOLVER_TEMPORARY.
 *
 * DNSSEC is validated if there is a trust anchor. `secure` then marks what was proven. Forged or
 * broken data is never given out: the answer is `bogus`, RESOLVER_TEMPORARY, without records.
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
#define RESOLVER_DESCRIPTORS_MAX 550 /* counts towards a daemon's limit of open files */

struct resolver;

struct resolver_config {
    /* Resolvers to ask (port 0 means 53). If there are none, those in resolv.conf; with `recurse`,
     * the root servers and whatever they refer to. */
    const struct address *servers;
    size_t server_count;
    bool recurse;
    /* NULL: /etc/resolv.conf. A missing file has the effect of `recurse`; a file without servers
     * means 127.0.0.1, as in resolv.conf(5). Anything that is not an address is skipped. */
    const char *resolv_conf;
    /* Root keys (DS or DNSKEY records in zone file format). NULL: the first readable one of
     * /usr/share/dns/root.key and /var/lib/unbound/root.key; no validation if there is none.
     * "": no validation. */
    const char *trust_anchor_file;
    /* Give up validation, with an error in the log, if the servers turn out not to pass DNSSEC
     * records on, so that nothing could be proven. Many resolvers of providers and home routers
     * don't. Implied without `trust_anchor_file`; ignored with `recurse`. Validation is tried again after
     * `validate_again_ms`, 0 for an hour, and then in twice that time after each failure, up to a day. */
    bool trust_anchor_optional;
    int64_t validate_again_ms;
};

enum resolver_result {
    RESOLVER_FOUND,     /* there are records */
    RESOLVER_NO_DATA,   /* the name exists but has no record of that type */
    RESOLVER_NO_NAME,   /* the name does not exist (NXDOMAIN) */
    RESOLVER_TEMPORARY, /* no answer now: SERVFAIL and the like, timeout, bogus, out of memory */
};

struct ub_result;

struct resolver_answer {
    enum resolver_result result;
    bool secure;        /* proven by DNSSEC, including the proof that there is nothing */
    bool bogus;         /* DNSSEC shows it forged or broken; then RESOLVER_TEMPORARY */
    bool late;          /* none came in time; then RESOLVER_TEMPORARY */
    unsigned ttl;       /* seconds */
    const char *reason; /* for RESOLVER_TEMPORARY and logs: "timeout", "SERVFAIL", ...; else "" */
    const char *canonical;   /* the end of the CNAMEs, without the final dot; NULL unless FOUND */
    size_t count;            /* number of records */
    char *const *data;       /* each record's data, in wire format without compression */
    const int *lengths;      /* each record's length in octets */
    struct ub_result *owner; /* owns everything that this points into */
};

/* Copies `config` and opens nothing yet. NULL with a reason in `err` if the trust anchor cannot be
 * read, which the operator can fix, or if out of memory. */
struct resolver *resolver_new(const struct resolver_config *config, struct error *err);

/* Uses this `config` from now on, for open questions too, and rereads the files that it names. Without
 * this call, the next question notices a change of resolv.conf or of the trust anchor, within a
 * second. Returns 0, or -1 with nothing changed where resolver_new() would fail. */
int resolver_configure(struct resolver *resolver, const struct resolver_config *config,
                       struct error *err);

/* Answers all open questions with RESOLVER_TEMPORARY, ends the threads and frees. NULL is fine. Don't
 * call it from a callback, or while another thread may still ask. */
void resolver_free(struct resolver *resolver);

/* Runs in the resolver's thread, so it must be short and never wait. `answer` is freed when it
 * returns. It may ask further questions. */
typedef void resolver_callback(void *context, struct resolver_answer *answer);

/* Asks for the records of `type` (class IN) of `name`, with or without the final dot. Never waits.
 * Returns 0 if `callback` will be called, exactly once and no later than `deadline`. Returns -1 if it
 * won't be (too many questions, the resolver cannot start or is being freed, `name` is not a name,
 * out of memory); treat that as RESOLVER_TEMPORARY. */
int resolver_ask(struct resolver *resolver, const char *name, int type, struct deadline deadline,
                 resolver_callback *callback, void *context);

/* The same, but waits for the answer until `deadline`. Never call it from a callback. `answer` is
 * always filled; the caller frees it with resolver_answer_free(). */
enum resolver_result resolver_lookup(struct resolver *resolver, const char *name, int type,
                                     struct deadline deadline, struct resolver_answer *answer);

/* Asks several questions at once and waits for all. The caller frees the answers. */
struct resolver_question {
    const char *name;
    int type;
    struct resolver_answer answer;
};
void resolver_lookup_all(struct resolver *resolver, struct resolver_question *questions,
                         size_t count, struct deadline deadline);

/* The same in two steps, so that the caller can do other work in between. `questions` need not live
 * from one call to the other. resolver_begin() returns NULL if out of memory, and resolver_finish()
 * accepts that. Answers missing at its deadline become RESOLVER_TEMPORARY, "timeout". */
struct resolver_pending;
struct resolver_pending *resolver_begin(struct resolver *resolver,
                                        const struct resolver_question *questions, size_t count,
                                        struct deadline deadline);
void resolver_finish(struct resolver_pending *pending, struct resolver_question *questions,
                     size_t count, struct deadline deadline);

/* Does it validate: is there a trust anchor, and has validation not been given up? If not, no answer
 * is ever `secure`. */
bool resolver_validates(struct resolver *resolver);

/* For diagnosis: does one of its servers answer a question without EDNS (RFC 6891)? The resolver itself always asks
 * with it, and gets no answer where a server, or a router on the way, drops such questions. Waits for 2 s at most for
 * each server. */
bool resolver_is_answered_without_edns(const struct resolver *resolver);

void resolver_answer_free(struct resolver_answer *answer);

#endif
