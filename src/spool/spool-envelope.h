/* spool/spool-envelope.h - what the spool knows of a message besides its mail data
 *
 * The envelope of a spooled message: sender and recipients with their ESMTP parameters, when it
 * came and how long it may stay, and for each recipient what has become of it. This module turns
 * it into the text of an envelope file and back (postern-spool(5)); fields that it does not know
 * are kept and written again, so that an older program spoils nothing of a later one's. It does no
 * IO; reading and replacing files is spool/spool's.
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
#define ENVELOPE_FILE_MAX (16 * 1024 * 1024) /* octets of text; a larger file is not read */
#define ENVELOPE_RECIPIENTS_MAX 5000
#define ENVELOPE_REPLY_MAX 1024 /* octets of a remote's reply that are kept */
#define SPOOL_ID_LEN 16         /* digits of an id as text */

enum recipient_state {
    RECIPIENT_QUEUED,
    RECIPIENT_DELIVERED, /* a next hop has taken it */
    RECIPIENT_FAILED,    /* refused for good, or its time is over */
};

/* NOTIFY= (RFC 3461 4.1); 0 = not said. */
enum {
    RECIPIENT_NOTIFY_NEVER = 1 << 0,
    RECIPIENT_NOTIFY_SUCCESS = 1 << 1,
    RECIPIENT_NOTIFY_FAILURE = 1 << 2,
    RECIPIENT_NOTIFY_DELAY = 1 << 3,
};

/* RET= (RFC 3461 4.3). */
enum envelope_ret { ENVELOPE_RET_NONE, ENVELOPE_RET_FULL, ENVELOPE_RET_HDRS };

struct spool_recipient {
    struct path path;
    enum recipient_state state;
    unsigned notify; /* RECIPIENT_NOTIFY_... */
    unsigned attempts;
    int64_t last_try, next_try; /* seconds since the epoch; 0 = none */
    bool delay_notified;        /* the sender has been told that it takes long */
    char *orcpt;                /* ORCPT= as it came (xtext); NULL = none */
    char *remote;               /* the host that gave `reply`; NULL = none, or our own words */
    char *reply;                /* the last one, "451 4.7.1 Later", lines parted by '\n'; or NULL */
    char *unknown;              /* lines of later versions; NULL = none */
};

struct spool_envelope {
    uint64_t id;              /* given by the spool */
    uint64_t stamp;           /* the spool's: tells whether it was changed since it was read */
    uint64_t size;            /* octets of the data file, set by spool_commit() */
    int64_t arrived, expires; /* seconds since the epoch */
    struct path sender;
    enum mail_body body;
    bool smtputf8;      /* needed: the sender or the header is in UTF-8 */
    bool requiretls;    /* RFC 8689 */
    bool report;        /* a notification of our own: it goes by the bounce route */
    bool hold;          /* not to be tried until released; set by spool_envelope_hold() */
    int64_t held_since; /* seconds since the epoch; 0 = not held, or not known */
    enum envelope_ret ret;
    char *envid;  /* ENVID= as it came (xtext); NULL = none */
    char *origin; /* the transaction it came by, for the log; NULL = none */
    char *unknown;
    size_t recipient_count;
    struct spool_recipient *recipients;
};

#define SPOOL_STAMP_NONE UINT64_MAX /* it is to be read again before an edit */

/* An empty envelope: null sender, no recipients. Then spool_envelope_clear() frees what it owns and
 * makes it empty again. */
void spool_envelope_init(struct spool_envelope *envelope);
void spool_envelope_clear(struct spool_envelope *envelope);

/* Adds a queued recipient, or NULL when out of memory or there are ENVELOPE_RECIPIENTS_MAX. The
 * pointer holds until the next one is added. */
struct spool_recipient *spool_envelope_add(struct spool_envelope *envelope,
                                           const struct path *path);

/* Replaces an owned string (`text` NULL: none), cut at `max` octets. 0 or -1 (out of memory, the
 * old one stays). */
int spool_envelope_set_text(char **field, const char *text, size_t max);

/* Recipients that are still queued. */
size_t spool_envelope_left(const struct spool_envelope *envelope);

/* What an operator means by a domain or a sender: of messages that still wait for somebody there, or
 * whose sender is that address, anybody of "@example.com", or "<>". NULL: any. */
struct spool_selection {
    const char *domain, *sender;
};
bool spool_envelope_is_selected(const struct spool_envelope *envelope,
                                const struct spool_selection *selection);
/* Is this recipient still queued, and of that domain (any case; NULL: any)? */
bool spool_recipient_waits_at(const struct spool_recipient *recipient, const char *domain);

/* Holds it from this moment on, or releases it: then it is due, and the time on hold does not count,
 * as `expires` moves on by it. False when that is how it is already. */
bool spool_envelope_hold(struct spool_envelope *envelope, bool hold, int64_t now);

/* The earliest next try of the queued ones; 0 = at once, or none queued. */
int64_t spool_envelope_next_try(const struct spool_envelope *envelope);

/* From the arguments of the SMTP parameters. False when malformed; NOTIFY=NEVER stands alone. */
bool spool_notify_parse(const char *text, size_t len, unsigned *notify);
bool spool_ret_parse(const char *text, size_t len, enum envelope_ret *ret);
/* "SUCCESS,FAILURE"; "" when nothing was said. Returns `out`. */
#define NOTIFY_TEXT_MAX 32
const char *spool_notify_format(unsigned notify, char out[NOTIFY_TEXT_MAX]);

/* An id as the 16 hexadecimal digits of file names. */
const char *spool_id_format(uint64_t id, char out[SPOOL_ID_LEN + 1]);
bool spool_id_parse(const char *text, size_t len, uint64_t *id);
/* An id is made of the time of arrival, in ms since 1970, and as many random bits behind it. */
#define SPOOL_ID_RANDOM_BITS 20
int64_t spool_id_time(uint64_t id); /* seconds since 1970 */

/* "2026-11-21T07:44:15Z". Times before 1970 and after 9999 are not written. */
#define SPOOL_TIME_MAX 24
const char *spool_time_format(int64_t when, char out[SPOOL_TIME_MAX]);

/* The text of an envelope file in memory that the caller frees; NULL when out of memory. */
char *spool_envelope_format(const struct spool_envelope *envelope, size_t *len);

/* Reads it back into an empty envelope. 0; -1 with the line and the reason in `err` (the envelope
 * is then empty again). */
int spool_envelope_parse(struct spool_envelope *envelope, const char *text, size_t len,
                         struct error *err);

#endif
