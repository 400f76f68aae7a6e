/* relay-out/spooler-deliver.c - delivers messages from the spool to their next hops
 *
 * It uses the same connections and targets as live mail, so that dead hosts are remembered, TLS is decided
 * and connections to a destination are limited for both together. The mail data comes from the file, block
 * by block.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dns/name.h"
#include "relay-out/spooler-internal.h"
#include "relay-out/target.h"
#include "relay-out/refusal.h"

#define HEADER_SCAN_OCTETS 65536 /* searched for TLS-Required */
#define BLOCK_OCTETS 32768
#define RECORD_FIRST_MS 1 /* until the rest of a job follows */

/* The recipients of a job that share one transaction. */
struct part {
    struct spooler *spooler;
    struct delivery_job *job;
    const struct outbound *out;
    const struct route *route;
    struct target *target;
    struct client_identity client;
    struct envelope envelope;
    struct recipient recipients[SESSION_BATCH_MAX];
    size_t results[SESSION_BATCH_MAX]; /* their indexes in the job */
    bool accepted[SESSION_BATCH_MAX];
    size_t count;
    bool has_more;    /* for a further transaction with the same host */
    bool has_awaited; /* a late answer is among the job's results */
    char id[SPOOL_ID_LEN + 1];
};

const char *spooler_reply_text(const struct reply *reply, char out[ENVELOPE_REPLY_MAX + 1])
{
    size_t len =
        reply->len > 0 && reply->text[reply->len - 1] == '\n' ? reply->len - 1 : reply->len;
    snprintf(out, ENVELOPE_REPLY_MAX + 1, "%03d %s%s%.*s", reply->code, reply->enhanced,
             reply->enhanced[0] != '\0' ? " " : "", (int)len, reply->text);
    return out;
}

const char *spooler_remote_name(const char *relay, char out[DELIVERY_REMOTE_MAX + 1])
{
    const char *open = strchr(relay, '['), *close = open != NULL ? strchr(open, ']') : NULL;
    out[0] = '\0';
    if (close != NULL)
        snprintf(out, DELIVERY_REMOTE_MAX + 1, "%.*s [%.*s]", (int)(open - relay), relay,
                 (int)(close - open - 1), open + 1);
    return out;
}

static const struct route *spooler_route_of(const struct outbound *out,
                                            const struct spool_envelope *envelope,
                                            const struct path *path)
{
    return envelope->report ? routes_bounce(out->routes, path->domain)
                            : routes_find(out->routes, path->domain);
}

static void spooler_name_destination(const struct route *route, const char *domain,
                                     char out[QUEUE_DESTINATION_MAX + 1])
{
    char key[ROUTE_KEY_MAX];
    snprintf(out, QUEUE_DESTINATION_MAX + 1, "%.*s", QUEUE_DESTINATION_MAX,
             route_key(route, domain, key));
}

void spooler_destination(void *context, const struct spool_envelope *envelope,
                         const struct path *recipient, char out[QUEUE_DESTINATION_MAX + 1])
{
    const struct spooler *spooler = context;
    spooler_name_destination(spooler_route_of(spooler->first, envelope, recipient),
                             recipient->domain, out);
}

void spooler_destination_of(const struct spooler *spooler, const char *domain,
                            char out[QUEUE_DESTINATION_MAX + 1])
{
    spooler_name_destination(routes_find(spooler->first->routes, domain), domain, out);
}

static void spooler_set_result(struct part *part, size_t i, const struct reply *reply, bool ours)
{
    struct delivery_result *result = &part->job->results[part->results[i]];

    result->outcome = reply_is_positive(reply)    ? DELIVERY_DONE
                      : reply_is_permanent(reply) ? DELIVERY_REFUSED
                                                  : DELIVERY_DEFERRED;
    spooler_reply_text(reply, result->reply);
    result->remote[0] = '\0';
    if (!ours)
        spooler_remote_name(target_relay(part->target), result->remote);
}

static bool spooler_stops(const struct part *part)
{
    return atomic_load(part->job->stopping);
}

static bool spooler_send_recipients(struct part *part)
{
    const struct transaction *transaction = &part->target->transaction;
    struct reply reply;

    target_begin_batch(part->target);
    for (size_t i = 0; i < part->count; i++)
        target_add(part->target, &part->recipients[i]);
    target_ask_batch(part->target, COURIER_DATA);
    for (size_t i = 0; i < part->count; i++) {
        target_recipient_reply(part->target, &reply);
        part->accepted[i] = reply_is_positive(&reply);
        spooler_set_result(part, i, &reply, transaction->decided && transaction->ours);
    }
    return part->target->accepted_count > 0;
}

/* 0 if the whole file was sent. -1 if the file failed, the daemon ends, or the target was lost, whose
 * transaction is then decided. */
static int spooler_send_file(struct part *part)
{
    char block[BLOCK_OCTETS];
    uint64_t done = 0, size = part->job->envelope->size;

    while (done < size && target_in_data(part->target) && !spooler_stops(part)) {
        ssize_t got = pread(part->job->data_fd, block, sizeof block, (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return -1;
        const struct iovec piece = {block, (size_t)got};
        transaction_write(&part->target->transaction, &piece, 1);
        done += (uint64_t)got;
    }
    return done == size ? 0 : -1;
}

static void spooler_send_message(struct part *part)
{
    struct target *target = part->target;
    struct transaction *transaction = &target->transaction;

    if (!target_data_reply(target))
        return;
    if (spooler_send_file(part) != 0) {
        if (target_in_data(target)) /* left without an end of data by target_free() */
            reply_own(transaction->final_reply, REPLY_REMOTE_INTERRUPTED);
        transaction->ours = true;
        return;
    }
    delivery_owe(part->job);
    if (target_in_data(target))
        transaction_send_end(transaction);
    if (target_in_data(target))
        target_read_final_reply(target, deadline_in_ms(part->out->config->out.timeouts.final));
}

/* Runs the transaction with the host connected to. */
static void spooler_run_transaction(struct part *part)
{
    struct target *target = part->target;

    if (!spooler_send_recipients(part) || spooler_stops(part)) {
        for (size_t i = 0; i < part->count; i++) {
            if (part->accepted[i]) /* stopped */
                part->job->results[part->results[i]].outcome = DELIVERY_DEFERRED;
        }
        return;
    }
    bool gives_notices = target->remote.hop.capabilities.extensions & EXTENSION_DSN;
    spooler_send_message(part);
    for (size_t i = 0; i < part->count; i++) {
        if (!part->accepted[i])
            continue;
        spooler_set_result(part, i, target_final_reply(target), target->transaction.ours);
        part->job->results[part->results[i]].relayed = !gives_notices;
    }
}

/* Keeps the part's recipient `i` as number `kept`. */
static void spooler_keep(struct part *part, size_t i, size_t kept)
{
    if (kept == i)
        return;
    recipient_copy(&part->recipients[kept], &part->recipients[i]);
    part->results[kept] = part->results[i];
}

static void spooler_note_result(const struct part *part, size_t i)
{
    const struct delivery_result *result = &part->job->results[part->results[i]];

    refusal_note(part->out,
                 result->outcome == DELIVERY_DONE      ? COUNTER_SENT
                 : result->outcome == DELIVERY_REFUSED ? COUNTER_BOUNCED
                                                       : COUNTER_PUT_OFF,
                 part->recipients[i].path.domain, target_relay(part->target), result->reply);
}

static void spooler_note_results(const struct part *part)
{
    for (size_t i = 0; i < part->count; i++)
        spooler_note_result(part, i);
}

/* Keeps only the part's recipients that another host may be asked about. The others have their results. */
static bool spooler_keep_undecided(struct part *part)
{
    size_t kept = 0;

    if (spooler_stops(part) || part->target->transaction.unconfirmed)
        return false;
    for (size_t i = 0; i < part->count; i++) {
        if (part->job->results[part->results[i]].outcome == DELIVERY_DEFERRED)
            spooler_keep(part, i, kept++);
        else
            spooler_note_result(part, i);
    }
    part->count = kept;
    return kept > 0;
}

/* 4.2.2 with the same code is about a full mailbox (RFC 3463 3.3). */
static bool spooler_is_one_too_many(const struct part *part, size_t i)
{
    const struct delivery_result *result = &part->job->results[part->results[i]];
    return result->outcome == DELIVERY_DEFERRED && strncmp(result->reply, "452", 3) == 0 &&
           strncmp(result->reply, "452 4.2.", 8) != 0;
}

/* Did the host take the message for some recipients, and not for others because of their number? Those fit in
 * a further transaction (RFC 5321 4.5.3.1.10). */
static bool spooler_takes_more(const struct part *part)
{
    bool took_some = false, left_some = false;

    for (size_t i = 0; i < part->count; i++) {
        took_some |= part->job->results[part->results[i]].outcome == DELIVERY_DONE;
        left_some |= spooler_is_one_too_many(part, i);
    }
    return took_some && left_some;
}

/* Does the job's destination in the queue stand for the part's, or for its domain alone? It was named by the first
 * configuration. Routes may have changed since, and then it may stand for others, too. */
static bool spooler_is_its_own(const struct part *part)
{
    const char *domain = part->target->domain;
    char name[QUEUE_DESTINATION_MAX + 1];
    char folded[ROUTE_KEY_MAX];

    spooler_name_destination(part->route, domain, name);
    return strcmp(name, part->job->destination) == 0 ||
           (dns_name_fold(domain, folded) && strcmp(folded, part->job->destination) == 0);
}

/* Ends early if the part has more for the host that took some of it. */
static void spooler_run_part(struct part *part)
{
    struct target *target = part->target;
    bool is_undecided;

    part->has_more = false;
    target_contact(target, deadline_in_ms(part->out->config->out.timeouts.dial));
    part->job->postponed_ms = target->connect.postponed_ms;
    if (part->job->postponed_ms > 0)
        return;
    part->job->reached |= !target->unreachable || !spooler_is_its_own(part);
    do {
        spooler_run_transaction(part);
        const bool takes_more = spooler_takes_more(part);
        is_undecided = spooler_keep_undecided(part);
        part->has_more = is_undecided && takes_more;
    } while (is_undecided && !part->has_more && target_next_transaction(target));
}

static void spooler_fill_recipient(struct recipient *to, const struct spool_recipient *from)
{
    path_copy(&to->path, &from->path);
    to->notify = from->notify;
    snprintf(to->orcpt, sizeof to->orcpt, "%s", from->orcpt != NULL ? from->orcpt : "");
}

static bool spooler_is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Is this field of a header, which may be folded, "TLS-Required: No" (RFC 8689 5)? */
static bool spooler_field_frees_tls(const char *field, size_t len)
{
    static const char name[] = "TLS-Required:";
    size_t at = sizeof name - 1;

    if (len < at || strncasecmp(field, name, at) != 0)
        return false;
    while (at < len && spooler_is_blank(field[at]))
        at++;
    while (len > at && spooler_is_blank(field[len - 1]))
        len--;
    return len - at == 2 && strncasecmp(field + at, "No", 2) == 0;
}

/* The end of the field that begins at `field`, behind its last LF. NULL: it is not in sight. */
static const char *spooler_field_end(const char *field, const char *end)
{
    const char *at = field;

    do {
        at = memchr(at, '\n', (size_t)(end - at));
    } while (at != NULL && ++at < end && (*at == ' ' || *at == '\t'));
    return at;
}

/* Does the sender want it delivered whatever the TLS? No, if out of memory. */
static bool spooler_part_tls_is_optional(const struct part *part)
{
    char *header = malloc(HEADER_SCAN_OCTETS);
    ssize_t got = header != NULL ? pread(part->job->data_fd, header, HEADER_SCAN_OCTETS, 0) : -1;
    const char *field = header, *end = header + (got > 0 ? got : 0), *next;
    bool is_optional = false;

    /* An empty line ends the header. */
    while (field < end && *field != '\r' && !is_optional &&
           (next = spooler_field_end(field, end)) != NULL) {
        is_optional = spooler_field_frees_tls(field, (size_t)(next - field));
        field = next;
    }
    free(header);
    return is_optional;
}

static void spooler_fill_envelope(struct part *part)
{
    const struct spool_envelope *from = part->job->envelope;
    struct envelope *to = &part->envelope;

    spool_id_format(from->id, part->id);
    part->client.session_id = part->id;
    to->client = &part->client;
    path_copy(&to->sender, &from->sender);
    to->size = from->size;
    to->body = from->body;
    to->smtputf8 = to->is_utf8 = from->smtputf8;
    to->requiretls = from->requiretls;
    to->tls_optional = spooler_part_tls_is_optional(part);
    to->ret = from->ret;
    snprintf(to->envid, sizeof to->envid, "%s", from->envid != NULL ? from->envid : "");
    to->id = part->id;
}

/* Fills the part with `first` and later recipients that are not done and share its destination, as many as
 * one transaction takes. Returns the domain of `first`. */
static const char *spooler_collect(struct part *part, size_t first, bool *done)
{
    const struct delivery_job *job = part->job;
    const struct spool_recipient *all = job->envelope->recipients;
    const char *domain = all[job->recipients[first]].path.domain;
    char key[ROUTE_KEY_MAX], other[ROUTE_KEY_MAX];

    part->count = 0;
    part->route = spooler_route_of(part->out, job->envelope, &all[job->recipients[first]].path);
    route_key(part->route, domain, key);
    for (size_t i = first; i < job->count && part->count < SESSION_BATCH_MAX; i++) {
        const struct spool_recipient *recipient = &all[job->recipients[i]];
        const struct route *route = spooler_route_of(part->out, job->envelope, &recipient->path);
        if (done[i] || strcmp(key, route_key(route, recipient->path.domain, other)) != 0)
            continue;
        done[i] = true;
        part->results[part->count] = i;
        part->envelope.smtputf8 |= recipient->path.is_utf8;
        spooler_fill_recipient(&part->recipients[part->count++], recipient);
    }
    return domain;
}

static void spooler_take_answer(struct part *part)
{
    const struct transaction *transaction = &part->target->transaction;

    for (size_t i = 0; i < part->count; i++) {
        spooler_set_result(part, i, transaction->final_reply, transaction->ours);
        part->job->results[part->results[i]].relayed =
            !(part->target->remote.hop.capabilities.extensions & EXTENSION_DSN);
    }
    spooler_note_results(part);
}

/* Keeps only the recipients that the live courier gave to this next hop. Routes may have changed since, and
 * bring others together with them. */
static void spooler_keep_awaited(struct part *part, const struct awaited *awaited, bool *done)
{
    size_t kept = 0;

    for (size_t i = 0; i < part->count; i++) {
        if (spooler_is_for(awaited, part->recipients[i].path.domain))
            spooler_keep(part, i, kept++);
        else
            done[part->results[i]] = false;
    }
    part->count = kept;
}

/* If the live courier gave this next hop the message, its late answer counts. False if it did not. */
static bool spooler_await_part(struct part *part, const char *domain, bool *done)
{
    struct awaited *awaited = spooler_find_awaited(part->spooler, part->job->envelope->id, domain);
    size_t known = 0;

    if (awaited == NULL)
        return false;
    spooler_keep_awaited(part, awaited, done);
    part->job->reached = part->has_awaited = true;
    part->target = awaited->target;
    if (spooler_wait_awaited(part->spooler, awaited)) {
        delivery_owe(part->job);
        spooler_take_answer(part);
        known = part->count;
    } else {
        part->job->interrupted = true;
    }
    spooler_leave_awaited(part->spooler, awaited, known);
    return true;
}

/* Keeps only the recipients of the next transaction. They were not tried yet, should it have to wait. */
static void spooler_keep_for_more(struct part *part)
{
    size_t kept = 0;

    for (size_t i = 0; i < part->count; i++) {
        if (spooler_is_one_too_many(part, i)) {
            part->job->results[part->results[i]].reply[0] = '\0';
            spooler_keep(part, i, kept++);
        } else {
            spooler_note_result(part, i);
        }
    }
    part->count = kept;
}

/* Have all who were tried so far got the message? Then this is recorded before the others are tried: however long
 * those take, and whatever becomes of us meanwhile, nobody gets it twice. If some were refused or put off, the job
 * goes on instead, so that the sender has one notice, and nobody is tried again at once. So it does behind a late
 * answer, because the queue was told of it only once. */
static bool spooler_records_first(const struct part *part)
{
    const struct delivery_job *job = part->job;
    bool any = false;

    for (size_t i = 0; i < job->count; i++) {
        const struct delivery_result *result = &job->results[i];
        if (result->outcome != DELIVERY_DONE && result->reply[0] != '\0')
            return false;
        any |= result->outcome == DELIVERY_DONE;
    }
    return any && !part->has_awaited && !spooler_stops(part);
}

/* Each transaction after the first has fewer recipients, and usually the connection of the one before. False
 * if the others of the job cannot be tried now. */
static bool spooler_deliver_part(struct part *part, const char *domain)
{
    do {
        part->target = target_new(part->out, part->route, domain, &part->envelope, NULL);
        if (part->target == NULL) {
            part->job->reached = true;
            return false;
        }
        part->target->connect.postpones = true; /* the queue waits rather than this thread */
        spooler_run_part(part);
        if (part->has_more)
            spooler_keep_for_more(part);
        else if (part->job->postponed_ms == 0)
            spooler_note_results(part);
        target_free(part->target);
    } while (part->has_more && !spooler_records_first(part));
    if (part->has_more)
        part->job->postponed_ms = RECORD_FIRST_MS;
    return part->job->postponed_ms == 0;
}

static void spooler_deliver_all(struct part *part, bool *done)
{
    spooler_fill_envelope(part);
    for (size_t first = 0; first < part->job->count; first++) {
        if (done[first])
            continue;
        const char *domain = spooler_collect(part, first, done);
        if (spooler_await_part(part, domain, done))
            continue;
        if (spooler_stops(part)) {
            part->job->interrupted = true;
            continue;
        }
        if (spooler_records_first(part)) {
            part->job->postponed_ms = RECORD_FIRST_MS;
            return;
        }
        if (!spooler_deliver_part(part, domain))
            return;
        part->job->interrupted |= spooler_stops(part);
    }
}

/* Results that it does not get to stay as they were: deferred, with nothing held against the
 * destination. */
void spooler_deliver(void *context, struct delivery_job *job)
{
    struct part *part = calloc(1, sizeof *part);
    bool *done = calloc(job->count, sizeof *done);

    if (part != NULL && done != NULL) {
        part->spooler = context;
        part->job = job;
        part->out = spooler_snapshot(context);
        spooler_deliver_all(part, done);
        service_unref(&((struct outbound *)part->out)->service);
    } else {
        job->reached = true;
    }
    free(part);
    free(done);
}
