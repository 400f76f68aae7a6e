/* relayctl/doctor-home.c - checks from the mail server's side: the relay as a stranger sees it
 *
 * Needs no configuration. Many providers of home lines block outgoing port 25; then nothing can be
 * checked from there.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/doctor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/i18n.h"
#include "relayctl/run.h"

#define HOME_KEEPALIVE_WORD "off"

static bool home_address(const struct doctor *doctor, int family, struct address *address,
                         struct doctor_finding *finding)
{
    if (address_parse_ip(address, doctor->home_target) == 0 && address->family == family)
        return true;
    if (doctor_addresses(doctor, doctor->home_target, family, address, 1) == 1)
        return true;
    doctor_say(finding, family == AF_INET6 ? DOCTOR_SKIPPED : DOCTOR_FAILED,
               _("%s has no such address in the DNS"), doctor->home_target);
    return false;
}

static void home_port25(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct address address, target;
    struct doctor_hop hop;
    char words[300];
    bool by_name = address_parse_ip(&target, doctor->home_target) != 0;

    if (!home_address(doctor, finding->family, &address, finding))
        return;
    /* Through the tunnel we would not be a stranger. */
    if (address_is_private(&address)) {
        finding->outcome = DOCTOR_SKIPPED;
        return;
    }
    address.port = 25;
    if (!doctor_hop_greet(doctor, &hop, &address, NULL)) {
        doctor_say(finding, DOCTOR_UNKNOWN,
                   _("%s; many home connections have port 25 blocked: try from elsewhere"),
                   hop.trouble);
        return;
    }
    doctor_hop_words(&hop, words, sizeof words);
    if (!reply_is_positive(&hop.reply))
        doctor_say(finding, DOCTOR_WARNING, _("it refuses this connection: %s"), words);
    else if (by_name && strstr(words, doctor->home_target) == NULL)
        doctor_say(finding, DOCTOR_WARNING,
                   _("another host greets: %s (does your provider intercept port 25?)"), words);
    else
        doctor_say(finding, DOCTOR_OK, _("greeted after %" PRId64 " ms"), hop.greeting_ms);
    doctor_hop_close(&hop);
}

static void home_2526(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct address address;
    struct doctor_hop hop;

    if (!home_address(doctor, AF_INET, &address, finding))
        return;
    address.port = 2526;
    bool open = doctor_hop_greet(doctor, &hop, &address, NULL);
    if (address_is_private(&address) && open) {
        doctor_say(finding, DOCTOR_OK, _("port 2526 answers in the tunnel"));
    } else if (address_is_private(&address)) {
        doctor_say(finding, DOCTOR_FAILED, _("port 2526 does not answer in the tunnel: %s"),
                   hop.trouble);
        doctor_advise(finding, "iifname \"wg0\" tcp dport 2526 accept; systemctl status relay-out");
    } else if (open) {
        doctor_say(finding, DOCTOR_FAILED, _("port 2526 of %s is open to the internet"),
                   doctor->home_target);
        doctor_advise(finding, "iifname \"wg0\" tcp dport 2526 accept");
    } else {
        doctor_say(finding, DOCTOR_OK, _("port 2526 is closed to the internet"));
    }
    doctor_hop_close(&hop);
}

static void home_keepalive(const struct doctor *doctor, struct doctor_finding *finding)
{
    static const char *const command[] = {"wg", "show", "all", "persistent-keepalive", NULL};
    char text[4096];

    (void)doctor;
    if (!run_command(command, 5, text, sizeof text) || text[0] == '\0') {
        doctor_say(finding, DOCTOR_UNKNOWN, _("WireGuard does not answer here"));
    } else if (strstr(text, HOME_KEEPALIVE_WORD) != NULL) {
        doctor_say(finding, DOCTOR_WARNING, _("a peer has no PersistentKeepalive"));
        doctor_advise(finding, "PersistentKeepalive = 25");
    } else {
        doctor_say(finding, DOCTOR_OK, _("each peer is kept alive"));
    }
}

static const struct doctor_check home_checks[] = {
    {"home-25-4", DOCTOR_NEEDS_HOME, home_port25, N_("Is the relay reached by IPv4?"),
     N_("otherwise no mail comes in")},
    {"home-25-6", DOCTOR_NEEDS_HOME | DOCTOR_BY_IPV6, home_port25,
     N_("Is the relay reached by IPv6?"), N_("senders that prefer IPv6 would wait in vain")},
    {"home-2526", DOCTOR_NEEDS_HOME, home_2526,
     N_("Is relay-out closed to the internet and open in the tunnel?"),
     N_("otherwise strangers can try it, or the mail server cannot send")},
    {"home-keepalive", DOCTOR_NEEDS_HOME | DOCTOR_NEEDS_ROOT, home_keepalive,
     N_("Does the tunnel stay open when idle?"),
     N_("otherwise the router forgets it, and mail cannot come in")},
};

const struct doctor_group doctor_home = {"home", home_checks,
                                         sizeof home_checks / sizeof *home_checks};
