/* relayctl/import.c - relayctl import-haraka: makes relay.conf from Haraka's files
 *
 * Each line of the result says where it comes from. Settings without a counterpart, and those that
 * never had an effect in Haraka, follow as a list with the reason. It reads only the named folders and
 * changes nothing.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/address.h"
#include "base/i18n.h"
#include "relayctl/commands.h"
#include "relayctl/haraka.h"

#define IMPORT_FOLDERS_MAX 8
#define IMPORT_TEXT_MAX 4096
#define IMPORT_PATH_MAX 1024
#define IMPORT_COMMENT_COLUMN 44

struct import {
    struct haraka folders[IMPORT_FOLDERS_MAX];
    size_t count;
    const struct haraka *in, *out; /* the folder for each direction; may be the same */
    FILE *conf;                    /* the result */
    FILE *remarks;                 /* what the operator should check; writes to remark_text */
    char *remark_text;
    size_t remark_size;
};

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
     N_("one number for every wait; in.timeouts has one for each")},
    {"smtp.ini", "spool_dir", N_("relay-in stores nothing; out.spool is relay-out's")},
    {"smtp.ini", NULL, N_("no such setting here")},
    {"smtp_forward.ini", "enable_outbound",
     N_("relay-in never sends to the internet, and relay-out takes mail from out.allow alone")},
    {"smtp_forward.ini", "one_message_per_rcpt",
     N_("not needed: each recipient gets the mail server's own answer")},
    {"smtp_forward.ini", "max_connections", N_("see in.backend.max_sessions")},
    {"smtp_forward.ini", "timeout", N_("see in.backend.command_timeout and reply_timeout")},
    {"smtp_forward.ini", NULL, N_("no such setting here")},
    {"connection.ini", NULL, N_("in.limits and in.timeouts, whose defaults suit a small server")},
    {"tls.ini", "ciphers",
     N_("OpenSSL's names; tls.priority takes GnuTLS's, and its default is sound")},
    {"tls.ini", "honorcipherorder", N_("the default of tls.priority")},
    {"tls.ini", "dhparam", N_("the groups of RFC 7919 are used; tls.dh_params takes a file")},
    {"tls.ini", "rejectunauthorized", N_("see tls.client_certificates and tls.ca_file")},
    {"tls.ini", NULL, N_("no such setting here; tls and out.tls have TLS")},
    {"relay.ini", "acl", N_("a list that is there counts")},
    {"relay.ini", "dest_domains", N_("out.routes says it; a list that is there counts")},
    {"relay.ini", "all", N_("true would make an open relay; never taken over")},
    {"relay.ini", "force_routing", N_("without a list of destinations it changes nothing")},
    {"outbound.ini", "always_split", N_("smtp_destination_recipient_limit = 1 at the mail server")},
    {"outbound.ini", "enable_tls", N_("out.tls.level is \"may\": TLS where it is offered")},
    {"outbound.ini", "maxtempfailures", N_("out.lifetime says how long mail is tried")},
    {"outbound.ini", "local_mx_ok",
     N_("MX hosts with private addresses need an entry in out.routes")},
    {"outbound.ini", NULL, N_("no such setting here; out.delivery and out.retry have delivery")},
    {"host_list", NULL, N_("relay-out takes mail for every domain, from out.allow alone")},
    {"host_list_regex", NULL, N_("domains are written out; a leading dot means all subdomains")},
    {"outbound.bounce_message", NULL, N_("notices have RFC 3464's form")},
    {"auth_flat_file.ini", NULL,
     N_("passwords in clear text are not taken over; set new ones: relayctl password")},
    {"internalcmd_key", NULL, N_("relayctl asks the daemons by sockets of their own")},
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
        return _("Haraka reads no such file: this never had an effect");
    if (strcmp(name, "plugins") == 0) {
        for (const char *const *known = import_built_in; *known != NULL; known++) {
            if (strcmp(*known, entry->key) == 0)
                return _("built in");
        }
        return _("no plug-ins here: such checks are the mail server's, which sees the true client");
    }
    for (size_t i = 0; i < sizeof import_reasons / sizeof *import_reasons; i++) {
        if (strcmp(import_reasons[i].file, name) == 0 &&
            (import_reasons[i].key == NULL || strcasecmp(import_reasons[i].key, entry->key) == 0))
            return _(import_reasons[i].why);
    }
    return _("not known to this program");
}

/* Writes a libconfig string with its quotes. */
static void import_quote(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        if ((unsigned char)*text >= ' ')
            fputc(*text, out);
    }
    fputc('"', out);
}

/* Writes one line of the result, followed by its source. `entry` NULL: it has none. */
static void import_line(struct import *import, const struct haraka *haraka,
                        struct haraka_entry *entry, const char *note, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static void import_line(struct import *import, const struct haraka *haraka,
                        struct haraka_entry *entry, const char *note, const char *format, ...)
{
    char text[IMPORT_TEXT_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(import->conf, "%s", text);
    if (entry != NULL || note != NULL)
        fprintf(
            import->conf, "%*s// ",
            (int)(strlen(text) < IMPORT_COMMENT_COLUMN ? IMPORT_COMMENT_COLUMN - strlen(text) : 2),
            "");
    if (entry != NULL) {
        entry->taken = true;
        fprintf(import->conf, _("from %s/%s:%u"), haraka->name, entry->file, entry->line);
        if (entry->value[0] != '\0')
            fprintf(import->conf, " %s", entry->key);
        if (!haraka_was_read(entry))
            fprintf(import->conf, _(" (Haraka never read it)"));
    }
    if (note != NULL)
        fprintf(import->conf, "%s%s", entry != NULL ? "; " : "", note);
    fputc('\n', import->conf);
}

/* Writes the items of a list file as a list of strings, one per line if there are several. */
static void import_list(struct import *import, const struct haraka *haraka, const char *option,
                        const char *file)
{
    struct haraka_entry *first = haraka_next(haraka, NULL, file, NULL, NULL);
    struct haraka_entry *entry = first;
    char *text = NULL;
    size_t size;

    if (first == NULL)
        return;
    FILE *list = open_memstream(&text, &size);
    if (list == NULL)
        return;
    for (; entry != NULL; entry = haraka_next(haraka, entry, file, NULL, NULL)) {
        fprintf(list, "%s", entry != first ? ", " : "");
        import_quote(list, entry->key);
        entry->taken = true;
    }
    fclose(list);
    import_line(import, haraka, first, NULL, "  %s = [ %.3900s ];", option, text);
    free(text);
}

/* Writes "[::0]:25, 0.0.0.0:587" in the form of listen_spec. The port `tls_port` has implicit TLS. */
static void import_addresses(struct import *import, const struct haraka *haraka,
                             struct haraka_entry *entry, uint16_t port, uint16_t tls_port)
{
    char text[IMPORT_TEXT_MAX] = "", item[ADDRESS_TEXT_MAX], *save = NULL;
    char *copy = strdup(entry->value);
    size_t len = 0;

    for (char *part = copy != NULL ? strtok_r(copy, ", \t", &save) : NULL; part != NULL;
         part = strtok_r(NULL, ", \t", &save)) {
        struct address address;
        if (address_parse_endpoint(&address, part, port) != 0) {
            fprintf(import->remarks, _("//   %s/%s:%u: %s is no IP address to listen on\n"),
                    haraka->name, entry->file, entry->line, part);
            continue;
        }
        len += (size_t)snprintf(text + len, sizeof text - len, "%s\"%s%s\"", len > 0 ? ", " : "",
                                address_format_endpoint(&address, item),
                                address.port == tls_port ? " tls" : "");
        if (len >= sizeof text)
            break;
    }
    free(copy);
    if (len > 0 && len < sizeof text)
        import_line(import, haraka, entry, NULL, "  listen = [ %s ];", text);
}

static void import_listen(struct import *import, const struct haraka *haraka, uint16_t fallback)
{
    struct haraka_entry *listen = haraka_find(haraka, "smtp.ini", "main", "listen");
    struct haraka_entry *port = haraka_find(haraka, "smtp.ini", "main", "port");
    struct haraka_entry *tls_port = haraka_find(haraka, "smtp.ini", "main", "smtps_port");
    long number = port != NULL ? strtol(port->value, NULL, 10) : fallback;
    long tls_number = tls_port != NULL ? strtol(tls_port->value, NULL, 10) : 465;

    if (listen == NULL)
        listen = haraka_find(haraka, "smtp.ini", "main", "listen_host");
    if (listen != NULL)
        import_addresses(import, haraka, listen,
                         number > 0 && number <= 65535 ? (uint16_t)number : fallback,
                         (uint16_t)tls_number);
    if (port != NULL)
        port->taken = true;
    if (tls_port != NULL)
        tls_port->taken = true;
}

/* The number in an entry of an ini file or a list. NULL if it is not a number, or 0. */
static const char *import_number_of(const struct haraka_entry *entry)
{
    const char *value = entry == NULL ? "" : entry->value[0] != '\0' ? entry->value : entry->key;
    bool is_number = value[0] != '\0' && value[strspn(value, "0123456789")] == '\0';
    return is_number && strspn(value, "0") != strlen(value) ? value : NULL;
}

static void import_number(struct import *import, const struct haraka *haraka,
                          struct haraka_entry *entry, const char *option)
{
    const char *value = import_number_of(entry);
    if (value != NULL)
        import_line(import, haraka, entry, NULL, "%s = %s;", option, value);
}

static bool import_is_domain(const char *text)
{
    size_t len = strlen(text);
    return len > 3 && len < 254 && strchr(text, '.') != NULL && text[0] != '.' &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") == len;
}

/* Takes the file's name without its suffix, if that is a host name. */
static bool import_name_in(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/');
    snprintf(out, size, "%s", slash != NULL ? slash + 1 : path);
    char *dot = strrchr(out, '.');
    if (dot != NULL &&
        (strcmp(dot, ".pem") == 0 || strcmp(dot, ".crt") == 0 || strcmp(dot, ".cer") == 0))
        *dot = '\0';
    return import_is_domain(out);
}

/* Finds the name of an instance: from the file "me", or from its certificate's file name, or from the only
 * line of host_list if it accepts no mail for domains. Returns the entry; NULL: none. */
static struct haraka_entry *import_name_of(const struct haraka *haraka, bool takes_domains,
                                           char *out, size_t size)
{
    struct haraka_entry *entry = haraka_next(haraka, NULL, "me", NULL, NULL);

    if (entry != NULL && import_is_domain(entry->key)) {
        snprintf(out, size, "%s", entry->key);
        return entry;
    }
    entry = haraka_find(haraka, "tls.ini", "main", "cert");
    if (entry != NULL && import_name_in(entry->value, out, size))
        return entry;
    entry = takes_domains ? NULL : haraka_next(haraka, NULL, "host_list", NULL, NULL);
    if (entry != NULL && import_is_domain(entry->key)) {
        snprintf(out, size, "%s", entry->key);
        return entry;
    }
    return NULL;
}

/* Finds a file that Haraka names: at the path as written, or in the named folder. False, with the path as
 * written in `out`, if it is not there. */
static bool import_find_file(const struct haraka *haraka, const char *value,
                             char out[IMPORT_PATH_MAX])
{
    const char *slash = strrchr(value, '/'), *name = slash != NULL ? slash + 1 : value;
    const char *const below[] = {"", "tls/"};

    if (value[0] == '/' && access(value, R_OK) == 0) {
        snprintf(out, IMPORT_PATH_MAX, "%s", value);
        return true;
    }
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
        snprintf(out, IMPORT_PATH_MAX, "%s/%s%s", haraka->folder, below[i], name);
        if (access(out, R_OK) == 0)
            return true;
    }
    snprintf(out, IMPORT_PATH_MAX, "%s", value);
    return false;
}

/* Writes an entry of tls.certificates. A path that does not exist is kept, with a remark. */
static void import_certificate(struct import *import, const struct haraka *haraka,
                               const char *indent)
{
    struct haraka_entry *cert = haraka_find(haraka, "tls.ini", "main", "cert");
    struct haraka_entry *key = haraka_find(haraka, "tls.ini", "main", "key");
    char cert_path[IMPORT_PATH_MAX], key_path[IMPORT_PATH_MAX] = "";

    bool there = import_find_file(haraka, cert->value, cert_path);
    if (key != NULL) {
        key->taken = true;
        if (strcmp(key->value, cert->value) != 0)
            there = import_find_file(haraka, key->value, key_path) && there;
    }
    import_line(import, haraka, cert, NULL, "%s  certificates = ( { cert = \"%s\";%s%s%s } );",
                indent, cert_path, key_path[0] != '\0' ? " key = \"" : "", key_path,
                key_path[0] != '\0' ? "\";" : "");
    if (!there)
        fprintf(import->remarks,
                _("//   %s/%s:%u: %s cannot be read; name the place where it is now\n"),
                haraka->name, cert->file, cert->line, cert->value);
}

static bool import_has_certificate(const struct haraka *haraka)
{
    const struct haraka_entry *cert =
        haraka != NULL ? haraka_find(haraka, "tls.ini", "main", "cert") : NULL;
    return cert != NULL && haraka_was_read(cert);
}

/* Writes the certificate of one instance as a group with that name. */
static void import_tls_group(struct import *import, const struct haraka *haraka, const char *group,
                             const char *indent)
{
    struct haraka_entry *version = haraka_find(haraka, "tls.ini", "main", "minversion");

    fprintf(import->conf, "%s%s = {\n", indent, group);
    import_certificate(import, haraka, indent);
    if (version != NULL && strncasecmp(version->value, "TLSv1.", 6) == 0 &&
        version->value[6] != '\0' && strchr("0123", version->value[6]) != NULL)
        import_line(import, haraka, version, NULL, "%s  minimum_version = \"1.%c\";", indent,
                    version->value[6]);
    fprintf(import->conf, "%s};\n", indent);
}

static void import_tls(struct import *import)
{
    const struct haraka *first = import->in != NULL ? import->in : import->out;

    fputc('\n', import->conf);
    if (import_has_certificate(first))
        import_tls_group(import, first, "tls", "");
    else
        fprintf(import->conf, _("// Without tls.certificates STARTTLS is not offered.\n"));
}

/* Makes "host:port" from a section of smtp_forward.ini. False if it names no host. */
static bool import_forward(const struct haraka *haraka, const char *section, const char *port,
                           char *out, size_t size, struct haraka_entry **host_entry)
{
    struct haraka_entry *host = haraka_find(haraka, "smtp_forward.ini", section, "host");
    struct haraka_entry *number = haraka_find(haraka, "smtp_forward.ini", section, "port");

    *host_entry = host;
    if (host == NULL)
        return false;
    if (number != NULL) {
        number->taken = true;
        port = number->value;
    }
    bool six = strchr(host->value, ':') != NULL && host->value[0] != '[';
    snprintf(out, size, "%s%s%s:%s", six ? "[" : "", host->value, six ? "]" : "", port);
    return true;
}

/* Writes the options that in.backend and the entries of in.backends share. */
static void import_backend(struct import *import, struct haraka_entry *host, const char *hop,
                           const char *indent)
{
    struct haraka_entry *introduces = haraka_find(import->in, "xclient.ini", "main", "forward");
    struct haraka_entry *again = haraka_find(import->in, "xclient.ini", "main", "destination");
    struct haraka_entry *enabled = haraka_find(import->in, "xclient.ini", "main", "enabled");
    struct haraka_entry *tls =
        haraka_find(import->in, "smtp_forward.ini", host->section, "enable_tls");
    struct address address;

    import_line(import, import->in, host, NULL, "%shosts = [ \"%s\" ];", indent, hop);
    if (address_parse_endpoint(&address, hop, 25) != 0)
        fprintf(import->remarks,
                _("//   %s/%s:%u: %s is a name; in.backend.hosts takes IP addresses\n"),
                import->in->name, host->file, host->line, hop);
    if (again != NULL)
        again->taken = true;
    if (enabled != NULL)
        enabled->taken = true;
    import_line(import, import->in, introduces,
                _("smtpd_authorized_xclient_hosts of the mail server must list this host"),
                "%sidentity = \"xclient\";", indent);
    if (tls != NULL)
        import_line(import, import->in, tls, NULL, "%stls = \"%s\";", indent,
                    haraka_is_true(tls->value) ? "may" : "none");
}

/* Writes in.backends from the sections of smtp_forward.ini that are named after domains. */
static void import_backends(struct import *import)
{
    const struct haraka *in = import->in;
    struct haraka_entry *entry = NULL, *host;
    char hop[300];
    bool any = false;

    while ((entry = haraka_next(in, entry, "smtp_forward.ini", NULL, "host")) != NULL) {
        if (!import_is_domain(entry->section) ||
            !import_forward(in, entry->section, "25", hop, sizeof hop, &host) || host != entry)
            continue;
        fprintf(import->conf, "%s    {\n      domains = [ \"%s\" ];\n",
                any ? "    ,\n" : "  backends = (\n", entry->section);
        import_backend(import, entry, hop, "      ");
        fprintf(import->conf, "    }\n");
        any = true;
    }
    if (any)
        fprintf(import->conf, "  );\n");
}

static void import_no_tls(struct import *import, const struct haraka *haraka)
{
    struct haraka_entry *entry = NULL;
    char text[IMPORT_TEXT_MAX / 2] = "";
    size_t len = 0;
    struct haraka_entry *first = haraka_next(haraka, NULL, "tls.ini", "no_tls_hosts", NULL);

    while ((entry = haraka_next(haraka, entry, "tls.ini", "no_tls_hosts", NULL)) != NULL &&
           len < sizeof text) {
        const char *network =
            entry->value[0] != '\0' && !haraka_is_true(entry->value) ? entry->value : entry->key;
        len += (size_t)snprintf(text + len, sizeof text - len, "%s\"%s\"", len > 0 ? ", " : "",
                                network);
        entry->taken = true;
    }
    if (len > 0 && len < sizeof text)
        import_line(import, haraka, first, NULL, "  no_tls_hosts = [ %s ];", text);
}

static void import_limits(struct import *import, const struct haraka *haraka)
{
    struct haraka_entry *size = haraka_next(haraka, NULL, "databytes", NULL, NULL);
    struct haraka_entry *received = haraka_next(haraka, NULL, "max_received_count", NULL, NULL);

    if (size == NULL)
        size = haraka_find(haraka, "connection.ini", "max", "bytes");
    if (received == NULL)
        received = haraka_find(haraka, "connection.ini", "headers", "max_received");
    if (import_number_of(size) == NULL && import_number_of(received) == NULL)
        return;
    fprintf(import->conf, "  limits = {\n");
    import_number(import, haraka, size, "    message_size");
    import_number(import, haraka, received, "    received_headers");
    fprintf(import->conf, "  };\n");
}

/* Writes the pause before the greeting: seconds in the ini file, milliseconds in the older file. */
static void import_early_talker(struct import *import)
{
    struct haraka_entry *seconds = haraka_find(import->in, "early_talker.ini", "main", "pause");
    struct haraka_entry *older = haraka_next(import->in, NULL, "early_talker.pause", NULL, NULL);
    double pause = seconds != NULL ? strtod(seconds->value, NULL) * 1000
                   : older != NULL ? strtod(older->key, NULL)
                                   : 0;

    if (pause < 1 || pause > 30000)
        return;
    int ms = (int)pause;
    bool whole = ms % 1000 == 0;
    import_line(import, import->in, seconds != NULL ? seconds : older, NULL,
                "  greet_delay = \"%d%s\";", whole ? ms / 1000 : ms, whole ? "s" : "ms");
}

static void import_in(struct import *import)
{
    const struct haraka *in = import->in;
    struct haraka_entry *host;
    char hop[300];

    fprintf(import->conf, "\nin = {\n");
    import_listen(import, in, 25);
    import_list(import, in, "domains", "host_list");
    if (import_forward(in, "main", "25", hop, sizeof hop, &host)) {
        fprintf(import->conf, "  backend = {\n");
        import_backend(import, host, hop, "    ");
        fprintf(import->conf, "  };\n");
    } else {
        fprintf(import->conf, _("  // No smtp_forward.ini says where the mail server is:\n"
                                "  // backend = { hosts = [ \"10.0.0.2:25\" ]; identity = "
                                "\"xclient\"; };\n"));
    }
    import_backends(import);
    import_no_tls(import, in);
    import_early_talker(import);
    import_limits(import, in);
    fprintf(import->conf, "};\n");
}

/* A value of relay_dest_domains.ini: {"action": "continue", "nexthop": "127.0.0.1:2525"}. Stores the
 * quoted text after "KEY":. False if there is none. */
static bool import_json_text(const char *json, const char *key, char *out, size_t size)
{
    char name[32];

    snprintf(name, sizeof name, "\"%s\"", key);
    const char *at = strstr(json, name);
    if (at == NULL)
        return false;
    at += strlen(name);
    at += strspn(at, " \t:");
    const char *end = at[0] == '"' ? strchr(at + 1, '"') : NULL;
    if (end == NULL)
        return false;
    snprintf(out, size, "%.*s", (int)(end - at - 1), at + 1);
    return true;
}

/* Writes the entries of out.routes, including those from a smarthost's sections. */
static void import_routes(struct import *import)
{
    struct haraka_entry *entry = NULL, *host;
    char action[32], hop[300];
    bool any = false;

    while ((entry = haraka_next(import->out, entry, "relay_dest_domains.ini", "domains", NULL)) !=
           NULL) {
        bool acts = import_json_text(entry->value, "action", action, sizeof action);
        bool goes = import_json_text(entry->value, "nexthop", hop, sizeof hop);
        fprintf(import->conf, "%s", any ? "    ,\n" : "  routes = (\n");
        import_line(import, import->out, entry, NULL, "    { domain = [ \"%s\" ];%s%s%s%s%s%s }",
                    strcasecmp(entry->key, "any") == 0 ? "*" : entry->key,
                    acts ? " action = \"" : "", acts ? action : "", acts ? "\";" : "",
                    goes ? " next_hop = [ \"" : "", goes ? hop : "", goes ? "\" ];" : "");
        any = true;
    }
    entry = NULL;
    while ((entry = haraka_next(import->out, entry, "smtp_forward.ini", NULL, "host")) != NULL) {
        if (import->out == import->in || !import_is_domain(entry->section) ||
            !import_forward(import->out, entry->section, "25", hop, sizeof hop, &host))
            continue;
        fprintf(import->conf, "%s", any ? "    ,\n" : "  routes = (\n");
        import_line(import, import->out, entry, NULL,
                    "    { domain = [ \"%s\" ]; next_hop = [ \"%s\" ]; }", entry->section, hop);
        any = true;
    }
    if (any)
        fprintf(import->conf, "  );\n");
}

/* Converts smtp_forward.ini of the outgoing instance. Its password stays where it is. */
static void import_smarthost(struct import *import)
{
    struct haraka_entry *host, *user, *password, *tls;
    char hop[300];

    if (import->out == import->in ||
        !import_forward(import->out, "main", "25", hop, sizeof hop, &host))
        return;
    user = haraka_find(import->out, "smtp_forward.ini", "main", "auth_user");
    password = haraka_find(import->out, "smtp_forward.ini", "main", "auth_pass");
    tls = haraka_find(import->out, "smtp_forward.ini", "main", "enable_tls");
    fprintf(import->conf, "  default_route = {\n");
    import_line(import, import->out, host, NULL, "    next_hop = [ \"%s\" ];", hop);
    if (user != NULL) {
        import_line(import, import->out, NULL, _("a log-in wants a verified certificate"),
                    "    tls = \"verify\";");
        import_line(import, import->out, user, NULL, "    user = \"%s\";", user->value);
        import_line(import, import->out, password,
                    _("write the password to that file, mode 0640, group postern"),
                    "    password_file = \"smarthost.password\";");
    } else if (tls != NULL && haraka_is_true(tls->value)) {
        import_line(import, import->out, tls, NULL, "    tls = \"encrypt\";");
    }
    if (tls != NULL)
        tls->taken = true;
    fprintf(import->conf, "  };\n");
}

static void import_delivery(struct import *import)
{
    struct haraka_entry *family = haraka_find(import->out, "outbound.ini", "main", "inet_prefer");
    struct haraka_entry *six = haraka_find(import->out, "outbound.ini", "main", "ipv6_enabled");
    struct haraka_entry *most = haraka_find(import->out, "outbound.ini", "main", "concurrency_max");

    if (six != NULL && !haraka_is_true(six->value))
        import_line(import, import->out, six, NULL, "  family = \"ipv4-only\";");
    else if (family != NULL && strcasecmp(family->value, "v4") == 0)
        import_line(import, import->out, family, NULL, "  family = \"ipv4\";");
    import_number(import, import->out, most, "  deliveries");
}

static void import_out(struct import *import, const char *hostname)
{
    const struct haraka *out = import->out;
    struct haraka_entry *entry = haraka_find(out, "relay.ini", "relay", "force_routing");
    char hello[300];

    fprintf(import->conf, "\nout = {\n");
    if (out == import->in)
        fprintf(import->conf, _("  // One Haraka did both; here each has its own port.\n"
                                "  listen = [ \"10.0.0.1:2526\" ];\n"));
    else
        import_listen(import, out, 2526);
    import_list(import, out, "allow", "relay_acl_allow");
    if (out != import->in && import->in != NULL && import_has_certificate(out))
        import_tls_group(import, out, "listen_tls", "  ");
    struct haraka_entry *name = import_name_of(out, out == import->in, hello, sizeof hello);
    if (name != NULL && strcmp(hello, hostname) != 0)
        import_line(import, out, name, NULL, "  hello = \"%s\";", hello);
    if (entry != NULL && haraka_has(out, "relay_dest_domains.ini"))
        import_line(import, out, entry, NULL, "  force_routing = %s;",
                    haraka_is_true(entry->value) ? "true" : "false");
    import_routes(import);
    import_smarthost(import);
    import_delivery(import);
    fprintf(import->conf, "};\n");
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
            fprintf(import->conf, "//   %s/%s:%u: %s%s%s\n//       %s\n", haraka->name, entry->file,
                    entry->line, entry->key, entry->value[0] != '\0' ? "=" : "",
                    secret ? "..." : entry->value, import_reason(entry));
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
            _("// relay.conf out of Haraka's files. Check it with: relayctl check\n\n"));
    import_line(import, first, name,
                name == NULL ? _("nothing says it: write this host's own name") : NULL,
                "hostname = \"%s\";", hostname);
    import_tls(import);
    if (import->in != NULL)
        import_in(import);
    if (import->out != NULL)
        import_out(import, hostname);
    import_left_over(import);
    fflush(import->remarks);
    if (import->remark_size > 0)
        fprintf(import->conf, _("\n// To be looked at:\n%s"), import->remark_text);
}

static int import_print_help(void)
{
    printf(
        _("Usage: relayctl import-haraka FOLDER...\n"
          "Prints a relay.conf out of the configuration of one or two instances of Haraka.\n"
          "A FOLDER holds smtp.ini, host_list and the rest. Nothing is changed.\n"
          "\n"
          "  relayctl import-haraka /opt/haraka/config/haraka-in /opt/haraka/config/haraka-out\n"));
    return EX_OK;
}

static int import_run(struct import *import)
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
    return fflush(import->conf) == 0 && !ferror(import->conf) ? EX_OK : EX_IOERR;
}

int import_main(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct import import = {.conf = stdout};
    struct error err;
    int letter, status = EX_OK;

    while ((letter = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        if (letter != 'h')
            return EX_USAGE;
        return import_print_help();
    }
    if (optind == argc || argc - optind > IMPORT_FOLDERS_MAX) {
        fprintf(stderr, _("relayctl import-haraka: name one to %d folders; see --help\n"),
                IMPORT_FOLDERS_MAX);
        return EX_USAGE;
    }
    for (; optind < argc && status == EX_OK; optind++) {
        if (haraka_read(&import.folders[import.count], argv[optind], &err) != 0) {
            fprintf(stderr, "relayctl import-haraka: %s\n", err.text);
            status = EX_NOINPUT;
        } else {
            import.count++;
        }
    }
    if (status == EX_OK)
        status = import_run(&import);
    for (size_t i = 0; i < import.count; i++)
        haraka_free(&import.folders[i]);
    return status;
}
