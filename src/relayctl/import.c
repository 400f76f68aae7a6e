/* relayctl/import.c - relayctl import-haraka: makes relay.conf from Haraka's files
 *
 * Each line of the result says where it comes from. Settings without a counterpart, and those that
 * never had an effect in Haraka, follow as a list with the reason. It reads only the named folders and
 * changes nothing.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

#include "base/i18n.h"
#include "relayctl/subcommand.h"
#include "relayctl/import.h"

/* Why a value has no line in the result. The first matching row counts; NULL matches anything. */
static const struct {
    const char *file, *key, *why;
} import_reasons[] = {
    {"smtp.ini", "nodes", N_("one process with threads; see workers")},
    {"smtp.ini", "user", N_("the unit starts the daemon, and it becomes the user \"postern\"")},
    {"smtp.ini", "group", N_("the unit starts the daemon, and it becomes the user \"postern\"")},
    {"smtp.ini", "daemonize", N_("systemd does that")},
    {"smtp.ini", "daemon_log_file", N_("the journal has the log: journalctl -u relay-in")},
    {"smtp.ini", "daemon_pid_file", N_("systemd does that")},
    {"smtp.ini", "inactivity_timeout",
     N_("it is one number for every wait; in.timeouts has one for each")},
    {"smtp.ini", "spool_dir", N_("relay-in stores nothing; out.spool is relay-out's")},
    {"smtp.ini", NULL, N_("no such setting here")},
    {"smtp_forward.ini", "enable_outbound",
     N_("relay-in never sends to the internet, and relay-out takes mail only from out.allow")},
    {"smtp_forward.ini", "one_message_per_rcpt",
     N_("not needed: each recipient gets the mail server's own answer")},
    {"smtp_forward.ini", "max_connections", N_("see in.backend.max_sessions")},
    {"smtp_forward.ini", "timeout", N_("see in.backend.command_timeout and reply_timeout")},
    {"smtp_forward.ini", NULL, N_("no such setting here")},
    {"connection.ini", NULL, N_("in.limits and in.timeouts, whose defaults suit a small server")},
    {"tls.ini", "ciphers",
     N_("these are OpenSSL's names; tls.priority takes GnuTLS's, and its default is sound")},
    {"tls.ini", "honorcipherorder", N_("the default of tls.priority")},
    {"tls.ini", "dhparam", N_("the groups of RFC 7919 are used; tls.dh_params takes a file")},
    {"tls.ini", "rejectunauthorized", N_("see tls.client_certificates and tls.ca_file")},
    {"tls.ini", NULL, N_("no such setting here; see the groups tls and out.tls")},
    {"relay.ini", "acl", N_("a list that exists is used")},
    {"relay.ini", "dest_domains", N_("out.routes does this; a list that exists is used")},
    {"relay.ini", "all", N_("true would make an open relay; never taken over")},
    {"relay.ini", "force_routing", N_("it has no effect without a list of destinations")},
    {"outbound.ini", "always_split", N_("smtp_destination_recipient_limit = 1 at the mail server")},
    {"outbound.ini", "enable_tls", N_("out.tls.level is \"may\": TLS where it is offered")},
    {"outbound.ini", "maxtempfailures", N_("out.lifetime says how long mail is tried")},
    {"outbound.ini", "local_mx_ok",
     N_("MX hosts with private addresses need an entry in out.routes")},
    {"outbound.ini", NULL, N_("no such setting here; see out.delivery and out.retry")},
    {"host_list", NULL, N_("relay-out takes mail for every domain, but only from out.allow")},
    {"host_list_regex", NULL, N_("domains are written out; a leading dot means all subdomains")},
    {"outbound.bounce_message", NULL, N_("notices follow RFC 3464")},
    {"auth_flat_file.ini", NULL,
     N_("passwords in clear text are not taken over; set new ones: relayctl password")},
    {"internalcmd_key", NULL, N_("relayctl talks to the daemons through their own sockets")},
    {"loglevel", NULL, N_("see log.level")},
};

/* Plugins whose work is built in. All others are filters, which are the mail server's job. */
static const char *const import_built_in[] = {
    "rcpt_to.in_host_list",
    "queue/smtp_forward",
    "queue/smtp_proxy",
    "relay",
    "tls",
    "xclient",
    "early_talker",
    "max_unrecognized_commands",
    "toobusy",
    "process_title",
    "limit",
    "dnsbl",
    "dns-list",
    "fcrdns",
    "connect.fcrdns",
    "headers",
    "data.headers",
    "queue/test",
    NULL,
};

static const char *import_reason(const struct haraka_entry *entry)
{
    const char *slash = strrchr(entry->file, '/'), *name = slash != NULL ? slash + 1 : entry->file;

    if (!haraka_was_read(entry))
        return _("Haraka does not read this file: it never had an effect");
    if (strcmp(name, "plugins") == 0) {
        for (const char *const *known = import_built_in; *known != NULL; known++) {
            if (strcmp(*known, entry->key) == 0)
                return _("built in");
        }
        return _(
            "no plug-ins here: such checks are for the mail server, which sees the true client");
    }
    for (size_t i = 0; i < sizeof import_reasons / sizeof *import_reasons; i++) {
        if (strcmp(import_reasons[i].file, name) == 0 &&
            (import_reasons[i].key == NULL || strcasecmp(import_reasons[i].key, entry->key) == 0))
            return _(import_reasons[i].why);
    }
    return _("not known to this program");
}

static void import_tls(struct import *import)
{
    const struct haraka *first = import->in != NULL ? import->in : import->out;

    fputc('\n', import->conf);
    if (import_has_certificate(first))
        import_tls_group(import, first, "tls", "");
    else
        fprintf(import->conf, _("// Without tls.certificates, STARTTLS is not offered.\n"));
}

/* Decides which folder is for mail from the internet, and which for mail from the mail server. */
static void import_tell_apart(struct import *import)
{
    for (size_t i = 0; i < import->count; i++) {
        const struct haraka *haraka = &import->folders[i];
        bool sends = haraka_has(haraka, "relay_acl_allow") || haraka_has(haraka, "relay.ini") ||
                     haraka_has(haraka, "relay_dest_domains.ini");
        bool takes =
            haraka_has(haraka, "host_list") && (!sends || haraka_has(haraka, "smtp_forward.ini"));
        if (sends && import->out == NULL)
            import->out = haraka;
        if ((takes || !sends) && import->in == NULL)
            import->in = haraka;
    }
}

static void import_left_over(struct import *import)
{
    bool any = false;

    for (size_t i = 0; i < import->count; i++) {
        const struct haraka *haraka = &import->folders[i];
        for (size_t n = 0; n < haraka->count; n++) {
            const struct haraka_entry *entry = &haraka->entries[n];
            if (entry->taken)
                continue;
            if (!any)
                fprintf(import->conf, _("\n// Not taken over, and why:\n"));
            any = true;
            /* Show no passwords here either. */
            bool secret = strstr(entry->key, "pass") != NULL ||
                          strcmp(entry->file, "auth_flat_file.ini") == 0;
            import_comment(import->conf, "//   %s/%s:%u: %s%s%s\n", haraka->name, entry->file,
                           entry->line, entry->key, entry->value[0] != '\0' ? "=" : "",
                           secret ? "..." : entry->value);
            fprintf(import->conf, "//       %s\n", import_reason(entry));
        }
    }
}

static void import_write(struct import *import)
{
    char hostname[300] = "mail.example.com";
    const struct haraka *first = import->in != NULL ? import->in : import->out;
    struct haraka_entry *name =
        import_name_of(first, import->in != NULL, hostname, sizeof hostname);

    fprintf(import->conf,
            _("// relay.conf, made from Haraka's files. Check it with: relayctl check\n\n"));
    import_line(import, first, name,
                name == NULL ? _("no file says this: write this host's own name") : NULL,
                "hostname = \"%s\";", hostname);
    import_tls(import);
    if (import->in != NULL)
        import_in(import);
    if (import->out != NULL)
        import_out(import, hostname);
    import_left_over(import);
    fflush(import->remarks);
    if (import->remark_size > 0)
        fprintf(import->conf,
                _("\n// Please check:\n"
                  "%s"),
                import->remark_text);
}

static int import_print(struct import *import)
{
    import->remarks = open_memstream(&import->remark_text, &import->remark_size);
    if (import->remarks == NULL) {
        perror("relayctl import-haraka");
        return EX_OSERR;
    }
    import_tell_apart(import);
    import_write(import);
    fclose(import->remarks);
    free(import->remark_text);
    for (size_t i = 0; i < import->quoted_count; i++)
        free(import->quoted[i]);
    free(import->quoted);
    if (import->out_of_memory) {
        fprintf(stderr, "relayctl import-haraka: %s\n", strerror(ENOMEM));
        return EX_OSERR;
    }
    return fflush(import->conf) == 0 && !ferror(import->conf) ? EX_OK : EX_IOERR;
}

static int import_run(struct subcommand_line *line)
{
    static const struct subcommand_option options[] = {{.name = NULL}};
    struct import import = {.conf = stdout};
    struct error err;
    int status;

    if (!subcommand_parse(line, options, &status))
        return status;
    if (line->argc == 0 || line->argc > IMPORT_FOLDERS_MAX) {
        fprintf(stderr, _("relayctl import-haraka: give 1 to %d folders\n"), IMPORT_FOLDERS_MAX);
        return EX_USAGE;
    }
    status = EX_OK;
    for (int i = 0; i < line->argc && status == EX_OK; i++) {
        if (haraka_read(&import.folders[import.count], line->argv[i], &err) != 0) {
            fprintf(stderr, "relayctl import-haraka: %s\n", err.text);
            status = EX_NOINPUT;
        } else {
            import.count++;
        }
    }
    if (status == EX_OK)
        status = import_print(&import);
    for (size_t i = 0; i < import.count; i++)
        haraka_free(&import.folders[i]);
    return status;
}

const struct subcommand import_subcommand = {
    .name = "import-haraka",
    .summary = N_("print a relay.conf made from Haraka's files"),
    .help = {N_(
        "Usage: relayctl import-haraka FOLDER...\n"
        "Prints a relay.conf made from the configuration of one or two instances of Haraka.\n"
        "A FOLDER holds smtp.ini, host_list and the other files. Nothing is changed.\n\n"
        "  relayctl import-haraka /opt/haraka/config/haraka-in /opt/haraka/config/haraka-out\n")},
    .arguments = true,
    .run = import_run,
};
