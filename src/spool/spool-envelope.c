/* spool/spool-envelope.c - makes, changes and queries envelopes in memory
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "spool/spool-envelope.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dns/name.h"

void spool_envelope_init(struct spool_envelope *envelope)
{
    memset(envelope, 0, sizeof *envelope);
    envelope->sender.is_null = true;
    envelope->sender.domain = envelope->sender.mailbox;
}

void spool_envelope_clear(struct spool_envelope *envelope)
{
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        struct spool_recipient *recipient = &envelope->recipients[i];
        free(recipient->orcpt);
        free(recipient->remote);
        free(recipient->reply);
        free(recipient->unknown);
    }
    free(envelope->recipients);
    free(envelope->envid);
    free(envelope->origin);
    free(envelope->unknown);
    spool_envelope_init(envelope);
}

/* struct path points into itself, so realloc(3) cannot simply move the recipients. */
static int envelope_make_room(struct spool_envelope *envelope)
{
    size_t count = envelope->recipient_count;
    if ((count & (count - 1)) != 0)
        return 0;
    struct spool_recipient *larger = calloc(count == 0 ? 1 : count * 2, sizeof *larger);
    if (larger == NULL)
        return -1;
    for (size_t i = 0; i < count; i++) {
        larger[i] = envelope->recipients[i];
        path_copy(&larger[i].path, &envelope->recipients[i].path);
    }
    free(envelope->recipients);
    envelope->recipients = larger;
    return 0;
}

struct spool_recipient *spool_envelope_add(struct spool_envelope *envelope, const struct path *path)
{
    if (envelope->recipient_count == ENVELOPE_RECIPIENTS_MAX || envelope_make_room(envelope) != 0)
        return NULL;
    struct spool_recipient *recipient = &envelope->recipients[envelope->recipient_count++];
    memset(recipient, 0, sizeof *recipient);
    path_copy(&recipient->path, path);
    return recipient;
}

int spool_envelope_set_text(char **field, const char *text, size_t max)
{
    char *copy = NULL;
    if (text != NULL) {
        copy = strndup(text, max);
        if (copy == NULL)
            return -1;
    }
    free(*field);
    *field = copy;
    return 0;
}

size_t spool_envelope_left(const struct spool_envelope *envelope)
{
    size_t left = 0;
    for (size_t i = 0; i < envelope->recipient_count; i++)
        left += envelope->recipients[i].state == RECIPIENT_QUEUED;
    return left;
}

bool spool_recipient_waits_at(const struct spool_recipient *recipient, const char *domain)
{
    return recipient->state == RECIPIENT_QUEUED &&
           (domain == NULL || dns_name_equal(recipient->path.domain, domain));
}

/* Local parts are case-sensitive (RFC 5321 2.4). */
static bool envelope_is_from(const struct path *sender, const char *text)
{
    const char *at = strrchr(text, '@');
    if (strcmp(text, "<>") == 0 || sender->is_null)
        return strcmp(text, "<>") == 0 && sender->is_null;
    if (at == NULL || !dns_name_equal(sender->domain, at + 1))
        return false;
    return at == text || strncmp(sender->mailbox, text, (size_t)(at + 1 - text)) == 0;
}

bool spool_envelope_is_selected(const struct spool_envelope *envelope,
                                const struct spool_selection *selection)
{
    if (selection->sender != NULL && !envelope_is_from(&envelope->sender, selection->sender))
        return false;
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        if (spool_recipient_waits_at(&envelope->recipients[i], selection->domain))
            return true;
    }
    return selection->domain == NULL;
}

bool spool_envelope_hold(struct spool_envelope *envelope, bool hold, int64_t now)
{
    if (envelope->hold == hold)
        return false;
    if (!hold && envelope->held_since != 0 && now > envelope->held_since)
        envelope->expires += now - envelope->held_since;
    for (size_t i = 0; i < envelope->recipient_count && !hold; i++)
        envelope->recipients[i].next_try = 0;
    envelope->hold = hold;
    envelope->held_since = hold ? now : 0;
    return true;
}

int64_t spool_envelope_next_try(const struct spool_envelope *envelope)
{
    int64_t earliest = INT64_MAX;
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct spool_recipient *recipient = &envelope->recipients[i];
        if (recipient->state == RECIPIENT_QUEUED && recipient->next_try < earliest)
            earliest = recipient->next_try;
    }
    return earliest == INT64_MAX ? 0 : earliest;
}

const char *spool_id_format(uint64_t id, char out[SPOOL_ID_LEN + 1])
{
    snprintf(out, SPOOL_ID_LEN + 1, "%016" PRIx64, id);
    return out;
}

int64_t spool_id_time(uint64_t id)
{
    return (int64_t)(id >> SPOOL_ID_RANDOM_BITS) / 1000;
}

bool spool_id_parse(const char *text, size_t len, uint64_t *id)
{
    uint64_t value = 0;
    if (len != SPOOL_ID_LEN)
        return false;
    for (size_t i = 0; i < len; i++) {
        const char *digits = "0123456789abcdef";
        const char *digit = text[i] != '\0' ? strchr(digits, text[i]) : NULL;
        if (digit == NULL)
            return false;
        value = value << 4 | (uint64_t)(digit - digits);
    }
    *id = value;
    return true;
}

const char *spool_time_format(int64_t when, char out[SPOOL_TIME_MAX])
{
    time_t seconds = (time_t)when;
    struct tm tm;
    if (when < 0 || when > 253402300799 || gmtime_r(&seconds, &tm) == NULL ||
        strftime(out, SPOOL_TIME_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        out[0] = '\0';
    return out;
}
