/* relayctl/init.c - relayctl init: writes the first relay.conf, and prints what belongs elsewhere
 *
 * Asks for what it cannot guess, or takes it from options. Writes relay.conf in one step, in place of the
 * installed example; a file that somebody wrote stays, or is kept as relay.conf.before. Prints the lines for the mail server, the DNS, WireGuard's files and
 * the firewall. With --print it changes nothing.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
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
#include "relayctl/subcommand.h"
#include "relayctl/init.h"
#include "dns/name.h"

typedef bool init_setter(struct init *init, char *value);

static bool init_set_kind(struct init *init, char *value)
{
    init->kind = init_kind_find(value);
    return init->kind != NULL;
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
         N_("mailcow, mailu, docker-mailserver, stalwart, postfix, exim or other"), init_set_kind},
    [INIT_HOSTNAME] = {"hostname", 'n', NULL,
                       N_("Name of this host, which its address resolves to"),
                       N_("a name like mail.example.com"), init_set_name},
    [INIT_DOMAIN] = {"domain", 'd', NULL, N_("Domains to take mail for"),
                     N_("a domain like example.com"), init_set_domains},
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

/* The relay.conf that is installed: nobody's yet, as long as it is unchanged. */
static const char init_example[] =
#include "relayctl-example.h"
    ;

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
    bool differs = init_differs(init->file, text, size) &&
                   init_differs(init->file, init_example, sizeof init_example - 1);
    if (differs && !init->force) {
        fprintf(stderr,
                _("relayctl init: %s already exists. --force moves it to %s; --print only shows "
                  "what would be written.\n"),
                init->file, before);
        return EX_CANTCREAT;
    }
    if (init_write_file(fresh, text, size) != 0) {
        fprintf(stderr, "relayctl init: %s: %s\n", fresh, strerror(errno));
        return EX_CANTCREAT;
    }
    struct config *config = config_load(fresh, subcommand_report, NULL);
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

static int init_make(struct init *init)
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
    init_print_elsewhere(init);
    printf(_("\n== Then\n    relayctl check && systemctl enable --now%s%s\n"),
           init->parts & INIT_IN ? " relay-in" : "", init->parts & INIT_OUT ? " relay-out" : "");
    return EX_OK;
}

/* Takes the value of an option; `which` is an enum init_value. */
static bool init_take(void *context, int which, char *value)
{
    struct init *init = context;

    init->wrong = !init_set(init, (enum init_value)which, value) || init->wrong;
    return true; /* so that all wrong ones are named */
}

static int init_run(struct subcommand_line *line)
{
    struct init init = {.file = config_default_file, .kind = init_kind_find(NULL)};
    struct subcommand_option options[INIT_VALUES + 4] = {
        {"config", 'c', .text = &init.file},
        {"print", 'p', .flag = &init.print},
        {"force", 'f', .flag = &init.force},
    };
    int status;

    for (enum init_value i = 0; i < INIT_VALUES; i++)
        options[3 + i] =
            (struct subcommand_option){init_fields[i].option, init_fields[i].letter,
                                       .take = init_take, .context = &init, .tag = (int)i};
    if (!subcommand_parse(line, options, &status))
        return status;
    return !init.wrong && init_complete(&init) ? init_make(&init) : EX_USAGE;
}

const struct subcommand init_subcommand = {
    .name = "init",
    .summary = N_("write the first relay.conf, and print what belongs elsewhere"),
    .help =
        {N_("Usage: relayctl init [OPTION...]\n"
            "Writes the first relay.conf and prints the lines for the mail server, the DNS, "
            "WireGuard\n"
            "and the firewall. On a terminal, it asks for whatever no option gives.\n\n"),
         N_("  -k, --kind NAME           mail server: mailcow, mailu, docker-mailserver, "
            "stalwart,\n"
            "                            postfix, exim or other\n"
            "  -n, --hostname NAME       name of this host\n"
            "  -d, --domain NAME         domain to take mail for; may be given several times\n"
            "  -b, --backend ADDR[:PORT] mail server in the tunnel (10.0.0.2)\n"
            "  -t, --tunnel ADDR         this host in the tunnel (10.0.0.1)\n"
            "  -w, --direction WORD      in, out or both\n"
            "  -4, --address4 ADDR       this host's public addresses, for the DNS lines\n"
            "  -6, --address6 ADDR       (default: those of its interfaces)\n"
            "  -C, --certificate FILE    certificate and key, PEM\n"
            "  -K, --key FILE\n"),
         N_("  -c, --config FILE         where to write (%s)\n"
            "  -p, --print               only print; change nothing\n"
            "  -f, --force               replace an existing file, which becomes FILE.before\n")},
    .run = init_run,
};
