/* relay-out/tlsorders.c - tells relayctl about other hosts' TLS, over the control socket
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/tlsorders.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "net/dial.h"
#include "relay-out/security.h"

#define LOOK_UP_MS 20000
#define CONNECT_MS 10000
#define BUFFER_OCTETS 16384

/* One question about a domain. */
struct tlsorder {
    const struct outbound *out;
    struct control_client *client;
    const char *domain;
    const struct route *route;
    bool connect, refresh;
    struct hosts hosts;
    struct security security;
};

static void tlsorder_put(const struct tlsorder *order, const char *key, const char *text)
{
    control_printf(order->client, "%s %s\n", key, text);
}

/* The domain. */

static void tlsorder_refresh(struct tlsorder *order)
{
    struct security *security = &order->security;

    if (!order->refresh || order->out->stscache == NULL || security->sts_record != STSCACHE_RECORD)
        return;
    stscache_policy_unref(security->sts.policy);
    stscache_refresh(order->out->stscache, security->domain, security->sts_id,
                     deadline_in_ms(LOOK_UP_MS), &security->sts);
}

static void tlsorder_put_policy(const struct tlsorder *order)
{
    static const char *const failures[] = {
        [STSCACHE_NOTHING_FAILED] = "",
        [STSCACHE_FETCH_FAILED] = "sts-policy-fetch-error",
        [STSCACHE_WEBPKI_INVALID] = "sts-webpki-invalid",
        [STSCACHE_POLICY_INVALID] = "sts-policy-invalid",
    };
    const struct security *security = &order->security;
    const struct stscache_policy *policy = security->sts.policy;

    tlsorder_put(order, "sts-record",
                 security->sts_record == STSCACHE_RECORD      ? security->sts_id
                 : security->sts_record == STSCACHE_NO_RECORD ? "none"
                                                              : "unknown");
    if (security->sts.failure != STSCACHE_NOTHING_FAILED)
        control_printf(order->client, "sts-failure %s %s\n", failures[security->sts.failure],
                       security->sts.why);
    if (policy == NULL)
        return;
    tlsorder_put(order, "sts-mode", sts_mode_name(policy->policy->mode));
    tlsorder_put(order, "sts-id", policy->id);
    control_printf(order->client, "sts-fetched %" PRId64 "\nsts-expires %" PRId64 "\n",
                   policy->fetched_s, policy->expires_s);
    const char *pattern = policy->policy->patterns;
    for (size_t i = 0; i < policy->policy->pattern_count; i++, pattern += strlen(pattern) + 1)
        tlsorder_put(order, "sts-mx", pattern);
}

/* A host. */

static void tlsorder_put_records(const struct tlsorder *order, const struct dane_records *records)
{
    for (size_t i = 0; i < records->count; i++) {
        const struct dane_record *record = &records->items[i];
        char text[16], hex[2 * 64 + 1] = "";
        for (size_t at = 0; at < record->len && at < 64; at++)
            snprintf(hex + 2 * at, sizeof hex - 2 * at, "%02x", record->data[at]);
        control_printf(order->client, "tlsa %s %s%s\n",
                       security_record_text(record, text, sizeof text), hex,
                       record->len > 64 ? "..." : "");
    }
}

static void tlsorder_put_published(const struct tlsorder *order, const struct candidate *candidate)
{
    static const char *const names[] = {
        [TLS_DANE_NONE] = "none",
        [TLS_DANE_USABLE] = "usable",
        [TLS_DANE_UNUSABLE] = "unusable",
        [TLS_DANE_FAILED] = "failed",
    };
    const struct security_host *host = security_find_host(&order->security, candidate);

    tlsorder_put(order, "named-by-proof", candidate->host_secure ? "yes" : "no");
    if (host == NULL)
        return;
    tlsorder_put(order, "addresses-proven", host->address_secure ? "yes" : "no");
    if (host->is_alias)
        tlsorder_put(order, "alias-of", host->canonical);
    tlsorder_put(order, "dane", names[host->dane]);
    if (host->base[0] != '\0')
        tlsorder_put(order, "tlsa-at", host->base);
    if (host->records != NULL)
        tlsorder_put_records(order, host->records);
    if (host->reason[0] != '\0')
        tlsorder_put(order, "dane-reason", host->reason);
}

static const char *tlsorder_level(enum config_out_tls level)
{
    static const char *const names[] = {"default", "none", "may", "encrypt", "verify", "dane"};
    return names[level];
}

/* What a host presents. */

static enum io_result tlsorder_converse(const struct tlsorder *order,
                                        const struct candidate *candidate, struct nexthop *hop,
                                        struct security_check *check, struct reply *reply,
                                        struct error *err)
{
    const struct outbound *out = order->out;
    const struct tls_need *need = check->need;
    const struct tls_judge accepts = {security_accepts, check};
    const struct tls_judge *judge = security_is_judged(need) ? &accepts : NULL;
    struct deadline deadline = deadline_in_ms(CONNECT_MS);
    struct tls_client *client = security_tls_client(out, candidate, need);

    if (security_begins_with_tls(candidate, need))
        return stream_start_tls_client(&hop->stream, client, need->name, judge, deadline, err);
    enum io_result result = nexthop_greeting(hop, reply, deadline);
    if (result == IO_OK)
        result = nexthop_hello(hop, NEXTHOP_EHLO, outbound_hello(out), reply, deadline);
    if (result != IO_OK || !reply_is_positive(reply)) {
        error_set(err, "no greeting, or no answer to EHLO");
        return IO_FAILED;
    }
    if ((hop->capabilities.extensions & EXTENSION_STARTTLS) == 0) {
        check->result = TLS_RESULT_STARTTLS_NOT_SUPPORTED;
        error_set(err, "STARTTLS is not offered");
        return IO_FAILED;
    }
    return nexthop_starttls(hop, client, need->name, judge, reply, deadline, err);
}

static void tlsorder_connect(const struct tlsorder *order, const struct candidate *candidate,
                             const struct tls_need *need)
{
    struct security_check check = {.need = need};
    struct stream_buffers buffers;
    struct error err = {""};
    struct tls_info info;
    struct nexthop hop;
    struct reply *reply = malloc(sizeof *reply);
    char ip[ADDRESS_TEXT_MAX];

    address_format_ip(&candidate->address, ip);
    int fd = dial_connect(&candidate->address, NULL, CONNECT_MS, deadline_in_ms(CONNECT_MS), &err);
    if (fd < 0 || reply == NULL ||
        stream_buffers_init(&buffers, BUFFER_OCTETS, BUFFER_OCTETS) != 0) {
        control_printf(order->client, "shown %s not reached: %s\n", ip, err.text);
        if (fd >= 0)
            close(fd);
        free(reply);
        return;
    }
    nexthop_init(&hop, fd, &buffers);
    if (tlsorder_converse(order, candidate, &hop, &check, reply, &err) == IO_OK &&
        stream_tls_info(&hop.stream, &info))
        control_printf(order->client, "shown %s %s %s, %s%s%s\n", ip, info.version, info.cipher,
                       check.matched[0] != '\0'              ? "matches "
                       : need->level < CONFIG_OUT_TLS_VERIFY ? "not looked at"
                                                             : "valid",
                       check.matched, check.reason.text);
    else
        control_printf(order->client, "shown %s %s: %s\n", ip,
                       check.result != TLS_RESULT_SUCCESS ? tls_result_name(check.result)
                                                          : "failed",
                       err.text);
    nexthop_quit(&hop);
    stream_buffers_free(&buffers);
    free(reply);
}

static void tlsorder_put_need(const struct tlsorder *order, const struct candidate *candidate)
{
    struct tls_need need;

    security_need(&order->security, order->out, order->domain, candidate, false, &need);
    tlsorder_put(order, "level", tlsorder_level(need.level));
    tlsorder_put(order, "policy", need.why);
    if (need.watched)
        tlsorder_put(order, "watched", "yes");
    if (need.refusal != NULL)
        tlsorder_put(order, need.watched ? "would-be-refused" : "refused", need.refusal);
    if (order->connect && (need.refusal == NULL || need.watched)) {
        control_flush(order->client);
        tlsorder_connect(order, candidate, &need);
    }
}

/* If hosts are to be connected to, each one's first address is. */
static void tlsorder_put_hosts(const struct tlsorder *order)
{
    const struct candidate *items = order->hosts.items;

    for (size_t i = 0; i < order->hosts.count; i++) {
        char ip[ADDRESS_TEXT_MAX];
        bool is_new = true;
        for (size_t before = 0; before < i; before++)
            is_new &= strcasecmp(items[before].host, items[i].host) != 0;
        if (!is_new)
            continue;
        if (control_printf(order->client, "host %s\nport %u\n", items[i].host,
                           items[i].address.port) != 0)
            return;
        for (size_t same = i; same < order->hosts.count; same++) {
            if (strcasecmp(items[same].host, items[i].host) == 0)
                tlsorder_put(order, "address", address_format_ip(&items[same].address, ip));
        }
        tlsorder_put_published(order, &items[i]);
        tlsorder_put_need(order, &items[i]);
    }
}

static void tlsorder_show(struct tlsorder *order)
{
    struct deadline deadline = deadline_in_ms(LOOK_UP_MS);
    char name[DNS_NAME_MAX];

    if (order->domain[0] == '[' || dns_name_to_ascii(order->domain, name) != 0) {
        control_error(order->client, "a domain is required");
        return;
    }
    order->route = routes_find(order->out->routes, name);
    if (order->refresh && order->out->stscache != NULL)
        stscache_note_bare(order->out->stscache, name, 0);
    security_begin(&order->security, order->out, order->route, name, true, deadline);
    enum own_reply why = hosts_find(order->out, order->route, name, deadline, &order->hosts);
    if (security_find(&order->security, order->out, order->route, &order->hosts, deadline) != 0) {
        control_error(order->client, "out of memory");
        return;
    }
    control_ok(order->client);
    tlsorder_refresh(order);
    tlsorder_put(order, "domain", name);
    tlsorder_put(order, "validation", resolver_validates(order->out->resolver) ? "yes" : "no");
    if (order->route->hop_count > 0 || order->route->tls != CONFIG_OUT_TLS_DEFAULT)
        tlsorder_put(order, "route", order->route->name);
    tlsorder_put_policy(order);
    if (why != REPLY_OK)
        tlsorder_put(order, "no-hosts", order->hosts.reason);
    tlsorder_put_hosts(order);
}

/* Counts. */

/* "today NAME=COUNT NAME=COUNT", or nothing without counts. */
static void tlsorder_put_day(struct control_client *client, const char *word,
                             const uint32_t counts[TLS_RESULTS])
{
    bool any = false;

    for (int result = 0; result < TLS_RESULTS; result++) {
        if (counts[result] == 0)
            continue;
        control_printf(client, "%s %s=%" PRIu32, any ? "" : word,
                       tls_result_name((enum tls_result)result), counts[result]);
        any = true;
    }
    if (any)
        control_printf(client, "\n");
}

static void tlsorder_put_counts(void *context, const struct tlscounts_row *row)
{
    struct control_client *client = context;

    control_printf(client, "policy %s %s %" PRId64 "\n", row->domain,
                   tls_policy_type_name(row->type), row->changed_s);
    for (int result = 0; result < TLS_RESULTS; result++) {
        if (row->counts[result] > 0)
            control_printf(client, "count %s %" PRIu64 "\n",
                           tls_result_name((enum tls_result)result), row->counts[result]);
    }
    tlsorder_put_day(client, "today", row->days[TLSCOUNTS_TODAY]);
    tlsorder_put_day(client, "yesterday", row->days[TLSCOUNTS_YESTERDAY]);
    if (row->host[0] != '\0')
        control_printf(client, "last %s %s\n", row->host, row->reason);
}

void tlsorders_handle(const struct outbound *out, struct control_client *client,
                      const char *const *words, size_t count)
{
    struct tlsorder order = {.out = out, .client = client};

    if (count == 1 && strcmp(words[0], "failures") == 0) {
        control_ok(client);
        if (out->tlscounts != NULL)
            tlscounts_list(out->tlscounts, (int64_t)time(NULL), tlsorder_put_counts, client);
        return;
    }
    if (count < 2 || strcmp(words[0], "show") != 0) {
        control_error(client, "no such request");
        return;
    }
    order.domain = words[1];
    for (size_t i = 2; i < count; i++) {
        order.connect |= strcmp(words[i], "connect") == 0;
        order.refresh |= strcmp(words[i], "refresh") == 0;
    }
    /* Both make us connect to other people's hosts. */
    if ((order.connect || order.refresh) && !control_permit_order(client))
        return;
    tlsorder_show(&order);
    hosts_clear(&order.hosts);
    security_clear(&order.security);
}
