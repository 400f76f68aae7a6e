/* relayctl/import-groups.c - relayctl import-haraka: the groups `in` and `out` of relay.conf
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/import.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/address.h"
#include "base/i18n.h"
#include "config/config.h"

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

    import_line(import, import->in, host, NULL, "%shosts = [ %s ];", indent,
                import_quoted(import, hop));
    if (address_parse_endpoint(&address, hop, 25) != 0)
        import_comment(import->remarks,
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
    struct haraka_entry *first = haraka_next(haraka, NULL, "tls.ini", "no_tls_hosts", NULL);
    char *text = NULL;
    size_t size;
    FILE *list = first != NULL ? open_memstream(&text, &size) : NULL;

    if (list == NULL)
        return;
    for (struct haraka_entry *entry = first; entry != NULL;
         entry = haraka_next(haraka, entry, "tls.ini", "no_tls_hosts", NULL)) {
        fprintf(list, "%s", entry != first ? ", " : "");
        bool by_value = entry->value[0] != '\0' && !haraka_is_true(entry->value);
        config_print_string(by_value ? entry->value : entry->key, list);
        entry->taken = true;
    }
    fclose(list);
    import_line(import, haraka, first, NULL, "  no_tls_hosts = [ %s ];", text);
    free(text);
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

void import_in(struct import *import)
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
        bool any_domain = strcasecmp(entry->key, "any") == 0;
        import_line(import, import->out, entry, NULL, "    { domain = [ %s ];%s%s%s%s%s%s }",
                    import_quoted(import, any_domain ? "*" : entry->key), acts ? " action = " : "",
                    acts ? import_quoted(import, action) : "", acts ? ";" : "",
                    goes ? " next_hop = [ " : "", goes ? import_quoted(import, hop) : "",
                    goes ? " ];" : "");
        any = true;
    }
    entry = NULL;
    while ((entry = haraka_next(import->out, entry, "smtp_forward.ini", NULL, "host")) != NULL) {
        if (import->out == import->in || !import_is_domain(entry->section) ||
            !import_forward(import->out, entry->section, "25", hop, sizeof hop, &host))
            continue;
        fprintf(import->conf, "%s", any ? "    ,\n" : "  routes = (\n");
        import_line(import, import->out, entry, NULL,
                    "    { domain = [ \"%s\" ]; next_hop = [ %s ]; }", entry->section,
                    import_quoted(import, hop));
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
    import_line(import, import->out, host, NULL, "    next_hop = [ %s ];",
                import_quoted(import, hop));
    if (user != NULL) {
        import_line(import, import->out, NULL, _("a log-in requires a verified certificate"),
                    "    tls = \"verify\";");
        import_line(import, import->out, user, NULL, "    user = %s;",
                    import_quoted(import, user->value));
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

void import_out(struct import *import, const char *hostname)
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
