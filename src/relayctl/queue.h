/* relayctl/queue.h - relayctl queue: shows the spool, and changes it while relay-out is down
 *
 * Reading needs no lock and works at any time. Changing takes the spool's lock, so it is refused while
 * the daemon runs. One thread.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_QUEUE_H
#define POSTERN_RELAYCTL_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "spool/spool.h"

/* Printing. `now` is in seconds since the epoch. */
void queue_print_heading(FILE *out);
void queue_print_row(FILE *out, const struct spool_envelope *envelope, int64_t now);
void queue_print_json(FILE *out, const struct spool_envelope *envelope);
void queue_print_envelope(FILE *out, const struct spool_envelope *envelope);
/* Prints `size` octets of mail data with the dots unstuffed and without CRs; control characters are made
 * visible unless `raw`. Returns 0, or -1 with errno if the data cannot be read. */
int queue_print_data(FILE *out, FILE *data, uint64_t size, bool raw);

/* Prints text from mail so that it cannot control the terminal: control characters become visible
 * ("^[", "\\x9b") and a line feed becomes a space. With `lines`, line feeds and tabs stay. */
#define QUEUE_TEXT_MAX 32
void queue_put_visible(FILE *out, const char *text, bool lines);
const char *queue_size_text(uint64_t octets, char out[QUEUE_TEXT_MAX]);
/* "45s", "12m", "3h", "2d": only the largest unit. Returns `out`. */
const char *queue_span_text(int64_t seconds, char out[QUEUE_TEXT_MAX]);
void queue_print_json_time(FILE *out, const char *name, int64_t when);

/* Totals. The caller zeroes the struct, sets `by`, and frees it with queue_count_free(). */
enum queue_count_by { QUEUE_BY_NOTHING, QUEUE_BY_DOMAIN, QUEUE_BY_SENDER };
struct queue_sum;
struct queue_count {
    enum queue_count_by by;
    unsigned messages, held;
    uint64_t recipients, octets;
    struct queue_sum *sums;
    size_t sum_count, room;
    bool failed; /* out of memory */
};
/* Adds one message. A spool_found callback; the context is the struct queue_count. */
void queue_count_add(void *context, const struct spool_envelope *envelope);
void queue_count_print(FILE *out, struct queue_count *count, bool json, int64_t now);
void queue_count_free(struct queue_count *count);

/* Carries out an order on a spool that is open for writing. Messages that are not selected stay
 * unchanged. QUEUE_ORDER_REMOVE removes the recipients in the selected domain. Returns what spool_edit()
 * does; *changed counts the messages. */
enum queue_order { QUEUE_ORDER_HOLD, QUEUE_ORDER_RELEASE, QUEUE_ORDER_RETRY, QUEUE_ORDER_REMOVE };
enum spool_result queue_order(struct spool *spool, enum queue_order order, uint64_t id,
                              const struct spool_selection *selection, unsigned *changed,
                              struct error *err);

#endif
