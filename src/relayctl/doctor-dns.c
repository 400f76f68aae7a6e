/* relayctl/doctor-dns.c - checks of the resolver and of the domains' records
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/doctor.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/i18n.h"

#define DNS_SLOW_MS 1000
#define DNS_HOSTS_MAX 10

static void dns_resolver(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct resolver_answer answer;
    int64_t began = deadline_now_ms();
    /* A type that this process has not asked for, so that its own cache has no answer. */
    enum resolver_result result = doctor_ask(doctor, ".", 2 /* NS */, &answer);
    long long ms = (long long)(deadline_now_ms() - began);

    if (result == RESOLVER_TEMPORARY && resolver_is_answered_without_edns(doctor->resolver)) {
        doctor_say(finding, DOCTOR_FAILED,
                   _("the resolver answers only questions without EDNS, like some old routers"));
        doctor_advise(finding, _("name others in dns.servers, or: apt install unbound"));
    } else if (result == RESOLVER_TEMPORARY) {
        doctor_say(finding, DOCTOR_FAILED, _("the resolver does not answer: %s"), answer.reason);
        doctor_advise(finding,
                      _("check dns.servers and /etc/resolv.conf, or: apt install unbound"));
    } else {
        doctor_say(finding, ms > DNS_SLOW_MS ? DOCTOR_WARNING : DOCTOR_OK,
                   _("the resolver answered after %lld ms"), ms);
        if (ms > DNS_SLOW_MS)
            doctor_advise(finding, _("run a resolver on this host: apt install unbound"));
    }
    resolver_answer_free(&answer);
}

static void dns_dnssec(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct resolver_answer answer;

    if (!doctor->config->dns.validate) {
        doctor_say(finding, DOCTOR_WARNING, _("dns.validate is off"));
        doctor_advise(finding, "dns = { validate = true; };");
        return;
    }
    /* The root is signed: if its records cannot be proven, nothing can. */
    enum resolver_result result = doctor_ask(doctor, ".", 6 /* SOA */, &answer);
    if (result == RESOLVER_TEMPORARY)
        doctor_say(finding, answer.bogus ? DOCTOR_FAILED : DOCTOR_UNKNOWN, _("the root: %s"),
                   answer.bogus ? _("the answer does not match its signature") : answer.reason);
    else if (!answer.secure)
        doctor_say(finding, DOCTOR_WARNING,
                   _("nothing can be validated: DNSSEC records or keys are missing"));
    else
        doctor_say(finding, DOCTOR_OK, _("answers are validated by DNSSEC"));
    if (finding->outcome == DOCTOR_WARNING || finding->outcome == DOCTOR_FAILED)
        doctor_advise(finding, "apt install unbound dns-root-data");
    resolver_answer_free(&answer);
}

static void dns_anchor(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *named = doctor->config->dns.trust_anchor_file;
    const char *const places[] = {named, "/usr/share/dns/root.key", "/var/lib/unbound/root.key"};

    for (size_t i = named[0] != '\0' ? 0 : 1; i < (named[0] != '\0' ? 1U : 3U); i++) {
        if (access(places[i], R_OK) == 0) {
            doctor_say(finding, DOCTOR_OK, _("the keys of the root are in %s"), places[i]);
            return;
        }
    }
    doctor_say(finding, DOCTOR_WARNING, _("the keys of the root are missing"));
    doctor_advise(finding, "apt install dns-root-data");
}

/* Asks each blocklist for its test entry. A list that refuses public resolvers answers with special codes
 * (127.255.255.252 to .255). */
static void dns_public_resolver(const struct doctor *doctor, struct doctor_finding *finding)
{
    const struct string_list *zones = &doctor->config->in.dnsbl.zones;
    char name[DNS_NAME_MAX];
    struct address answers[8];

    if (zones->count == 0) {
        finding->outcome = DOCTOR_SKIPPED;
        return;
    }
    doctor_say(finding, DOCTOR_OK, _("the blocklists answer this resolver"));
    for (size_t i = 0; i < zones->count && finding->outcome == DOCTOR_OK; i++) {
        int zone_len = (int)strcspn(zones->items[i], "=*");
        snprintf(name, sizeof name, "2.0.0.127.%.*s", zone_len, zones->items[i]);
        int count = doctor_addresses(doctor, name, AF_INET, answers, 8);
        if (count < 0) {
            doctor_say(finding, DOCTOR_WARNING, _("%.*s does not answer"), zone_len,
                       zones->items[i]);
        } else if (count == 0) {
            doctor_say(finding, DOCTOR_WARNING,
                       _("%.*s does not list the test address 127.0.0.2: is it a blocklist?"),
                       zone_len, zones->items[i]);
            doctor_advise(finding, _("correct or remove it in in.dnsbl.zones"));
        }
        for (int n = 0; n < count; n++) {
            if (answers[n].ip[1] == 255 && answers[n].ip[2] == 255) {
                doctor_say(finding, DOCTOR_FAILED, _("%.*s refuses this resolver"), zone_len,
                           zones->items[i]);
                doctor_advise(finding, _("use a resolver of your own: apt install unbound"));
            }
        }
    }
}

/* Does a host have one of our addresses? -1: unknown. */
static int dns_is_us(const struct doctor *doctor, const char *host)
{
    struct address addresses[DNS_HOSTS_MAX];
    static const int families[] = {AF_INET, AF_INET6};
    bool told = true;

    if (dns_name_equal(host, doctor->config->hostname))
        return 1;
    for (size_t f = 0; f < 2; f++) {
        int count = doctor_addresses(doctor, host, families[f], addresses, DNS_HOSTS_MAX);
        told = told && count >= 0;
        for (int i = 0; i < count; i++) {
            if (doctor_is_own(doctor, &addresses[i]))
                return 1;
        }
    }
    return told ? 0 : -1;
}

static void dns_judge_mx(const struct doctor *doctor, const char *domain,
                         struct doctor_finding *finding)
{
    char hosts[DNS_HOSTS_MAX][DNS_NAME_MAX];
    unsigned preferences[DNS_HOSTS_MAX];
    int count = doctor_mx(doctor, domain, hosts, preferences, DNS_HOSTS_MAX);

    if (count < 0) {
        doctor_say(finding, DOCTOR_UNKNOWN, _("the DNS does not answer for %s at the moment"),
                   domain);
        return;
    }
    for (int i = 0; i < count; i++) {
        if (dns_is_us(doctor, hosts[i]) == 1)
            return;
    }
    if (count == 0 && dns_is_us(doctor, domain) == 1)
        return;
    doctor_say(finding, DOCTOR_FAILED,
               count == 0 ? _("%s has no MX record") : _("the MX of %s is %s"), domain,
               count == 0            ? ""
               : hosts[0][0] != '\0' ? hosts[0]
                                     : ".");
    doctor_advise(finding, "%s. MX 10 %s.", domain, doctor->config->hostname);
}

static void dns_mx_to_us(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *domains[DOCTOR_DOMAINS_MAX];
    size_t count = doctor_domains(doctor, domains, DOCTOR_DOMAINS_MAX);

    doctor_say(finding, DOCTOR_OK, _("the MX of each of %zu domains is this host"), count);
    for (size_t i = 0; i < count && finding->outcome != DOCTOR_FAILED; i++)
        dns_judge_mx(doctor, domains[i], finding);
}

static void dns_mx_only_us(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *domains[DOCTOR_DOMAINS_MAX];
    size_t count = doctor_domains(doctor, domains, DOCTOR_DOMAINS_MAX);
    char hosts[DNS_HOSTS_MAX][DNS_NAME_MAX];
    unsigned preferences[DNS_HOSTS_MAX];

    doctor_say(finding, DOCTOR_OK, _("no other host takes mail for these domains"));
    for (size_t i = 0; i < count && finding->outcome == DOCTOR_OK; i++) {
        int found = doctor_mx(doctor, domains[i], hosts, preferences, DNS_HOSTS_MAX);
        bool ours = false;
        for (int n = 0; n < found; n++)
            ours = ours || dns_is_us(doctor, hosts[n]) == 1;
        for (int n = 0; ours && n < found && finding->outcome == DOCTOR_OK; n++) {
            if (dns_is_us(doctor, hosts[n]) == 0) {
                doctor_say(finding, DOCTOR_WARNING, _("%s also has the MX %s"), domains[i],
                           hosts[n]);
                doctor_advise(finding,
                              _("fine if that is another relay of yours; otherwise remove it"));
            }
        }
    }
}

static void dns_mx_is_host(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *domains[DOCTOR_DOMAINS_MAX];
    size_t count = doctor_domains(doctor, domains, DOCTOR_DOMAINS_MAX);
    char hosts[DNS_HOSTS_MAX][DNS_NAME_MAX];
    unsigned preferences[DNS_HOSTS_MAX];
    struct address address;
    struct resolver_answer answer;

    doctor_say(finding, DOCTOR_OK, _("each MX is a host name"));
    for (size_t i = 0; i < count && finding->outcome == DOCTOR_OK; i++) {
        int found = doctor_mx(doctor, domains[i], hosts, preferences, DNS_HOSTS_MAX);
        for (int n = 0; n < found && finding->outcome == DOCTOR_OK; n++) {
            if (address_parse_ip(&address, hosts[n]) == 0) {
                doctor_say(finding, DOCTOR_FAILED, _("the MX of %s is an address: %s"), domains[i],
                           hosts[n]);
                doctor_advise(finding, "%s. MX 10 %s.", domains[i], doctor->config->hostname);
                return;
            }
            if (doctor_ask(doctor, hosts[n], DNS_TYPE_CNAME, &answer) == RESOLVER_FOUND) {
                doctor_say(finding, DOCTOR_WARNING, _("the MX of %s, %s, is an alias (CNAME)"),
                           domains[i], hosts[n]);
                doctor_advise(finding, _("name the host itself (RFC 2181 10.3)"));
            }
            resolver_answer_free(&answer);
        }
    }
}

static void dns_family(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *name = doctor->config->hostname;
    const struct address *own = finding->family == AF_INET ? doctor->own4 : doctor->own6;
    size_t own_count = finding->family == AF_INET ? doctor->own4_count : doctor->own6_count;
    struct address published[DNS_HOSTS_MAX];
    char have[200], want[200];
    int count = doctor_addresses(doctor, name, finding->family, published, DNS_HOSTS_MAX);
    const char *type = finding->family == AF_INET ? "A" : "AAAA";

    if (count < 0) {
        doctor_say(finding, DOCTOR_UNKNOWN, _("the DNS does not answer for %s at the moment"),
                   name);
        return;
    }
    doctor_list(published, (size_t)count, have, sizeof have);
    doctor_list(own, own_count, want, sizeof want);
    for (int i = 0; i < count; i++) {
        if (address_is_private(&published[i])) {
            doctor_say(finding, DOCTOR_FAILED, _("%s has the private address %s"), name, have);
            doctor_advise(finding, "%s. %s %s", name, type, own_count > 0 ? want : "...");
            return;
        }
    }
    if (own_count == 0 && count == 0)
        doctor_say(finding, finding->family == AF_INET6 ? DOCTOR_OK : DOCTOR_UNKNOWN,
                   _("neither this host nor the DNS has such an address"));
    else if (own_count == 0)
        doctor_say(finding, DOCTOR_UNKNOWN,
                   _("%s is %s; this host's own address is on no interface (out.own_addresses)"),
                   name, have);
    else if (count == 0)
        doctor_say(finding, finding->family == AF_INET ? DOCTOR_FAILED : DOCTOR_WARNING,
                   _("%s has no %s record; this host is %s"), name, type, want);
    else
        doctor_say(finding, DOCTOR_OK, _("%s is %s"), name, have);
    for (int i = 0; own_count > 0 && i < count; i++) {
        if (!doctor_is_own(doctor, &published[i]))
            doctor_say(finding, DOCTOR_FAILED, _("%s is %s; this host is %s"), name, have, want);
    }
    if (finding->outcome == DOCTOR_FAILED || finding->outcome == DOCTOR_WARNING)
        doctor_advise(finding, "%s. %s %s", name, type, want);
}

static void dns_ttl(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct resolver_answer answer;

    if (doctor_ask(doctor, doctor->config->hostname, DNS_TYPE_A, &answer) != RESOLVER_FOUND)
        finding->outcome = DOCTOR_SKIPPED;
    else
        doctor_say(finding, answer.ttl > 172800 ? DOCTOR_WARNING : DOCTOR_OK,
                   _("others may cache the address of %s for %u s"), doctor->config->hostname,
                   answer.ttl);
    if (finding->outcome == DOCTOR_WARNING)
        doctor_advise(finding, "%s. 3600 A ...", doctor->config->hostname);
    resolver_answer_free(&answer);
}

/* The world must know the mail server only through us: no published name may bypass the relay. */
static void dns_home_hidden(const struct doctor *doctor, struct doctor_finding *finding)
{
    static const char *const labels[] = {"", "mail.", "smtp.", "imap.", "autodiscover.", NULL};
    const char *domains[DOCTOR_DOMAINS_MAX];
    size_t count = doctor_domains(doctor, domains, 5);
    const struct config_backend *backend = &doctor->config->in.backend;
    struct address found[DNS_HOSTS_MAX];
    char name[DNS_NAME_MAX + 20];

    doctor_say(finding, DOCTOR_OK,
               _("no name in these domains leads to the mail server's address"));
    for (size_t i = 0; i < count; i++) {
        for (const char *const *label = labels; *label != NULL; label++) {
            snprintf(name, sizeof name, "%s%s", *label, domains[i]);
            int many = doctor_addresses(doctor, name, AF_INET, found, DNS_HOSTS_MAX);
            for (int n = 0; n < many; n++) {
                for (size_t h = 0; h < backend->hosts.count; h++) {
                    if (address_same_ip(&backend->hosts.items[h], &found[n])) {
                        doctor_say(finding, DOCTOR_WARNING,
                                   _("%s is the mail server's own address"), name);
                        doctor_advise(finding, _("remove the record, or point it to this host"));
                    }
                }
            }
        }
    }
}

static const struct doctor_check dns_checks[] = {
    {"resolver", 0, dns_resolver, N_("Does the resolver answer, and how quickly?"),
     N_("client names, MX hosts and blocklists depend on it")},
    {"dnssec", 0, dns_dnssec, N_("Can answers be validated by DNSSEC?"),
     N_("DANE needs that; without it mail is not protected against forged answers")},
    {"trust-anchor", 0, dns_anchor, N_("Are the keys of the root present?"),
     N_("without them nothing is validated")},
    {"dnsbl-resolver", DOCTOR_NEEDS_IN, dns_public_resolver,
     N_("Do the blocklists answer this resolver?"),
     N_("a blocklist that refuses to answer lists no client, or every one")},
    {"mx-to-us", DOCTOR_NEEDS_IN, dns_mx_to_us, N_("Do the domains' MX records name this host?"),
     N_("otherwise mail goes elsewhere, or nowhere")},
    {"mx-only-us", DOCTOR_NEEDS_IN, dns_mx_only_us, N_("Is there another MX beside this host?"),
     N_("mail, and above all spam, goes around the relay")},
    {"mx-is-host", DOCTOR_NEEDS_IN, dns_mx_is_host,
     N_("Is each MX a host name, not an alias or address?"),
     N_("otherwise some senders do not deliver")},
    {"a", 0, dns_family, N_("Does the A record of hostname point to this host?"),
     N_("senders would connect to another host")},
    {"aaaa", DOCTOR_BY_IPV6, dns_family, N_("Does the AAAA record of hostname point to this host?"),
     N_("senders that prefer IPv6 would connect to another host")},
    {"ttl", 0, dns_ttl, N_("Can the address be changed within a day or two?"),
     N_("otherwise a move to another VPS disrupts mail for that long")},
    {"home-hidden", DOCTOR_NEEDS_IN, dns_home_hidden,
     N_("Does any name in the domains lead past the relay?"),
     N_("the address that should be hidden would be public")},
};

const struct doctor_group doctor_dns = {"dns", dns_checks, sizeof dns_checks / sizeof *dns_checks};
