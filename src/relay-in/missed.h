/* relay-in/missed.h - the ledger of missed mail: who was asked to come back for our reasons, and who has
 *
 * relay-in stores no mail; while the mail server cannot be reached senders get 4xx. This ledger says
 * afterwards who has come back. An entry is a sender and a recipient: when they were put off first and
 * last, how often, why, and what became of it. What the backend itself puts off (its greylisting) is
 * not ours, and is not in it.
 *
 * Private: an entry holds the sender's domain, the recipient and the client, and instead of the
 * sender's address a hash with a key of this host's; the address itself only where that is asked for.
 * Bounded: MISSED_MAX entries; when there are more, those that are settled go first, then those with
 * a single try, the oldest first. MISSED_KEEP_S after its last change an entry goes. Each change is
 * appended to a file before the reply is given, so that it outlives kill -9; the file is written anew
 * now and then.
 *
 * Thread-safe. One for the process, made by main. NULL is a ledger that is off.
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
    enum own_reply reason;            /* what was said last */
    char sender[MISSED_TEXT_MAX + 1]; /* its domain; or the address; "" = none (a notice) */
    char recipient[MISSED_TEXT_MAX + 1];
    char client[MISSED_TEXT_MAX + 1]; /* its verified name, or its network */
    bool has_name;
};

struct missed;

/* `folder` "" keeps it in memory only, and so it is where the file can't be had, which is logged.
 * NULL when out of memory. */
struct missed *missed_open(const char *folder, bool whole_senders, struct error *err);
void missed_close(struct missed *missed);

/* "unreachable", "busy", "lost", "config", ... for log and file; static text. */
const char *missed_reason_name(enum own_reply reason);

/* The recipient was answered, or the message for it: enters, or settles what was entered. `settles`:
 * a positive reply is the last word, not one to RCPT. */
void missed_note(struct missed *missed, const struct envelope *envelope, const char *recipient,
                 const struct reply *reply, bool settles);

struct missed_counts {
    unsigned pending;
    int64_t oldest; /* `first` of the oldest of them; 0: there is none */
};
void missed_count(struct missed *missed, struct missed_counts *out);
/* Entries that were put off first at this time or later. */
unsigned missed_since(struct missed *missed, int64_t since);

/* All entries, copied, in order of `first`; the caller frees. NULL with *count 0 when there are none, or
 * no memory. */
struct missed_entry *missed_list(struct missed *missed, unsigned *count);

#endif
