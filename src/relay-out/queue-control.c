/* relay-out/queue-control.c - relay-out's queue commands for relayctl, over the control socket
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/queue-control.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"
#include "relay-out/spooler.h"

#define BLOCK_OCTETS 16384
#define HANDS 8          /* threads that carry out a request for many messages */
#define PROGRESS_MS 1000 /* between progress reports to the client */

/* One request. */
struct order {
    struct spooler *spooler;
    struct control_client *client;
    const char *verb;
    const char *which; /* ID, domain or "all"; NULL: missing */
    struct spool_selection selection;
    bool bounce, header_only;
    struct spool *spool; /* the files, for reading */
    struct deadline progress;
    bool gone;            /* the client does not listen any more */
    pthread_mutex_t lock; /* protects what follows */
    unsigned changed, busy;
    /* Messages to change, a ring; several at a time, so that they share the wait for the disk. */
    pthread_cond_t moved; /* one was added or taken, or `ended` is set */
    uint64_t ids[HANDS * 4];
    size_t first, count;
    bool ended;
    pthread_t hands[HANDS];
    size_t hand_count;
};

/* Reading. */

static void queue_control_put_envelope(void *context, const struct spool_envelope *envelope)
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

static void queue_control_list(struct order *order)
{
    struct spool_scan_counts counts;
    struct error err;

    /* An error after this shows in the last line. */
    control_ok(order->client);
    if (spool_scan(order->spool, queue_control_put_envelope, order, &counts, &err) != 0)
        control_printf(order->client, "error %s\n", err.text);
    else
        control_printf(order->client, "lost %u\n",
                       delivery_lost_notices(spooler_pool(order->spooler)));
}

static void queue_control_put_data(struct order *order, int fd, uint64_t left)
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

static bool queue_control_find_id(const struct order *order, uint64_t *id)
{
    if (order->which != NULL && spool_id_parse(order->which, strlen(order->which), id))
        return true;
    control_error(order->client, "an ID is required");
    return false;
}

static void queue_control_show(struct order *order)
{
    struct spool_envelope envelope;
    struct error err;
    uint64_t id;

    if (!queue_control_find_id(order, &id))
        return;
    enum spool_result result = spool_read(order->spool, id, &envelope, &err);
    uint64_t size = envelope.size;
    int fd;
    if (result == SPOOL_OK)
        result = spool_open_data(order->spool, &envelope, &fd, &err);
    if (result == SPOOL_OK) {
        control_ok(order->client);
        queue_control_put_envelope(order, &envelope);
        if (order->header_only && spool_header_size(fd, &size) != 0)
            size = 0;
        queue_control_put_data(order, fd, size);
        close(fd);
    } else {
        control_error(order->client, "%s", err.text);
    }
    spool_envelope_clear(&envelope);
}

/* Changing. */

static enum queue_answer queue_control_change(struct order *order, uint64_t id, struct error *err)
{
    struct delivery_pool *pool = spooler_pool(order->spooler);
    enum queue_answer answer;

    if (strcmp(order->verb, "hold") == 0)
        answer = delivery_hold(pool, id, err);
    else if (strcmp(order->verb, "release") == 0)
        answer = delivery_release(pool, id, err);
    else if (strcmp(order->verb, "retry") == 0)
        answer = queue_retry(delivery_queue(pool), id);
    else
        answer = delivery_discard(pool, id, order->selection.domain, order->bounce, err);
    pthread_mutex_lock(&order->lock);
    order->changed += answer == QUEUE_DONE;
    order->busy += answer == QUEUE_BUSY;
    pthread_mutex_unlock(&order->lock);
    return answer;
}

static void queue_control_tell_progress(struct order *order)
{
    pthread_mutex_lock(&order->lock);
    unsigned changed = order->changed, busy = order->busy;
    pthread_mutex_unlock(&order->lock);
    order->gone = control_printf(order->client, "done %u %u\n", changed, busy) != 0 ||
                  control_flush(order->client) != 0;
    order->progress = deadline_in_ms(PROGRESS_MS);
}

static bool queue_control_take_id(struct order *order, uint64_t *id)
{
    pthread_mutex_lock(&order->lock);
    while (order->count == 0 && !order->ended)
        pthread_cond_wait(&order->moved, &order->lock);
    bool taken = order->count > 0;
    if (taken) {
        *id = order->ids[order->first];
        order->first = (order->first + 1) % (HANDS * 4);
        order->count--;
        pthread_cond_broadcast(&order->moved);
    }
    pthread_mutex_unlock(&order->lock);
    return taken;
}

static void *queue_control_run_hand(void *context)
{
    struct order *order = context;
    struct error err;
    uint64_t id;
    while (queue_control_take_id(order, &id))
        queue_control_change(order, id, &err);
    return NULL;
}

static void queue_control_start_hands(struct order *order)
{
    while (order->hand_count < HANDS &&
           thread_start(&order->hands[order->hand_count], THREAD_STACK_SIZE, queue_control_run_hand,
                        order) == 0)
        order->hand_count++;
}

static void queue_control_end_hands(struct order *order)
{
    pthread_mutex_lock(&order->lock);
    order->ended = true;
    pthread_cond_broadcast(&order->moved);
    pthread_mutex_unlock(&order->lock);
    for (size_t i = 0; i < order->hand_count; i++)
        pthread_join(order->hands[i], NULL);
}

static void queue_control_hand_over(struct order *order, uint64_t id)
{
    pthread_mutex_lock(&order->lock);
    while (order->count == HANDS * 4)
        pthread_cond_wait(&order->moved, &order->lock);
    order->ids[(order->first + order->count++) % (HANDS * 4)] = id;
    pthread_cond_broadcast(&order->moved);
    pthread_mutex_unlock(&order->lock);
}

static void queue_control_change_found(void *context, const struct spool_envelope *envelope)
{
    struct order *order = context;
    struct error err;
    if (order->gone || !spool_envelope_is_selected(envelope, &order->selection))
        return;
    if (order->hand_count > 0)
        queue_control_hand_over(order, envelope->id);
    else
        queue_control_change(order, envelope->id, &err);
    if (deadline_passed(order->progress))
        queue_control_tell_progress(order);
}

static void queue_control_change_one(struct order *order, uint64_t id)
{
    struct error err = {"it is being delivered at the moment"};
    switch (queue_control_change(order, id, &err)) {
    case QUEUE_DONE:
        control_ok(order->client);
        queue_control_tell_progress(order);
        break;
    case QUEUE_NO_SUCH:
        control_error(order->client, "there is no message %s", order->which);
        break;
    case QUEUE_BUSY:
        control_error(order->client, "%s", err.text);
        break;
    }
}

static void queue_control_change_some(struct order *order)
{
    struct spool_scan_counts counts;
    struct error err = {""};
    uint64_t id;

    if (order->which == NULL) {
        control_error(order->client, "an ID, a domain or \"all\" is required");
        return;
    }
    /* Once only, or a next hop would be asked, and logged in to, as often as there are messages for it. */
    if (strcmp(order->verb, "retry") == 0)
        spooler_forget_dead(order->spooler);
    if (spool_id_parse(order->which, strlen(order->which), &id)) {
        queue_control_change_one(order, id);
        return;
    }
    if (strcmp(order->which, "all") != 0) {
        order->selection.domain = order->which;
    } else if (strcmp(order->verb, "remove") == 0 && order->selection.sender == NULL) {
        control_error(order->client, "remove does not take all messages");
        return;
    }
    control_ok(order->client);
    queue_control_tell_progress(order);
    queue_control_start_hands(order);
    int result = spool_scan(order->spool, queue_control_change_found, order, &counts, &err);
    queue_control_end_hands(order);
    if (result != 0)
        control_printf(order->client, "error %s\n", err.text);
    queue_control_tell_progress(order);
}

static const struct {
    const char *name;
    bool looks; /* reads envelopes only: allowed to the socket's whole group */
    void (*run)(struct order *order);
} verbs[] = {
    {"list", true, queue_control_list},
    {"show", false, queue_control_show},
    {"hold", false, queue_control_change_some},
    {"retry", false, queue_control_change_some},
    {"release", false, queue_control_change_some},
    {"remove", false, queue_control_change_some},
};

static void queue_control_run_order(struct order *order)
{
    struct error err = {""};
    const struct spool_config config = {.folder = spooler_folder(order->spooler)};

    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verbs[i].name, order->verb) != 0)
            continue;
        if (!verbs[i].looks && !control_permit_order(order->client))
            return;
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

/* Takes the words after ID, domain or "all". Returns the first one that is not valid there, or NULL. */
static const char *queue_control_take_options(struct order *order, const char *const *words,
                                              size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool known = true;
        if (strcmp(words[i], "bounce") == 0)
            order->bounce = known = strcmp(order->verb, "remove") == 0;
        else if (strcmp(words[i], "header") == 0)
            order->header_only = known = strcmp(order->verb, "show") == 0;
        else if (strncmp(words[i], "from=", 5) == 0)
            order->selection.sender = words[i] + 5;
        else
            known = false;
        if (!known)
            return words[i];
    }
    return NULL;
}

void queue_control_handle(void *context, struct control_client *client, const char *const *words,
                          size_t count)
{
    struct order order = {.spooler = context, .client = client, .progress = deadline_in_ms(0)};

    pthread_mutex_init(&order.lock, NULL);
    pthread_cond_init(&order.moved, NULL);
    if (count < 2 || strcmp(words[0], "queue") != 0) {
        control_error(client, "no such request");
    } else if (order.spooler == NULL) {
        control_error(client, "nothing is stored here (out.spool)");
    } else {
        order.verb = words[1];
        order.which = words[2];
        const char *odd =
            count > 3 ? queue_control_take_options(&order, words + 3, count - 3) : NULL;
        if (odd != NULL)
            control_error(client, "\"%s\" is not valid in this request", odd);
        else
            queue_control_run_order(&order);
    }
    pthread_cond_destroy(&order.moved);
    pthread_mutex_destroy(&order.lock);
}
