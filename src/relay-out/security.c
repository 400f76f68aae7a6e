/* relay-out/security.c - what a destination and its hosts publish about TLS: DANE and MTA-STS
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/security.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "relay-out/stsfetch.h"

#define RECORD_WAIT_MS 5000  /* for _mta-sts, once all else is known: its zone may be broken */
#define POLICY_WAIT_MS 20000 /* for a policy to be fetched */
#define SUBMISSIONS_PORT 465 /* begins with TLS (RFC 8314 3.3) */
#define NAMES_MAX 2          /* where one host's TLSA records may be */

/* The domain's own record. */

static bool security_wants_sts(const struct outbound *out, const struct route *route,
                               const char *domain)
{
    return out->stscache != NULL && out->config->out.tls.mta_sts != CONFIG_MTA_STS_OFF &&
           route->hop_count == 0 && route->tls == CONFIG_OUT_TLS_DEFAULT && domain[0] != '[';
}

void security_begin(struct security *security, const struct outbound *out,
                    const struct route *route, const char *domain, bool published,
                    struct deadline deadline)
{
    struct resolver_question question = {.type = DNS_TYPE_TXT};
    char name[DNS_NAME_MAX];

    *security = (struct security){.sts_record = STSCACHE_NO_RECORD};
    if (domain[0] == '[' || dns_name_to_ascii(domain, security->domain) != 0 || !published ||
        !security_wants_sts(out, route, domain) ||
        stscache_is_bare(out->stscache, security->domain) ||
        stsfetch_record_name(security->domain, name) != 0)
        return;
    question.name = name;
    security->record = resolver_begin(out->resolver, &question, 1, deadline);
}

static void security_take_record(struct security *security, const struct outbound *out)
{
    struct resolver_question question = {.type = DNS_TYPE_TXT};

    if (security->record == NULL)
        return;
    /* Once it is no longer needed (`out` is NULL), an answer is not waited for. */
    resolver_finish(security->record, &question, 1,
                    out != NULL ? deadline_in_ms(RECORD_WAIT_MS) : (struct deadline){0});
    security->record = NULL;
    security->sts_record = stsfetch_read_record(&question.answer, security->sts_id);
    if (security->sts_record == STSCACHE_NO_RECORD && out != NULL)
        stscache_note_bare(out->stscache, security->domain, question.answer.ttl);
    resolver_answer_free(&question.answer);
}

static void security_find_policy(struct security *security, const struct outbound *out,
                                 const struct route *route, struct deadline deadline)
{
    static const enum tls_result results[] = {
        [STSCACHE_FETCH_FAILED] = TLS_RESULT_STS_POLICY_FETCH_ERROR,
        [STSCACHE_WEBPKI_INVALID] = TLS_RESULT_STS_WEBPKI_INVALID,
        [STSCACHE_POLICY_INVALID] = TLS_RESULT_STS_POLICY_INVALID,
    };

    if (security->domain[0] == '\0' || !security_wants_sts(out, route, security->domain))
        return;
    /* The rest of the time is for the hosts. */
    struct deadline wait = deadline_in_ms(deadline_left_ms(deadline) / 2);
    stscache_find(out->stscache, security->domain, security->sts_record, security->sts_id,
                  deadline_earlier(wait, deadline_in_ms(POLICY_WAIT_MS)), &security->sts);
    if (security->sts.policy == NULL && security->sts.failure != STSCACHE_NOTHING_FAILED &&
        out->tlscounts != NULL)
        tlscounts_add(out->tlscounts, security->domain, TLS_POLICY_STS,
                      results[security->sts.failure], STS_HOST_PREFIX, security->sts.why,
                      (int64_t)time(NULL));
}

/* Hosts. */

static struct security_host *security_host(const struct security *security, const char *name,
                                           uint16_t port)
{
    for (size_t i = 0; i < security->count; i++) {
        struct security_host *host = &security->hosts[i];
        if (host->port == port && strcasecmp(host->name, name) == 0)
            return host;
    }
    return NULL;
}

static void security_add_host(struct security *security, const struct candidate *candidate)
{
    struct security_host *host = security_host(security, candidate->host, candidate->address.port);

    if (host == NULL) {
        host = &security->hosts[security->count++];
        snprintf(host->name, sizeof host->name, "%s", candidate->host);
        host->port = candidate->address.port;
    } else if (host->address_secure || !candidate->address_secure) {
        return;
    }
    snprintf(host->canonical, sizeof host->canonical, "%s", candidate->canonical);
    host->is_alias = !dns_name_equal(candidate->host, candidate->canonical);
    host->address_secure = candidate->address_secure;
}

static bool security_wants_dane(const struct outbound *out, const struct route *route)
{
    if (route->tls == CONFIG_OUT_TLS_DANE)
        return true;
    return route->tls == CONFIG_OUT_TLS_DEFAULT && out->config->out.tls.dane;
}

/* Lists the hosts whose records are asked for. */
static int security_list_hosts(struct security *security, const struct outbound *out,
                               const struct hosts *hosts)
{
    security->hosts = calloc(hosts->count + 1, sizeof *security->hosts);
    if (security->hosts == NULL)
        return -1;
    for (size_t i = 0; i < hosts->count; i++) {
        const struct candidate *candidate = &hosts->items[i];
        if (!candidate->host_is_address && security_wants_dane(out, candidate->route))
            security_add_host(security, candidate);
    }
    return 0;
}

/* A CNAME that leads out of the signed zones may itself be signed. Then the TLSA records are at the name
 * that has it (RFC 7672 2.2.2). Such hosts are few, and mail to others does not wait for this. */
static int security_ask_aliases(struct security *security, const struct outbound *out,
                                struct deadline deadline)
{
    struct resolver_question *questions = calloc(security->count + 1, sizeof *questions);
    struct security_host **hosts = calloc(security->count + 1, sizeof(struct security_host *));
    size_t count = 0;

    for (size_t i = 0; questions != NULL && hosts != NULL && i < security->count; i++) {
        struct security_host *host = &security->hosts[i];
        if (host->address_secure || !host->is_alias)
            continue;
        questions[count] = (struct resolver_question){.name = host->name, .type = DNS_TYPE_CNAME};
        hosts[count++] = host;
    }
    if (count > 0)
        resolver_lookup_all(out->resolver, questions, count, deadline);
    for (size_t i = 0; i < count; i++) {
        const struct resolver_answer *answer = &questions[i].answer;
        hosts[i]->alias_secure = answer->result == RESOLVER_FOUND && answer->secure;
        if (answer->result == RESOLVER_TEMPORARY) {
            hosts[i]->dane = TLS_DANE_FAILED;
            snprintf(hosts[i]->reason, sizeof hosts[i]->reason, "CNAME of %s: %s", hosts[i]->name,
                     answer->reason);
        }
        resolver_answer_free(&questions[i].answer);
    }
    bool has_memory = questions != NULL && hosts != NULL;
    free(questions);
    free(hosts);
    return has_memory ? 0 : -1;
}

/* Lists the names where a host's records may be, in order (RFC 7672 2.2.2). */
static size_t security_bases(const struct security_host *host, const char *bases[NAMES_MAX])
{
    size_t count = 0;

    if (host->address_secure && host->is_alias)
        bases[count++] = host->canonical;
    if (host->address_secure || host->alias_secure)
        bases[count++] = host->name;
    return count;
}

/* "_25._tcp.mx.example". False if that is too long: then there can be no records. */
static bool security_tlsa_name(const char *base, uint16_t port, char name[DNS_NAME_MAX])
{
    return snprintf(name, DNS_NAME_MAX, "_%u._tcp.%s", port, base) < DNS_NAME_MAX - 1;
}

/* Takes one answer. True if it decides. */
static bool security_take_answer(struct security_host *host, const char *base,
                                 const struct resolver_answer *answer, const char *name)
{
    if (answer->result == RESOLVER_TEMPORARY) {
        host->dane = TLS_DANE_FAILED;
        snprintf(host->reason, sizeof host->reason, "TLSA of %s: %s", name, answer->reason);
        return true;
    }
    /* An unproven answer counts as none: opt-out, or a CNAME that leads elsewhere. */
    if (answer->result != RESOLVER_FOUND || !answer->secure)
        return false;
    snprintf(host->base, sizeof host->base, "%s", base);
    host->records =
        dane_records_new((const char *const *)answer->data, answer->lengths, answer->count);
    if (host->records == NULL) {
        host->dane = TLS_DANE_FAILED;
        snprintf(host->reason, sizeof host->reason, "TLSA of %s: out of memory", name);
        return true;
    }
    host->dane = host->records->count > 0 ? TLS_DANE_USABLE : TLS_DANE_UNUSABLE;
    return true;
}

static void security_take_answers(struct security_host *host, struct resolver_question *questions)
{
    const char *bases[NAMES_MAX];
    size_t count = security_bases(host, bases);
    bool is_decided = false;

    for (size_t i = 0; i < count; i++) {
        is_decided = is_decided ||
                     security_take_answer(host, bases[i], &questions[i].answer, questions[i].name);
        resolver_answer_free(&questions[i].answer);
    }
}

/* Asks all questions for all hosts at once. */
static int security_ask_tlsa(struct security *security, const struct outbound *out,
                             struct deadline deadline)
{
    size_t most = security->count * NAMES_MAX + 1, count = 0, at = 0;
    struct resolver_question *questions = calloc(most, sizeof *questions);
    char(*names)[DNS_NAME_MAX] = calloc(most, sizeof *names);
    const char *bases[NAMES_MAX];

    for (size_t i = 0; questions != NULL && names != NULL && i < security->count; i++) {
        struct security_host *host = &security->hosts[i];
        for (size_t base = 0, bases_count = security_bases(host, bases); base < bases_count;
             base++) {
            if (!security_tlsa_name(bases[base], host->port, names[count]))
                strcpy(names[count], "."); /* has no TLSA records */
            questions[count] =
                (struct resolver_question){.name = names[count], .type = DNS_TYPE_TLSA};
            count++;
        }
    }
    if (count > 0)
        resolver_lookup_all(out->resolver, questions, count, deadline);
    for (size_t i = 0; count > 0 && i < security->count; i++) {
        struct security_host *host = &security->hosts[i];
        size_t bases_count = security_bases(host, bases);
        if (bases_count > 0)
            security_take_answers(host, &questions[at]);
        at += bases_count;
    }
    bool has_memory = questions != NULL && names != NULL;
    free(questions);
    free(names);
    return has_memory ? 0 : -1;
}

int security_find(struct security *security, const struct outbound *out, const struct route *route,
                  const struct hosts *hosts, struct deadline deadline)
{
    int result = security_list_hosts(security, out, hosts);

    if (result == 0 && security->count > 0) {
        result = security_ask_aliases(security, out, deadline);
        if (result == 0)
            result = security_ask_tlsa(security, out, deadline);
    }
    security_take_record(security, out);
    security_find_policy(security, out, route, deadline);
    return result;
}

void security_clear(struct security *security)
{
    security_take_record(security, NULL);
    stscache_policy_unref(security->sts.policy);
    security->sts.policy = NULL;
    for (size_t i = 0; i < security->count; i++)
        free(security->hosts[i].records);
    free(security->hosts);
    security->hosts = NULL;
    security->count = 0;
}

const struct security_host *security_find_host(const struct security *security,
                                               const struct candidate *candidate)
{
    return candidate->host_is_address
               ? NULL
               : security_host(security, candidate->host, candidate->address.port);
}

/* A policy is about MX hosts. It does not apply to next hops from the configuration. */
static const struct sts_policy *security_policy_for(const struct security *security,
                                                    const struct candidate *candidate)
{
    return candidate->route->hop_count == 0 && security->sts.policy != NULL
               ? security->sts.policy->policy
               : NULL;
}

void security_need(const struct security *security, const struct outbound *out, const char *domain,
                   const struct candidate *candidate, bool require, struct tls_need *need)
{
    const struct security_host *host =
        security_wants_dane(out, candidate->route) ? security_find_host(security, candidate) : NULL;
    struct tls_question question = {
        .route = candidate->route,
        .domain = domain,
        .ascii = security->domain[0] != '\0' ? security->domain : NULL,
        .host = candidate->host,
        .host_is_address = candidate->host_is_address,
        .host_secure = candidate->host_secure,
        .sts = security_policy_for(security, candidate),
    };

    if (host != NULL) {
        question.dane = host->dane;
        question.dane_base = host->base;
        question.records = host->records;
        question.dane_reason = host->reason;
    }
    tls_policy_find(&out->config->out, &question, need);
    /* On that port there is no plain text to fall back to. */
    if (need->level == CONFIG_OUT_TLS_MAY && candidate->address.port == SUBMISSIONS_PORT) {
        need->level = CONFIG_OUT_TLS_ENCRYPT;
        need->why = "port 465";
    }
    if (require)
        tls_policy_require(&question, need);
}

bool security_begins_with_tls(const struct candidate *candidate, const struct tls_need *need)
{
    return candidate->address.port == SUBMISSIONS_PORT && need->level != CONFIG_OUT_TLS_NONE;
}

/* Handshakes. */

const char *security_record_text(const struct dane_record *record, char *out, size_t size)
{
    snprintf(out, size, "%u %u %u", record->usage, record->selector, record->type);
    return out;
}

/* "3 1 1, 2 1 1": what kinds of records there are. */
static void security_kinds(const struct dane_records *records, char *out, size_t size)
{
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < records->count && len + 8 < size; i++) {
        char kind[16];
        security_record_text(&records->items[i], kind, sizeof kind);
        if (strstr(out, kind) == NULL)
            len += (size_t)snprintf(out + len, size - len, "%s%s", len > 0 ? ", " : "", kind);
    }
}

static enum tls_result security_dane_result(enum dane_result result)
{
    switch (result) {
    case DANE_MATCH:
        return TLS_RESULT_SUCCESS;
    case DANE_EXPIRED:
        return TLS_RESULT_CERTIFICATE_EXPIRED;
    case DANE_WRONG_NAME:
        return TLS_RESULT_CERTIFICATE_HOST_MISMATCH;
    case DANE_BAD_CHAIN:
        return TLS_RESULT_CERTIFICATE_NOT_TRUSTED;
    case DANE_NO_MATCH:
    case DANE_BAD_CERTIFICATE:
        break;
    }
    return TLS_RESULT_VALIDATION_FAILURE;
}

static void security_check_dane(struct security_check *check, const struct tls_peer *peer)
{
    const struct tls_need *need = check->need;
    struct dane_verdict verdict =
        dane_match(need->records, peer->chain, peer->count, need->names, need->name_count);
    char kinds[64];

    check->result = security_dane_result(verdict.result);
    if (verdict.result == DANE_MATCH) {
        security_record_text(verdict.record, check->matched, sizeof check->matched);
        return;
    }
    security_kinds(need->records, kinds, sizeof kinds);
    error_set(&check->reason, "TLSA records of %s (%s): its certificate %s", need->name, kinds,
              dane_result_text(verdict.result));
}

static void security_check_pki(struct security_check *check, const struct tls_peer *peer)
{
    static const enum tls_result results[] = {
        [TLS_TRUSTED] = TLS_RESULT_SUCCESS,
        [TLS_NOT_TRUSTED] = TLS_RESULT_CERTIFICATE_NOT_TRUSTED,
        [TLS_EXPIRED] = TLS_RESULT_CERTIFICATE_EXPIRED,
        [TLS_WRONG_NAME] = TLS_RESULT_CERTIFICATE_HOST_MISMATCH,
    };
    check->result = results[tls_peer_check(peer, check->need->name, &check->reason)];
}

bool security_is_judged(const struct tls_need *need)
{
    return need->level == CONFIG_OUT_TLS_DANE ||
           (need->policy == TLS_POLICY_STS && need->level != CONFIG_OUT_TLS_NONE);
}

struct tls_client *security_tls_client(const struct outbound *out,
                                       const struct candidate *candidate,
                                       const struct tls_need *need)
{
    /* DANE needs no CA. */
    if (need->level == CONFIG_OUT_TLS_DANE ||
        (need->level != CONFIG_OUT_TLS_VERIFY && !security_is_judged(need)))
        return out->tls_any;
    return candidate->route->tls_client != NULL ? candidate->route->tls_client : out->tls_verify;
}

bool security_accepts(void *context, const struct tls_peer *peer, struct error *err)
{
    struct security_check *check = context;

    check->reason.text[0] = '\0';
    if (!tls_peer_is_modern(peer)) {
        check->result = TLS_RESULT_VALIDATION_FAILURE;
        error_set(&check->reason, "older than TLS 1.2");
    } else if (check->need->level == CONFIG_OUT_TLS_DANE) {
        security_check_dane(check, peer);
    } else {
        security_check_pki(check, peer);
    }
    if (check->result == TLS_RESULT_SUCCESS ||
        (check->need->watched && check->need->level < CONFIG_OUT_TLS_VERIFY))
        return true;
    error_set(err, "%s", check->reason.text);
    return false;
}
