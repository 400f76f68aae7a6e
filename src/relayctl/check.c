/* relayctl/check.c - relayctl check: will the daemons start with this configuration, and work as intended?
 *
 * Loads the configuration and the certificates as the daemons do, then again as the user that the
 * daemons switch to, who may see less than root. Warns about settings that are valid but probably not
 * intended.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/i18n.h"
#include "config/config.h"
#include "relayctl/subcommand.h"
#include "relayctl/ports.h"
#include "net/certificate.h"

#define CHECK_DAY 86400

/* Prints one of our own findings in the form of the others. */
__attribute__((format(printf, 3, 4))) static void
check_say(const struct config *config, const char *option, const char *format, ...)
{
    const char *place = strncmp(option, "tls.cert", 8) == 0 && config->certificates_place != NULL
                            ? config->certificates_place
                            : config->file;
    va_list arguments;

    fprintf(stderr, "%s: %s: ", place, option);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

/* Loads each certificate alone, so that every bad one is named. */
static bool check_group(const struct config *config, const char *group,
                        const struct config_tls *settings)
{
    struct tls_server_config all;
    struct error err;
    bool right = true;

    config_tls_server(settings, &all);
    for (size_t i = 0; i < settings->certificates.count; i++) {
        struct tls_server_config one = all;
        char option[64];
        one.pairs = all.pairs + i;
        one.pair_count = 1;
        struct tls_server *tls = tls_server_new(&one, NULL, &err);
        snprintf(option, sizeof option, "%s.certificates[%zu]", group, i);
        if (tls == NULL)
            check_say(config, option, "%s", err.text);
        right = right && tls != NULL;
        tls_server_unref(tls);
    }
    return right;
}

static bool check_certificates(const struct config *config)
{
    bool right = check_group(config, "tls", &config->tls);

    if (config->out.listen_tls.given)
        right = check_group(config, "out.listen_tls", &config->out.listen_tls.tls) && right;
    return right;
}

/* Reports what may be wrong with a certificate that loads. */
static void check_advise_certificate(const struct config *config, size_t index)
{
    const struct tls_pair *pairs = config->tls.certificates.items;
    long long now = time(NULL);
    struct certificate certificate;
    struct error err;
    char option[48], date[40];
    struct tm parts;

    if (certificate_read(&certificate, pairs[index].cert, &err) != 0)
        return;
    snprintf(option, sizeof option, "tls.certificates[%zu]", index);
    time_t end =
        (time_t)(certificate.not_before > now ? certificate.not_before : certificate.not_after);
    gmtime_r(&end, &parts);
    strftime(date, sizeof date, "%Y-%m-%d", &parts);
    if (certificate.not_before > now)
        check_say(config, option, _("%s is not valid before %s; is the clock right?"),
                  pairs[index].cert, date);
    else if (certificate.not_after <= now)
        check_say(config, option, _("%s has expired on %s"), pairs[index].cert, date);
    else if (certificate.not_after < now + CERTIFICATE_SOON_DAYS * CHECK_DAY)
        check_say(config, option, _("%s expires on %s"), pairs[index].cert, date);
    if (certificate.state == CERTIFICATE_UNORDERED)
        check_say(config, option, _("the certificates in %s are in the wrong order"),
                  pairs[index].cert);
    else if (certificate.state == CERTIFICATE_INCOMPLETE && certificate.chain_count == 1)
        check_say(config, option, _("%s holds no chain (use fullchain.pem)"), pairs[index].cert);
    certificate_clear(&certificate);
}

/* Reports if another process has the port, or if the address is not this host's. */
static void check_advise_listeners(const struct config *config, const char *option,
                                   const struct listen_list *listen, const char *daemon)
{
    char holder[64], text[ADDRESS_TEXT_MAX];

    for (size_t i = 0; i < listen->count; i++) {
        const struct address *address = &listen->items[i].address;
        if (ports_holder(address, holder, sizeof holder) == PORTS_HELD &&
            strcmp(holder, daemon) != 0 && strcmp(holder, "systemd") != 0) {
            const char *unit = ports_unit(holder);
            check_say(config, option,
                      unit != NULL ? _("%s holds port %u: systemctl disable --now %s")
                                   : _("%s holds port %u (ss -ltnp)"),
                      holder, (unsigned)address->port, unit);
        }
        if (!ports_is_local(address))
            check_say(
                config, option,
                _("no interface of this host has %s yet (fine for a tunnel that comes up later)"),
                address_format_ip(address, text));
    }
}

/* relay-out creates only the last folder of the spool's path. */
static bool check_has_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    char parent[PATH_MAX];

    snprintf(parent, sizeof parent, "%.*s", slash != NULL ? (int)(slash - path) : 0, path);
    return parent[0] == '\0' || access(parent, F_OK) == 0;
}

static void check_advise_spool(const struct config *config, const struct passwd *user)
{
    const char *spool = config->out.spool;
    struct stat facts;
    struct statvfs room;

    if (spool[0] == '\0')
        return;
    if (!check_has_parent(spool))
        check_say(config, "out.spool", "%s: %s: install -d -m 700 -o %s %s", spool,
                  strerror(ENOENT), config->user, spool);
    if (stat(spool, &facts) != 0 || statvfs(spool, &room) != 0)
        return;
    if (user != NULL && facts.st_uid != user->pw_uid)
        check_say(config, "out.spool", _("%s does not belong to %s: chown -R %s: %s"), spool,
                  config->user, config->user, spool);
    if ((unsigned long long)room.f_bavail * room.f_frsize <
        (unsigned long long)config->out.spool_reserve)
        check_say(config, "out.spool_reserve",
                  _("%s has less room than this reserve: nothing would be stored"), spool);
}

static void check_advise(const struct config *config, const struct passwd *user)
{
    config_advise(config, subcommand_report, NULL);
    for (size_t i = 0; i < config->tls.certificates.count; i++)
        check_advise_certificate(config, i);
    if (config->parts & CONFIG_PART_IN)
        check_advise_listeners(config, "in.listen", &config->in.listen, "relay-in");
    if (config->parts & CONFIG_PART_OUT) {
        check_advise_listeners(config, "out.listen", &config->out.listen, "relay-out");
        check_advise_spool(config, user);
    }
}

static void check_report_as(void *context, const char *text)
{
    fprintf(stderr, _("as user %s: %s\n"), (const char *)context, text);
}

/* Runs in a child process: switches to the user and checks. Returns the exit status. */
static int check_as_user(const char *file, const char *name, const struct passwd *user)
{
    if (setgroups(0, NULL) != 0 || initgroups(name, user->pw_gid) != 0 ||
        setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0) {
        fprintf(stderr, "relayctl check: %s: %s\n", name, strerror(errno));
        return 1;
    }
    struct config *config = config_load(file, check_report_as, (void *)name);
    bool right = config != NULL && check_certificates(config);
    if (config != NULL && !right)
        fprintf(stderr, _("as user %s: the daemons could not start\n"), name);
    if (right && (config->parts & CONFIG_PART_OUT) && access(config->out.spool, F_OK) == 0 &&
        access(config->out.spool, R_OK | W_OK | X_OK) != 0) {
        check_say(config, "out.spool", _("%s cannot write to %s"), name, config->out.spool);
        right = false;
    }
    config_unref(config);
    return right ? 0 : 1;
}

/* Checks as the user. Only root can; a user that does not exist yet is not an error in the file. */
static bool check_for_user(const struct config *config, const char *file, const struct passwd *user)
{
    int status = 0;

    if (geteuid() != 0 || config->user[0] == '\0' || strcmp(config->user, "root") == 0)
        return true;
    if (user == NULL) {
        check_say(config, "user", _("there is no user \"%s\" on this host yet"), config->user);
        return true;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(check_as_user(file, config->user, user));
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int check_file(const char *file, bool changed)
{
    struct config *config = config_load(file, subcommand_report, NULL);
    bool right = config != NULL && check_certificates(config);

    if (right && changed) {
        config_print_changed(config, stdout);
        config_unref(config);
        return EX_OK;
    }
    if (right) {
        const struct passwd *user = getpwnam(config->user);
        right = check_for_user(config, file, user);
        check_advise(config, user);
        right = config_warn(config, subcommand_report, NULL) && right;
    }
    config_unref(config);
    if (right)
        printf(_("%s: the configuration is valid\n"), file);
    return right ? EX_OK : EX_CONFIG;
}

static int check_run(struct subcommand_line *line)
{
    const char *file = config_default_file;
    bool changed = false;
    const struct subcommand_option options[] = {
        {"config", 'c', .text = &file}, {"changed", 'd', .flag = &changed}, {.name = NULL}};
    int status;

    return subcommand_parse(line, options, &status) ? check_file(file, changed) : status;
}

const struct subcommand check_subcommand = {
    .name = "check",
    .summary = N_("say whether the configuration is valid"),
    .help = {N_("Usage: relayctl check [-c FILE] [--changed]\n"
                "Says whether the daemons could start with the configuration, and which "
                "settings are\n"
                "probably unintended.\n\n"
                "  -c, --config FILE   configuration file\n"
                "  -d, --changed       print the options that differ from their defaults\n")},
    .run = check_run,
};
