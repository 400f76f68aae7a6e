/* relay-out/tlspolicy.c - what TLS does this next hop need?
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/tlspolicy.h"

#include <string.h>
#include <strings.h>

static bool tls_policy_fits(const char *pattern, const char *name)
{
    if (strcmp(pattern, "*") == 0)
        return true;
    if (pattern[0] != '.')
        return strcasecmp(pattern, name) == 0;
    size_t pattern_len = strlen(pattern), len = strlen(name);
    return len > pattern_len && strcasecmp(name + len - pattern_len, pattern) == 0;
}

static bool tls_policy_excepts(const struct string_list *patterns,
                               const struct tls_question *question)
{
    const char *domain = question->ascii != NULL ? question->ascii : question->domain;

    for (size_t i = 0; i < patterns->count; i++) {
        if (tls_policy_fits(patterns->items[i], domain) ||
            tls_policy_fits(patterns->items[i], question->host))
            return true;
    }
    return false;
}

/* The name for SNI and the certificate. Under VERIFY, an unproven MX host proves nothing about the domain:
 * anybody may have put it into the DNS. Then the certificate must be for the domain itself. */
static const char *tls_policy_name(const struct tls_question *question, enum config_out_tls level)
{
    if (question->route->tls_name[0] != '\0')
        return question->route->tls_name;
    if (level == CONFIG_OUT_TLS_VERIFY && !question->host_secure)
        return question->ascii;
    return question->host_is_address ? NULL : question->host; /* RFC 6066 3: never an address */
}

static void tls_policy_raise(struct tls_need *need, enum config_out_tls level, const char *why)
{
    if (need->level >= level)
        return;
    need->level = level;
    need->why = why;
}

static void tls_policy_refuse(struct tls_need *need, enum tls_result result, const char *why)
{
    need->refusal = why;
    need->refusal_result = result;
}

/* RFC 7672 3.2.3, and 8.1 for the name in SNI. */
static void tls_policy_use_dane(const struct tls_question *question, struct tls_need *need)
{
    need->level = CONFIG_OUT_TLS_DANE;
    need->policy = TLS_POLICY_TLSA;
    need->policy_domain = question->dane_base;
    need->why = question->host_secure ? "dane" : "dane, MX unsigned";
    need->name = question->dane_base;
    need->records = question->records;
    need->names[need->name_count++] = question->dane_base;
    if (strcasecmp(question->dane_base, question->host) != 0)
        need->names[need->name_count++] = question->host;
    if (question->host_secure && question->ascii != NULL)
        need->names[need->name_count++] = question->ascii;
}

static bool tls_policy_enforces_sts(const struct config_out *config,
                                    const struct tls_question *question)
{
    return question->sts != NULL && question->sts->mode == STS_MODE_ENFORCE &&
           config->tls.mta_sts == CONFIG_MTA_STS_ENFORCE;
}

static void tls_policy_refuse_unnamed(struct tls_need *need)
{
    tls_policy_refuse(need, TLS_RESULT_VALIDATION_FAILURE,
                      "the MTA-STS policy of its domain does not name it");
}

/* A policy that is only watched does not change what is required. */
static void tls_policy_use_sts(const struct config_out *config, const struct tls_question *question,
                               struct tls_need *need)
{
    need->policy = TLS_POLICY_STS;
    need->watched = !tls_policy_enforces_sts(config, question);
    if (!need->watched) {
        tls_policy_raise(need, CONFIG_OUT_TLS_VERIFY, "mta-sts");
        need->name = question->host; /* RFC 8461 7.1 */
    }
    if (!sts_allows(question->sts, question->host))
        tls_policy_refuse_unnamed(need);
}

/* The route demands DANE: usable TLSA records, and signed MX records. */
static void tls_policy_demand_dane(const struct tls_question *question, struct tls_need *need)
{
    need->level = CONFIG_OUT_TLS_DANE;
    need->policy = TLS_POLICY_TLSA;
    if (question->dane == TLS_DANE_USABLE && question->host_secure)
        tls_policy_use_dane(question, need);
    else
        tls_policy_refuse(need, TLS_RESULT_DANE_REQUIRED,
                          question->dane == TLS_DANE_USABLE
                              ? "its route requires DANE, and the MX records of its domain are not "
                                "signed"
                              : "its route requires DANE, and it has no usable TLSA record");
}

static void tls_policy_use_published(const struct config_out *config,
                                     const struct tls_question *question, struct tls_need *need)
{
    if (question->dane == TLS_DANE_USABLE) {
        tls_policy_use_dane(question, need);
        /* DANE has proven only the host. MTA-STS must say whether it is one of the domain's. */
        if (!question->host_secure && tls_policy_enforces_sts(config, question) &&
            !sts_allows(question->sts, question->host)) {
            need->policy = TLS_POLICY_STS;
            need->policy_domain = question->ascii;
            tls_policy_refuse_unnamed(need);
        }
        return;
    }
    need->unusable = question->dane == TLS_DANE_UNUSABLE;
    if (need->unusable)
        tls_policy_raise(need, CONFIG_OUT_TLS_ENCRYPT, "dane, records unusable");
    if (question->sts != NULL && question->sts->mode != STS_MODE_NONE)
        tls_policy_use_sts(config, question, need);
}

void tls_policy_find(const struct config_out *config, const struct tls_question *question,
                     struct tls_need *need)
{
    const struct route *route = question->route;
    bool is_explicit = route->tls != CONFIG_OUT_TLS_DEFAULT;

    *need = (struct tls_need){.level = route->tls,
                              .why = "route",
                              .unproven = !question->host_secure,
                              .policy_domain =
                                  question->ascii != NULL ? question->ascii : question->domain};
    if (!is_explicit) {
        need->level = (enum config_out_tls)config->tls.level;
        need->why = "out.tls.level";
    }
    need->name = tls_policy_name(question, need->level);
    if (question->dane == TLS_DANE_FAILED) {
        need->policy = TLS_POLICY_TLSA;
        need->why = "dane";
        tls_policy_refuse(need, TLS_RESULT_DNSSEC_INVALID, question->dane_reason);
    } else if (route->tls == CONFIG_OUT_TLS_DANE) {
        tls_policy_demand_dane(question, need);
    } else if (!is_explicit) {
        tls_policy_use_published(config, question, need);
    }
    if (need->level == CONFIG_OUT_TLS_MAY && tls_policy_excepts(&config->tls.no_tls, question)) {
        need->level = CONFIG_OUT_TLS_NONE;
        need->why = "out.tls.no_tls";
    }
    /* The certificate must be for the domain, or for a host that is proven. */
    if (need->level == CONFIG_OUT_TLS_VERIFY)
        need->unproven = false;
}

void tls_policy_require(const struct tls_question *question, struct tls_need *need)
{
    if (need->refusal != NULL && !need->watched)
        return;
    if (need->unproven || question->host_is_address) {
        need->watched = false;
        tls_policy_refuse(
            need, TLS_RESULT_VALIDATION_FAILURE,
            "REQUIRETLS is requested, and nothing proves that this host is the domain's");
        return;
    }
    if (need->level >= CONFIG_OUT_TLS_VERIFY)
        return;
    need->level = CONFIG_OUT_TLS_VERIFY;
    need->why = "requiretls";
    if (need->name == NULL)
        need->name = question->host;
}
