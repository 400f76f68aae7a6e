/* relayctl/doctor-ways.c - checks of the ways: through the tunnel to the mail server, and out from it
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/doctor.h"

#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/i18n.h"
#include "relayctl/run.h"
#include "relayctl/tunnel.h"

static const struct address *ways_home(const struct doctor *doctor)
{
    return &doctor->config->in.backend.hosts.items[0];
}

/* Finds the interface for packets to the backend; "" if it cannot be seen. */
static void ways_interface(const struct doctor *doctor, char out[IF_NAMESIZE])
{
    char text[600], host[ADDRESS_TEXT_MAX];
    const char *const command[] = {
        "ip", "-o", "route", "get", address_format_ip(ways_home(doctor), host), NULL};

    out[0] = '\0';
    if (!run_command(command, 5, text, sizeof text))
        return;
    const char *at = strstr(text, " dev ");
    if (at != NULL)
        snprintf(out, IF_NAMESIZE, "%.*s", (int)strcspn(at + 5, " \n"), at + 5);
}

static void ways_route(const struct doctor *doctor, struct doctor_finding *finding)
{
    char tunnel[IF_NAMESIZE], text[600] = "";
    const char *const command[] = {"ip", "-o", "route", "show", "default", NULL};
    char host[ADDRESS_TEXT_MAX], mark[IF_NAMESIZE + 8];

    ways_interface(doctor, tunnel);
    if (tunnel[0] == '\0') {
        doctor_say(finding, DOCTOR_UNKNOWN, _("cannot look at the routes (package iproute2)"));
        return;
    }
    run_command(command, 5, text, sizeof text);
    snprintf(mark, sizeof mark, " dev %s ", tunnel);
    address_format_ip(ways_home(doctor), host);
    if (strstr(text, mark) != NULL && address_is_private(ways_home(doctor))) {
        doctor_say(finding, DOCTOR_WARNING,
                   _("the route to %s goes through %s, which leads to the internet"), host, tunnel);
        doctor_advise(finding, _("is the tunnel up? AllowedIPs = %s/32"), host);
    } else {
        doctor_say(finding, DOCTOR_OK, _("the route to %s goes through %s"), host, tunnel);
    }
}

static bool ways_has_wireguard(void)
{
    return access("/sys/class/net", R_OK) == 0 &&
           (access("/usr/bin/wg", X_OK) == 0 || access("/usr/local/bin/wg", X_OK) == 0);
}

static void ways_wireguard(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct tunnel tunnel;

    if (!ways_has_wireguard()) {
        finding->outcome = DOCTOR_SKIPPED;
        return;
    }
    bool found = tunnel_find(ways_home(doctor), &tunnel);
    long age = (long)(time(NULL) - tunnel.handshake);
    if (!found)
        doctor_say(finding, DOCTOR_UNKNOWN,
                   _("no WireGuard peer has the mail server's address in its AllowedIPs"));
    else if (tunnel.handshake == 0)
        doctor_say(finding, DOCTOR_FAILED, _("there has been no handshake with home yet"));
    else
        doctor_say(finding, age > TUNNEL_HANDSHAKE_OLD_S ? DOCTOR_FAILED : DOCTOR_OK,
                   _("the last handshake with home was %ld s ago"), age);
    if (finding->outcome == DOCTOR_FAILED)
        doctor_advise(
            finding,
            _("at home: Endpoint, key, PersistentKeepalive = 25; is UDP 51820 open here?"));
}

static void ways_wireguard_boot(const struct doctor *doctor, struct doctor_finding *finding)
{
    char tunnel[IF_NAMESIZE], unit[64], text[200], kind[64];

    ways_interface(doctor, tunnel);
    snprintf(kind, sizeof kind, "/etc/wireguard/%s.conf", tunnel);
    if (!ways_has_wireguard() || tunnel[0] == '\0' || access(kind, F_OK) != 0) {
        finding->outcome = DOCTOR_SKIPPED;
        return;
    }
    snprintf(unit, sizeof unit, "wg-quick@%s", tunnel);
    const char *const command[] = {"systemctl", "is-enabled", unit, NULL};
    if (run_command(command, 5, text, sizeof text)) {
        doctor_say(finding, DOCTOR_OK, _("%s starts at boot"), unit);
    } else {
        doctor_say(finding, DOCTOR_WARNING, _("%s does not start at boot"), unit);
        doctor_advise(finding, "systemctl enable %s", unit);
    }
}

static void ways_out_listen(const struct doctor *doctor, struct doctor_finding *finding)
{
    const struct listen_list *listen = &doctor->config->out.listen;
    char text[ADDRESS_TEXT_MAX];

    doctor_say(finding, DOCTOR_OK, _("it listens only in the tunnel"));
    for (size_t i = 0; i < listen->count; i++) {
        const struct listen_spec *spec = &listen->items[i];
        if (!address_is_private(&spec->address) && !spec->submission) {
            doctor_say(finding, DOCTOR_WARNING, _("it listens on %s, which others can reach"),
                       address_format_endpoint(&spec->address, text));
            doctor_advise(finding, "out = { listen = [ \"10.0.0.1:2526\" ]; };");
        }
    }
}

static void ways_loop(const struct doctor *doctor, struct doctor_finding *finding)
{
    const struct string_list *hops = &doctor->config->out.default_route.next_hops;
    struct address found[4];

    doctor_say(finding, DOCTOR_OK, _("no next hop of relay.conf is this host"));
    for (size_t i = 0; i < hops->count; i++) {
        char host[DNS_NAME_MAX];
        snprintf(host, sizeof host, "%.*s", (int)strcspn(hops->items[i], ":"), hops->items[i]);
        int count = doctor_addresses(doctor, host, AF_INET, found, 4);
        for (int n = 0; n < count; n++) {
            if (doctor_is_own(doctor, &found[n])) {
                doctor_say(finding, DOCTOR_FAILED, _("the smarthost %s is this host itself"), host);
                doctor_advise(finding,
                              _("put the provider's host into out.default_route.next_hop"));
            }
        }
    }
}

static void ways_smarthost(const struct doctor *doctor, struct doctor_finding *finding)
{
    const struct string_list *hops = &doctor->config->out.default_route.next_hops;
    struct doctor_hop hop;
    struct address address;
    char host[DNS_NAME_MAX], words[300];

    if (!doctor->config->out.default_route.given || hops->count == 0) {
        finding->outcome = DOCTOR_SKIPPED;
        return;
    }
    const char *colon = strrchr(hops->items[0], ':');
    snprintf(host, sizeof host, "%.*s",
             (int)(colon != NULL ? (size_t)(colon - hops->items[0]) : strlen(hops->items[0])),
             hops->items[0]);
    if (address_parse_endpoint(&address, hops->items[0], 25) != 0) {
        if (doctor_addresses(doctor, host, AF_INET, &address, 1) != 1) {
            doctor_say(finding, DOCTOR_FAILED, _("%s has no address in the DNS"), host);
            return;
        }
        address.port = colon != NULL ? (uint16_t)strtoul(colon + 1, NULL, 10) : 25;
    }
    if (!doctor_hop_greet(doctor, &hop, &address, NULL))
        doctor_say(finding, DOCTOR_FAILED, "%s", hop.trouble);
    else
        doctor_say(finding, reply_is_positive(&hop.reply) ? DOCTOR_OK : DOCTOR_FAILED, "%s: %s",
                   host, doctor_hop_words(&hop, words, sizeof words));
    if (finding->outcome == DOCTOR_FAILED)
        doctor_advise(finding, _("see out.default_route, and the provider's page"));
    doctor_hop_close(&hop);
}

static const struct doctor_check ways_checks[] = {
    {"route", DOCTOR_NEEDS_IN, ways_route, N_("Is the mail server reached through the tunnel?"),
     N_("mail would cross the internet in plain text")},
    {"wg-handshake", DOCTOR_NEEDS_IN | DOCTOR_NEEDS_ROOT, ways_wireguard,
     N_("Has WireGuard had a handshake with home lately?"), N_("the tunnel is down")},
    {"wg-boot", DOCTOR_NEEDS_IN, ways_wireguard_boot, N_("Does the tunnel come up at boot?"),
     N_("no mail after the next reboot")},
    {"out-listen", DOCTOR_NEEDS_OUT, ways_out_listen,
     N_("Can relay-out be reached only from the tunnel?"),
     N_("others can try passwords, and more if out.allow is wide")},
    {"loop", DOCTOR_NEEDS_OUT, ways_loop, N_("Is it certain that no mail comes back to this host?"),
     N_("it would loop")},
    {"smarthost", DOCTOR_NEEDS_OUT, ways_smarthost, N_("Does the smarthost greet this host?"),
     N_("no mail leaves without it")},
};

const struct doctor_group doctor_ways = {"backend", ways_checks,
                                         sizeof ways_checks / sizeof *ways_checks};
