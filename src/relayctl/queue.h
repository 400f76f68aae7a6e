/* relayctl/queue.h - relayctl queue: looking at the spool, and changing it while relay-out is down
 *
 * Looking needs no lock and works at any time. Changing takes the spool's lock, so it is refused
 * while the daemon runs.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_QUEUE_H
#define POSTERN_RELAYCTL_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "spool/spool.h"

/* Printing; `now` in seconds since the epoch. */
void queue_print_heading(FILE *out);
void queue_print_row(FILE *out, const struct spool_envelope *envelope, int64_t now);
void queue_print_json(FILE *out, const struct spool_envelope *envelope);
void queue_print_envelope(FILE *out, const struct spool_envelope *envelope);
/* `size` octets of mail data as they were meant: dots unstuffed, without CRs; visible unless `raw`.
 * 0, or -1 when they cannot be read (errno). */
int queue_print_data(FILE *out, FILE *data, uint64_t size, bool raw);

/* Pieces of that. Whatever comes out of mail must not steer the terminal: control characters become
 * visible ("^[", "\\x9b"), a line feed a blank; in `lines` it stays, as a tab does. */
#define QUEUE_TEXT_MAX 32
void queue_put_visible(FILE *out, const char *text, bool lines);
const char *queue_size_text(uint64_t octets, char out[QUEUE_TEXT_MAX]);
/* "45s", "12m", "3h", "2d": the largest unit, as a glance wants it. */
const char *queue_span_text(int64_t seconds, char out[QUEUE_TEXT_MAX]);
void queue_print_json_time(FILE *out, const char *name, int64_t when);

/* Adding up; to be zeroed, but for what it is to be added up by, and freed. */
enum queue_count_by { QUEUE_BY_NOTHING, QUEUE_BY_DOMAIN, QUEUE_BY_SENDER };
struct queue_sum;
struct queue_count {
    enum queue_count_by by;
    unsigned messages, held;
    uint64_t recipients, octets;
    struct queue_sum *sums;
    size_t sum_count, room;
    bool failed; /* memory was short */
};
/* A spool_found; the context is the struct queue_count. */
void queue_count_add(void *context, const struct spool_envelope *envelope);
void queue_count_print(FILE *out, struct queue_count *count, bool json, int64_t now);
void queue_count_free(struct queue_count *count);

/* Orders, on a spool that is open for writing. Of a message that is not selected nothing is changed;
 * QUEUE_ORDER_REMOVE takes the recipients of the selected domain off. They return what spool_edit()
 * does; *changed counts the messages. */
enum queue_order { QUEUE_ORDER_HOLD, QUEUE_ORDER_RELEASE, QUEUE_ORDER_RETRY, QUEUE_ORDER_REMOVE };
enum spool_result queue_order(struct spool *spool, enum queue_order order, uint64_t id,
                              const struct spool_selection *selection, unsigned *changed,
                              struct error *err);

#endif
