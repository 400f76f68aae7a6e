/* relay-in/backend-spares.c - the keeper thread: makes a backend's spares, and asks what it offers
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-in/backend-internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/log.h"
#include "base/thread.h"
#include "relay-in/remembered.h"
#include "net/proxy.h"

#define SPARE_LIFE_MS 240000    /* Postfix ends silent sessions after 300 s */
#define SPARE_FAILED_MS 10000   /* a spare that ends sooner was rejected by the backend */
#define RETRY_MS 15000          /* after a failure */
#define REDIAL_MIN_MS 1000      /* if no host accepts a connection and retry_after is shorter */
#define REFRESH_MS (15 * 60000) /* how often to ask what is offered */
#define LOOK_MS 20000           /* how often to check that it is up, if no spare shows it */
/* How long a host is assumed to offer the same, so that a spare needs no EHLO. A change missed that way costs at most
 * a 451: the refusal of XCLIENT makes us ask again. */
#define FRESH_MS 60000
/* Pause between two spares. If they are used faster than that, making them one by one costs more than it saves. */
#define PACE_MS 10
#define STEP_MS 10000 /* each step of the keeper's dialogs */
#define BUFFER_SIZE 4096

/* What a host announced to us in plain text, and when; 0: never. */
struct offer {
    struct address host;
    int64_t at_ms;
    struct nexthop_capabilities seen;
};

/* The keeper's state. */
struct keeper {
    struct backend *backend;
    struct stream_buffers buffers;
    struct reply reply;
    char reason[200];                         /* why a host does not serve us */
    struct offer offer;                       /* the last one */
    struct pollfd fds[CONFIG_SPARES_MAX + 1]; /* for the wait for work */
    bool stirred;          /* in that wait a spare became readable: it has ended */
    int64_t next_try_ms;   /* make no connection before */
    int64_t next_spare_ms; /* make no spare before */
    int64_t recovered_ms;  /* when it last heeded that the backend is up again; 0: never */
    bool save_failed;      /* a failed save was logged */
    bool unknown_told;     /* it was logged that no host was ever reached, and why */
    bool told;             /* it was logged that XCLIENT or STARTTLS is not offered */
};

static bool spares_is_wanted(struct backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    bool wanted = backend->references > 0;
    pthread_mutex_unlock(&backend->lock);
    return wanted;
}

static void spares_log_lack(struct keeper *keeper, const char *event, const char *error)
{
    struct log_line line;
    if (!keeper->told) {
        log_begin(&line, LOG_LEVEL_ERROR, event);
        log_str(&line, "error", error);
        log_end(&line);
    }
    keeper->told = true;
}

/* Logs once what the operator must know about the backend's EHLO reply. */
static void spares_judge_offer(struct keeper *keeper, const struct nexthop_capabilities *seen,
                               bool tls)
{
    const struct config_backend *settings = keeper->backend->settings;
    if (settings->identity == CONFIG_IDENTITY_XCLIENT && !(seen->extensions & EXTENSION_XCLIENT))
        spares_log_lack(keeper, "event=backend-identity",
                        "the backend does not offer XCLIENT to this host: add our address to its "
                        "smtpd_authorized_xclient_hosts; until then all mail gets 451");
    else if (tls && !(seen->extensions & EXTENSION_STARTTLS))
        spares_log_lack(
            keeper, "event=backend-tls",
            backend_must_tls(keeper->backend)
                ? "the backend does not offer STARTTLS; until it does, or backend.tls is "
                  "changed, all mail gets 451"
                : "the backend does not offer STARTTLS, so mail that came under TLS reaches it "
                  "in plain text");
    else
        keeper->told = false;
}

/* Sends EHLO in our own name. */
static bool spares_hello(struct keeper *keeper, struct nexthop *hop)
{
    const bool proxy = config_proxy_of(keeper->backend->settings) != 0;

    strcpy(keeper->reason, "no answer to EHLO");
    if (nexthop_hello(hop, proxy ? NEXTHOP_EHLO : NEXTHOP_EHLO_OR_HELO,
                      keeper->backend->config->hostname, &keeper->reply,
                      deadline_in_ms(STEP_MS)) != IO_OK)
        return false;
    reply_summary(&keeper->reply, keeper->reason, sizeof keeper->reason);
    return reply_is_positive(&keeper->reply);
}

/* If PROXY headers are expected, sends one that says "this is ourselves". In version 1 Postfix does not accept
 * UNKNOWN (421), so our own address says it. */
static bool spares_send_header(struct keeper *keeper, struct nexthop *hop)
{
    const enum proxy_version version = config_proxy_of(keeper->backend->settings);
    struct proxy_header header = {.local = version == PROXY_V2};
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;

    if (version == 0)
        return true;
    if (!address_of_socket(&header.source, hop->stream.fd) ||
        getpeername(hop->stream.fd, (struct sockaddr *)&peer, &len) != 0)
        return false;
    address_from_sockaddr(&header.destination, (struct sockaddr *)&peer);
    return nexthop_send_proxy(hop, &header, version, deadline_in_ms(STEP_MS)) == IO_OK;
}

/* Is the EHLO reply of this host known, so that a plain spare needs no EHLO? Only if XCLIENT and another EHLO follow;
 * with our own identity, the spare's EHLO is the session's. */
static bool spares_knows_offer(const struct keeper *keeper, const struct address *host)
{
    const struct offer *offer = &keeper->offer;
    struct nexthop_capabilities learned;

    /* After a refusal of XCLIENT, nothing is known about it. */
    return keeper->backend->settings->identity == CONFIG_IDENTITY_XCLIENT && offer->at_ms != 0 &&
           deadline_now_ms() - offer->at_ms < FRESH_MS && address_equal(&offer->host, host) &&
           offer->seen.xclient != 0 && backend_capabilities(keeper->backend, &learned) &&
           learned.xclient != 0;
}

/* Sends EHLO and, if TLS is wanted and offered, does TLS and sends EHLO again. */
static bool spares_ask(struct keeper *keeper, struct nexthop *hop, const struct address *host,
                       bool tls)
{
    struct backend *backend = keeper->backend;
    struct error err = {""};

    if (!spares_hello(keeper, hop))
        return false;
    keeper->offer = (struct offer){*host, deadline_now_ms(), hop->capabilities};
    spares_judge_offer(keeper, &hop->capabilities, tls);
    if (tls && (hop->capabilities.extensions & EXTENSION_STARTTLS)) {
        if (nexthop_starttls(hop, backend->tls, backend_tls_name(backend), NULL, &keeper->reply,
                             deadline_in_ms(STEP_MS), &err) != IO_OK) {
            log_write(LOG_LEVEL_ERROR, "event=backend-tls error=\"%s\"", err.text);
            snprintf(keeper->reason, sizeof keeper->reason, "STARTTLS: %.180s", err.text);
            return false;
        }
        if (!spares_hello(keeper, hop))
            return false;
    }
    backend_learn(backend, &hop->capabilities, true);
    return true;
}

/* Prepares a connection for a session to continue. False if it cannot be a spare. */
static bool spares_prepare(struct keeper *keeper, struct nexthop *hop, const struct address *host,
                           bool spare, bool tls)
{
    strcpy(keeper->reason, "no greeting");
    if (!spares_send_header(keeper, hop) ||
        nexthop_greeting(hop, &keeper->reply, deadline_in_ms(STEP_MS)) != IO_OK)
        return false;
    reply_summary(&keeper->reply, keeper->reason, sizeof keeper->reason);
    if (!reply_is_positive(&keeper->reply))
        return false;
    if (!spare || tls || !spares_knows_offer(keeper, host))
        return spares_ask(keeper, hop, host, tls);
    hop->capabilities = keeper->offer.seen;
    return true;
}

static void spares_keep(struct backend *backend, struct nexthop *hop, const struct address *host,
                        bool tls)
{
    stream_reclaim(&hop->stream);
    backend_watch_idle(hop->stream.fd, true);
    backend_note(backend, true, NULL);
    pthread_mutex_lock(&backend->lock);
    backend->spares[backend->spare_count++] =
        (struct spare){.hop = *hop, .host = *host, .tls = tls, .since_ms = deadline_now_ms()};
    backend_grant_slots(backend); /* to who has begun to wait while it was being made */
    pthread_mutex_unlock(&backend->lock);
}

/* Makes no connection for this time. */
static void spares_rest(struct keeper *keeper, int64_t ms)
{
    keeper->next_try_ms = deadline_now_ms() + ms;
}

/* Notes that no host accepts a connection. They are dialled again as soon as sessions may do so, so that the first
 * client after an outage finds a spare. */
static void spares_note_unreachable(struct keeper *keeper, const char *reason)
{
    struct backend *backend = keeper->backend;
    int64_t retry_after_ms = backend->settings->retry_after_ms;
    struct nexthop_capabilities known;

    if (spares_is_wanted(backend) && !backend_capabilities(backend, &known) &&
        !keeper->unknown_told) {
        log_write(LOG_LEVEL_WARNING, "event=backend-unknown reason=\"%s\"", reason);
        keeper->unknown_told = true;
    }
    if (retry_after_ms < RETRY_MS)
        spares_rest(keeper, retry_after_ms > REDIAL_MIN_MS ? retry_after_ms : REDIAL_MIN_MS);
}

/* Connects to the first host that serves us. Returns 0, or -1 with the reason logged if nothing is known about the
 * backend. */
static int spares_connect_prepared(struct keeper *keeper, struct nexthop *hop, struct address *host,
                                   bool spare, bool tls)
{
    struct backend *backend = keeper->backend;
    struct error err;
    size_t next = 0;
    bool failed = false; /* the last host answered, but badly */

    spares_rest(keeper, RETRY_MS);
    if (!backend_reserve(backend))
        return -1;
    do {
        int fd = backend_connect(backend, &next, host, true, &err);
        if (fd < 0) {
            spares_note_unreachable(keeper, err.text);
            failed = false;
            break;
        }
        nexthop_init(hop, fd, &keeper->buffers);
        bool ready = spares_prepare(keeper, hop, host, spare, tls);
        backend_hide(backend);
        if (ready) {
            backend_greeted(backend, next);
            keeper->next_try_ms = 0;
            return 0;
        }
        nexthop_quit(hop);
        failed = true;
    } while (spares_is_wanted(backend) && backend_try_next(backend, next));
    if (failed)
        backend_note(backend, false, keeper->reason);
    backend_disconnected(backend);
    return -1;
}

/* Makes one connection: a spare, or only to ask what is offered. */
static void spares_make(struct keeper *keeper, bool spare, bool tls)
{
    struct backend *backend = keeper->backend;
    struct address host;
    struct nexthop hop;

    if (spares_connect_prepared(keeper, &hop, &host, spare, tls) != 0)
        return;
    if (spare && (hop.stream.tls != NULL) == tls) {
        spares_keep(backend, &hop, &host, tls);
        return;
    }
    /* The offer lacks what we want: no point in asking again at once. */
    spares_rest(keeper, RETRY_MS);
    nexthop_quit(&hop);
    backend_disconnected(backend);
}

/* The same, and lets a session wait for a spare meanwhile. */
static void spares_make_connection(struct keeper *keeper, bool spare, bool tls)
{
    struct backend *backend = keeper->backend;

    pthread_mutex_lock(&backend->lock);
    backend->making_since_ms = spare ? deadline_now_ms() : 0;
    backend->making_tls = tls;
    pthread_mutex_unlock(&backend->lock);
    spares_make(keeper, spare, tls);
    pthread_mutex_lock(&backend->lock);
    backend->making_since_ms = 0;
    if (backend->spare_waiter != NULL)
        wakeup_call(backend->spare_waiter->wakeup);
    backend->spare_waiter = NULL;
    pthread_mutex_unlock(&backend->lock);
}

/* Adds the spares to the set to poll, from `first` on. Returns the total number. The caller holds the lock. */
static nfds_t spares_list_spares(struct keeper *keeper, nfds_t first)
{
    const struct backend *backend = keeper->backend;
    for (unsigned i = 0; i < backend->spare_count; i++)
        keeper->fds[first + i] =
            (struct pollfd){.fd = backend->spares[i].hop.stream.fd, .events = POLLIN};
    return first + backend->spare_count;
}

/* After one spare seemed dead, checks all of them. The caller holds the lock. */
static void spares_doubt_dead(struct keeper *keeper)
{
    struct backend *backend = keeper->backend;
    nfds_t count = spares_list_spares(keeper, 0);

    keeper->stirred = false;
    if (poll(keeper->fds, count, 0) <= 0)
        return;
    for (nfds_t i = 0; i < count; i++) {
        struct spare *spare = &backend->spares[i];
        if (keeper->fds[i].revents == 0)
            continue;
        spare->doubtful = true;
        if (deadline_now_ms() - spare->since_ms < SPARE_FAILED_MS)
            keeper->next_try_ms = deadline_now_ms() + RETRY_MS;
    }
}

/* Takes out a spare that is too old, doubtful or surplus. The caller holds the lock. False if all are fine. */
static bool spares_take_unfit(struct keeper *keeper, struct spare *out)
{
    struct backend *backend = keeper->backend;
    int64_t oldest_ms = deadline_now_ms() - SPARE_LIFE_MS;
    unsigned seen[2] = {0, 0};

    if (keeper->stirred)
        spares_doubt_dead(keeper);
    for (unsigned i = 0; i < backend->spare_count; i++) {
        struct spare *spare = &backend->spares[i];
        if (spare->doubtful || spare->since_ms <= oldest_ms ||
            ++seen[spare->tls] > backend_spares_wanted(backend, spare->tls)) {
            *out = *spare;
            *spare = backend->spares[--backend->spare_count];
            return true;
        }
    }
    return false;
}

static void spares_drop_unfit(struct keeper *keeper)
{
    struct backend *backend = keeper->backend;
    struct spare spare;
    bool found = true;

    while (found) {
        pthread_mutex_lock(&backend->lock);
        found = spares_take_unfit(keeper, &spare);
        pthread_mutex_unlock(&backend->lock);
        if (found) {
            nexthop_quit(&spare.hop);
            backend_disconnected(backend);
        }
    }
}

/* Is a spare missing, and with TLS or without? The caller holds the lock. */
static bool spares_lacks_spare(const struct backend *backend, bool *tls)
{
    unsigned have[2] = {0, 0};

    if (backend->sessions >= (unsigned)backend->settings->max_sessions ||
        backend->wanted.next != &backend->wanted)
        return false;
    for (unsigned i = 0; i < backend->spare_count; i++)
        have[backend->spares[i].tls]++;
    for (int kind = 0; kind < 2; kind++) {
        *tls = kind == 1;
        if (have[kind] < backend_spares_wanted(backend, *tls))
            return true;
    }
    return false;
}

/* Saves what the backend offers, for the next start. */
static void spares_save(struct keeper *keeper)
{
    struct backend *backend = keeper->backend;
    struct nexthop_capabilities offered;
    struct error err = {""};
    struct log_line line;

    if (!backend_take_unsaved(backend, &offered) ||
        remembered_write(backend->config->in.state, backend->settings, backend->submission,
                         &offered, &err) == 0 ||
        keeper->save_failed)
        return;
    keeper->save_failed = true;
    log_begin(&line, LOG_LEVEL_NOTICE, "event=state-failed");
    log_str(&line, "reason", err.text);
    log_str(&line, "effect",
            "after the next start it is not known what the backend offers until it is reached");
    log_end(&line);
}

/* Connects at once if the backend is up again. A backend at its limit is up for some sessions and down for others:
 * it must not get a connection more for each of them. The caller holds the lock. */
static void spares_heed_recovery(struct keeper *keeper, int64_t now)
{
    struct backend *backend = keeper->backend;

    if (backend->recovered &&
        (keeper->recovered_ms == 0 || now - keeper->recovered_ms >= RETRY_MS)) {
        keeper->next_try_ms = 0;
        keeper->recovered_ms = now;
    }
    backend->recovered = false;
}

/* Does what is due. Returns the time in ms until the next check; -1: only when woken. */
static int spares_tend(struct keeper *keeper)
{
    struct backend *backend = keeper->backend;
    int64_t now = deadline_now_ms();
    bool tls = false;

    spares_drop_unfit(keeper);
    spares_save(keeper);
    pthread_mutex_lock(&backend->lock);
    bool spare = spares_lacks_spare(backend, &tls);
    int64_t look_ms = backend->spare_count == 0 ? LOOK_MS - (now - backend->seen_ms) : RETRY_MS;
    bool stale =
        backend->learned_at_ms == 0 || now - backend->learned_at_ms >= REFRESH_MS || look_ms <= 0;
    backend->keeper_rests = !spare && !stale;
    spares_heed_recovery(keeper, now);
    pthread_mutex_unlock(&backend->lock);
    if (spare || stale) {
        if (now < keeper->next_try_ms)
            return (int)(keeper->next_try_ms - now);
        if (spare && now < keeper->next_spare_ms)
            return (int)(keeper->next_spare_ms - now);
        keeper->next_spare_ms = now + PACE_MS;
        spares_make_connection(keeper, spare,
                               spare ? tls : backend->submission || backend_must_tls(backend));
        return 0;
    }
    return look_ms < RETRY_MS ? (int)look_ms : RETRY_MS;
}

/* Waits for work, for the end, or for input from a spare. Meanwhile a spare may be taken and its descriptor reused;
 * then the keeper only checks all spares once too often. */
static void spares_wait_for_work(struct keeper *keeper, int timeout_ms)
{
    struct backend *backend = keeper->backend;
    uint64_t counter;

    keeper->fds[0] = (struct pollfd){.fd = backend->wake_fd, .events = POLLIN};
    pthread_mutex_lock(&backend->lock);
    nfds_t count = spares_list_spares(keeper, 1);
    pthread_mutex_unlock(&backend->lock);
    int ready = poll(keeper->fds, count, timeout_ms);
    if (ready <= 0)
        return;
    bool woken = keeper->fds[0].revents != 0;
    keeper->stirred = ready > (woken ? 1 : 0);
    if (woken && read(backend->wake_fd, &counter, sizeof counter) < 0)
        return;
}

static void spares_leave(struct keeper *keeper)
{
    struct backend *backend = keeper->backend;

    for (unsigned i = 0; i < backend->spare_count; i++)
        nexthop_quit(&backend->spares[i].hop);
    stream_buffers_free(&keeper->buffers);
    free(keeper);
    backend_live_count_end(backend);
}

static void *spares_main(void *argument)
{
    struct keeper *keeper = argument;

    while (spares_is_wanted(keeper->backend)) {
        int timeout_ms = spares_tend(keeper);
        if (timeout_ms != 0)
            spares_wait_for_work(keeper, timeout_ms);
    }
    spares_leave(keeper);
    return NULL;
}

int backend_start_keeper(struct backend *backend, struct error *err)
{
    struct keeper *keeper = calloc(1, sizeof *keeper);

    if (keeper == NULL || stream_buffers_init(&keeper->buffers, BUFFER_SIZE, BUFFER_SIZE) != 0) {
        error_set(err, _("out of memory"));
        free(keeper);
        return -1;
    }
    keeper->backend = backend;
    int result = thread_start(&backend->keeper, THREAD_STACK_SIZE, spares_main, keeper);
    if (result == 0)
        return 0;
    stream_buffers_free(&keeper->buffers);
    free(keeper);
    error_set(err, _("cannot start a thread: %s"), strerror(result));
    return -1;
}
