/* relayctl/queue-count.c - totals of the stored mail: in all, by recipient domain, by sender
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/i18n.h"
#include "relayctl/json.h"
#include "relayctl/queue.h"

/* What one message adds to a name; after merging, the name's total. */
struct queue_sum {
    char *name;
    unsigned messages, recipients;
    uint64_t octets;
    int64_t next_try; /* the earliest; 0 = at once */
    int64_t last_try; /* the latest that gave a reply */
    char *reply;      /* that reply; NULL = none yet */
};

static void count_free(struct queue_sum *sum)
{
    free(sum->name);
    free(sum->reply);
}

void queue_count_free(struct queue_count *count)
{
    for (size_t i = 0; i < count->sum_count; i++)
        count_free(&count->sums[i]);
    free(count->sums);
}

/* Finds the name among those that this message has added, from `first` on, or adds it. NULL if out of
 * memory. */
static struct queue_sum *count_find(struct queue_count *count, size_t first, const char *name)
{
    for (size_t i = first; i < count->sum_count; i++) {
        if (strcasecmp(count->sums[i].name, name) == 0)
            return &count->sums[i];
    }
    if (count->sum_count == count->room) {
        size_t room = count->room == 0 ? 256 : count->room * 2;
        struct queue_sum *longer = realloc(count->sums, room * sizeof *longer);
        if (longer == NULL)
            return NULL;
        count->sums = longer;
        count->room = room;
    }
    struct queue_sum *sum = &count->sums[count->sum_count];
    *sum = (struct queue_sum){.name = strdup(name), .next_try = INT64_MAX};
    if (sum->name == NULL)
        return NULL;
    count->sum_count++;
    return sum;
}

static void queue_count_recipient(struct queue_count *count, struct queue_sum *sum,
                                  const struct spool_recipient *recipient)
{
    sum->recipients++;
    if (recipient->next_try < sum->next_try)
        sum->next_try = recipient->next_try;
    if (recipient->reply == NULL || recipient->last_try < sum->last_try)
        return;
    sum->last_try = recipient->last_try;
    if (spool_envelope_set_text(&sum->reply, recipient->reply, ENVELOPE_REPLY_MAX) != 0)
        count->failed = true;
}

void queue_count_add(void *context, const struct spool_envelope *envelope)
{
    struct queue_count *count = context;
    size_t first = count->sum_count;
    const char *sender = envelope->sender.is_null ? "<>" : envelope->sender.mailbox;

    count->messages++;
    count->held += envelope->hold;
    count->recipients += spool_envelope_left(envelope);
    count->octets += envelope->size;
    for (size_t i = 0; i < envelope->recipient_count && count->by != QUEUE_BY_NOTHING; i++) {
        const struct spool_recipient *recipient = &envelope->recipients[i];
        if (recipient->state != RECIPIENT_QUEUED)
            continue;
        struct queue_sum *sum = count_find(
            count, first, count->by == QUEUE_BY_SENDER ? sender : recipient->path.domain);
        if (sum == NULL)
            count->failed = true;
        else
            queue_count_recipient(count, sum, recipient);
    }
    for (size_t i = first; i < count->sum_count; i++) {
        count->sums[i].messages = 1;
        count->sums[i].octets = envelope->size;
    }
}

static int count_compare_names(const void *a, const void *b)
{
    return strcasecmp(((const struct queue_sum *)a)->name, ((const struct queue_sum *)b)->name);
}

static int count_compare(const void *a, const void *b)
{
    const struct queue_sum *left = a, *right = b;
    if (left->messages != right->messages)
        return left->messages > right->messages ? -1 : 1;
    return strcasecmp(left->name, right->name);
}

static void count_merge(struct queue_sum *into, struct queue_sum *from)
{
    into->messages += from->messages;
    into->recipients += from->recipients;
    into->octets += from->octets;
    if (from->next_try < into->next_try)
        into->next_try = from->next_try;
    if (from->reply != NULL && from->last_try >= into->last_try) {
        char *reply = into->reply;
        into->reply = from->reply;
        into->last_try = from->last_try;
        from->reply = reply;
    }
    count_free(from);
}

/* Merges the entries of each name and sorts them, those with the most messages first. */
static void count_settle(struct queue_count *count)
{
    size_t merged = 0;
    if (count->sum_count == 0)
        return;
    qsort(count->sums, count->sum_count, sizeof *count->sums, count_compare_names);
    for (size_t i = 1; i < count->sum_count; i++) {
        if (count_compare_names(&count->sums[merged], &count->sums[i]) == 0)
            count_merge(&count->sums[merged], &count->sums[i]);
        else
            count->sums[++merged] = count->sums[i];
    }
    count->sum_count = merged + 1;
    qsort(count->sums, count->sum_count, sizeof *count->sums, count_compare);
}

static void count_print_json(FILE *out, const struct queue_sum *sum)
{
    fputs("{\"name\": ", out);
    json_string(out, sum->name, strlen(sum->name));
    fprintf(out, ", \"messages\": %u, \"recipients_left\": %u, \"octets\": %" PRIu64, sum->messages,
            sum->recipients, sum->octets);
    queue_print_json_time(out, "next_try", sum->next_try);
    if (sum->reply != NULL)
        json_member(out, "reply", sum->reply);
    fputs("}\n", out);
}

static void count_print_row(FILE *out, const struct queue_sum *sum, int64_t now)
{
    char size[QUEUE_TEXT_MAX], next[QUEUE_TEXT_MAX];
    fprintf(out, "%8u %9u %6s %5s  ", sum->messages, sum->recipients,
            queue_size_text(sum->octets, size), queue_span_text(sum->next_try - now, next));
    queue_put_visible(out, sum->name, false);
    if (sum->reply != NULL) {
        fputs(": ", out);
        queue_put_visible(out, sum->reply, false);
    }
    fputc('\n', out);
}

static void count_print_all(FILE *out, const struct queue_count *count, bool json)
{
    if (json)
        fprintf(out,
                "{\"messages\": %u, \"held\": %u, \"recipients_left\": %" PRIu64
                ", \"octets\": %" PRIu64 "}\n",
                count->messages, count->held, count->recipients, count->octets);
    else
        fprintf(out, _("%u messages (%u held), %" PRIu64 " recipients left, %" PRIu64 " octets\n"),
                count->messages, count->held, count->recipients, count->octets);
}

void queue_count_print(FILE *out, struct queue_count *count, bool json, int64_t now)
{
    if (count->by == QUEUE_BY_NOTHING) {
        count_print_all(out, count, json);
        return;
    }
    count_settle(count);
    if (!json)
        fprintf(out, "%8s %9s %6s %5s  %s\n", _("MESSAGES"), _("LEFT"), _("SIZE"), _("NEXT"),
                count->by == QUEUE_BY_SENDER ? _("SENDER, LAST REPLY") : _("DOMAIN, LAST REPLY"));
    for (size_t i = 0; i < count->sum_count; i++) {
        if (json)
            count_print_json(out, &count->sums[i]);
        else
            count_print_row(out, &count->sums[i], now);
    }
}
