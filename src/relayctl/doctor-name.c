/* relayctl/doctor-name.c - checks of the host's name, and of how others see its addresses
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/doctor.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/i18n.h"
#include "relayctl/doctor-spf.h"

#define NAME_PTRS_MAX 8

/* Large receivers. */
static const char *const name_receivers[] = {"gmail.com", "outlook.com", "icloud.com"};
#define NAME_RECEIVER_COUNT (sizeof name_receivers / sizeof *name_receivers)

static const char *name_hello(const struct doctor *doctor)
{
    const struct config *config = doctor->config;
    return (config->parts & CONFIG_PART_OUT) && config->out.hello[0] != '\0' ? config->out.hello
                                                                             : config->hostname;
}

/* Stores the names of an address. Returns their number, or -1 if the DNS has no answer now. */
static int name_of(const struct doctor *doctor, const struct address *address,
                   char names[][DNS_NAME_MAX], size_t max)
{
    struct resolver_answer answer;
    char asked[DNS_NAME_MAX];
    size_t count = 0;

    if (dns_name_of_address(address, NULL, asked) != 0)
        return -1;
    enum resolver_result result = doctor_ask(doctor, asked, DNS_TYPE_PTR, &answer);
    for (size_t i = 0; result == RESOLVER_FOUND && i < answer.count && count < max; i++) {
        if (dns_name_read((const uint8_t *)answer.data[i], (size_t)answer.lengths[i],
                          names[count]) == 0)
            count++;
    }
    resolver_answer_free(&answer);
    return result == RESOLVER_TEMPORARY ? -1 : (int)count;
}

/* Does relay-out send no mail by that family, as the file says? */
static bool name_is_unused(const struct doctor *doctor, int family)
{
    int only = family == AF_INET ? CONFIG_FAMILY_ONLY_IPV6 : CONFIG_FAMILY_ONLY_IPV4;
    return (doctor->config->parts & CONFIG_PART_OUT) && doctor->config->out.family == only;
}

/* Is there a way to the internet by IPv6, and none by IPv4? */
static bool name_only_ipv6(void)
{
    struct address own;
    return !doctor_source(AF_INET, &own) && doctor_source(AF_INET6, &own);
}

/* The address of one family that mail leaves from: the first of ours. NULL, with the finding set, if
 * there is none. */
static const struct address *name_source(const struct doctor *doctor, int family,
                                         struct doctor_finding *finding)
{
    size_t count = family == AF_INET ? doctor->own4_count : doctor->own6_count;

    if (name_is_unused(doctor, family)) {
        finding->outcome = DOCTOR_SKIPPED;
        return NULL;
    }
    if (count > 0)
        return family == AF_INET ? &doctor->own4[0] : &doctor->own6[0];
    if (family == AF_INET6 || name_only_ipv6())
        finding->outcome = DOCTOR_SKIPPED;
    else
        doctor_say(
            finding, DOCTOR_UNKNOWN,
            _("this host's public address is on no interface; put it into out.own_addresses"));
    return NULL;
}

static void name_advise_ptr(const struct doctor *doctor, struct doctor_finding *finding)
{
    if (finding->family == AF_INET6)
        doctor_advise(finding,
                      _("set the PTR record to %s at the VPS's provider; or send by IPv4: out = { "
                        "family = \"ipv4-only\"; };"),
                      name_hello(doctor));
    else
        doctor_advise(finding, _("set the PTR record to %s at the VPS's provider"),
                      name_hello(doctor));
}

static void name_ptr(const struct doctor *doctor, struct doctor_finding *finding)
{
    char names[NAME_PTRS_MAX][DNS_NAME_MAX], ip[ADDRESS_TEXT_MAX];
    const struct address *own = name_source(doctor, finding->family, finding);

    if (own == NULL)
        return;
    int count = name_of(doctor, own, names, NAME_PTRS_MAX);
    address_format_ip(own, ip);
    if (count < 0) {
        doctor_say(finding, DOCTOR_UNKNOWN,
                   _("the DNS does not answer for the name of %s at the moment"), ip);
        return;
    }
    if (count == 0)
        doctor_say(finding, DOCTOR_FAILED, _("%s has no name (no PTR record)"), ip);
    else if (count > 1)
        doctor_say(finding, DOCTOR_WARNING, _("%s has %d names, including %s"), ip, count,
                   names[0]);
    else
        doctor_say(finding, DOCTOR_OK, _("%s is %s"), ip, names[0]);
    if (finding->outcome != DOCTOR_OK)
        name_advise_ptr(doctor, finding);
}

static void name_fcrdns(const struct doctor *doctor, struct doctor_finding *finding)
{
    char names[NAME_PTRS_MAX][DNS_NAME_MAX], ip[ADDRESS_TEXT_MAX];
    struct address back[NAME_PTRS_MAX];
    const struct address *own = name_source(doctor, finding->family, finding);

    if (own == NULL)
        return;
    address_format_ip(own, ip);
    int count = name_of(doctor, own, names, NAME_PTRS_MAX);
    if (count <= 0) {
        finding->outcome = DOCTOR_SKIPPED; /* ptr4 and ptr6 report it */
        return;
    }
    for (int n = 0; n < count; n++) {
        int found = doctor_addresses(doctor, names[n], finding->family, back, NAME_PTRS_MAX);
        for (int i = 0; i < found; i++) {
            if (address_same_ip(&back[i], own)) {
                doctor_say(finding, DOCTOR_OK, _("%s resolves to %s and back"), ip, names[n]);
                return;
            }
        }
        if (found < 0) {
            doctor_say(finding, DOCTOR_UNKNOWN, _("the DNS does not answer for %s at the moment"),
                       names[n]);
            return;
        }
    }
    doctor_say(finding, DOCTOR_FAILED, _("%s is called %s, but that name does not resolve to %s"),
               ip, names[0], ip);
    doctor_advise(finding, "%s. %s %s", names[0], finding->family == AF_INET ? "A" : "AAAA", ip);
}

static void name_ehlo(const struct doctor *doctor, struct doctor_finding *finding)
{
    char names[NAME_PTRS_MAX][DNS_NAME_MAX];
    const char *hello = name_hello(doctor);
    static const int families[] = {AF_INET, AF_INET6};

    doctor_say(finding, DOCTOR_SKIPPED, "%s", "");
    for (size_t f = 0; f < 2; f++) {
        struct doctor_finding unseen = {.outcome = DOCTOR_OK};
        const struct address *own = name_source(doctor, families[f], &unseen);
        int count = own != NULL ? name_of(doctor, own, names, NAME_PTRS_MAX) : 0;
        for (int i = 0; i < count && finding->outcome != DOCTOR_WARNING; i++) {
            if (dns_name_equal(names[i], hello))
                doctor_say(finding, DOCTOR_OK, _("EHLO matches the name of the address: %s"),
                           hello);
            else if (i + 1 == count && finding->outcome != DOCTOR_OK)
                doctor_say(finding, DOCTOR_WARNING, _("EHLO says %s, the address is called %s"),
                           hello, names[0]);
        }
    }
    if (finding->outcome == DOCTOR_WARNING)
        doctor_advise(finding, _("set the PTR record to %s, or write: out = { hello = \"%s\"; };"),
                      hello, names[0]);
}

static void name_route(const struct doctor *doctor, struct doctor_finding *finding)
{
    char ip[ADDRESS_TEXT_MAX];
    struct address own;

    if (!doctor_source(finding->family, &own)) {
        bool skipped = finding->family == AF_INET6 || name_is_unused(doctor, finding->family);
        if (!skipped && doctor->own4_count == 0 && name_only_ipv6()) {
            doctor_say(finding, DOCTOR_WARNING,
                       _("this host has IPv6 only: mail for hosts without it cannot leave"));
            doctor_advise(finding,
                          _("ask the provider for IPv4, or send by a smarthost (out.default_route) "
                            "and write: out = { family = \"ipv6-only\"; };"));
            return;
        }
        doctor_say(finding, skipped ? DOCTOR_SKIPPED : DOCTOR_FAILED,
                   _("there is no route to the internet"));
        return;
    }
    address_format_ip(&own, ip);
    for (size_t i = 0; i < doctor->config->out.listen.count; i++) {
        const struct address *inner = &doctor->config->out.listen.items[i].address;
        if (address_is_private(inner) && address_same_ip(&own, inner)) {
            doctor_say(finding, DOCTOR_FAILED,
                       _("traffic to the internet leaves through the tunnel, from %s"), ip);
            doctor_advise(finding,
                          _("AllowedIPs of the tunnel must list only home, not 0.0.0.0/0 or ::/0"));
            return;
        }
    }
    doctor_say(finding, DOCTOR_OK, _("mail leaves from %s"), ip);
}

/* Connects to a receiver's first MX, reads the greeting and leaves. Returns 1 if greeted, 0 if refused
 * with a reply, -1 if not reached, -2 if unknown. */
static int name_visit(const struct doctor *doctor, const char *domain, int family, char *words,
                      size_t size)
{
    char hosts[4][DNS_NAME_MAX];
    unsigned preferences[4];
    struct address address;
    struct doctor_hop hop;

    if (doctor_mx(doctor, domain, hosts, preferences, 4) <= 0 ||
        doctor_addresses(doctor, hosts[0], family, &address, 1) <= 0)
        return -2;
    address.port = 25;
    bool greeted = doctor_hop_greet(doctor, &hop, &address,
                                    config_source_for(&doctor->config->out.source, family));
    if (greeted)
        doctor_hop_words(&hop, words, size);
    else
        snprintf(words, size, "%s", hop.trouble);
    int result = !greeted ? -1 : reply_is_positive(&hop.reply) ? 1 : 0;
    doctor_hop_close(&hop);
    return result;
}

static void name_port25(const struct doctor *doctor, struct doctor_finding *finding)
{
    char words[ERROR_TEXT_MAX] = "", last[ERROR_TEXT_MAX] = "";
    bool reached = false, tried = false;

    if (name_source(doctor, finding->family, finding) == NULL)
        return;
    for (size_t i = 0; i < NAME_RECEIVER_COUNT && !reached; i++) {
        int result = name_visit(doctor, name_receivers[i], finding->family, words, sizeof words);
        reached = result >= 0;
        if (result != -2) {
            tried = true;
            snprintf(last, sizeof last, "%s", words);
        }
    }
    if (reached) {
        doctor_say(finding, DOCTOR_OK, _("port 25 of other hosts can be reached"));
    } else if (!tried) {
        doctor_say(finding, finding->family == AF_INET6 ? DOCTOR_SKIPPED : DOCTOR_UNKNOWN,
                   _("no large receiver's mail host could be looked up"));
    } else {
        doctor_say(finding, DOCTOR_FAILED, "%s", last);
        doctor_advise(finding,
                      finding->family == AF_INET6
                          ? _("ask the VPS's provider to open port 25; or out = { family = "
                              "\"ipv4-only\"; };")
                          : _("ask the VPS's provider to open port 25, or send by a smarthost: "
                              "out.default_route"));
    }
}

static void name_banner(const struct doctor *doctor, struct doctor_finding *finding)
{
    char words[ERROR_TEXT_MAX];
    unsigned greeted = 0;

    doctor_say(finding, DOCTOR_UNKNOWN, _("no large receiver could be reached"));
    for (size_t i = 0; i < NAME_RECEIVER_COUNT && finding->outcome != DOCTOR_FAILED; i++) {
        int result = name_visit(doctor, name_receivers[i], AF_INET, words, sizeof words);
        if (result == 0) {
            doctor_say(finding, DOCTOR_FAILED, _("%s refuses this host: %s"), name_receivers[i],
                       words);
            doctor_advise(finding, _("follow the link in its reply; see also the check dnsbl"));
        } else if (result == 1) {
            doctor_say(finding, DOCTOR_OK, _("%u large receivers greet this host"), ++greeted);
        }
    }
}

/* Checks well-known lists that answer any resolver, the ones people mean by "is my address listed?". */
static void name_dnsbl(const struct doctor *doctor, struct doctor_finding *finding)
{
    static const char *const zones[] = {"zen.spamhaus.org", "bl.spamcop.net",
                                        "b.barracudacentral.org"};
    static const int families[] = {AF_INET, AF_INET6};
    char asked[DNS_NAME_MAX], ip[ADDRESS_TEXT_MAX];
    struct address answers[8];
    bool told = false;

    for (size_t f = 0; f < 2; f++) {
        struct doctor_finding unseen = {.outcome = DOCTOR_OK};
        const struct address *own = name_source(doctor, families[f], &unseen);
        for (size_t z = 0; own != NULL && z < sizeof zones / sizeof *zones; z++) {
            if (dns_name_of_address(own, zones[z], asked) != 0)
                continue;
            int count = doctor_addresses(doctor, asked, AF_INET, answers, 8);
            told = told || count >= 0;
            /* 127.255.255.x: the list refuses the resolver and says nothing about the address. */
            if (count > 0 && answers[0].ip[0] == 127 && answers[0].ip[1] != 255) {
                doctor_say(finding, DOCTOR_FAILED, _("%s is on the blocklist %s"),
                           address_format_ip(own, ip), zones[z]);
                doctor_advise(finding, _("look the address up on that list's site, which says why "
                                         "it is listed and how to get it removed"));
                return;
            }
        }
    }
    if (told)
        doctor_say(finding, DOCTOR_OK, _("not listed"));
    else
        doctor_say(finding, DOCTOR_UNKNOWN, _("no blocklist answered"));
}

static void name_judge_spf(const struct doctor *doctor, const char *domain,
                           const struct address *address, struct doctor_finding *finding)
{
    struct spf_result result;
    char ip[ADDRESS_TEXT_MAX];

    spf_check(doctor, domain, address, &result);
    address_format_ip(address, ip);
    switch (result.verdict) {
    case SPF_PASS:
        return;
    case SPF_TEMPERROR:
    case SPF_UNKNOWN:
        doctor_say(finding, DOCTOR_UNKNOWN, _("SPF of %s for %s: %s decides"), domain, ip,
                   result.why);
        return;
    case SPF_NONE:
        doctor_say(finding, DOCTOR_WARNING, _("%s has no SPF record"), domain);
        break;
    case SPF_NEUTRAL:
        doctor_say(finding, DOCTOR_WARNING, _("SPF of %s does not mention %s (%s)"), domain, ip,
                   result.why);
        break;
    default:
        doctor_say(finding, DOCTOR_FAILED, _("SPF of %s for %s: %s (%s)"), domain, ip,
                   spf_verdict_name(result.verdict), result.why);
        break;
    }
    doctor_advise(finding, "%s. TXT \"v=spf1 mx -all\"", domain);
}

static void name_spf(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *domains[DOCTOR_DOMAINS_MAX];
    size_t count = doctor_domains(doctor, domains, DOCTOR_DOMAINS_MAX);
    struct doctor_finding worst = {.outcome = DOCTOR_OK};
    static const int families[] = {AF_INET, AF_INET6};
    bool any = false;

    doctor_say(finding, DOCTOR_OK, _("the domains' SPF records allow this host"));
    for (size_t f = 0; f < 2; f++) {
        const struct address *own = name_source(doctor, families[f], &worst);
        for (size_t i = 0; own != NULL && i < count && finding->outcome != DOCTOR_FAILED; i++) {
            any = true;
            name_judge_spf(doctor, domains[i], own, finding);
        }
    }
    if (!any)
        doctor_say(finding, count == 0 ? DOCTOR_SKIPPED : DOCTOR_UNKNOWN,
                   _("this host's public address is not known"));
}

static void name_spf_helo(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct doctor_finding unseen = {.outcome = DOCTOR_OK};
    const struct address *own = name_source(doctor, AF_INET, &unseen);
    const char *hello = name_hello(doctor);
    struct spf_result result;

    if (own == NULL) {
        doctor_say(finding, DOCTOR_UNKNOWN, _("this host's public address is not known"));
        return;
    }
    spf_check(doctor, hello, own, &result);
    bool bad = result.verdict == SPF_FAIL || result.verdict == SPF_PERMERROR ||
               result.verdict == SPF_SOFTFAIL;
    doctor_say(finding,
               bad                          ? DOCTOR_FAILED
               : result.verdict == SPF_NONE ? DOCTOR_WARNING
               : result.verdict == SPF_PASS ? DOCTOR_OK
                                            : DOCTOR_UNKNOWN,
               _("SPF of the EHLO name %s: %s"), hello, spf_verdict_name(result.verdict));
    if (finding->outcome == DOCTOR_FAILED || finding->outcome == DOCTOR_WARNING)
        doctor_advise(finding, "%s. TXT \"v=spf1 a -all\"", hello);
}

static void name_dmarc(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *domains[DOCTOR_DOMAINS_MAX];
    size_t count = doctor_domains(doctor, domains, DOCTOR_DOMAINS_MAX);
    char name[DNS_NAME_MAX + 8], record[1024];

    doctor_say(finding, DOCTOR_OK, _("each domain has a DMARC record"));
    for (size_t i = 0; i < count && finding->outcome == DOCTOR_OK; i++) {
        snprintf(name, sizeof name, "_dmarc.%s", domains[i]);
        int found = doctor_txt_find(doctor, name, "v=DMARC1", record, sizeof record);
        if (found < 0)
            doctor_say(finding, DOCTOR_UNKNOWN, _("the DNS does not answer for %s at the moment"),
                       name);
        else if (found == 0)
            doctor_say(finding, DOCTOR_WARNING, _("%s has no DMARC record"), domains[i]);
        else if (found > 1 || strstr(record, "p=") == NULL)
            doctor_say(finding, DOCTOR_FAILED,
                       _("%s: several DMARC records, or none with a policy"), name);
        if (finding->outcome == DOCTOR_WARNING || finding->outcome == DOCTOR_FAILED)
            doctor_advise(finding, "%s. TXT \"v=DMARC1; p=quarantine\"", name);
    }
}

static const struct doctor_check name_checks[] = {
    {"ptr4", DOCTOR_NEEDS_OUT, name_ptr, N_("Does the IPv4 address have exactly one name?"),
     N_("most receivers refuse mail from an address without a name")},
    {"ptr6", DOCTOR_NEEDS_OUT | DOCTOR_BY_IPV6, name_ptr,
     N_("Does the IPv6 address have exactly one name?"),
     N_("most receivers refuse mail from an address without a name")},
    {"fcrdns4", DOCTOR_NEEDS_OUT, name_fcrdns, N_("Does that name lead back to the IPv4 address?"),
     N_("otherwise receivers do not trust the name")},
    {"fcrdns6", DOCTOR_NEEDS_OUT | DOCTOR_BY_IPV6, name_fcrdns,
     N_("Does that name lead back to the IPv6 address?"),
     N_("otherwise receivers do not trust the name")},
    {"ehlo-is-ptr", DOCTOR_NEEDS_OUT, name_ehlo, N_("Does the name in EHLO match the address?"),
     N_("a difference counts as a sign of spam")},
    {"route4", DOCTOR_NEEDS_OUT, name_route,
     N_("Does IPv4 traffic to the internet leave the right way?"),
     N_("otherwise mail would leave from home's address")},
    {"route6", DOCTOR_NEEDS_OUT | DOCTOR_BY_IPV6, name_route,
     N_("Does IPv6 traffic to the internet leave the right way?"),
     N_("otherwise mail would leave from home's address")},
    {"out25-4", DOCTOR_NEEDS_OUT, name_port25, N_("Can port 25 of other hosts be reached by IPv4?"),
     N_("many providers block it, and then no mail leaves")},
    {"out25-6", DOCTOR_NEEDS_OUT | DOCTOR_BY_IPV6, name_port25,
     N_("Can port 25 of other hosts be reached by IPv6?"),
     N_("otherwise each delivery waits for IPv6 in vain first")},
    {"receivers", DOCTOR_NEEDS_OUT, name_banner, N_("Do large receivers greet this host?"),
     N_("otherwise all mail to their users is refused")},
    {"dnsbl", DOCTOR_NEEDS_OUT, name_dnsbl, N_("Is this host on a blocklist?"),
     N_("many receivers refuse mail from listed hosts")},
    {"spf", DOCTOR_NEEDS_OUT, name_spf, N_("Do the domains' SPF records allow this host?"),
     N_("receivers refuse or mark mail that SPF does not allow")},
    {"spf-helo", DOCTOR_NEEDS_OUT, name_spf_helo, N_("Does SPF of the EHLO name allow this host?"),
     N_("for bounces, SPF has no other name to check")},
    {"dmarc", DOCTOR_NEEDS_OUT, name_dmarc, N_("Do the domains have a DMARC record?"),
     N_("large receivers require one, and without it others can write in your name")},
};

const struct doctor_group doctor_name = {"name", name_checks,
                                         sizeof name_checks / sizeof *name_checks};
