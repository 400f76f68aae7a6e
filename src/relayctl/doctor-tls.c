/* relayctl/doctor-tls.c - checks of relay-in as clients see it: port 25, TLS, certificate, policies
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/doctor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/i18n.h"
#include "net/certificate.h"
#include "net/dane.h"
#include "net/tls.h"

#define TLS_SLOW_MS 1000
#define TLS_DAY 86400
#define TLS_HOSTS_MAX 10

/* Reads the certificate with that index. False, with the finding set, on failure. */
static bool doctor_tls_read(const struct doctor *doctor, size_t index,
                            struct certificate *certificate, struct doctor_finding *finding)
{
    const struct tls_pair *pairs = doctor->config->tls.certificates.items;
    struct error err;

    if (certificate_read(certificate, pairs[index].cert, &err) == 0)
        return true;
    doctor_say(finding, DOCTOR_FAILED, "%s", err.text);
    return false;
}

static const char *tls_file(const struct doctor *doctor, size_t index)
{
    return ((const struct tls_pair *)doctor->config->tls.certificates.items)[index].cert;
}

/* Gets relay-in's greeting. relay-in refuses loopback unless in.private_clients lists it. */
static bool tls_greet(const struct doctor *doctor, struct doctor_hop *hop,
                      struct doctor_finding *finding)
{
    struct address address, from;
    bool from_known;

    if (!doctor_listener(doctor, &address, &from, &from_known)) {
        finding->outcome = DOCTOR_SKIPPED;
        return false;
    }
    if (doctor_hop_greet(doctor, hop, &address, from_known ? &from : NULL))
        return true;
    doctor_say(finding, DOCTOR_FAILED, _("no greeting: %s"), hop->trouble);
    doctor_advise(finding, "systemctl status relay-in");
    return false;
}

static void tls_banner(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct doctor_hop hop;
    char words[300];
    int64_t delay = doctor->config->in.greet_delay_ms;

    if (!tls_greet(doctor, &hop, finding)) {
        doctor_hop_close(&hop);
        return;
    }
    doctor_hop_words(&hop, words, sizeof words);
    size_t len = strlen(doctor->config->hostname);
    if (!reply_is_positive(&hop.reply))
        doctor_say(finding, DOCTOR_UNKNOWN, _("this host may not see it (in.private_clients): %s"),
                   words);
    else if (strlen(words) < 4 || strncmp(words + 4, doctor->config->hostname, len) != 0)
        doctor_say(finding, DOCTOR_WARNING, _("it greets with another name: %s"), words);
    else if (hop.greeting_ms > delay + TLS_SLOW_MS)
        doctor_say(finding, DOCTOR_WARNING, _("the greeting took %" PRId64 " ms"), hop.greeting_ms);
    else
        doctor_say(finding, DOCTOR_OK, _("greeted after %" PRId64 " ms"), hop.greeting_ms);
    if (finding->outcome == DOCTOR_WARNING)
        doctor_advise(finding, "ss -ltnp 'sport = :25'; systemctl reload relay-in");
    doctor_hop_close(&hop);
}

static void tls_starttls(const struct doctor *doctor, struct doctor_finding *finding)
{
    const struct tls_client_config settings = {.verify = false};
    struct doctor_hop hop;
    struct error err;
    struct tls_info info;
    char words[300];

    if (!tls_greet(doctor, &hop, finding)) {
        doctor_hop_close(&hop);
        return;
    }
    if (!reply_is_positive(&hop.reply)) {
        doctor_say(finding, DOCTOR_UNKNOWN, _("this host may not see it (in.private_clients): %s"),
                   doctor_hop_words(&hop, words, sizeof words));
        doctor_hop_close(&hop);
        return;
    }
    struct tls_client *client = tls_client_new(&settings, &err);
    bool greeted = doctor_hop_say(doctor, &hop, "EHLO %s", doctor->config->hostname);
    bool offered = greeted && strstr(hop.reply.text, "STARTTLS") != NULL;
    if (client == NULL) {
        doctor_say(finding, DOCTOR_UNKNOWN, "%s", err.text);
    } else if (!offered) {
        doctor_say(finding, DOCTOR_FAILED, _("STARTTLS is not offered (%s)"),
                   greeted ? doctor_hop_words(&hop, words, sizeof words) : hop.trouble);
        doctor_advise(
            finding,
            _("put the certificate into tls.certificates, then: systemctl restart relay-in"));
    } else if (nexthop_starttls(&hop.hop, client, doctor->config->hostname, NULL, &hop.reply,
                                doctor->deadline, &err) != IO_OK) {
        doctor_say(finding, DOCTOR_FAILED, _("the TLS handshake fails: %s"), err.text);
        doctor_advise(finding, "journalctl -u relay-in -p warning");
    } else if (stream_tls_info(&hop.hop.stream, &info)) {
        doctor_say(finding, DOCTOR_OK, "%s, %s", info.version, info.cipher);
    }
    doctor_hop_close(&hop);
    tls_client_free(client);
}

static void tls_present(const struct doctor *doctor, struct doctor_finding *finding)
{
    size_t count = doctor->config->tls.certificates.count;

    doctor_say(finding, count > 0 ? DOCTOR_OK : DOCTOR_FAILED,
               count > 0 ? _("there is a certificate") : _("relay.conf names no certificate"));
    if (count == 0)
        doctor_advise(finding, "tls = { certificates = ( { cert = \"tls/fullchain.pem\"; key = "
                               "\"tls/privkey.pem\"; } ); };");
}

static void tls_names(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *domains[DOCTOR_DOMAINS_MAX];
    size_t count = doctor_domains(doctor, domains, DOCTOR_DOMAINS_MAX);
    char hosts[TLS_HOSTS_MAX][DNS_NAME_MAX];
    const char *missing = NULL;
    unsigned preferences[TLS_HOSTS_MAX];
    struct certificate certificate;

    if (!doctor_tls_read(doctor, 0, &certificate, finding))
        return;
    if (!certificate_covers(&certificate, doctor->config->hostname))
        missing = doctor->config->hostname;
    for (size_t i = 0; i < count && missing == NULL; i++) {
        int found = doctor_mx(doctor, domains[i], hosts, preferences, TLS_HOSTS_MAX);
        for (int n = 0; n < found && missing == NULL; n++) {
            struct address address;
            bool ours = doctor_addresses(doctor, hosts[n], AF_INET, &address, 1) == 1 &&
                        doctor_is_own(doctor, &address);
            if (ours && !certificate_covers(&certificate, hosts[n]))
                missing = hosts[n];
        }
    }
    if (missing == NULL) {
        doctor_say(finding, DOCTOR_OK, _("it is for %s"), doctor->config->hostname);
    } else {
        doctor_say(finding, DOCTOR_FAILED, _("%s is not for %s but for %s"), tls_file(doctor, 0),
                   missing, certificate.name_count > 0 ? certificate.names[0] : "?");
        doctor_advise(finding, _("have it issued again, also with -d %s"), missing);
    }
    certificate_clear(&certificate);
}

static void tls_chain(const struct doctor *doctor, struct doctor_finding *finding)
{
    doctor_say(finding, DOCTOR_OK, _("the chain is complete"));
    for (size_t i = 0; i < doctor->config->tls.certificates.count && finding->outcome == DOCTOR_OK;
         i++) {
        struct certificate certificate;
        if (!doctor_tls_read(doctor, i, &certificate, finding))
            return;
        if (certificate.state == CERTIFICATE_UNORDERED)
            doctor_say(finding, DOCTOR_FAILED, _("%s: its certificates are in the wrong order"),
                       tls_file(doctor, i));
        else if (certificate.state == CERTIFICATE_SELF_SIGNED)
            doctor_say(finding, DOCTOR_WARNING, _("%s is self-signed"), tls_file(doctor, i));
        else if (certificate.state == CERTIFICATE_INCOMPLETE)
            doctor_say(
                finding, DOCTOR_WARNING,
                _("%s: its chain (%zu certificates) does not end at a CA that this host knows"),
                tls_file(doctor, i), certificate.chain_count);
        if (finding->outcome != DOCTOR_OK)
            doctor_advise(finding, _("use fullchain.pem, not cert.pem, from a public CA"));
        certificate_clear(&certificate);
    }
}

static void tls_expiry(const struct doctor *doctor, struct doctor_finding *finding)
{
    long long now = time(NULL), least = -1;

    for (size_t i = 0; i < doctor->config->tls.certificates.count; i++) {
        struct certificate certificate;
        if (!doctor_tls_read(doctor, i, &certificate, finding))
            return;
        long long days = (certificate.not_after - now) / TLS_DAY;
        bool past = certificate.not_after <= now, early = certificate.not_before > now;
        certificate_clear(&certificate);
        if (past || early) {
            doctor_say(finding, DOCTOR_FAILED,
                       past ? _("%s has expired") : _("%s is not valid yet (is the clock right?)"),
                       tls_file(doctor, i));
            doctor_advise(finding, "certbot renew --dry-run; systemctl list-timers");
            return;
        }
        least = least < 0 || days < least ? days : least;
    }
    doctor_say(finding, least < CERTIFICATE_SOON_DAYS ? DOCTOR_WARNING : DOCTOR_OK,
               _("valid for %lld more days"), least);
    if (least < CERTIFICATE_SOON_DAYS)
        doctor_advise(finding, "certbot renew --dry-run; systemctl list-timers");
}

static void tls_key(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct certificate certificate;

    if (!doctor_tls_read(doctor, 0, &certificate, finding))
        return;
    bool weak = strcmp(certificate.key, "RSA") == 0 && certificate.key_bits < 2048;
    doctor_say(finding, weak ? DOCTOR_FAILED : DOCTOR_OK,
               strcmp(certificate.key, "RSA") == 0 && !weak
                   ? _("%s, %u bits; ECDSA P-256 would cost a fifth of the processor time")
                   : "%s, %u bits",
               certificate.key, certificate.key_bits);
    if (weak)
        doctor_advise(finding, "certbot certonly --key-type ecdsa -d %s", doctor->config->hostname);
    certificate_clear(&certificate);
}

/* Asks for the TLSA records that senders look up for this host. */
static enum resolver_result tls_ask_tlsa(const struct doctor *doctor,
                                         struct resolver_answer *answer)
{
    char name[DNS_NAME_MAX + 20];

    snprintf(name, sizeof name, "_25._tcp.%s", doctor->config->hostname);
    return doctor_ask(doctor, name, DNS_TYPE_TLSA, answer);
}

static bool tls_matches(const struct doctor *doctor, const struct dane_records *records,
                        size_t index)
{
    const char *const names[] = {doctor->config->hostname};
    struct certificate certificate;
    struct doctor_finding unseen;

    if (!doctor_tls_read(doctor, index, &certificate, &unseen))
        return true;
    struct dane_verdict verdict =
        dane_match(records, certificate.chain, certificate.chain_count, names, 1);
    certificate_clear(&certificate);
    return verdict.result == DANE_MATCH;
}

static void tls_tlsa(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct resolver_answer answer;
    enum resolver_result result = tls_ask_tlsa(doctor, &answer);
    struct dane_records *records =
        result == RESOLVER_FOUND
            ? dane_records_new((const char *const *)answer.data, answer.lengths, answer.count)
            : NULL;

    if (result == RESOLVER_TEMPORARY) {
        doctor_say(finding, DOCTOR_FAILED, _("TLSA of _25._tcp.%s: %s"), doctor->config->hostname,
                   answer.bogus ? _("the answer does not match its signature") : answer.reason);
        doctor_advise(finding, _("repair the zone: until then senders with DANE do not deliver"));
    } else if (records == NULL) {
        doctor_say(finding, DOCTOR_OK, _("none are published"));
    } else if (records->count == 0) {
        doctor_say(finding, DOCTOR_WARNING, _("none of the %zu records is usable"), answer.count);
        doctor_advise(finding, "_25._tcp.%s. TLSA 3 1 1 ...", doctor->config->hostname);
    } else {
        doctor_say(finding, DOCTOR_OK, _("they match the certificate"));
        for (size_t i = 0; i < doctor->config->tls.certificates.count; i++) {
            if (!tls_matches(doctor, records, i)) {
                doctor_say(finding, DOCTOR_FAILED, _("the TLSA records do not match %s"),
                           tls_file(doctor, i));
                doctor_advise(finding,
                              _("publish a 3 1 1 record of its key, or remove the records"));
            }
        }
    }
    free(records);
    resolver_answer_free(&answer);
}

static void tls_tlsa_signed(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct resolver_answer answer;
    enum resolver_result result = tls_ask_tlsa(doctor, &answer);

    if (result != RESOLVER_FOUND) {
        finding->outcome = DOCTOR_SKIPPED;
    } else if (answer.secure) {
        doctor_say(finding, DOCTOR_OK, _("the records are signed"));
    } else {
        doctor_say(finding, DOCTOR_WARNING,
                   _("there are TLSA records, but the zone is not signed"));
        doctor_advise(finding,
                      _("sign the zone (DNSSEC) or remove the records: they have no effect"));
    }
    resolver_answer_free(&answer);
}

static void tls_tlsa_renewal(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct resolver_answer answer;
    bool key = false, whole = false;

    if (tls_ask_tlsa(doctor, &answer) != RESOLVER_FOUND) {
        finding->outcome = DOCTOR_SKIPPED;
        resolver_answer_free(&answer);
        return;
    }
    for (size_t i = 0; i < answer.count; i++) {
        const unsigned char *data = (const unsigned char *)answer.data[i];
        if (answer.lengths[i] < 3)
            continue;
        whole = whole || (data[0] == DANE_USAGE_EE && data[1] == DANE_SELECT_CERTIFICATE);
        key = key || data[0] == DANE_USAGE_TA ||
              (data[0] == DANE_USAGE_EE && data[1] == DANE_SELECT_KEY);
    }
    doctor_say(
        finding, whole && !key ? DOCTOR_WARNING : DOCTOR_OK,
        whole && !key
            ? _("3 0 x: the records depend on the certificate, which changes with each renewal")
            : _("the records outlast a renewal that keeps the key"));
    if (finding->outcome == DOCTOR_WARNING)
        doctor_advise(finding,
                      _("publish 3 1 1, and let the ACME client keep the key: reuse_key = True"));
    resolver_answer_free(&answer);
}

/* Each domain needs one TXT record at "LABEL.domain" that begins with `version`. */
static void tls_policy_records(const struct doctor *doctor, struct doctor_finding *finding,
                               const char *label, const char *version)
{
    const char *domains[DOCTOR_DOMAINS_MAX];
    size_t count = doctor_domains(doctor, domains, DOCTOR_DOMAINS_MAX), with = 0;
    char name[DNS_NAME_MAX + 20], record[1024];

    finding->outcome = DOCTOR_OK;
    for (size_t i = 0; i < count && finding->outcome == DOCTOR_OK; i++) {
        snprintf(name, sizeof name, "%s.%s", label, domains[i]);
        int found = doctor_txt_find(doctor, name, version, record, sizeof record);
        with += found == 1;
        if (found < 0) {
            doctor_say(finding, DOCTOR_UNKNOWN, _("the DNS does not answer for %s at the moment"),
                       name);
        } else if (found > 1) {
            doctor_say(finding, DOCTOR_FAILED, _("%s has %d such records, so none of them counts"),
                       name, found);
            doctor_advise(finding, _("keep only one of them"));
        }
    }
    if (finding->outcome == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, _("%zu of %zu domains have one"), with, count);
}

static void tls_sts(const struct doctor *doctor, struct doctor_finding *finding)
{
    tls_policy_records(doctor, finding, "_mta-sts", "v=STSv1;");
}

static void tls_tlsrpt(const struct doctor *doctor, struct doctor_finding *finding)
{
    tls_policy_records(doctor, finding, "_smtp._tls", "v=TLSRPTv1;");
}

static void tls_sts_host(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *domains[DOCTOR_DOMAINS_MAX];
    size_t count = doctor_domains(doctor, domains, DOCTOR_DOMAINS_MAX);
    char name[DNS_NAME_MAX + 20], record[1024];
    struct address address;
    bool any = false;

    doctor_say(finding, DOCTOR_OK, _("the policy hosts have addresses"));
    for (size_t i = 0; i < count && finding->outcome == DOCTOR_OK; i++) {
        snprintf(name, sizeof name, "_mta-sts.%s", domains[i]);
        if (doctor_txt_find(doctor, name, "v=STSv1;", record, sizeof record) != 1)
            continue;
        any = true;
        snprintf(name, sizeof name, "mta-sts.%s", domains[i]);
        if (doctor_addresses(doctor, name, AF_INET, &address, 1) == 0 &&
            doctor_addresses(doctor, name, AF_INET6, &address, 1) == 0) {
            doctor_say(finding, DOCTOR_FAILED, _("%s has no address: senders find no policy"),
                       name);
            doctor_advise(finding, _("publish its A record, or remove the TXT record of _mta-sts"));
        }
    }
    if (!any)
        finding->outcome = DOCTOR_SKIPPED;
}

static void tls_caa(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct resolver_answer answer;
    char name[DNS_NAME_MAX];
    const char *at = doctor->config->hostname;
    enum resolver_result result = RESOLVER_NO_DATA;

    /* The closest ancestor with CAA records counts (RFC 8659 3). */
    for (; at != NULL && result != RESOLVER_FOUND;
         at = strchr(at, '.') != NULL ? strchr(at, '.') + 1 : NULL) {
        snprintf(name, sizeof name, "%s", at);
        result = doctor_ask(doctor, name, 257 /* CAA, RFC 8659 */, &answer);
        if (result == RESOLVER_TEMPORARY) {
            doctor_say(finding, DOCTOR_FAILED, _("CAA of %s: %s"), name, answer.reason);
            doctor_advise(finding,
                          _("repair the zone: CAs issue nothing while they cannot look this up"));
            resolver_answer_free(&answer);
            return;
        }
        if (result == RESOLVER_FOUND) {
            char issuers[300] = "";
            size_t len = 0;
            for (size_t i = 0; i < answer.count; i++) {
                const unsigned char *data = (const unsigned char *)answer.data[i];
                int tag = answer.lengths[i] > 2 ? data[1] : 0;
                if (tag == 5 && answer.lengths[i] >= 7 && memcmp(data + 2, "issue", 5) == 0 &&
                    len < sizeof issuers)
                    len += (size_t)snprintf(issuers + len, sizeof issuers - len, "%s%.*s",
                                            len > 0 ? ", " : "", answer.lengths[i] - 7, data + 7);
            }
            doctor_say(finding, DOCTOR_OK, _("%s lets these CAs issue: %s"), name, issuers);
        }
        resolver_answer_free(&answer);
    }
    if (result != RESOLVER_FOUND)
        doctor_say(finding, DOCTOR_OK, _("any CA may issue"));
}

static const struct doctor_check tls_checks[] = {
    {"banner", DOCTOR_NEEDS_IN, tls_banner, N_("Does relay-in greet, quickly and by its name?"),
     N_("it is the first thing that senders see")},
    {"certificate", 0, tls_present, N_("Is there a certificate?"),
     N_("without one, mail comes in plain text, and some senders send none at all")},
    {"starttls", DOCTOR_NEEDS_IN | DOCTOR_NEEDS_TLS, tls_starttls, N_("Does STARTTLS work?"),
     N_("many senders do not fall back to plain text")},
    {"cert-name", DOCTOR_NEEDS_TLS, tls_names,
     N_("Is the certificate for the names of the MX records?"),
     N_("senders that check names (MTA-STS) do not deliver")},
    {"cert-chain", DOCTOR_NEEDS_TLS, tls_chain, N_("Is its chain complete and in order?"),
     N_("otherwise senders that check it find no CA that they know")},
    {"cert-expiry", DOCTOR_NEEDS_TLS, tls_expiry, N_("How long is it valid?"),
     N_("an overdue renewal may go unnoticed")},
    {"cert-key", DOCTOR_NEEDS_TLS, tls_key, N_("Is its key strong and cheap?"),
     N_("weak keys are refused, and RSA is expensive for a small server")},
    {"tlsa", DOCTOR_NEEDS_IN | DOCTOR_NEEDS_TLS, tls_tlsa,
     N_("Do published TLSA records match the certificate?"),
     N_("otherwise senders with DANE do not deliver")},
    {"tlsa-signed", DOCTOR_NEEDS_IN | DOCTOR_NEEDS_TLS, tls_tlsa_signed,
     N_("Are the TLSA records signed?"), N_("unsigned ones protect nothing")},
    {"tlsa-renewal", DOCTOR_NEEDS_IN | DOCTOR_NEEDS_TLS, tls_tlsa_renewal,
     N_("Do the TLSA records outlast the next renewal?"),
     N_("otherwise mail from senders with DANE stops on that day")},
    {"sts", DOCTOR_NEEDS_IN, tls_sts, N_("Is there at most one MTA-STS record per domain?"),
     N_("several count as none")},
    {"sts-host", DOCTOR_NEEDS_IN, tls_sts_host,
     N_("Does the host of each MTA-STS policy have an address?"),
     N_("otherwise the policy that the record announces cannot be fetched")},
    {"tlsrpt", DOCTOR_NEEDS_IN, tls_tlsrpt, N_("Is there at most one TLSRPT record per domain?"),
     N_("several count as none")},
    {"caa", DOCTOR_NEEDS_TLS, tls_caa, N_("May a CA issue for this name?"),
     N_("otherwise the next renewal fails")},
};

const struct doctor_group doctor_tls = {"tls", tls_checks, sizeof tls_checks / sizeof *tls_checks};
