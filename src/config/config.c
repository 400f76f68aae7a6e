/* config/config.c - loads and checks relay.conf
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "config/config.h"

#include <ctype.h>
#include <errno.h>
#include <libconfig.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/i18n.h"
#include "config/load.h"
#include "config/options.h"
#include "config/values.h"

#ifndef SYSCONFDIR
#define SYSCONFDIR "/etc"
#endif

const char config_default_file[] = SYSCONFDIR "/postern/relay.conf";

/* A snapshot with its reference counter, which its users do not see. */
struct counted_config {
    struct config config;
    atomic_uint references;
};

unsigned config_part_of(const char *path)
{
    return strncmp(path, "in.", 3) == 0    ? CONFIG_PART_IN
           : strncmp(path, "out.", 4) == 0 ? CONFIG_PART_OUT
                                           : 0;
}

/* The parts asked for, plus those in the file. */
static unsigned config_find_parts(struct load *load, unsigned parts)
{
    if (config_lookup(&load->file, "in") != NULL)
        parts |= CONFIG_PART_IN;
    if (config_lookup(&load->file, "out") != NULL)
        parts |= CONFIG_PART_OUT;
    return parts != 0 ? parts : CONFIG_PART_IN;
}

/* Reads up to the line `number`, and returns the first line with a string that does not end on it; 0: none. */
static unsigned config_find_open_string(FILE *file, unsigned number)
{
    unsigned line = 1, begun = 0;
    int octet, before = 0;
    char comment = 0; /* '#': to the end of the line; '*': to its own end */

    while (line < number && (octet = getc(file)) != EOF) {
        line += octet == '\n';
        if (comment != 0) {
            if (comment == '#' ? octet == '\n' : before == '*' && octet == '/')
                comment = 0;
        } else if (begun != 0) {
            if (octet == '\n')
                return begun;
            if (octet == '"' && before != '\\')
                begun = 0;
            if (before == '\\')
                octet = 0; /* it escapes nothing itself */
        } else if (octet == '"') {
            begun = line;
        } else if (octet == '#' || (octet == '/' && before == '/')) {
            comment = '#';
        } else if (octet == '*' && before == '/') {
            comment = '*';
            octet = 0;
        }
        before = octet;
    }
    return 0;
}

/* Is a value on the line neither a number nor true or false, and without quotation marks? */
static bool config_has_bare_value(const char *line)
{
    bool found = false;

    if (strchr(line, '"') != NULL)
        return false;
    for (const char *at = strchr(line, '='); at != NULL && !found; at = strchr(at, '=')) {
        char *end;
        at += 1 + strspn(at + 1, " \t[(");
        size_t len = strcspn(at, " \t\r\n,;])}");
        strtoll(at, &end, 0);
        found = (isalnum((unsigned char)*at) || strchr("/.:*", *at) != NULL) && len > 0 &&
                end != at + len && !(len == 4 && strncasecmp(at, "true", 4) == 0) &&
                !(len == 5 && strncasecmp(at, "false", 5) == 0);
    }
    return found;
}

/* What is wrong on the line in which libconfig saw a syntax error, as far as that shows. Moves `*number` to where it
 * begins. */
static const char *config_explain(FILE *file, unsigned *number, const char *usual)
{
    const char *explanation = usual;
    char *line = NULL;
    size_t size = 0;
    unsigned begun = config_find_open_string(file, *number);

    if (begun != 0) {
        *number = begun;
        return _("syntax error: a quotation mark on this line is not closed");
    }
    /* Word processors insert typographic quotation marks. In UTF-8 all of them begin with these octets. */
    if (getline(&line, &size, file) >= 0 && strstr(line, "\xe2\x80") != NULL)
        explanation = _("syntax error: the quotation marks are not plain ones (\")");
    else if (line != NULL && config_has_bare_value(line))
        explanation =
            _("syntax error: all values but numbers, true and false need quotation marks, "
              "like \"30s\"");
    free(line);
    return explanation;
}

static void config_complain_of_syntax(struct load *load)
{
    const char *wrong = config_error_file(&load->file), *text = config_error_text(&load->file);
    unsigned line = (unsigned)config_error_line(&load->file);
    FILE *file = fopen(wrong != NULL ? wrong : load->name, "re");

    if (file != NULL && strcmp(text, "syntax error") == 0)
        text = config_explain(file, &line, text);
    if (file != NULL)
        fclose(file);
    load_complain_at(load, wrong, line, "", text);
}

static int config_parse_file(struct load *load)
{
    static const char byte_order_mark[] = BYTE_ORDER_MARK;
    char first[sizeof byte_order_mark] = "";
    FILE *file;
    int result = CONFIG_FALSE;

    if (source_check(load, load->name) != 0)
        return -1;
    file = fopen(load->name, "re");
    if (file == NULL) {
        load_complain(load, NULL, "", _("cannot be read: %s"), strerror(errno));
        return -1;
    }
    if (fread(first, 1, sizeof first - 1, file) != sizeof first - 1 ||
        strcmp(first, byte_order_mark) != 0)
        rewind(file);
    config_set_include_dir(&load->file, load->folder);
    result = config_read(&load->file, file);
    fclose(file);
    if (result == CONFIG_TRUE)
        return 0;
    config_complain_of_syntax(load);
    return -1;
}

static char *config_folder_of(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash != NULL && slash != file ? strndup(file, (size_t)(slash - file)) : strdup("/");
}

/* Does not resolve symbolic links: relative paths mean files next to the link, not next to its
 * target. */
static char *config_absolute_name(const char *file)
{
    char *folder = file[0] != '/' ? getcwd(NULL, 0) : NULL;
    char *name = folder != NULL || file[0] == '/' ? value_absolute(file, folder) : NULL;
    free(folder);
    return name;
}

struct config *config_load(const char *file, config_report *report, void *context)
{
    return config_load_for(file, 0, report, context);
}

static void config_free_texts(struct string_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
}

/* "FILE:LINE" of a setting, which the caller frees; NULL if it is not in the file. */
static char *config_place_of(const struct load *load, const char *path)
{
    const config_setting_t *setting = config_lookup(&load->file, path);
    char *place = NULL;

    if (setting != NULL &&
        asprintf(&place, "%s:%u",
                 config_setting_source_file(setting) != NULL ? config_setting_source_file(setting)
                                                             : load->name,
                 config_setting_source_line(setting)) < 0)
        return NULL;
    return place;
}

/* Loads what can be loaded. The caller frees load->wrong. NULL: no memory. */
static struct config *config_load_all(struct load *load)
{
    struct counted_config *counted = calloc(1, sizeof *counted);

    if (counted == NULL) {
        load->report(load->context, _("out of memory"));
        return NULL;
    }
    atomic_init(&counted->references, 1);
    load->config = &counted->config;
    load->config->file = config_absolute_name(load->name);
    load->folder = load->config->file != NULL ? config_folder_of(load->config->file) : NULL;
    config_init(&load->file);
    if (load->folder == NULL) {
        load_complain(load, NULL, "", "%s", strerror(errno));
    } else if (config_parse_file(load) == 0) {
        load->config->parts = config_find_parts(load, load->daemon);
        rows_load(load);
        load->config->certificates_place = config_place_of(load, "tls.certificates");
        check_settings(load);
    }
    config_destroy(&load->file);
    free(load->folder);
    return load->config;
}

/* Gives up a configuration that is not fit for use. */
static struct config *config_finish(struct load *load, bool fit)
{
    config_free_texts(&load->wrong);
    if (fit)
        return load->config;
    config_unref(load->config);
    return NULL;
}

struct config *config_load_for(const char *file, unsigned parts, config_report *report,
                               void *context)
{
    struct load load = {.name = file, .report = report, .context = context, .daemon = parts};

    if (config_load_all(&load) == NULL)
        return NULL;
    return config_finish(&load, load.errors == 0);
}

static void config_ignore_report(void *context, const char *text)
{
    (void)context;
    (void)text;
}

struct config *config_load_unfinished(const char *file)
{
    struct load load = {.name = file, .report = config_ignore_report};
    struct config *config = config_load_all(&load);

    if (config == NULL)
        return NULL;
    bool named = config->hostname != NULL && config->hostname[0] != '\0' &&
                 !load_is_wrong(&load, "hostname");
    return config_finish(&load, named);
}

struct config *config_ref(struct config *config)
{
    atomic_fetch_add(&((struct counted_config *)config)->references, 1);
    return config;
}

void config_unref(struct config *config)
{
    struct counted_config *counted = (struct counted_config *)config;
    if (config == NULL || atomic_fetch_sub(&counted->references, 1) != 1)
        return;
    option_free_rows(&options, config);
    config_free_texts(&config->warnings);
    config_free_texts(&config->advice);
    free(config->certificates_place);
    free(config->file);
    free(counted);
}

/* Without force_routing such a route's next_hop is ignored, so its password is never used. */
static bool config_warn_of_log_ins(const struct config *config, config_report *report,
                                   void *context)
{
    const struct config_route *routes = config->out.routes.items;
    bool good = true;
    char text[200];

    for (size_t i = 0; i < config->out.routes.count && !config->out.force_routing; i++) {
        if (routes[i].user[0] == '\0')
            continue;
        snprintf(text, sizeof text,
                 _("out.routes[%zu] has a log-in (user), but force_routing = false ignores its "
                   "next_hop, so there is no log-in"),
                 i);
        report(context, text);
        good = false;
    }
    return good;
}

/* Most mail would wait for days and then bounce. */
static void config_warn_of_verify(const struct config *config, config_report *report, void *context)
{
    const struct config_out *out = &config->out;
    if (out->tls.level == CONFIG_OUT_TLS_VERIFY && out->default_route.next_hops.count == 0)
        report(context, _("out.tls.level = \"verify\": if DNSSEC does not prove the MX records, "
                          "the MX host's certificate must be for the recipient's domain; most are "
                          "not, and such mail is returned after out.lifetime"));
}

void config_advise(const struct config *config, config_report *report, void *context)
{
    for (size_t i = 0; i < config->advice.count; i++)
        report(context, config->advice.items[i]);
}

bool config_warn(const struct config *config, config_report *report, void *context)
{
    for (size_t i = 0; i < config->warnings.count; i++)
        report(context, config->warnings.items[i]);
    if ((config->parts & CONFIG_PART_OUT) && config->out.open_relay)
        report(context,
               _("out.i_know_this_is_an_open_relay is set: anybody can send mail to anybody "
                 "through this host, and its address will soon be on every blocklist"));
    if (!(config->parts & CONFIG_PART_OUT))
        return true;
    config_warn_of_verify(config, report, context);
    return config_warn_of_log_ins(config, report, context);
}

const struct address *config_source_for(const struct host_list *source, int family)
{
    for (size_t i = 0; i < source->count; i++) {
        if (source->items[i].family == family)
            return &source->items[i];
    }
    return NULL;
}

enum proxy_version config_proxy_of(const struct config_backend *backend)
{
    return backend->identity == CONFIG_IDENTITY_PROXY_V1   ? PROXY_V1
           : backend->identity == CONFIG_IDENTITY_PROXY_V2 ? PROXY_V2
                                                           : (enum proxy_version)0;
}

const struct config_tls *config_tls_of(const struct config *config, unsigned part)
{
    return part == CONFIG_PART_OUT && config->out.listen_tls.given ? &config->out.listen_tls.tls
                                                                   : &config->tls;
}

void config_tls_server(const struct config_tls *tls, struct tls_server_config *out)
{
    *out = (struct tls_server_config){
        .pairs = tls->certificates.items,
        .pair_count = tls->certificates.count,
        .priority = tls->priority,
        .minimum_version = (enum tls_minimum_version)tls->minimum_version,
        .client_certificates = (enum tls_client_certificates)tls->client_certificates,
        .ca_file = tls->ca_file,
        .dh_params = tls->dh_params,
    };
}

void config_resolver(const struct config *config, struct resolver_config *out)
{
    const struct config_dns *dns = &config->dns;
    *out = (struct resolver_config){
        .servers = dns->servers.items,
        .server_count = dns->servers.count,
        .recurse = dns->recurse,
        .trust_anchor_file = !dns->validate                      ? ""
                             : dns->trust_anchor_file[0] != '\0' ? dns->trust_anchor_file
                                                                 : NULL,
    };
}
