/* dns/resolver-internal.h - the structures that dns/resolver*.c share; nothing else includes it
 *
 * resolver.c asks, answers and waits; resolver-thread.c is the answering thread; resolver-context.c makes
 * libunbound's contexts and reads their files. The lock and the thread each part is under stand at the fields.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_DNS_RESOLVER_INTERNAL_H
#define POSTERN_DNS_RESOLVER_INTERNAL_H

#include <pthread.h>
#include <sys/types.h>
#include <time.h>

#include "dns/resolver.h"

struct ub_ctx;
struct ub_result;

/* A question is in one of two rings. `open`, sorted by deadline, holds it until its callback has been
 * called. `late` holds it if its deadline passed first and libunbound still works on it. Only the
 * answering thread calls callbacks and moves questions between the rings. */
struct question {
    struct question *previous, *next;
    struct resolver *resolver;
    struct deadline deadline;
    resolver_callback *callback; /* NULL once it has been called */
    void *context;
    bool asked; /* libunbound has it; otherwise it waits for the next context */
    int type;
    char *name; /* allocated with the struct; kept to ask again after the servers changed */
};

/* A file's state when it was read; all zero if it did not exist. */
struct resolver_file {
    struct timespec changed;
    off_t size;
    ino_t inode;
};

#define RESOLVER_SERVERS_MAX 8 /* from resolv.conf; the C library takes 3 */
#define RESOLVER_SERVER_TEXT (ADDRESS_TEXT_MAX + 20)

/* The servers in resolv.conf(5), in the form that libunbound takes ("fe80::1%eth0"). */
struct resolver_servers {
    char items[RESOLVER_SERVERS_MAX][RESOLVER_SERVER_TEXT];
    size_t count;
};

struct resolver {
    pthread_mutex_t lock;          /* protects everything up to `thread` */
    struct resolver_config config; /* owns its servers and names; once started, only the thread
                                      changes it */
    struct resolver_config *next;  /* for the thread to switch to; NULL: none */
    bool renew;                    /* the thread must make a new context */
    struct resolver_file resolv_conf, anchor; /* as the context read them */
    int64_t look_ms;                          /* don't check these files again before */
    bool started, broken, ending;
    bool downgraded;            /* validation was given up; only the thread changes it */
    int64_t retry_ms;           /* don't try to start again before */
    struct question open, late; /* heads of rings */
    unsigned question_count;    /* in both */
    pthread_t thread;
    struct ub_ctx *context; /* only the thread changes it */
    int wake_fd;
    /* Only the thread uses these. */
    int64_t bogus_logged_ms;
    bool validation_fails;       /* not even the root's own records can be validated */
    struct deadline validate_at; /* when validation that was given up is tried again */
    int64_t validate_wait_ms;    /* how long that was put off the last time; 0: never yet */
};

/* Finds the trust anchor file that `config` asks for. *file becomes a path, or NULL for no validation.
 * Returns 0, or -1 with a reason if the named file cannot be read. */
int resolver_trust_anchor(const struct resolver_config *config, const char **file,
                          struct error *err);

/* Makes a libunbound context that resolves in its own thread, and checks every setting. The caller
 * frees it with ub_ctx_delete(). NULL with a reason on failure. */
struct ub_ctx *resolver_context_new(const struct resolver_config *config, struct error *err);

/* Gives the question to libunbound. Returns 0 or libunbound's error. The caller holds the lock. */
int resolver_put_question(struct resolver *resolver, struct question *question);

/* Makes `next`, if there is one, the current configuration. The caller holds the lock. */
void resolver_take_config(struct resolver *resolver);

/* Reads the servers that the file names and skips anything that is not one. Returns 0, or -1 if the
 * file cannot be read. */
int resolver_read_servers(const char *file, struct resolver_servers *servers);

/* Stores the current state of the files that a context of this `config` reads. */
void resolver_look_at_files(const struct resolver_config *config, struct resolver_file *resolv_conf,
                            struct resolver_file *anchor);
bool resolver_same_file(const struct resolver_file *a, const struct resolver_file *b);

/* May validation be given up if the name servers make it impossible? */
bool resolver_may_downgrade(const struct resolver_config *config);

/* Starts the answering thread with all signals blocked. Returns 0 or an errno. */
int resolver_thread_start(struct resolver *resolver);

/* libunbound's callback; `data` is a struct question. */
void resolver_take_result(void *data, int error, struct ub_result *result);

/* Fills `answer` from libunbound's result, which the answer then owns. */
void resolver_answer_fill(struct resolver_answer *answer, int error, struct ub_result *result);

/* Rings of questions. The caller holds the lock. */
void resolver_ring_init(struct question *head);
void resolver_ring_insert_after(struct question *place, struct question *question);
void resolver_ring_remove(struct question *question);

/* Makes `answer` RESOLVER_TEMPORARY; `reason` is static text. */
void resolver_answer_temporary(struct resolver_answer *answer, const char *reason);
/* The same if none came in time. */
void resolver_answer_late(struct resolver_answer *answer);

#endif
