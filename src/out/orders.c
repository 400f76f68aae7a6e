/* out/orders.c - what relay-out does for relayctl, by its control socket
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "out/orders.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "out/depot.h"

#define BLOCK_OCTETS 16384

/* One request. */
struct order {
    struct depot *depot;
    struct control_client *client;
    const char *verb;
    const char *which;   /* NULL: none was named */
    const char *option;  /* the same */
    struct spool *spool; /* the files, for reading */
    unsigned changed, busy;
    bool gone; /* nobody hears us any more */
};

/* Looking. */

static void put_envelope(void *context, const struct spool_envelope *envelope)
{
    struct order *order = context;
    size_t len;
    char *text = order->gone ? NULL : spool_envelope_format(envelope, &len);

    if (text == NULL)
        return;
    order->gone = control_printf(order->client, "message %zu\n", len) != 0 ||
                  control_write(order->client, text, len) != 0;
    free(text);
}

static void list(struct order *order)
{
    struct spool_scan_counts counts;
    struct error err;

    /* What goes wrong in the middle is told by the end that does not come. */
    control_ok(order->client, "%s", "");
    if (spool_scan(order->spool, put_envelope, order, &counts, &err) != 0)
        control_printf(order->client, "error %s\n", err.text);
}

static void count(struct order *order)
{
    struct queue_counts counts;
    queue_count(delivery_queue(depot_pool(order->depot)), &counts);
    control_ok(order->client, "%zu %zu %zu %zu %zu", counts.messages, counts.held, counts.active,
               counts.destinations, counts.unreachable);
}

static void put_data(struct order *order, int fd, uint64_t left)
{
    char block[BLOCK_OCTETS];

    order->gone = control_printf(order->client, "data %" PRIu64 "\n", left) != 0;
    while (left > 0 && !order->gone) {
        ssize_t got = read(fd, block, left < sizeof block ? (size_t)left : sizeof block);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return;
        left -= (uint64_t)got;
        order->gone = control_write(order->client, block, (size_t)got) != 0;
    }
}

static bool find_id(const struct order *order, uint64_t *id)
{
    if (order->which != NULL && spool_id_parse(order->which, strlen(order->which), id))
        return true;
    control_error(order->client, "an ID is wanted");
    return false;
}

static void show(struct order *order)
{
    struct spool_envelope envelope;
    struct error err;
    uint64_t id;

    if (!find_id(order, &id))
        return;
    enum spool_result result = spool_read(order->spool, id, &envelope, &err);
    int fd;
    if (result == SPOOL_OK)
        result = spool_open_data(order->spool, &envelope, &fd, &err);
    if (result == SPOOL_OK) {
        control_ok(order->client, "%s", "");
        put_envelope(order, &envelope);
        put_data(order, fd, envelope.size);
        close(fd);
    } else {
        control_error(order->client, "%s", err.text);
    }
    spool_envelope_clear(&envelope);
}

/* Changing. */

static enum queue_answer change(struct order *order, uint64_t id, struct error *err)
{
    struct delivery_pool *pool = depot_pool(order->depot);
    enum queue_answer answer;

    if (strcmp(order->verb, "hold") == 0)
        answer = delivery_hold(pool, id, err);
    else if (strcmp(order->verb, "release") == 0)
        answer = delivery_release(pool, id, err);
    else if (strcmp(order->verb, "retry") == 0)
        answer = depot_retry(order->depot, id);
    else
        answer = delivery_discard(pool, id, order->option != NULL, err);
    order->changed += answer == QUEUE_DONE;
    order->busy += answer == QUEUE_BUSY;
    return answer;
}

static bool is_meant(const struct order *order, const struct spool_envelope *envelope)
{
    return strcmp(order->which, "all") == 0 || spool_envelope_waits_for(envelope, order->which);
}

static void change_found(void *context, const struct spool_envelope *envelope)
{
    struct order *order = context;
    struct error err;
    if (is_meant(order, envelope))
        change(order, envelope->id, &err);
}

static void change_one(struct order *order, uint64_t id)
{
    struct error err = {"it is being worked on just now"};
    switch (change(order, id, &err)) {
    case QUEUE_DONE:
        control_ok(order->client, "%u %u", order->changed, order->busy);
        break;
    case QUEUE_NO_SUCH:
        control_error(order->client, "there is no message %s", order->which);
        break;
    case QUEUE_BUSY:
        control_error(order->client, "%s", err.text);
        break;
    }
}

static void change_some(struct order *order)
{
    struct spool_scan_counts counts;
    struct error err = {""};
    uint64_t id;

    if (order->which == NULL) {
        control_error(order->client, "an ID, a domain or \"all\" is wanted");
    } else if (spool_id_parse(order->which, strlen(order->which), &id)) {
        change_one(order, id);
    } else if (spool_scan(order->spool, change_found, order, &counts, &err) == 0) {
        control_ok(order->client, "%u %u", order->changed, order->busy);
    } else {
        control_error(order->client, "%s", err.text);
    }
}

static void take_out(struct order *order)
{
    uint64_t id;
    if (order->option != NULL && strcmp(order->option, "bounce") != 0)
        control_error(order->client, "only \"bounce\" may stand behind the ID");
    else if (find_id(order, &id))
        change_one(order, id);
}

static const struct {
    const char *name;
    void (*run)(struct order *order);
    size_t words; /* behind the name, at most */
} verbs[] = {
    {"list", list, 0},        {"count", count, 0},       {"show", show, 1},
    {"hold", change_some, 1}, {"retry", change_some, 1}, {"release", change_some, 1},
    {"remove", take_out, 2},
};

static void run_order(struct order *order, size_t words)
{
    struct error err = {""};
    const struct spool_config config = {.folder = depot_folder(order->depot)};

    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verbs[i].name, order->verb) != 0 || words > verbs[i].words)
            continue;
        order->spool = spool_open(&config, true, &err);
        if (order->spool == NULL) {
            control_error(order->client, "%s", err.text);
            return;
        }
        verbs[i].run(order);
        spool_close(order->spool);
        return;
    }
    control_error(order->client, "no such request");
}

void orders_handle(void *context, struct control_client *client, const char *const *words,
                   size_t count)
{
    struct order order = {.depot = context, .client = client};

    if (count < 2 || strcmp(words[0], "queue") != 0) {
        control_error(client, "no such request");
    } else if (order.depot == NULL) {
        control_error(client, "nothing is stored here (out.spool)");
    } else {
        order.verb = words[1];
        order.which = words[2];
        order.option = words[2] != NULL ? words[3] : NULL;
        run_order(&order, count - 2);
    }
}
