/* relayctl/doctor-backend.c - checks of the mail server behind the tunnel
 *
 * The most important ones prove that nobody can relay through it: the backend must refuse a foreign
 * recipient both from this host itself and from a client that relay-in introduces.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/doctor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/i18n.h"
#include "net/dial.h"

#define BACKEND_SLOW_MS 3000
#define BACKEND_FAR_MS 300
#define BACKEND_SLOW_RCPT_MS 5000

/* A domain that no mail server is responsible for (RFC 2606), and client addresses that nobody has
 * (RFC 5737, RFC 3849). */
#define BACKEND_FOREIGN "postern-doctor@example.net"
#define BACKEND_CLIENT4 "192.0.2.25"
#define BACKEND_CLIENT6 "2001:db8::25"

static const struct config_backend *backend_main(const struct doctor *doctor)
{
    return &doctor->config->in.backend;
}

static void backend_client(struct address *client, const char *text)
{
    address_parse_ip(client, text);
    client->port = 40000;
}

/* Postfix's reply text for smtpd_client_connection_count_limit. */
static bool backend_is_full(const struct doctor_hop *hop)
{
    return strstr(hop->trouble, "too many connections") != NULL;
}

/* Advises what to do if the backend cannot be reached. */
static void backend_advise_away(const struct config_backend *backend, const struct doctor_hop *hop,
                                struct doctor_finding *finding)
{
    if (backend_is_full(hop))
        doctor_advise(finding, "smtpd_client_connection_count_limit = %" PRId64,
                      backend->max_sessions);
    else
        doctor_advise(finding, _("wg show; ping the mail server; is it running, and does its "
                                 "firewall let this host in?"));
}

/* Opens a dialog with the first host of the backend that answers. False, with the finding set, if none
 * does. */
static bool backend_open(const struct doctor *doctor, struct doctor_hop *hop,
                         const struct address *client, struct doctor_finding *finding)
{
    const struct config_backend *backend = backend_main(doctor);

    for (size_t i = 0; i < backend->hosts.count; i++) {
        if (doctor_hop_open(doctor, hop, backend, &backend->hosts.items[i], client))
            return true;
    }
    /* Many checks connect at once, as clients do; any that meets the limit reports it. */
    bool full = backend_is_full(hop);
    doctor_say(finding, full ? DOCTOR_WARNING : DOCTOR_UNKNOWN,
               _("the mail server could not be reached: %s"), hop->trouble);
    if (full)
        backend_advise_away(backend, hop, finding);
    return false;
}

static void backend_up(const struct doctor *doctor, struct doctor_finding *finding)
{
    const struct config_backend *backend = backend_main(doctor);
    struct doctor_hop hop;
    char host[ADDRESS_TEXT_MAX];

    for (size_t i = 0; i < backend->hosts.count; i++) {
        bool open = doctor_hop_open(doctor, &hop, backend, &backend->hosts.items[i], NULL);
        address_format_endpoint(&backend->hosts.items[i], host);
        if (!open) {
            doctor_say(finding, DOCTOR_FAILED, "%s: %s", host, hop.trouble);
            backend_advise_away(backend, &hop, finding);
            return;
        }
        if (hop.greeting_ms > BACKEND_SLOW_MS) {
            doctor_say(finding, DOCTOR_WARNING, _("%s took %" PRId64 " ms to greet"), host,
                       hop.greeting_ms);
            doctor_advise(
                finding,
                _("at the mail server: put this host into /etc/hosts and on postscreen's list"));
        } else if (finding->outcome != DOCTOR_WARNING) {
            doctor_say(finding, DOCTOR_OK, _("%s greeted after %" PRId64 " ms"), host,
                       hop.connect_ms + hop.greeting_ms);
        }
        doctor_hop_close(&hop);
    }
}

static void backend_latency(const struct doctor *doctor, struct doctor_finding *finding)
{
    const struct config_backend *backend = backend_main(doctor);
    int64_t worst = 0, least = INT64_MAX;
    struct error err;

    for (int i = 0; i < 5; i++) {
        int64_t began = deadline_now_ms();
        int fd = dial_connect(&backend->hosts.items[0], NULL, 0,
                              deadline_earlier(doctor->deadline, deadline_in_ms(2000)), &err);
        if (fd < 0) {
            doctor_say(finding, i == 0 ? DOCTOR_UNKNOWN : DOCTOR_FAILED,
                       i == 0 ? "%s" : _("some connections fail: %s"), err.text);
            return;
        }
        close(fd);
        int64_t took = deadline_now_ms() - began;
        worst = took > worst ? took : worst;
        least = took < least ? took : least;
    }
    doctor_say(finding, worst > BACKEND_FAR_MS ? DOCTOR_WARNING : DOCTOR_OK,
               _("a round trip takes %" PRId64 " to %" PRId64 " ms"), least, worst);
    if (finding->outcome == DOCTOR_WARNING)
        doctor_advise(finding, _("look at home's uplink; raise in.workers, see relay.conf(5)"));
}

static void backend_identity(const struct doctor *doctor, struct doctor_finding *finding)
{
    int identity = backend_main(doctor)->identity;

    if (identity == CONFIG_IDENTITY_NONE) {
        doctor_say(finding, DOCTOR_WARNING,
                   _("identity is \"none\": every client looks like this host"));
        doctor_advise(finding, "identity = \"xclient\";");
    } else {
        doctor_say(finding, DOCTOR_OK, "%s",
                   identity == CONFIG_IDENTITY_XCLIENT ? "XCLIENT" : "PROXY");
    }
}

static void backend_introduces(const struct doctor *doctor, struct doctor_finding *finding,
                               const char *client_text)
{
    const struct config_backend *backend = backend_main(doctor);
    struct address client;
    struct doctor_hop hop;
    char own[ADDRESS_TEXT_MAX] = "10.0.0.1";

    if (backend->identity == CONFIG_IDENTITY_NONE) {
        finding->outcome = DOCTOR_SKIPPED;
        return;
    }
    backend_client(&client, client_text);
    if (doctor_hop_open(doctor, &hop, backend, &backend->hosts.items[0], &client)) {
        doctor_say(finding, DOCTOR_OK, _("the mail server accepts the identity of %s"),
                   client_text);
        doctor_hop_close(&hop);
        return;
    }
    struct doctor_hop plain;
    bool up = backend->identity != CONFIG_IDENTITY_XCLIENT ||
              doctor_hop_open(doctor, &plain, backend, &backend->hosts.items[0], NULL);
    if (backend->identity == CONFIG_IDENTITY_XCLIENT) {
        struct address local;
        if (up && address_of_socket(&local, plain.hop.stream.fd))
            address_format_ip(&local, own);
        doctor_hop_close(&plain);
    }
    doctor_say(finding, up ? DOCTOR_FAILED : DOCTOR_UNKNOWN, "%s", hop.trouble);
    if (backend->identity != CONFIG_IDENTITY_XCLIENT)
        doctor_advise(finding, _("let that port expect PROXY headers from this host"));
    else if (client.family == AF_INET6 && strstr(hop.trouble, "XCLIENT: 5") != NULL)
        doctor_advise(finding,
                      _("at the mail server: inet_protocols = all; or here: in = { listen = [ "
                        "\"0.0.0.0:25\" ]; };"));
    else
        doctor_advise(finding,
                      _("at the mail server: smtpd_authorized_xclient_hosts = %s; postscreen must "
                        "list it too; Docker may hide this address: see the server's log"),
                      own);
}

static void backend_xclient4(const struct doctor *doctor, struct doctor_finding *finding)
{
    backend_introduces(doctor, finding, BACKEND_CLIENT4);
}

static void backend_xclient6(const struct doctor *doctor, struct doctor_finding *finding)
{
    for (size_t i = 0; i < doctor->config->in.listen.count; i++) {
        if (doctor->config->in.listen.items[i].address.family == AF_INET6) {
            backend_introduces(doctor, finding, BACKEND_CLIENT6);
            return;
        }
    }
    finding->outcome = DOCTOR_SKIPPED;
}

/* A foreign recipient must get 5xx; a 4xx proves nothing. */
static void backend_judge_relay(const struct doctor_hop *hop, int code, const char *what,
                                struct doctor_finding *finding, const char *fix)
{
    char words[300];

    doctor_hop_words(hop, words, sizeof words);
    if (code >= 200 && code < 300) {
        doctor_say(finding, DOCTOR_FAILED, _("%s is accepted: %s"), what, words);
        doctor_advise(finding, "%s", fix);
    } else if (code >= 500) {
        doctor_say(finding, DOCTOR_OK, _("%s is refused: %s"), what, words);
    } else {
        doctor_say(finding, DOCTOR_UNKNOWN, "%s: %s", what, code == 0 ? hop->trouble : words);
    }
}

static void backend_relay_as_us(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct doctor_hop hop;

    if (!backend_open(doctor, &hop, NULL, finding))
        return;
    int code = doctor_hop_recipient(doctor, &hop, "", BACKEND_FOREIGN);
    backend_judge_relay(&hop, code, BACKEND_FOREIGN, finding,
                        _("remove this host's tunnel address from the mail server's mynetworks and "
                          "forwarding hosts (mynetworks_style = subnet includes it too)"));
    doctor_hop_close(&hop);
}

static void backend_relay_as_client(const struct doctor *doctor, struct doctor_finding *finding)
{
    static const char *const clients[] = {BACKEND_CLIENT4, BACKEND_CLIENT6};
    struct address client;
    struct doctor_hop hop;

    if (backend_main(doctor)->identity == CONFIG_IDENTITY_NONE) {
        finding->outcome = DOCTOR_SKIPPED;
        return;
    }
    for (size_t i = 0; i < 2; i++) {
        struct doctor_finding one = {.outcome = DOCTOR_UNKNOWN};
        backend_client(&client, clients[i]);
        if (backend_open(doctor, &hop, &client, &one)) {
            int code = doctor_hop_recipient(doctor, &hop, "", BACKEND_FOREIGN);
            backend_judge_relay(
                &hop, code, BACKEND_FOREIGN, &one,
                _("the mail server relays for strangers: reject_unauth_destination in its "
                  "smtpd_relay_restrictions"));
            doctor_hop_close(&hop);
        }
        if (i == 0 || one.outcome == DOCTOR_FAILED)
            *finding = one;
        if (one.outcome == DOCTOR_FAILED)
            return;
    }
}

static void backend_relay_tricks(const struct doctor *doctor, struct doctor_finding *finding)
{
    static const char *const forms[] = {
        "postern-doctor%%example.net@%s", "example.net!postern-doctor@%s",
        "\"postern-doctor@example.net\"@%s", "@%s:postern-doctor@example.net"};
    const char *domains[1];
    struct address client;
    struct doctor_hop hop;

    if (doctor_domains(doctor, domains, 1) == 0 ||
        backend_main(doctor)->identity == CONFIG_IDENTITY_NONE) {
        finding->outcome = DOCTOR_SKIPPED;
        return;
    }
    backend_client(&client, BACKEND_CLIENT4);
    if (!backend_open(doctor, &hop, &client, finding))
        return;
    doctor_say(finding, DOCTOR_OK, _("none of the old forms is accepted"));
    for (size_t i = 0; i < sizeof forms / sizeof *forms && finding->outcome == DOCTOR_OK; i++) {
        char recipient[400];
        snprintf(recipient, sizeof recipient, forms[i], domains[0]);
        int code = doctor_hop_recipient(doctor, &hop, "", recipient);
        if (code >= 200 && code < 300) {
            doctor_say(finding, DOCTOR_WARNING, _("the mail server accepts %s"), recipient);
            doctor_advise(
                finding,
                _("fine only if the mail server delivers that locally; relay-in refuses it"));
        } else if (code == 0) {
            doctor_say(finding, DOCTOR_UNKNOWN, "%s", hop.trouble);
        }
    }
    doctor_hop_close(&hop);
}

static void backend_unknown(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *domains[DOCTOR_DOMAINS_MAX];
    size_t count = doctor_domains(doctor, domains, 1);
    struct address client;
    struct doctor_hop hop;
    char recipient[400], words[300];

    if (count == 0) {
        finding->outcome = DOCTOR_SKIPPED;
        return;
    }
    backend_client(&client, BACKEND_CLIENT4);
    bool introduced = backend_main(doctor)->identity != CONFIG_IDENTITY_NONE;
    if (!backend_open(doctor, &hop, introduced ? &client : NULL, finding))
        return;
    snprintf(recipient, sizeof recipient, "postern-doctor-%lx@%s", (unsigned long)time(NULL),
             domains[0]);
    int64_t began = deadline_now_ms();
    int code = doctor_hop_recipient(doctor, &hop, "", recipient);
    int64_t took = deadline_now_ms() - began;
    doctor_hop_words(&hop, words, sizeof words);
    if (code >= 200 && code < 300) {
        doctor_say(finding, DOCTOR_WARNING, _("an unknown recipient of %s is accepted"),
                   domains[0]);
        doctor_advise(finding, _("fine if there is a catch-all; otherwise the mail server will "
                                 "bounce such mail and get blocklisted"));
    } else if (code == 0) {
        doctor_say(finding, DOCTOR_UNKNOWN, "%s", hop.trouble);
    } else if (took > BACKEND_SLOW_RCPT_MS) {
        doctor_say(finding, DOCTOR_WARNING, _("the reply to a recipient took %" PRId64 " ms"),
                   took);
        doctor_advise(finding, _("check the resolver of the mail server"));
    } else {
        doctor_say(finding, DOCTOR_OK, _("refused after %" PRId64 " ms: %s"), took, words);
    }
    doctor_hop_close(&hop);
}

/* Checks that every domain has postmaster (RFC 5321 4.5.1) or abuse (RFC 2142). */
static void backend_knows(const struct doctor *doctor, struct doctor_finding *finding,
                          const char *local, enum doctor_outcome when_not)
{
    const char *domains[DOCTOR_DOMAINS_MAX];
    size_t count = doctor_domains(doctor, domains, DOCTOR_DOMAINS_MAX);
    const struct config_backend *backend = backend_main(doctor);
    struct address client;
    struct doctor_hop hop;
    char recipient[400], words[300];

    backend_client(&client, BACKEND_CLIENT4);
    bool introduced = backend->identity != CONFIG_IDENTITY_NONE;
    if (count == 0 || doctor->config->in.backends.count > 0) {
        finding->outcome = DOCTOR_SKIPPED;
        return;
    }
    if (!backend_open(doctor, &hop, introduced ? &client : NULL, finding))
        return;
    doctor_say(finding, DOCTOR_OK, _("accepted for each of %zu domains"), count);
    for (size_t i = 0; i < count && finding->outcome == DOCTOR_OK; i++) {
        snprintf(recipient, sizeof recipient, "%s@%s", local, domains[i]);
        int code = doctor_hop_recipient(doctor, &hop, "", recipient);
        doctor_hop_words(&hop, words, sizeof words);
        if (code >= 500) {
            doctor_say(finding, when_not, "%s: %s", recipient, words);
            doctor_advise(finding, _("add the domain, or an alias %s, at the mail server"),
                          recipient);
        } else if (code == 0 || code >= 400) {
            doctor_say(finding, DOCTOR_UNKNOWN, "%s: %s", recipient,
                       code == 0 ? hop.trouble : words);
        }
    }
    doctor_hop_close(&hop);
}

static void backend_postmaster(const struct doctor *doctor, struct doctor_finding *finding)
{
    backend_knows(doctor, finding, "postmaster", DOCTOR_FAILED);
}

static void backend_abuse(const struct doctor *doctor, struct doctor_finding *finding)
{
    backend_knows(doctor, finding, "abuse", DOCTOR_WARNING);
}

static void backend_size(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct doctor_hop hop;

    if (!backend_open(doctor, &hop, NULL, finding))
        return;
    uint64_t theirs = hop.hop.capabilities.size_limit;
    uint64_t ours = (uint64_t)doctor->config->in.daemon.limits.message_size;
    doctor_hop_close(&hop);
    if (theirs == 0 || theirs >= ours) {
        doctor_say(finding, DOCTOR_OK, _("messages up to %" PRIu64 " MB"), ours >> 20);
    } else {
        doctor_say(finding, theirs < (10 << 20) ? DOCTOR_WARNING : DOCTOR_OK,
                   _("messages up to %" PRIu64 " MB, as the mail server says"), theirs >> 20);
        if (finding->outcome == DOCTOR_WARNING)
            doctor_advise(finding, _("at the mail server: message_size_limit = %" PRIu64), ours);
    }
}

static void backend_tls(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct doctor_hop hop;
    int level = backend_main(doctor)->tls;

    if (!backend_open(doctor, &hop, NULL, finding))
        return;
    bool offers = (hop.hop.capabilities.extensions & EXTENSION_STARTTLS) != 0;
    doctor_hop_close(&hop);
    if (!offers && (level == CONFIG_TLS_ENCRYPT || level == CONFIG_TLS_VERIFY)) {
        doctor_say(finding, DOCTOR_FAILED,
                   _("the mail server does not offer STARTTLS, which in.backend.tls requires"));
        doctor_advise(finding, _("give the mail server a certificate, or: tls = \"mirror\";"));
    } else {
        doctor_say(finding, DOCTOR_OK,
                   offers ? _("the mail server offers STARTTLS")
                          : _("plain text inside the tunnel, which encrypts it"));
    }
}

/* Checks that full-size packets pass the tunnel, with 20 KB of commands and their replies. */
static void backend_mtu(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct doctor_hop hop;
    char command[1000];

    if (!backend_open(doctor, &hop, NULL, finding))
        return;
    memset(command, 'x', sizeof command);
    memcpy(command, "NOOP ", 5);
    strcpy(command + 900, "\r\n");
    enum io_result result = IO_OK;
    struct deadline deadline = deadline_earlier(doctor->deadline, deadline_in_ms(5000));
    for (int i = 0; i < 20 && result == IO_OK; i++)
        result = nexthop_put(&hop.hop, command, deadline);
    if (result == IO_OK)
        result = stream_flush(&hop.hop.stream, deadline);
    for (int i = 0; i < 20 && result == IO_OK; i++)
        result = reply_read(&hop.hop.stream, &hop.reply, false, deadline);
    /* Postfix 3.9 and newer hang up on so many commands. That too proves that the packets arrived. */
    if (result != IO_TIMEOUT) {
        doctor_say(finding, DOCTOR_OK, _("full-size packets get through"));
    } else {
        doctor_say(finding, DOCTOR_FAILED, _("18 KB at once did not get through: %s"),
                   io_result_name(result));
        doctor_advise(finding, _("MTU = 1380 in the [Interface] of both ends of the tunnel"));
    }
    doctor_hop_close(&hop);
}

static const struct doctor_check backend_checks[] = {
    {"relay-as-us", DOCTOR_NEEDS_IN, backend_relay_as_us,
     N_("Does the mail server refuse to relay for this host itself?"),
     N_("anyone who finds a way around relay-in can send spam in your name")},
    {"relay-as-client", DOCTOR_NEEDS_IN, backend_relay_as_client,
     N_("Does the mail server refuse to relay for a stranger that relay-in introduces?"),
     N_("it is an open relay, through this host")},
    {"relay-tricks", DOCTOR_NEEDS_IN, backend_relay_tricks,
     N_("Does the mail server refuse the old forms of relaying?"),
     N_("some servers still follow them")},
    {"backend-up", DOCTOR_NEEDS_IN, backend_up, N_("Does the mail server answer, and quickly?"),
     N_("until it does, all mail is put off with 451")},
    {"identity", DOCTOR_NEEDS_IN, backend_identity,
     N_("Is the mail server told who the client is?"),
     N_("SPF, blocklists and greylisting judge this host instead")},
    {"introduce4", DOCTOR_NEEDS_IN, backend_xclient4,
     N_("Does it accept the identity of an IPv4 client?"),
     N_("all mail gets 451 while it does not")},
    {"introduce6", DOCTOR_NEEDS_IN, backend_xclient6,
     N_("Does it accept the identity of an IPv6 client?"), N_("mail from IPv6 clients gets 451")},
    {"unknown-rcpt", DOCTOR_NEEDS_IN, backend_unknown,
     N_("Does it refuse unknown recipients, and quickly?"),
     N_("mail that is accepted and bounced later goes to forged senders")},
    {"domains-known", DOCTOR_NEEDS_IN, backend_postmaster,
     N_("Does it know each domain, and its postmaster?"), N_("mail for that domain is refused")},
    {"abuse", DOCTOR_NEEDS_IN, backend_abuse, N_("Does it accept mail for abuse@ of each domain?"),
     N_("complaints are lost, and blocklisting follows")},
    {"size", DOCTOR_NEEDS_IN, backend_size, N_("How large may messages be?"),
     N_("larger ones are refused")},
    {"backend-tls", DOCTOR_NEEDS_IN, backend_tls, N_("Does it offer the TLS that is required?"),
     N_("all mail gets 451 while it does not")},
    {"latency", DOCTOR_NEEDS_IN, backend_latency, N_("How far away is the mail server?"),
     N_("each message takes several round trips")},
    {"mtu", DOCTOR_NEEDS_IN, backend_mtu, N_("Do full-size packets get through the tunnel?"),
     N_("small messages arrive and large ones do not")},
};

const struct doctor_group doctor_backend = {"backend", backend_checks,
                                            sizeof backend_checks / sizeof *backend_checks};
