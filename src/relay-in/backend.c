/* relay-in/backend.c - what all sessions know together of the backend
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-in/backend-internal.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/condition.h"
#include "base/i18n.h"
#include "base/log.h"
#include "relay-in/remembered.h"
#include "base/log.h"
#include "net/dial.h"

#define SLOT_WAIT_MS 5000     /* a session waits so long for one of max_sessions */
#define USER_TIMEOUT_MS 45000 /* unacknowledged data, or probes, on a dead tunnel */
#define SILENT_MS 500         /* a host that answers does so sooner */
#define IDLE_TIMEOUT_MS 18000 /* the same of a spare, which shall tell when the tunnel is cut */
#define DEMAND_BITS 8

/* What is offered while nothing is known of a backend. What then turns out to be missing is 451. */
#define ASSUMED_EXTENSIONS                                                                         \
    (NEXTHOP_8BITMIME | NEXTHOP_SMTPUTF8 | NEXTHOP_ENHANCEDSTATUSCODES | NEXTHOP_DSN |             \
     NEXTHOP_CHUNKING)

struct backend_live_count {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned living;
    struct backend *ended; /* their keepers are at their end, and to be joined */
};

struct backend_live_count *backend_live_count_new(void)
{
    struct backend_live_count *live_count = calloc(1, sizeof *live_count);
    if (live_count == NULL)
        return NULL;
    pthread_mutex_init(&live_count->lock, NULL);
    if (condition_init(&live_count->changed) != 0) {
        free(live_count);
        return NULL;
    }
    return live_count;
}

/* Joins the keepers that have ended and frees their backends. Under the lock, which it leaves
 * meanwhile. */
static void backend_live_count_bury(struct backend_live_count *live_count)
{
    while (live_count->ended != NULL) {
        struct backend *backend = live_count->ended;
        live_count->ended = backend->next_ended;
        live_count->living--;
        pthread_mutex_unlock(&live_count->lock);
        pthread_join(backend->keeper, NULL);
        backend_free(backend);
        pthread_mutex_lock(&live_count->lock);
    }
}

bool backend_live_count_free(struct backend_live_count *live_count)
{
    struct deadline deadline = deadline_in_ms(10000);
    bool in_time = true;

    pthread_mutex_lock(&live_count->lock);
    backend_live_count_bury(live_count);
    while (live_count->living > 0 && in_time) {
        in_time = condition_wait(&live_count->changed, &live_count->lock, deadline);
        backend_live_count_bury(live_count);
    }
    bool gone = live_count->living == 0;
    pthread_mutex_unlock(&live_count->lock);
    if (gone) {
        pthread_cond_destroy(&live_count->changed);
        pthread_mutex_destroy(&live_count->lock);
        free(live_count);
    }
    return gone;
}

static void backend_live_count_add(struct backend_live_count *live_count)
{
    pthread_mutex_lock(&live_count->lock);
    backend_live_count_bury(live_count);
    live_count->living++;
    pthread_mutex_unlock(&live_count->lock);
}

void backend_live_count_end(struct backend *backend)
{
    struct backend_live_count *live_count = backend->live_count;

    pthread_mutex_lock(&live_count->lock);
    backend->next_ended = live_count->ended;
    live_count->ended = backend;
    pthread_cond_signal(&live_count->changed);
    pthread_mutex_unlock(&live_count->lock);
}

void backend_free(struct backend *backend)
{
    ASSERT(backend->wanted.next == &backend->wanted && backend->held.next == &backend->held);
    tls_client_free(backend->tls);
    config_unref(backend->config);
    free(backend->spares);
    if (backend->wake_fd >= 0)
        close(backend->wake_fd);
    pthread_mutex_destroy(&backend->lock);
    free(backend);
}

void backend_wake(const struct backend *backend)
{
    uint64_t one = 1;
    if (write(backend->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: it is awake */
}

/* What a connection without TLS, or with it, is for under these settings; the rest goes by what
 * clients did of late. */
unsigned backend_spares_wanted(const struct backend *backend, bool tls)
{
    const struct config_backend *settings = backend->settings;
    unsigned all = (unsigned)settings->spares;

    if (settings->identity == CONFIG_IDENTITY_PROXY_V1 ||
        settings->identity == CONFIG_IDENTITY_PROXY_V2)
        return 0;
    if (settings->tls == CONFIG_TLS_NONE)
        return tls ? 0 : all;
    if (settings->tls != CONFIG_TLS_MIRROR || backend->submission)
        return tls ? all : 0;
    unsigned under_tls =
        (all * (unsigned)__builtin_popcount(backend->demand) + DEMAND_BITS / 2) / DEMAND_BITS;
    return tls ? under_tls : all - under_tls;
}

const char *backend_name(const struct backend *backend, char out[BACKEND_NAME_MAX])
{
    char text[ADDRESS_TEXT_MAX];
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < backend->settings->hosts.count && len < BACKEND_NAME_MAX - 1; i++)
        len += (size_t)snprintf(out + len, BACKEND_NAME_MAX - len, "%s%s", i > 0 ? "," : "",
                                address_format_endpoint(&backend->settings->hosts.items[i], text));
    return out;
}

void backend_health(struct backend *backend, struct backend_health *out)
{
    pthread_mutex_lock(&backend->lock);
    *out = backend->health;
    out->sessions = backend->sessions;
    out->spares = backend->spare_count;
    pthread_mutex_unlock(&backend->lock);
}

struct counters *backend_counters(const struct backend *backend)
{
    return backend->counters;
}

struct missed *backend_missed(const struct backend *backend)
{
    return backend->missed;
}

/* Who was put off meanwhile is asked for by relayctl missed. */
static void backend_log_outage(const struct backend *backend, int64_t since, int64_t seconds)
{
    char name[BACKEND_NAME_MAX];
    struct log_line line;

    log_begin(&line, LOG_LEVEL_NOTICE, "event=outage");
    log_str(&line, "status", "over");
    log_str(&line, "backend", backend_name(backend, name));
    log_int(&line, "seconds", seconds);
    if (backend->missed != NULL)
        log_int(&line, "missed", missed_since(backend->missed, since));
    log_end(&line);
}

static void backend_log_health(const struct backend *backend, bool up, int64_t was_s,
                               const char *reason)
{
    char name[BACKEND_NAME_MAX];
    struct log_line line;

    log_begin(&line, up ? LOG_LEVEL_NOTICE : LOG_LEVEL_ERROR, "event=backend");
    log_str(&line, "status", up ? "up" : "down");
    log_str(&line, "backend", backend_name(backend, name));
    if (was_s >= 0)
        log_int(&line, up ? "down_s" : "up_s", was_s);
    if (!up) {
        log_str(&line, "reason", reason);
        log_str(&line, "effect", "senders get 451 and come back later");
    }
    log_end(&line);
}

void backend_note(struct backend *backend, bool up, const char *reason)
{
    struct backend_health *health = &backend->health;
    int64_t now = (int64_t)time(NULL), since = health->since, was_s = -1;

    pthread_mutex_lock(&backend->lock);
    bool changed = health->status != (up ? BACKEND_UP : BACKEND_DOWN) && backend->references > 0;
    if (changed && health->status != BACKEND_UNKNOWN) {
        since = health->since;
        was_s = now - since;
    }
    if (changed) {
        health->status = up ? BACKEND_UP : BACKEND_DOWN;
        health->since = now;
        backend->recovered = up && was_s >= 0;
    }
    if (up)
        backend->seen_ms = deadline_now_ms();
    else
        snprintf(health->reason, sizeof health->reason, "%s", reason);
    pthread_mutex_unlock(&backend->lock);
    if (changed)
        backend_log_health(backend, up, was_s, reason);
    if (changed && up && was_s >= 0) {
        backend_log_outage(backend, since, was_s);
        backend_wake(backend);
    }
}

void backend_refused(struct backend *backend, const char *reason)
{
    backend_note(backend, false, reason);
}

static struct tls_client *backend_make_tls(const struct config_backend *settings, struct error *err)
{
    /* In a private tunnel the certificate proves nothing that WireGuard has not proven. */
    const struct tls_pair pair = {settings->cert, settings->key};
    const struct tls_client_config tls = {
        .priority = NULL,
        .pair = settings->cert[0] != '\0' ? &pair : NULL,
        .verify = settings->tls == CONFIG_TLS_VERIFY,
        .ca_file = settings->ca_file[0] != '\0' ? settings->ca_file : NULL,
    };
    return tls_client_new(&tls, err);
}

struct backend *backend_new(struct config *config, const struct config_backend *settings,
                            bool submission, struct backend_live_count *live_count,
                            struct counters *counters, struct missed *missed, struct error *err)
{
    struct backend *backend = calloc(1, sizeof *backend);

    if (backend == NULL) {
        error_set(err, _("out of memory"));
        return NULL;
    }
    pthread_mutex_init(&backend->lock, NULL);
    backend->wanted.next = backend->wanted.previous = &backend->wanted;
    backend->held.next = backend->held.previous = &backend->held;
    backend->references = 1;
    backend->live_count = live_count;
    backend->counters = counters;
    backend->missed = missed;
    backend->health.since = (int64_t)time(NULL);
    backend->health.connect_ms = -1;
    backend->config = config_ref(config);
    backend->settings = settings;
    backend->submission = submission;
    backend->demand = 0x0f;
    if (!remembered_read(config->in.state, settings, submission, &backend->offered)) {
        backend->offered = (struct nexthop_capabilities){.extensions = ASSUMED_EXTENSIONS};
        strcpy(backend->offered.mechanisms, submission ? "PLAIN LOGIN" : "");
    }
    backend->spares = calloc((size_t)settings->spares + 1, sizeof *backend->spares);
    backend->keeper_fd = -1;
    backend->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (backend->spares == NULL || backend->wake_fd < 0)
        error_set(err, "%s", strerror(errno));
    else
        backend->tls = backend_make_tls(settings, err);
    if (backend->tls == NULL || backend_start_keeper(backend, err) != 0) {
        backend_free(backend);
        return NULL;
    }
    backend_live_count_add(live_count);
    return backend;
}

struct backend *backend_ref(struct backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    backend->references++;
    pthread_mutex_unlock(&backend->lock);
    return backend;
}

void backend_unref(struct backend *backend)
{
    if (backend == NULL)
        return;
    pthread_mutex_lock(&backend->lock);
    /* Inside the lock: afterwards the keeper may have freed it. */
    if (--backend->references == 0) {
        backend_wake(backend);
        if (backend->keeper_fd >= 0)
            shutdown(backend->keeper_fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&backend->lock);
}

static bool backend_same_hosts(const struct host_list *a, const struct host_list *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        if (!address_same_ip(&a->items[i], &b->items[i]) || a->items[i].port != b->items[i].port)
            return false;
    }
    return true;
}

bool backend_serves(const struct backend *backend, const struct config *config,
                    const struct config_backend *b, bool submission)
{
    const struct config_backend *a = backend->settings;
    return strcmp(backend->config->hostname, config->hostname) == 0 &&
           backend->submission == submission && backend_same_hosts(&a->hosts, &b->hosts) &&
           backend_same_hosts(&a->source, &b->source) && a->identity == b->identity &&
           a->tls == b->tls && strcmp(a->tls_name, b->tls_name) == 0 &&
           strcmp(a->ca_file, b->ca_file) == 0 && !tls_client_files_changed(backend->tls) &&
           a->spares == b->spares && a->max_sessions == b->max_sessions &&
           a->connect_timeout_ms == b->connect_timeout_ms &&
           a->command_timeout_ms == b->command_timeout_ms &&
           a->reply_timeout_ms == b->reply_timeout_ms && a->retry_after_ms == b->retry_after_ms;
}

const struct config_backend *backend_settings(const struct backend *backend)
{
    return backend->settings;
}

bool backend_limits_networks(const struct backend *backend)
{
    return backend->config->in.limits.connections_per_network > 0;
}

const char *backend_hostname(const struct backend *backend)
{
    return backend->config->hostname;
}

bool backend_must_tls(const struct backend *backend)
{
    /* Log-ins come under TLS only, and what is mirrored of one is nothing less. */
    return backend->settings->tls == CONFIG_TLS_ENCRYPT ||
           backend->settings->tls == CONFIG_TLS_VERIFY ||
           (backend->submission && backend->settings->tls == CONFIG_TLS_MIRROR);
}

struct tls_client *backend_tls(const struct backend *backend)
{
    return backend->tls;
}

const char *backend_tls_name(const struct backend *backend)
{
    return backend->settings->tls_name[0] != '\0' ? backend->settings->tls_name : NULL;
}

/* A slot enters a ring at its end. Under the lock, here and below. */
static void backend_slot_enter(struct backend_slot *ring, struct backend_slot *slot)
{
    ASSERT(slot->next == NULL && slot->previous == NULL);
    slot->previous = ring->previous;
    slot->next = ring;
    slot->previous->next = slot->next->previous = slot;
}

static void backend_slot_leave(struct backend_slot *slot)
{
    ASSERT(slot->previous->next == slot && slot->next->previous == slot);
    slot->previous->next = slot->next;
    slot->next->previous = slot->previous;
    slot->next = slot->previous = NULL;
}

static bool backend_has_its_share(const struct backend *backend, const struct backend_slot *wanted)
{
    unsigned share = ((unsigned)backend->settings->max_sessions + 1) / 2, has = 0;

    for (const struct backend_slot *at = backend->held.next; at != &backend->held; at = at->next)
        has += at->limited && address_same_ip(&at->network, &wanted->network);
    return wanted->limited && has >= share;
}

/* Who asked first, but for those whose network has its share already: they are served when nobody
 * else waits. NULL: nobody does. */
static struct backend_slot *backend_next_wanted(const struct backend *backend)
{
    for (struct backend_slot *slot = backend->wanted.next; slot != &backend->wanted;
         slot = slot->next) {
        if (!backend_has_its_share(backend, slot))
            return slot;
    }
    return backend->wanted.next != &backend->wanted ? backend->wanted.next : NULL;
}

/* A slot is worth more than a spare. */
static bool backend_find_slot(struct backend *backend)
{
    if (backend->sessions < (unsigned)backend->settings->max_sessions) {
        backend->sessions++;
        return true;
    }
    if (backend->spare_count == 0)
        return false;
    /* While the keeper polls it, a closed socket stays open. */
    stream_abort(&backend->spares[--backend->spare_count].hop.stream);
    backend_wake(backend);
    return true;
}

static void backend_grant_slots(struct backend *backend)
{
    struct backend_slot *slot;

    while ((slot = backend_next_wanted(backend)) != NULL && backend_find_slot(backend)) {
        ASSERT(slot->state == BACKEND_SLOT_WANTED);
        backend_slot_leave(slot);
        backend_slot_enter(&backend->held, slot);
        slot->state = BACKEND_SLOT_HELD;
        wakeup_call(slot->wakeup);
    }
}

int64_t backend_ask_slot(struct backend *backend, struct backend_slot *slot,
                         const struct address *client, bool limited, struct wakeup *wakeup)
{
    pthread_mutex_lock(&backend->lock);
    if (slot->state == BACKEND_SLOT_NONE) {
        *slot = (struct backend_slot){.state = BACKEND_SLOT_WANTED,
                                      .network = address_site_network(client),
                                      .limited = limited,
                                      .until_ms = deadline_now_ms() + SLOT_WAIT_MS};
        backend_slot_enter(&backend->wanted, slot);
        backend_grant_slots(backend);
        slot->wakeup = wakeup;
    }
    bool held = slot->state == BACKEND_SLOT_HELD;
    pthread_mutex_unlock(&backend->lock);
    return held || deadline_now_ms() >= slot->until_ms ? 0 : slot->until_ms;
}

bool backend_is_wanted(struct backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    bool wanted = backend->wanted.next != &backend->wanted;
    pthread_mutex_unlock(&backend->lock);
    return wanted;
}

void backend_give_slot(struct backend *backend, struct backend_slot *slot)
{
    pthread_mutex_lock(&backend->lock);
    if (slot->state != BACKEND_SLOT_NONE)
        backend_slot_leave(slot);
    if (slot->state == BACKEND_SLOT_HELD) {
        ASSERT(backend->sessions > 0);
        backend->sessions--;
        backend_grant_slots(backend);
    }
    slot->state = BACKEND_SLOT_NONE;
    pthread_mutex_unlock(&backend->lock);
}

bool backend_reserve(struct backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    bool reserved = backend->wanted.next == &backend->wanted &&
                    backend->sessions < (unsigned)backend->settings->max_sessions;
    backend->sessions += reserved;
    pthread_mutex_unlock(&backend->lock);
    return reserved;
}

void backend_disconnected(struct backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    ASSERT(backend->sessions > 0);
    backend->sessions--;
    backend_grant_slots(backend);
    pthread_mutex_unlock(&backend->lock);
}

/* The breaker: a host that failed a moment ago is not tried again at once, and then by one alone;
 * and nobody goes to one that has kept others waiting. */
static bool backend_begin_dialling(struct backend *backend, size_t index)
{
    struct backend_host *host = &backend->hosts[index];
    int64_t now = deadline_now_ms();

    pthread_mutex_lock(&backend->lock);
    bool silent = host->dialling > 0 && now - host->dialling_since_ms >= SILENT_MS;
    bool may = host->failed_until_ms <= now && (host->dialling == 0 || (!host->suspect && !silent));
    if (may && host->dialling++ == 0)
        host->dialling_since_ms = now;
    pthread_mutex_unlock(&backend->lock);
    return may;
}

static void backend_end_dialling(struct backend *backend, size_t index, bool answered)
{
    struct backend_host *host = &backend->hosts[index];
    int64_t now = deadline_now_ms();

    pthread_mutex_lock(&backend->lock);
    ASSERT(host->dialling > 0);
    host->dialling--;
    host->dialling_since_ms = now;
    host->suspect = !answered;
    host->failed_until_ms = answered ? 0 : now + backend->settings->retry_after_ms;
    pthread_mutex_unlock(&backend->lock);
}

static const struct address *backend_source_for(const struct config_backend *settings, int family)
{
    for (size_t i = 0; i < settings->source.count; i++) {
        if (settings->source.items[i].family == family)
            return &settings->source.items[i];
    }
    return NULL;
}

bool backend_try_next(struct backend *backend, size_t next)
{
    /* A single host is asked again each time: it has answered at once. */
    if (backend->settings->hosts.count > 1) {
        pthread_mutex_lock(&backend->lock);
        backend->hosts[next - 1].failed_until_ms =
            deadline_now_ms() + backend->settings->retry_after_ms;
        pthread_mutex_unlock(&backend->lock);
    }
    return next < backend->settings->hosts.count;
}

/* False when nobody wants to know any more. */
static bool backend_show(struct backend *backend, int fd)
{
    pthread_mutex_lock(&backend->lock);
    bool wanted = backend->references > 0;
    if (wanted)
        backend->keeper_fd = fd;
    pthread_mutex_unlock(&backend->lock);
    return wanted;
}

void backend_hide(struct backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    backend->keeper_fd = -1;
    pthread_mutex_unlock(&backend->lock);
}

static void backend_note_connect(struct backend *backend, int64_t ms)
{
    counters_took(backend->counters, COUNTER_DURATION_BACKEND_CONNECT, ms);
    pthread_mutex_lock(&backend->lock);
    backend->health.connect_ms = ms;
    pthread_mutex_unlock(&backend->lock);
}

static int backend_dial(struct backend *backend, const struct address *host, bool keeper,
                        struct error *err)
{
    const struct config_backend *settings = backend->settings;
    struct deadline deadline = deadline_in_ms(settings->connect_timeout_ms);
    int64_t began_ms = deadline_now_ms();
    int fd = dial_open(host, backend_source_for(settings, host->family), USER_TIMEOUT_MS, err);

    if (fd >= 0 && (!keeper || backend_show(backend, fd)) &&
        dial_finish(fd, host, deadline, err) == 0) {
        backend_note_connect(backend, deadline_now_ms() - began_ms);
        return fd;
    }
    if (fd < 0)
        return -1;
    if (keeper)
        backend_hide(backend);
    close(fd);
    return -1;
}

static int backend_connect_any(struct backend *backend, size_t *next, struct address *host,
                               enum own_reply *why, bool keeper, struct error *err)
{
    const struct config_backend *settings = backend_settings(backend);
    bool tried = false;

    *why = REPLY_BACKEND_UNREACHABLE;
    error_set(err, "no answer a moment ago, not tried again yet");
    for (size_t i = *next; i < settings->hosts.count; i++) {
        if (!backend_begin_dialling(backend, i))
            continue;
        tried = true;
        int fd = backend_dial(backend, &settings->hosts.items[i], keeper, err);
        backend_end_dialling(backend, i, fd >= 0);
        if (fd >= 0) {
            *host = settings->hosts.items[i];
            *next = i + 1;
            return fd;
        }
    }
    if (tried)
        backend_note(backend, false, err->text);
    return -1;
}

int backend_connect(struct backend *backend, size_t *next, struct address *host,
                    enum own_reply *why, struct error *err)
{
    return backend_connect_any(backend, next, host, why, false, err);
}

int backend_connect_keeper(struct backend *backend, size_t *next, struct address *host,
                           enum own_reply *why, struct error *err)
{
    return backend_connect_any(backend, next, host, why, true, err);
}

static void backend_log_offer(const struct backend *backend,
                              const struct nexthop_capabilities *seen)
{
    char host[ADDRESS_TEXT_MAX], words[REMEMBERED_WORDS_MAX];
    struct log_line line;

    log_begin(&line, LOG_LEVEL_INFO, "event=backend-offer");
    log_str(&line, "backend", address_format_endpoint(&backend->settings->hosts.items[0], host));
    log_int(&line, "size", (int64_t)seen->size_limit);
    log_str(&line, "extensions", remembered_words(seen->extensions, words));
    log_end(&line);
}

void backend_learn(struct backend *backend, const struct nexthop_capabilities *seen,
                   bool with_xclient)
{
    pthread_mutex_lock(&backend->lock);
    bool changed = !backend->known || !remembered_is_same(&backend->offered, seen);
    backend->offered = *seen;
    backend->unsaved |= changed;
    unsigned xclient = backend->learned.xclient;
    backend->learned = *seen;
    backend->known = true;
    backend->learned_at_ms = deadline_now_ms();
    if (!with_xclient)
        backend->learned.xclient = xclient;
    pthread_mutex_unlock(&backend->lock);
    backend_note(backend, true, NULL);
    if (!changed)
        return;
    backend_log_offer(backend, seen);
    backend_wake(backend);
}

void backend_offer(struct backend *backend, struct nexthop_capabilities *out)
{
    pthread_mutex_lock(&backend->lock);
    *out = backend->offered;
    pthread_mutex_unlock(&backend->lock);
}

bool backend_take_unsaved(struct backend *backend, struct nexthop_capabilities *out)
{
    pthread_mutex_lock(&backend->lock);
    bool unsaved = backend->unsaved && backend->config->in.state[0] != '\0';
    *out = backend->offered;
    backend->unsaved = false;
    pthread_mutex_unlock(&backend->lock);
    return unsaved;
}

bool backend_capabilities(struct backend *backend, struct nexthop_capabilities *out)
{
    pthread_mutex_lock(&backend->lock);
    *out = backend->learned;
    bool known = backend->known;
    pthread_mutex_unlock(&backend->lock);
    return known;
}

void backend_watch_idle(int fd, bool on)
{
    static const int idle_s = 8, interval_s = 4, probes = 3;
    unsigned timeout_ms = on ? IDLE_TIMEOUT_MS : USER_TIMEOUT_MS;
    int keepalive = 1;

    /* With a user timeout it, and no number of probes, ends a connection; tcp(7). */
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
    if (!on)
        return;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &keepalive, sizeof keepalive);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

/* Dead ones are left for the keeper. Under the lock. */
static bool backend_find_spare(struct backend *backend, bool tls, struct spare *out)
{
    for (unsigned i = 0; i < backend->spare_count; i++) {
        struct spare *spare = &backend->spares[i];
        struct pollfd poll_fd = {.fd = spare->hop.stream.fd, .events = POLLIN};
        if (spare->tls == tls && !spare->doubtful && poll(&poll_fd, 1, 0) == 0) {
            *out = *spare;
            *spare = backend->spares[--backend->spare_count];
            return true;
        }
    }
    return false;
}

void backend_doubt_spares(struct backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    for (unsigned i = 0; i < backend->spare_count; i++)
        backend->spares[i].doubtful = true;
    pthread_mutex_unlock(&backend->lock);
    backend_wake(backend);
}

bool backend_take_spare(struct backend *backend, bool tls, struct nexthop *hop,
                        struct address *host)
{
    struct spare spare;

    pthread_mutex_lock(&backend->lock);
    backend->demand = (uint8_t)(backend->demand << 1 | tls);
    bool found = backend_find_spare(backend, tls, &spare);
    bool short_of_spares = backend->spare_count < backend_spares_wanted(backend, false) +
                                                      backend_spares_wanted(backend, true);
    bool wake = backend->keeper_rests && short_of_spares;
    /* The spare had a slot of its own. */
    if (found) {
        ASSERT(backend->sessions > 1);
        backend->sessions--;
        backend_grant_slots(backend);
    }
    if (wake)
        backend->keeper_rests = false;
    pthread_mutex_unlock(&backend->lock);
    if (wake)
        backend_wake(backend);
    if (found) {
        backend_watch_idle(spare.hop.stream.fd, false);
        *hop = spare.hop;
        *host = spare.host;
    }
    return found;
}
