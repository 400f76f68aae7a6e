/* relayctl/doctor-spf.c - what SPF says about an address (RFC 7208)
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/doctor-spf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/i18n.h"

#define SPF_LOOKUPS_MAX 10 /* RFC 7208 4.6.4 */
#define SPF_DEPTH_MAX 10
#define SPF_ADDRESSES_MAX 20
#define SPF_RECORD_MAX 2048

struct spf {
    const struct doctor *doctor;
    const struct address *address;
    struct spf_result *result;
};

enum spf_match { SPF_MATCH, SPF_NO_MATCH, SPF_STOP }; /* STOP: the verdict is already set */

static void spf_check_domain(struct spf *spf, const char *domain, unsigned depth);

const char *spf_verdict_name(enum spf_verdict verdict)
{
    static const char *const names[] = {"pass", "fail",      "softfail",  "neutral",
                                        "none", "temperror", "permerror", "unknown"};
    return names[verdict];
}

static enum spf_match spf_stop(struct spf *spf, enum spf_verdict verdict, const char *why)
{
    spf->result->verdict = verdict;
    snprintf(spf->result->why, sizeof spf->result->why, "%s", why);
    return SPF_STOP;
}

/* Counts a term that asks the DNS. False, with the verdict set, at the limit. */
static bool spf_count(struct spf *spf)
{
    if (++spf->result->lookups <= SPF_LOOKUPS_MAX)
        return true;
    spf_stop(spf, SPF_PERMERROR, _("more than 10 look-ups"));
    return false;
}

/* Do the first `bits` match? */
static bool spf_is_in(const struct address *address, const struct address *network, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    if (address->family != network->family || bits > (address->family == AF_INET ? 32U : 128U) ||
        memcmp(address->ip, network->ip, whole) != 0)
        return false;
    return rest == 0 || (address->ip[whole] ^ network->ip[whole]) >> (8 - rest) == 0;
}

/* ip4 and ip6: bits after the prefix do not matter. */
static enum spf_match spf_match_network(struct spf *spf, const char *text)
{
    char ip[ADDRESS_TEXT_MAX];
    struct address network;
    const char *slash = strchr(text, '/');

    snprintf(ip, sizeof ip, "%.*s", (int)strcspn(text, "/"), text);
    if (address_parse_ip(&network, ip) != 0)
        return spf_stop(spf, SPF_PERMERROR, text);
    unsigned bits = slash != NULL ? (unsigned)strtoul(slash + 1, NULL, 10)
                                  : (network.family == AF_INET ? 32U : 128U);
    return spf_is_in(spf->address, &network, bits) ? SPF_MATCH : SPF_NO_MATCH;
}

/* "/24", "//64" or "/24//64" after a or mx: the prefix length for the address's family. */
static unsigned spf_prefix(const struct spf *spf, const char *text)
{
    const char *six = strstr(text, "//");

    if (spf->address->family == AF_INET6)
        return six != NULL ? (unsigned)strtoul(six + 2, NULL, 10) : 128;
    return text[0] == '/' && six != text ? (unsigned)strtoul(text + 1, NULL, 10) : 32;
}

static enum spf_match spf_match_host(struct spf *spf, const char *host, const char *prefix)
{
    struct address found[SPF_ADDRESSES_MAX];
    int count = doctor_addresses(spf->doctor, host, spf->address->family, found, SPF_ADDRESSES_MAX);

    if (count < 0)
        return spf_stop(spf, SPF_TEMPERROR, host);
    for (int i = 0; i < count; i++) {
        if (spf_is_in(spf->address, &found[i], spf_prefix(spf, prefix)))
            return SPF_MATCH;
    }
    return SPF_NO_MATCH;
}

static enum spf_match spf_match_mx(struct spf *spf, const char *domain, const char *prefix)
{
    char hosts[SPF_LOOKUPS_MAX][DNS_NAME_MAX];
    unsigned preferences[SPF_LOOKUPS_MAX];
    int count = doctor_mx(spf->doctor, domain, hosts, preferences, SPF_LOOKUPS_MAX);
    enum spf_match match = SPF_NO_MATCH;

    if (count < 0)
        return spf_stop(spf, SPF_TEMPERROR, domain);
    for (int i = 0; i < count && match == SPF_NO_MATCH; i++)
        match = spf_match_host(spf, hosts[i], prefix);
    return match;
}

/* RFC 7208 5.2: of the included record, only a pass matches. */
static enum spf_match spf_match_include(struct spf *spf, const char *domain, unsigned depth)
{
    spf_check_domain(spf, domain, depth + 1);
    switch (spf->result->verdict) {
    case SPF_PASS:
        return SPF_MATCH;
    case SPF_FAIL:
    case SPF_SOFTFAIL:
    case SPF_NEUTRAL:
        return SPF_NO_MATCH;
    case SPF_NONE:
        return spf_stop(spf, SPF_PERMERROR, domain);
    default:
        return SPF_STOP;
    }
}

/* Evaluates one mechanism, without its qualifier. */
static enum spf_match spf_match_term(struct spf *spf, const char *domain, const char *term,
                                     unsigned depth)
{
    char name[16], target[DNS_NAME_MAX];
    size_t len = strcspn(term, ":/");
    const char *prefix = "";

    snprintf(name, sizeof name, "%.*s", (int)len, term);
    snprintf(target, sizeof target, "%s", domain);
    if (term[len] == ':')
        snprintf(target, sizeof target, "%s", term + len + 1);
    else
        prefix = term + len;
    if (strchr(term, '%') != NULL)
        return spf_stop(spf, SPF_UNKNOWN, term);
    if (strcasecmp(name, "all") == 0)
        return SPF_MATCH;
    if (strcasecmp(name, "ip4") == 0 || strcasecmp(name, "ip6") == 0)
        return spf_match_network(spf, target);
    if (!spf_count(spf))
        return SPF_STOP;
    if (strcasecmp(name, "include") == 0)
        return spf_match_include(spf, target, depth);
    if (term[len] == ':' && strchr(target, '/') != NULL) {
        prefix = strchr(term + len, '/');
        target[strcspn(target, "/")] = '\0';
    }
    if (strcasecmp(name, "a") == 0)
        return spf_match_host(spf, target, prefix);
    if (strcasecmp(name, "mx") == 0)
        return spf_match_mx(spf, target, prefix);
    if (strcasecmp(name, "exists") == 0) {
        struct address any;
        int count = doctor_addresses(spf->doctor, target, AF_INET, &any, 1);
        return count < 0   ? spf_stop(spf, SPF_TEMPERROR, target)
               : count > 0 ? SPF_MATCH
                           : SPF_NO_MATCH;
    }
    return spf_stop(spf, strcasecmp(name, "ptr") == 0 ? SPF_UNKNOWN : SPF_PERMERROR, term);
}

/* Evaluates the record's terms in order. False if none of them decides. */
static bool spf_walk(struct spf *spf, const char *domain, char *record, unsigned depth,
                     const char **redirect)
{
    char *save = NULL;

    for (char *term = strtok_r(record, " ", &save); term != NULL;
         term = strtok_r(NULL, " ", &save)) {
        static const char qualifiers[] = "+-~?";
        static const enum spf_verdict verdicts[] = {SPF_PASS, SPF_FAIL, SPF_SOFTFAIL, SPF_NEUTRAL};
        const char *mark = strchr(qualifiers, term[0]);
        if (strncasecmp(term, "redirect=", 9) == 0) {
            *redirect = term + 9;
            continue;
        }
        if (strcspn(term, "=") < strcspn(term, ":/"))
            continue; /* exp= and future modifiers */
        enum spf_match match = spf_match_term(spf, domain, term + (mark != NULL), depth);
        if (match == SPF_STOP)
            return true;
        if (match == SPF_MATCH) {
            spf->result->verdict = verdicts[mark != NULL ? mark - qualifiers : 0];
            snprintf(spf->result->why, sizeof spf->result->why, "%s", term);
            return true;
        }
    }
    return false;
}

static void spf_check_domain(struct spf *spf, const char *domain, unsigned depth)
{
    char record[SPF_RECORD_MAX];
    const char *redirect = NULL;
    int count = depth > SPF_DEPTH_MAX
                    ? 2
                    : doctor_txt_find(spf->doctor, domain, "v=spf1", record, sizeof record);

    if (count != 1) {
        spf_stop(spf,
                 count < 0    ? SPF_TEMPERROR
                 : count == 0 ? SPF_NONE
                              : SPF_PERMERROR,
                 count > 1 ? _("several records, or a loop") : domain);
        return;
    }
    if (spf_walk(spf, domain, record + strlen("v=spf1"), depth, &redirect))
        return;
    if (redirect == NULL) {
        spf_stop(spf, SPF_NEUTRAL, _("nothing in the record matches"));
    } else if (strchr(redirect, '%') != NULL) {
        spf_stop(spf, SPF_UNKNOWN, redirect);
    } else if (spf_count(spf)) {
        spf_check_domain(spf, redirect, depth + 1);
        if (spf->result->verdict == SPF_NONE)
            spf_stop(spf, SPF_PERMERROR, redirect);
    }
}

void spf_check(const struct doctor *doctor, const char *domain, const struct address *address,
               struct spf_result *result)
{
    struct spf spf = {.doctor = doctor, .address = address, .result = result};

    *result = (struct spf_result){.verdict = SPF_NONE};
    spf_check_domain(&spf, domain, 0);
}
