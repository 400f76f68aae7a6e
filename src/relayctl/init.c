/* relayctl/init.c - relayctl init: writes the first relay.conf, and prints what belongs elsewhere
 *
 * Asks for what it cannot guess, or takes it from options. Writes relay.conf in one step, keeps the old
 * file as relay.conf.before, and prints the lines for the mail server, the DNS, WireGuard's files and
 * the firewall. With --print it changes nothing.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/address.h"
#include "base/i18n.h"
#include "config/config.h"
#include "relayctl/commands.h"
#include "dns/name.h"

#define INIT_DOMAINS_MAX 64
#define INIT_VALUE_MAX 256
#define INIT_SMTP_PORT 25
#define INIT_OUT_PORT 2526

enum { INIT_IN = 1, INIT_OUT = 2 };

/* The values that init needs, in the order of the questions. */
enum init_value {
    INIT_KIND,
    INIT_HOSTNAME,
    INIT_DOMAIN,
    INIT_BACKEND,
    INIT_TUNNEL,
    INIT_DIRECTION,
    INIT_ADDRESS4,
    INIT_ADDRESS6,
    INIT_CERTIFICATE,
    INIT_KEY,
    INIT_VALUES,
};

struct init {
    char values[INIT_VALUES][INIT_VALUE_MAX];
    char domains[INIT_DOMAINS_MAX][INIT_VALUE_MAX];
    size_t domain_count;
    const struct init_kind *kind;
    unsigned parts; /* INIT_IN, INIT_OUT */
    const char *file;
    bool print, force;
};

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
      {INIT_IN, N_("the interface, System, Configuration, Fail2ban parameters, allow list"),
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
     {{INIT_IN, N_("where it lists who may send a PROXY header, version 2"), "@RELAY@\n"},
      {INIT_OUT, N_("where it names its smarthost"), "@RELAY@ 2526\n"}}},
};

#define INIT_KIND_COUNT (sizeof init_kinds / sizeof init_kinds[0])

typedef bool init_setter(struct init *init, char *value);

static bool init_set_kind(struct init *init, char *value)
{
    for (size_t i = 0; i < INIT_KIND_COUNT; i++) {
        if (strcmp(init_kinds[i].name, value) == 0) {
            init->kind = &init_kinds[i];
            return true;
        }
    }
    return false;
}

/* Stores the name in its DNS form: labels that are not ASCII become A-labels. */
static bool init_set_name(struct init *init, char *value)
{
    char name[DNS_NAME_MAX];

    (void)init;
    if (strchr(value, '.') == NULL || dns_name_to_ascii(value, name) != 0)
        return false;
    snprintf(value, INIT_VALUE_MAX, "%s", name);
    return true;
}

/* Adds one domain, or several separated by commas or spaces. */
static bool init_set_domains(struct init *init, char *value)
{
    char copy[INIT_VALUE_MAX], *save = NULL;

    snprintf(copy, sizeof copy, "%s", value);
    for (char *part = strtok_r(copy, ", ", &save); part != NULL;
         part = strtok_r(NULL, ", ", &save)) {
        if (init->domain_count == INIT_DOMAINS_MAX)
            return false;
        char *domain = init->domains[init->domain_count];
        snprintf(domain, INIT_VALUE_MAX, "%s", part);
        if (!init_set_name(init, domain))
            return false;
        init->domain_count++;
    }
    return init->domain_count > 0;
}

static bool init_set_backend(struct init *init, char *value)
{
    struct address address;

    (void)init;
    if (address_parse_endpoint(&address, value, INIT_SMTP_PORT) != 0)
        return false;
    address_format_endpoint(&address, value);
    return true;
}

static bool init_set_tunnel(struct init *init, char *value)
{
    struct address address;

    (void)init;
    return address_parse_ip(&address, value) == 0;
}

static bool init_set_direction(struct init *init, char *value)
{
    init->parts = strcmp(value, "both") == 0  ? INIT_IN | INIT_OUT
                  : strcmp(value, "in") == 0  ? INIT_IN
                  : strcmp(value, "out") == 0 ? INIT_OUT
                                              : 0;
    return init->parts != 0;
}

static bool init_set_address4(struct init *init, char *value)
{
    struct address address;

    (void)init;
    return value[0] == '\0' ||
           (address_parse_ip(&address, value) == 0 && address.family == AF_INET);
}

static bool init_set_address6(struct init *init, char *value)
{
    struct address address;

    (void)init;
    return value[0] == '\0' ||
           (address_parse_ip(&address, value) == 0 && address.family == AF_INET6);
}

static bool init_set_file(struct init *init, char *value)
{
    (void)init;
    return value[0] == '/';
}

/* In the order of the questions. Values without a question have a default that most people keep. */
static const struct {
    const char *option;
    char letter;
    const char *fallback; /* NULL: no default */
    const char *question; /* NULL: not asked for */
    const char *wanted;
    init_setter *set;
} init_fields[INIT_VALUES] = {
    [INIT_KIND] =
        {"kind", 'k', "mailcow",
         N_("Mail server (mailcow, mailu, docker-mailserver, stalwart, postfix, exim, other)"),
         N_("one of those names"), init_set_kind},
    [INIT_HOSTNAME] = {"hostname", 'n', NULL,
                       N_("Name of this host, which its address resolves to"),
                       N_("a name like mail.example.com"), init_set_name},
    [INIT_DOMAIN] = {"domain", 'd', NULL, N_("Domains whose mail goes to the mail server"),
                     N_("names like example.com"), init_set_domains},
    [INIT_BACKEND] = {"backend", 'b', "10.0.0.2", N_("Mail server's address in the tunnel"),
                      N_("an IP address, with a port if it is not 25"), init_set_backend},
    [INIT_TUNNEL] = {"tunnel", 't', "10.0.0.1", N_("This host's address in the tunnel"),
                     N_("an IP address"), init_set_tunnel},
    [INIT_DIRECTION] = {"direction", 'w', "both",
                        N_("Incoming mail, outgoing mail or both (in, out, both)"),
                        N_("in, out or both"), init_set_direction},
    [INIT_ADDRESS4] = {"address4", '4', "", NULL, N_("an IPv4 address"), init_set_address4},
    [INIT_ADDRESS6] = {"address6", '6', "", NULL, N_("an IPv6 address"), init_set_address6},
    [INIT_CERTIFICATE] = {"certificate", 'C', SYSCONFDIR "/postern/tls/fullchain.pem", NULL,
                          N_("an absolute path"), init_set_file},
    [INIT_KEY] = {"key", 'K', SYSCONFDIR "/postern/tls/privkey.pem", NULL, N_("an absolute path"),
                  init_set_file},
};

/* Finds the local address for packets to the internet, without sending any. "" if it is not a public
 * one. */
static void init_own_address(int family, char out[INIT_VALUE_MAX])
{
    struct address far, own;
    struct sockaddr_storage sockaddr;

    out[0] = '\0';
    /* Documentation addresses (RFC 5737, RFC 3849). */
    address_parse_endpoint(&far, family == AF_INET ? "192.0.2.1:25" : "[2001:db8::1]:25", 0);
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t len = address_to_sockaddr(&far, &sockaddr);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&sockaddr, len) == 0 &&
        address_of_socket(&own, fd) && !address_is_private(&own))
        address_format_ip(&own, out);
    if (fd >= 0)
        close(fd);
}

static bool init_set(struct init *init, enum init_value which, const char *text)
{
    char *value = init->values[which];

    if (snprintf(value, INIT_VALUE_MAX, "%s", text) < INIT_VALUE_MAX &&
        init_fields[which].set(init, value))
        return true;
    fprintf(stderr, _("relayctl init: --%s: \"%s\" is not %s\n"), init_fields[which].option, text,
            _(init_fields[which].wanted));
    value[0] = '\0';
    return false;
}

/* Asks on the terminal until the answer is valid. */
static bool init_ask(struct init *init, enum init_value which)
{
    char line[INIT_VALUE_MAX];
    const char *fallback = init_fields[which].fallback;

    do {
        fprintf(stderr, fallback != NULL ? "%s [%s]: " : "%s: ", _(init_fields[which].question),
                fallback);
        if (fgets(line, sizeof line, stdin) == NULL)
            return false;
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] == '\0' && fallback != NULL)
            snprintf(line, sizeof line, "%s", fallback);
    } while (!init_set(init, which, line));
    return true;
}

/* Asks for the values that were not given, or takes their defaults. */
static bool init_complete(struct init *init)
{
    bool complete = true, asks = isatty(STDIN_FILENO);

    for (enum init_value i = 0; i < INIT_VALUES; i++) {
        bool given = init->values[i][0] != '\0';
        if (given)
            continue;
        if (asks && init_fields[i].question != NULL) {
            if (!init_ask(init, i))
                return false;
        } else if (init_fields[i].fallback == NULL) {
            fprintf(stderr, _("relayctl init: --%s is missing: %s\n"), init_fields[i].option,
                    _(init_fields[i].wanted));
            complete = false;
        } else if (!init_set(init, i, init_fields[i].fallback)) {
            complete = false;
        }
    }
    if (init->values[INIT_ADDRESS4][0] == '\0')
        init_own_address(AF_INET, init->values[INIT_ADDRESS4]);
    if (init->values[INIT_ADDRESS6][0] == '\0')
        init_own_address(AF_INET6, init->values[INIT_ADDRESS6]);
    return complete;
}

/* The mail server's address without its port. */
static const char *init_backend_ip(const struct init *init, char out[ADDRESS_TEXT_MAX])
{
    struct address address;

    address_parse_endpoint(&address, init->values[INIT_BACKEND], 0);
    return address_format_ip(&address, out);
}

static void init_write_tls(const struct init *init, FILE *out)
{
    const char *cert = init->values[INIT_CERTIFICATE], *key = init->values[INIT_KEY];
    bool there = access(cert, R_OK) == 0 && access(key, R_OK) == 0;
    const char *comment = there ? "" : "// ";

    if (!there)
        fprintf(out,
                _("// Without a certificate STARTTLS is not offered. Take these lines in once it "
                  "is there.\n"));
    fprintf(out, "%stls = {\n%s  certificates = ( { cert = \"%s\";\n", comment, comment, cert);
    fprintf(out, "%s                     key = \"%s\"; } );\n%s};\n", comment, key, comment);
}

static void init_write_conf(const struct init *init, FILE *out)
{
    char ip[ADDRESS_TEXT_MAX];
    struct address tunnel;

    fprintf(out, _("// Made by relayctl init. Every option is in relay.conf(5).\n"
                   "// Check it with: relayctl check        Use it with: systemctl reload relay-in "
                   "relay-out\n\n"));
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
        printf(_("Never add %s to mynetworks or to forwarding hosts: that makes an open relay.\n"),
               init->values[INIT_TUNNEL]);
    if (init->parts & INIT_IN && strcmp(init->kind->identity, "proxy-v2") == 0)
        printf(_("That port believes whoever reaches it: let the firewall there allow %s only.\n"),
               init->values[INIT_TUNNEL]);
}

static void init_print_dns(const struct init *init)
{
    const char *four = init->values[INIT_ADDRESS4], *six = init->values[INIT_ADDRESS6];
    const char *name = init->values[INIT_HOSTNAME];

    printf(_("\n== In the DNS\n"));
    if (four[0] == '\0' && six[0] == '\0')
        printf(_("(this host's public address is not on an interface: name it with --address4)\n"));
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
    printf(_("and at this host's provider, as the name of each of its addresses (PTR): %s\n"),
           name);
}

static void init_print_tunnel(const struct init *init)
{
    char ip[ADDRESS_TEXT_MAX];
    const char *home = init_backend_ip(init, ip);
    const char *four = init->values[INIT_ADDRESS4];
    bool six = strchr(home, ':') != NULL;
    const char *net = six ? "64" : "24", *host = six ? "128" : "32";

    printf(_("\n== WireGuard, if the tunnel is not there yet\n"));
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

    printf(_("\n== Firewall of this host (nftables), besides what you have\n"));
    if (init->parts & INIT_IN)
        printf("    tcp dport 25 accept\n");
    if (init->parts & INIT_OUT)
        printf("    iifname \"wg0\" %s saddr %s tcp dport 2526 accept\n",
               strchr(home, ':') != NULL ? "ip6" : "ip", home);
    printf("    udp dport 51820 accept\n");
}

static void init_report(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, "%s\n", text);
}

/* Does the file exist with other contents? */
static bool init_differs(const char *file, const char *text, size_t size)
{
    bool same = false;
    FILE *stream = fopen(file, "r");

    if (stream == NULL)
        return errno != ENOENT;
    char *old = malloc(size + 1);
    if (old != NULL)
        same = fread(old, 1, size + 1, stream) == size && memcmp(old, text, size) == 0;
    free(old);
    fclose(stream);
    return !same;
}

static int init_write_file(const char *file, const char *text, size_t size)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    FILE *stream = fd >= 0 ? fdopen(fd, "w") : NULL;

    if (stream == NULL) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    int result = fwrite(text, 1, size, stream) == size && fflush(stream) == 0 ? fsync(fd) : -1;
    return fclose(stream) == 0 ? result : -1;
}

/* Writes the file next to its place, checks it there, and moves it in one step. */
static int init_install(const struct init *init, const char *text, size_t size)
{
    char fresh[4096], before[4096];

    snprintf(fresh, sizeof fresh, "%s.new", init->file);
    snprintf(before, sizeof before, "%s.before", init->file);
    bool differs = init_differs(init->file, text, size);
    if (differs && !init->force) {
        fprintf(stderr,
                _("relayctl init: %s is there already. --force moves it to %s; --print only shows "
                  "what would be written.\n"),
                init->file, before);
        return EX_CANTCREAT;
    }
    if (init_write_file(fresh, text, size) != 0) {
        fprintf(stderr, "relayctl init: %s: %s\n", fresh, strerror(errno));
        return EX_CANTCREAT;
    }
    struct config *config = config_load(fresh, init_report, NULL);
    bool valid = config != NULL;
    config_unref(config);
    if (valid && (!differs || rename(init->file, before) == 0) && rename(fresh, init->file) == 0) {
        printf(_("%s is written.\n"), init->file);
        return EX_OK;
    }
    if (valid)
        fprintf(stderr, "relayctl init: %s: %s\n", init->file, strerror(errno));
    unlink(fresh);
    return valid ? EX_CANTCREAT : EX_CONFIG;
}

static int init_run(struct init *init)
{
    char *text = NULL;
    size_t size;
    int status = EX_OK;

    FILE *stream = open_memstream(&text, &size);
    if (stream == NULL || (init_write_conf(init, stream), fclose(stream)) != 0) {
        perror("relayctl init");
        free(text);
        return EX_OSERR;
    }
    if (init->print)
        printf(_("== %s\n%s"), init->file, text);
    else
        status = init_install(init, text, size);
    free(text);
    if (status != EX_OK)
        return status;
    init_print_home(init);
    init_print_dns(init);
    init_print_tunnel(init);
    init_print_firewall(init);
    printf(_("\n== Then\n    relayctl check && systemctl enable --now%s%s\n"),
           init->parts & INIT_IN ? " relay-in" : "", init->parts & INIT_OUT ? " relay-out" : "");
    return EX_OK;
}

static int init_print_help(void)
{
    printf(_(
        "Usage: relayctl init [OPTION...]\n"
        "Writes the first relay.conf and prints the lines for the mail server, the DNS, WireGuard\n"
        "and the firewall. What is not given is asked for on a terminal.\n\n"));
    printf(
        _("  -k, --kind NAME           mail server: mailcow, mailu, docker-mailserver, stalwart,\n"
          "                            postfix, exim or other\n"
          "  -n, --hostname NAME       name of this host\n"
          "  -d, --domain NAME         domain whose mail is taken; may be given several times\n"
          "  -b, --backend ADDR[:PORT] mail server in the tunnel (10.0.0.2)\n"
          "  -t, --tunnel ADDR         this host in the tunnel (10.0.0.1)\n"
          "  -w, --direction WORD      in, out or both\n"
          "  -4, --address4 ADDR       this host's public addresses, for the DNS lines;\n"
          "  -6, --address6 ADDR       those of its interfaces unless given\n"
          "  -C, --certificate FILE    certificate and key, PEM\n"
          "  -K, --key FILE\n"));
    printf(_("  -c, --config FILE         where to write (%s)\n"
             "  -p, --print               only print; change nothing\n"
             "  -f, --force               replace a file that is there; it becomes FILE.before\n"),
           config_default_file);
    return EX_OK;
}

/* The value that an option letter sets; INIT_VALUES: none. */
static enum init_value init_find(int letter)
{
    enum init_value which = 0;
    while (which < INIT_VALUES && init_fields[which].letter != letter)
        which++;
    return which;
}

int init_main(int argc, char **argv)
{
    struct option options[INIT_VALUES + 5] = {
        {"config", required_argument, NULL, 'c'},
        {"print", no_argument, NULL, 'p'},
        {"force", no_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},
    };
    static const char letters[] = "c:pfhk:n:d:b:t:w:4:6:C:K:";
    struct init init = {.file = config_default_file, .kind = &init_kinds[0]};
    bool right = true;
    int letter;

    for (enum init_value i = 0; i < INIT_VALUES; i++)
        options[4 + i] =
            (struct option){init_fields[i].option, required_argument, NULL, init_fields[i].letter};
    while ((letter = getopt_long(argc, argv, letters, options, NULL)) != -1) {
        enum init_value which = init_find(letter);
        if (letter == 'h')
            return init_print_help();
        if (letter == '?')
            return EX_USAGE;
        if (letter == 'c')
            init.file = optarg;
        init.print |= letter == 'p';
        init.force |= letter == 'f';
        if (which != INIT_VALUES)
            right = init_set(&init, which, optarg) && right;
    }
    if (optind < argc) {
        fprintf(stderr, _("relayctl init: what is \"%s\"? See --help.\n"), argv[optind]);
        return EX_USAGE;
    }
    return right && init_complete(&init) ? init_run(&init) : EX_USAGE;
}
