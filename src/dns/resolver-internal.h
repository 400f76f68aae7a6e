/* dns/resolver-internal.h - what the files of dns/resolver share
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

/* In one of two rings: `open` until its callback has been called, in the order of deadlines, and
 * `late` when its deadline passed first and libunbound still works on it. Callbacks are called, and
 * questions move from ring to ring, in the answering thread only. */
struct question {
    struct question *previous, *next;
    struct resolver *resolver;
    struct deadline deadline;
    resolver_callback *callback; /* NULL once it has been called */
    void *context;
    bool asked; /* libunbound has it; else it waits for another context */
    int type;
    char *name; /* behind the struct; to be asked again when the servers have changed */
};

/* A file as it was when it was read; all zero: it was not there. */
struct resolver_file {
    struct timespec changed;
    off_t size;
    ino_t inode;
};

#define RESOLVER_SERVERS_MAX 8 /* of resolv.conf; the C library takes 3 */
#define RESOLVER_SERVER_TEXT (ADDRESS_TEXT_MAX + 20)

/* What resolv.conf(5) says of servers, as libunbound wants them ("fe80::1%eth0"). */
struct resolver_servers {
    char items[RESOLVER_SERVERS_MAX][RESOLVER_SERVER_TEXT];
    size_t count;
};

struct resolver {
    pthread_mutex_t lock;          /* all of what follows up to `thread` */
    struct resolver_config config; /* its servers and names are ours; once started, changed by the
                                      thread only */
    struct resolver_config *next;  /* to be taken by the thread; NULL: none */
    bool renew;                    /* the thread shall make another context */
    struct resolver_file resolv_conf, anchor; /* of the context */
    int64_t look_ms;                          /* not to be looked at before */
    bool started, broken, ending;
    bool downgraded; /* validation was given up */
    int64_t retry_ms;           /* not to be started again before */
    struct question open, late; /* heads of rings */
    unsigned question_count;    /* in both */
    pthread_t thread;
    struct ub_ctx *context; /* changed by the thread only */
    int wake_fd;
    /* The thread's own. */
    int64_t bogus_logged_ms;
    bool validation_fails; /* not even the root's own records can be proven */
};

/* The trust anchor file that `config` asks for: a path, or NULL for no validation; -1 with a reason
 * when the named one cannot be read. */
int resolver_trust_anchor(const struct resolver_config *config, const char **file,
                          struct error *err);

/* pthread_create() with that stack and all signals blocked. 0 or an errno. */
int resolver_start_thread(pthread_t *thread, size_t stack_size, void *(*run)(void *),
                          void *argument);

/* A finished libunbound context that works in a thread of its own. Checks every setting. NULL with
 * a reason on failure. The caller's, for ub_ctx_delete(). */
struct ub_ctx *resolver_context_new(const struct resolver_config *config, struct error *err);

/* Gives the question to libunbound. 0, or its error. With the lock held. */
int resolver_put_question(struct resolver *resolver, struct question *question);

/* `next` is the configuration from now on. With the lock held. */
void resolver_take_config(struct resolver *resolver);

/* The servers that the file names, without what is none. 0, or -1: it can't be read. */
int resolver_read_servers(const char *file, struct resolver_servers *servers);

/* The files that contexts of this `config` are made from, as they are now. */
void resolver_look_at_files(const struct resolver_config *config, struct resolver_file *resolv_conf,
                            struct resolver_file *anchor);
bool resolver_same_file(const struct resolver_file *a, const struct resolver_file *b);

/* May validation be given up where the name servers make it impossible? */
bool resolver_may_downgrade(const struct resolver_config *config);

/* Starts the answering thread, with no signals. 0 or an errno. */
int resolver_thread_start(struct resolver *resolver);

/* libunbound's callback, with a struct question. */
void resolver_take_result(void *data, int error, struct ub_result *result);

/* Fills `answer` from what libunbound gave, which it then owns. */
void resolver_answer_fill(struct resolver_answer *answer, int error, struct ub_result *result);

void resolver_ring_init(struct question *head);
void resolver_ring_insert_after(struct question *place, struct question *question);
void resolver_ring_remove(struct question *question);

/* RESOLVER_TEMPORARY, for a reason that is static text. */
void resolver_answer_temporary(struct resolver_answer *answer, const char *reason);

#endif
