/* relay-in/missed.h - the ledger of missed mail: mail that we deferred, and whether it came back
 *
 * relay-in stores no mail; while the mail server is unreachable, senders get 4xx. Afterwards this ledger
 * shows whose mail has come back. An entry is a sender and a recipient: when they were first and last
 * deferred, how often, why, and the outcome. The backend's own deferrals (its greylisting) are not in it.
 *
 * Privacy: an entry has the sender's domain, the recipient and the client. Instead of the sender's address it
 * has a hash with this host's key, and the address itself only if that is configured. Bounds: MISSED_MAX
 * entries; beyond that, settled ones are dropped first, then those with a single try, the oldest first. An
 * entry is dropped MISSED_KEEP_S after its last change. Each change is appended to a file before the reply is
 * sent, so that it survives kill -9; the file is rewritten now and then.
 *
 * Thread-safe. main makes one for the process, which owns entries and file. NULL is a ledger that is off.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_IN_MISSED_H
#define POSTERN_RELAY_IN_MISSED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "smtp/courier.h"
#include "smtp/reply.h"

#define MISSED_MAX 4096
#define MISSED_KEEP_S (14 * 86400)
#define MISSED_HASH_LEN 16
#define MISSED_TEXT_MAX 127

enum missed_state {
    MISSED_PENDING,
    MISSED_CAME_BACK, /* the backend has it */
    MISSED_REFUSED,   /* it came back, and the backend refused it */
};

struct missed_entry {
    uint8_t hash[MISSED_HASH_LEN];
    enum missed_state state;
    int64_t first, last, settled; /* seconds since 1970 */
    unsigned tries;
    enum own_reply reason;            /* the last reply */
    char sender[MISSED_TEXT_MAX + 1]; /* domain or whole address; "" = none (a notice) */
    char recipient[MISSED_TEXT_MAX + 1];
    char client[MISSED_TEXT_MAX + 1]; /* its verified name, or its network */
    bool has_name;
};

struct missed;

/* Opens the ledger. With `folder` "" it is only in memory, as it is if the file cannot be used, which is logged. NULL
 * if out of memory. */
struct missed *missed_open(const char *folder, bool whole_senders, struct error *err);
void missed_close(struct missed *missed);

/* "unreachable", "busy", "lost", "config", ... for log and file; static text. */
const char *missed_reason_name(enum own_reply reason);

/* Notes the reply to a recipient, or to its message: adds an entry, or settles one. `settles`: the reply is to the
 * message, not to RCPT, so a positive one is final. */
void missed_note(struct missed *missed, const struct envelope *envelope, const char *recipient,
                 const struct reply *reply, bool settles);

struct missed_counts {
    unsigned pending;
    int64_t oldest; /* `first` of the oldest pending one; 0: none */
};
void missed_count(struct missed *missed, struct missed_counts *out);
/* The number of entries first deferred at this time (seconds since 1970) or later. */
unsigned missed_since(struct missed *missed, int64_t since);

/* A copy of all entries, in order of `first`, which the caller frees with free(3). NULL with *count 0 if there are
 * none, or if out of memory. */
struct missed_entry *missed_list(struct missed *missed, unsigned *count);

#endif
