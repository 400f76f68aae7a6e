/* spool/spool-envelope.h - what the spool knows about a message besides its mail data
 *
 * The envelope of a spooled message: sender and recipients with their ESMTP parameters, its arrival and
 * lifetime, and the state of each recipient. This module converts it to the text of an envelope file and
 * back (postern-spool(5)). It keeps fields that it does not know, so that an older program does not lose
 * a newer one's. It does no IO; spool/spool reads and replaces the files.
 *
 * A struct spool_envelope owns its strings and recipients; it is used by one thread at a time.
 * Used by spool/spool, spool/delivery, spool/dsn and relayctl queue.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SPOOL_SPOOL_ENVELOPE_H
#define POSTERN_SPOOL_SPOOL_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "smtp/command.h"
#include "smtp/path.h"

#define ENVELOPE_VERSION 1
#define ENVELOPE_FILE_MAX (16 * 1024 * 1024) /* octets; a larger file is not read */
#define ENVELOPE_RECIPIENTS_MAX 5000
#define ENVELOPE_REPLY_MAX 1024 /* octets kept of a remote host's reply */
#define SPOOL_ID_LEN 16         /* digits of an id as text */

enum recipient_state {
    RECIPIENT_QUEUED,
    RECIPIENT_DELIVERED, /* a next hop has accepted it */
    RECIPIENT_FAILED,    /* refused permanently, or expired */
};

struct spool_recipient {
    struct path path;
    enum recipient_state state;
    unsigned notify; /* NOTIFY_... */
    unsigned attempts;
    int64_t last_try, next_try; /* seconds since the epoch; 0 = none */
    bool delay_notified;        /* the sender has been told about the delay */
    char *orcpt;                /* ORCPT= as received (xtext); NULL = none */
    char *remote;               /* the host that gave `reply`; NULL = none, or our own text */
    char *reply;                /* the last, "451 4.7.1 Later", lines separated by '\n'; or NULL */
    char *unknown;              /* lines from later versions; NULL = none */
};

struct spool_envelope {
    uint64_t id;              /* assigned by the spool */
    uint64_t stamp;           /* for the spool: shows if it was changed since it was read */
    uint64_t size;            /* octets of the data file, set by spool_commit() */
    int64_t arrived, expires; /* seconds since the epoch */
    struct path sender;
    enum mail_body body;
    bool smtputf8;      /* required: the sender or the header is in UTF-8 */
    bool requiretls;    /* RFC 8689 */
    bool report;        /* our own notification: it takes the bounce route */
    bool hold;          /* not tried until released; set by spool_envelope_hold() */
    int64_t held_since; /* seconds since the epoch; 0 = not held, or unknown */
    enum mail_ret ret;
    char *envid;  /* ENVID= as received (xtext); NULL = none */
    char *origin; /* the transaction that brought it, for the log; NULL = none */
    char *unknown;
    size_t recipient_count;
    struct spool_recipient *recipients;
};

#define SPOOL_STAMP_NONE UINT64_MAX /* it must be read again before an edit */

/* Makes an empty envelope: null sender, no recipients. spool_envelope_clear() frees what it owns and makes it
 * empty again. */
void spool_envelope_init(struct spool_envelope *envelope);
void spool_envelope_clear(struct spool_envelope *envelope);

/* Adds a queued recipient. The pointer is valid until the next one is added. NULL if out of memory or if
 * there are already ENVELOPE_RECIPIENTS_MAX. */
struct spool_recipient *spool_envelope_add(struct spool_envelope *envelope,
                                           const struct path *path);

/* Replaces an owned string (`text` NULL: none), cut at `max` octets. Returns 0, or -1 if out of memory; then
 * the old one stays. */
int spool_envelope_set_text(char **field, const char *text, size_t max);

/* The number of recipients still queued. */
size_t spool_envelope_left(const struct spool_envelope *envelope);

/* What an operator selects by domain or sender: messages with a recipient that still waits there, or whose
 * sender is that address, anybody at "@example.com", or "<>". NULL: any. */
struct spool_selection {
    const char *domain, *sender;
};
bool spool_envelope_is_selected(const struct spool_envelope *envelope,
                                const struct spool_selection *selection);
/* Is this recipient still queued and in that domain (ignoring case; NULL: any)? */
bool spool_recipient_waits_at(const struct spool_recipient *recipient, const char *domain);

/* Holds the message from `now` on (seconds since the epoch), or releases it. A released one is due, and
 * `expires` is extended by the time on hold. False if nothing changes. */
bool spool_envelope_hold(struct spool_envelope *envelope, bool hold, int64_t now);

/* The earliest next try among queued recipients; 0 = at once, or none queued. */
int64_t spool_envelope_next_try(const struct spool_envelope *envelope);

/* Converts an id to and from the 16 hexadecimal digits in file names. */
const char *spool_id_format(uint64_t id, char out[SPOOL_ID_LEN + 1]);
bool spool_id_parse(const char *text, size_t len, uint64_t *id);
/* An id is the time of arrival, in ms since 1970, followed by this many random bits. */
#define SPOOL_ID_RANDOM_BITS 20
int64_t spool_id_time(uint64_t id); /* seconds since 1970 */

/* Writes "2026-11-21T07:44:15Z". Times before 1970 and after 9999 become "". */
#define SPOOL_TIME_MAX 24
const char *spool_time_format(int64_t when, char out[SPOOL_TIME_MAX]);

/* The text of an envelope file, `*len` octets, which the caller frees; NULL if out of memory. */
char *spool_envelope_format(const struct spool_envelope *envelope, size_t *len);

/* Parses it into an empty envelope. Returns 0, or -1 with the line and the reason in `err`; the envelope is
 * then empty again. */
int spool_envelope_parse(struct spool_envelope *envelope, const char *text, size_t len,
                         struct error *err);

#endif
