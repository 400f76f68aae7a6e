/* relayctl/init-texts.c - relayctl init: relay.conf, and the lines that belong elsewhere
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/init.h"

#include <string.h>
#include <unistd.h>

#include "base/address.h"
#include "base/i18n.h"
#include "config/config.h"

#define INIT_OUT_PORT 2526

/* A file or page of the mail server, and the lines to put there. @RELAY@ stands for this host's tunnel
 * address. */
struct init_place {
    unsigned parts;
    const char *where;
    const char *lines;
};

#define INIT_PLACES_MAX 5
struct init_kind {
    const char *name;
    const char *identity;
    struct init_place places[INIT_PLACES_MAX];
};

/* The first one is the default. */
static const struct init_kind init_kinds[] = {
    {"mailcow",
     "xclient",
     {{INIT_IN, N_("data/conf/postfix/extra.cf"),
       "smtpd_authorized_xclient_hosts = @RELAY@\nsmtpd_client_connection_count_limit = 200\n"},
      {INIT_IN, N_("data/conf/postfix/custom_postscreen_whitelist.cidr"), "@RELAY@/32 permit\n"},
      {INIT_OUT, N_("data/conf/postfix/extra.cf"),
       "relayhost = [@RELAY@]:2526\nsmtp_destination_recipient_limit = 1\n"
       "smtp_enforced_tls_destination_recipient_limit = 1\n"},
      {INIT_IN, N_("the web interface, System, Configuration, Fail2ban parameters, allow list"),
       "@RELAY@\n"},
      {INIT_IN | INIT_OUT, N_("then, in mailcow's folder"),
       "docker compose restart postfix-mailcow\n"}}},
    {"mailu",
     "proxy-v2",
     {{INIT_IN, "mailu.env", "PROXY_PROTOCOL=25\nREAL_IP_FROM=@RELAY@\n"},
      {INIT_OUT, "mailu.env", "RELAYHOST=[@RELAY@]:2526\n"},
      {INIT_IN | INIT_OUT, N_("then, in Mailu's folder"), "docker compose up -d\n"}}},
    {"docker-mailserver",
     "xclient",
     {{INIT_IN, "docker-data/dms/config/postfix-main.cf",
       "smtpd_authorized_xclient_hosts = @RELAY@\nsmtpd_client_connection_count_limit = 200\n"
       "postscreen_access_list = permit_mynetworks,"
       " cidr:/tmp/docker-mailserver/postscreen_access.cidr\n"},
      {INIT_IN, "docker-data/dms/config/postscreen_access.cidr", "@RELAY@/32 permit\n"},
      {INIT_OUT, "mailserver.env", "DEFAULT_RELAY_HOST=[@RELAY@]:2526\n"},
      {INIT_OUT, "docker-data/dms/config/postfix-main.cf",
       "smtp_destination_recipient_limit = 1\n"},
      {INIT_IN | INIT_OUT, N_("then"), "docker compose up -d --force-recreate mailserver\n"}}},
    {"stalwart",
     "proxy-v2",
     {{INIT_IN, N_("the settings of the SMTP listener, networks trusted to use the PROXY protocol"),
       "@RELAY@/32\n"},
      {INIT_OUT, N_("the settings of the MTA, a route of type relay host for all remote mail"),
       "@RELAY@ 2526 smtp\n"}}},
    {"postfix",
     "xclient",
     {{INIT_IN, "/etc/postfix/main.cf",
       "smtpd_authorized_xclient_hosts = @RELAY@\nsmtpd_client_connection_count_limit = 200\n"},
      {INIT_OUT, "/etc/postfix/main.cf",
       "relayhost = [@RELAY@]:2526\nsmtp_destination_recipient_limit = 1\n"},
      {INIT_IN | INIT_OUT, N_("then"), "postfix reload\n"}}},
    {"exim",
     "proxy-v2",
     {{INIT_IN, N_("Exim's main section"), "hosts_proxy = @RELAY@\n"},
      {INIT_OUT, N_("Exim's routers, in place of dnslookup"),
       "relay_out:\n  driver = manualroute\n  domains = ! +local_domains\n"
       "  transport = remote_smtp\n  route_list = * @RELAY@::2526 byname\n"},
      {INIT_IN | INIT_OUT, N_("then"), "systemctl reload exim4\n"}}},
    {"other",
     "proxy-v2",
     {{INIT_IN, N_("where it lists the hosts that may send a PROXY header, version 2"),
       "@RELAY@\n"},
      {INIT_OUT, N_("where it names its smarthost"), "@RELAY@ 2526\n"}}},
};

#define INIT_KIND_COUNT (sizeof init_kinds / sizeof init_kinds[0])

const struct init_kind *init_kind_find(const char *name)
{
    if (name == NULL)
        return &init_kinds[0];
    for (size_t i = 0; i < INIT_KIND_COUNT; i++) {
        if (strcmp(init_kinds[i].name, name) == 0)
            return &init_kinds[i];
    }
    return NULL;
}

/* The mail server's address without its port. */
static const char *init_backend_ip(const struct init *init, char out[ADDRESS_TEXT_MAX])
{
    struct address address;

    address_parse_endpoint(&address, init->values[INIT_BACKEND], 0);
    return address_format_ip(&address, out);
}

static bool init_has_certificate(const struct init *init)
{
    return access(init->values[INIT_CERTIFICATE], R_OK) == 0 &&
           access(init->values[INIT_KEY], R_OK) == 0;
}

static void init_write_tls(const struct init *init, FILE *out)
{
    const char *cert = init->values[INIT_CERTIFICATE], *key = init->values[INIT_KEY];
    bool there = init_has_certificate(init);
    const char *comment = there ? "" : "// ";

    if (!there)
        fprintf(out, _("// Without a certificate, STARTTLS is not offered. Uncomment these lines "
                       "once you have one.\n"));
    fprintf(out, "%stls = {\n%s  certificates = ( { cert = ", comment, comment);
    config_print_string(cert, out);
    fprintf(out, ";\n%s                     key = ", comment);
    config_print_string(key, out);
    fprintf(out, "; } );\n%s};\n", comment);
}

void init_write_conf(const struct init *init, FILE *out)
{
    char ip[ADDRESS_TEXT_MAX];
    struct address tunnel;

    fprintf(out, _("// Made by relayctl init. relay.conf(5) explains every option.\n"
                   "// Check it with: relayctl check        Load it with: systemctl reload "
                   "relay-in relay-out\n\n"));
    fprintf(out, "hostname = \"%s\";\n\n", init->values[INIT_HOSTNAME]);
    init_write_tls(init, out);
    if (init->parts & INIT_IN) {
        fprintf(out, "\nin = {\n  listen = [ \"[::]:25\" ];\n  domains = [ ");
        for (size_t i = 0; i < init->domain_count; i++)
            fprintf(out, "%s\"%s\"", i > 0 ? ", " : "", init->domains[i]);
        fprintf(out,
                " ];\n  backend = {\n    hosts = [ \"%s\" ];\n    identity = \"%s\";\n  };\n};\n",
                init->values[INIT_BACKEND], init->kind->identity);
    }
    if (init->parts & INIT_OUT) {
        address_parse_ip(&tunnel, init->values[INIT_TUNNEL]);
        tunnel.port = INIT_OUT_PORT;
        fprintf(out, "\nout = {\n  listen = [ \"%s\" ];\n", address_format_endpoint(&tunnel, ip));
        fprintf(out, "  allow = [ \"%s\" ];\n};\n", init_backend_ip(init, ip));
    }
}

/* Prints lines indented, with @RELAY@ filled in. */
static void init_print_lines(const struct init *init, const char *lines)
{
    static const char mark[] = "@RELAY@";
    bool at_start = true;

    while (*lines != '\0') {
        if (at_start)
            printf("    ");
        at_start = *lines == '\n';
        if (strncmp(lines, mark, sizeof mark - 1) == 0) {
            printf("%s", init->values[INIT_TUNNEL]);
            lines += sizeof mark - 1;
        } else {
            putchar(*lines++);
        }
    }
}

static void init_print_home(const struct init *init)
{
    printf(_("\n== On the mail server (%s)\n"), init->kind->name);
    for (size_t i = 0; i < INIT_PLACES_MAX && init->kind->places[i].where != NULL; i++) {
        const struct init_place *place = &init->kind->places[i];
        if ((place->parts & init->parts) == 0)
            continue;
        printf("%s:\n", _(place->where));
        init_print_lines(init, place->lines);
    }
    if (init->parts & INIT_IN)
        printf(
            _("Never add %s to mynetworks or to the forwarding hosts: that makes an open relay.\n"),
            init->values[INIT_TUNNEL]);
    if (init->parts & INIT_IN && strcmp(init->kind->identity, "proxy-v2") == 0)
        printf(
            _("That port believes anyone who reaches it: let the firewall there allow only %s.\n"),
            init->values[INIT_TUNNEL]);
}

static void init_print_dns(const struct init *init)
{
    const char *four = init->values[INIT_ADDRESS4], *six = init->values[INIT_ADDRESS6];
    const char *name = init->values[INIT_HOSTNAME];

    printf(_("\n== In the DNS\n"));
    if (four[0] == '\0' && six[0] == '\0')
        printf(_("(this host's public address is on no interface: give it with --address4)\n"));
    if (four[0] != '\0')
        printf("    %s. A %s\n", name, four);
    if (six[0] != '\0')
        printf("    %s. AAAA %s\n", name, six);
    for (size_t i = 0; i < init->domain_count; i++) {
        if (init->parts & INIT_IN)
            printf("    %s. MX 10 %s.\n", init->domains[i], name);
        if (init->parts & INIT_OUT && init->parts & INIT_IN)
            printf("    %s. TXT \"v=spf1 mx -all\"\n", init->domains[i]);
        else if (init->parts & INIT_OUT)
            printf("    %s. TXT \"v=spf1 mx a:%s -all\"\n", init->domains[i], name);
    }
    if (init->parts & INIT_OUT)
        printf("    %s. TXT \"v=spf1 a -all\"\n", name);
    printf(_("and at this host's provider, as the PTR record of each of its addresses: %s\n"),
           name);
}

static void init_print_tunnel(const struct init *init)
{
    char ip[ADDRESS_TEXT_MAX];
    const char *home = init_backend_ip(init, ip);
    const char *four = init->values[INIT_ADDRESS4];
    bool six = strchr(home, ':') != NULL;
    const char *net = six ? "64" : "24", *host = six ? "128" : "32";

    printf(_("\n== WireGuard, if there is no tunnel yet\n"));
    printf(_("/etc/wireguard/wg0.conf on this host:\n"));
    printf("    [Interface]\n    Address = %s/%s\n    PrivateKey = (wg genkey)\n"
           "    ListenPort = 51820\n    [Peer]\n    PublicKey = (of home)\n"
           "    AllowedIPs = %s/%s\n",
           init->values[INIT_TUNNEL], net, home, host);
    printf(_("and at home:\n"));
    printf("    [Interface]\n    Address = %s/%s\n    PrivateKey = (wg genkey)\n    [Peer]\n"
           "    PublicKey = (of this host)\n    Endpoint = %s:51820\n    AllowedIPs = %s/%s\n"
           "    PersistentKeepalive = 25\n",
           home, net, four[0] != '\0' ? four : init->values[INIT_HOSTNAME],
           init->values[INIT_TUNNEL], host);
    printf("    systemctl enable --now wg-quick@wg0\n");
}

static void init_print_firewall(const struct init *init)
{
    char ip[ADDRESS_TEXT_MAX];
    const char *home = init_backend_ip(init, ip);

    printf(_("\n== Firewall of this host (nftables), in addition to what you have\n"));
    if (init->parts & INIT_IN)
        printf("    tcp dport 25 accept\n");
    if (init->parts & INIT_OUT)
        printf("    iifname \"wg0\" %s saddr %s tcp dport 2526 accept\n",
               strchr(home, ':') != NULL ? "ip6" : "ip", home);
    printf("    udp dport 51820 accept\n");
}

void init_print_elsewhere(const struct init *init)
{
    init_print_home(init);
    init_print_dns(init);
    init_print_tunnel(init);
    init_print_firewall(init);
    if (!init_has_certificate(init))
        printf(_("\n== The certificate\nOnce it is in %s, uncomment the lines of tls in %s.\n"),
               init->values[INIT_CERTIFICATE], init->file);
}
