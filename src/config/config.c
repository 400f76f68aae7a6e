/* config/config.c - loading and checking relay.conf
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "config/config.h"

#include <errno.h>
#include <libconfig.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/i18n.h"
#include "config/options.h"
#include "config/values.h"

#ifndef SYSCONFDIR
#define SYSCONFDIR "/etc"
#endif

#define PATH_TEXT_MAX 256
#define NEAR_ENOUGH 3 /* edits between an unknown name and the one it is likened to */

const char config_default_file[] = SYSCONFDIR "/postern/relay.conf";

/* A snapshot with the counter that its users do not see. */
struct counted_config {
    struct config config;
    atomic_uint references;
};

/* What is under way while one file is loaded. */
struct load {
    struct config *config;
    config_t file;
    char *folder;
    config_report *report;
    void *context;
    unsigned errors;
};

static void complain(struct load *load, const config_setting_t *setting, const char *option,
                     const char *format, ...)
{
    char reason[ERROR_TEXT_MAX], text[ERROR_TEXT_MAX + 2 * PATH_TEXT_MAX];
    const char *file = load->config->file;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    if (setting != NULL && config_setting_source_file(setting) != NULL)
        file = config_setting_source_file(setting);
    if (setting != NULL)
        snprintf(text, sizeof text, "%s:%u: %s: %s", file, config_setting_source_line(setting),
                 option, reason);
    else
        snprintf(text, sizeof text, "%s: %s: %s", file, option, reason);
    load->report(load->context, text);
    load->errors++;
}

static void complain_type(struct load *load, const config_setting_t *setting,
                          const struct option *option)
{
    char wanted[256];
    complain(load, setting, option->path, _("the value is of the wrong type; expected %s"),
             option_expected(option, wanted, sizeof wanted));
}

static bool takes_number(const struct option *option)
{
    return option->type == OPTION_INTEGER || option->type == OPTION_DURATION ||
           option->type == OPTION_SIZE;
}

/* The value as option_set() wants it: text. NULL when the type does not fit. */
static const char *scalar_text(const config_setting_t *setting, const struct option *option,
                               char *out, size_t size)
{
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_STRING:
        return option->type != OPTION_INTEGER ? config_setting_get_string(setting) : NULL;
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        if (!takes_number(option))
            return NULL;
        snprintf(out, size, "%lld", config_setting_get_int64(setting));
        return out;
    default:
        return NULL;
    }
}

static void load_value(struct load *load, const config_setting_t *setting,
                       const struct option *option)
{
    char number[32];
    struct error err;
    const char *text = scalar_text(setting, option, number, sizeof number);
    if (text == NULL)
        complain_type(load, setting, option);
    else if (option_set(option, load->config, text, load->folder, &err) != 0)
        complain(load, setting, option->path, "%s", err.text);
}

static void load_certificate(struct load *load, config_setting_t *setting,
                             const struct option *option)
{
    struct config_tls *tls = &load->config->tls;
    const char *cert = NULL, *key = NULL;
    char *cert_path = NULL, *key_path = NULL;
    struct error err;

    if (!config_setting_is_group(setting) ||
        !config_setting_lookup_string(setting, "cert", &cert)) {
        complain_type(load, setting, option);
        return;
    }
    if (!config_setting_lookup_string(setting, "key", &key))
        key = cert;
    struct tls_pair *pairs =
        realloc(tls->certificates, (tls->certificate_count + 1) * sizeof *pairs);
    if (pairs == NULL) {
        complain(load, setting, option->path, "%s", _("out of memory"));
        return;
    }
    tls->certificates = pairs;
    if (value_set_file(&cert_path, cert, load->folder, &err) != 0)
        complain(load, setting, option->path, "%s", err.text);
    if (value_set_file(&key_path, key, load->folder, &err) != 0 && key != cert)
        complain(load, setting, option->path, "%s", err.text);
    pairs[tls->certificate_count++] = (struct tls_pair){cert_path, key_path};
}

static void load_list(struct load *load, config_setting_t *setting, const struct option *option)
{
    if (config_setting_type(setting) == CONFIG_TYPE_STRING) {
        load_value(load, setting, option);
        return;
    }
    if (!config_setting_is_array(setting) && !config_setting_is_list(setting)) {
        complain_type(load, setting, option);
        return;
    }
    for (int i = 0; i < config_setting_length(setting); i++) {
        config_setting_t *item = config_setting_get_elem(setting, (unsigned)i);
        if (option->type == OPTION_CERTIFICATES)
            load_certificate(load, item, option);
        else
            load_value(load, item, option);
    }
}

static void load_default(struct load *load, const struct option *option)
{
    struct error err;
    if (option->fallback == NULL) {
        char wanted[256];
        complain(load, NULL, option->path, _("it must be set; expected %s"),
                 option_expected(option, wanted, sizeof wanted));
    } else if ((option->fallback[0] != '\0' || !option_is_list(option)) &&
               option_set(option, load->config, option->fallback, load->folder, &err) != 0) {
        complain(load, NULL, option->path, "%s", err.text);
    }
}

static void load_options(struct load *load)
{
    for (size_t i = 0; i < option_count; i++) {
        config_setting_t *setting = config_lookup(&load->file, options[i].path);
        if (setting == NULL)
            load_default(load, &options[i]);
        else if (option_is_list(&options[i]))
            load_list(load, setting, &options[i]);
        else
            load_value(load, setting, &options[i]);
    }
}

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Levenshtein's distance. */
static size_t distance(const char *a, const char *b)
{
    size_t row[PATH_TEXT_MAX], b_len = strlen(b);
    if (b_len >= PATH_TEXT_MAX)
        return PATH_TEXT_MAX;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t above = row[j];
            row[j] = smallest(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1] ? 1 : 0));
            diagonal = above;
        }
    }
    return row[b_len];
}

static const char *nearest(const char *path)
{
    const char *best = NULL;
    size_t best_distance = NEAR_ENOUGH + 1;
    for (size_t i = 0; i < option_count; i++) {
        size_t d = distance(path, options[i].path);
        if (d < best_distance) {
            best_distance = d;
            best = options[i].path;
        }
    }
    return best;
}

enum path_kind { PATH_UNKNOWN, PATH_GROUP, PATH_OPTION };

static enum path_kind kind_of(const char *path)
{
    size_t len = strlen(path);
    for (size_t i = 0; i < option_count; i++) {
        if (strncmp(options[i].path, path, len) != 0)
            continue;
        if (options[i].path[len] == '\0')
            return PATH_OPTION;
        if (options[i].path[len] == '.')
            return PATH_GROUP;
    }
    return PATH_UNKNOWN;
}

static void check_names(struct load *load, config_setting_t *group, const char *prefix)
{
    char path[PATH_TEXT_MAX];
    for (int i = 0; i < config_setting_length(group); i++) {
        config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
        snprintf(path, sizeof path, "%s%s", prefix, config_setting_name(setting));
        const char *near = nearest(path);
        switch (kind_of(path)) {
        case PATH_OPTION:
            break;
        case PATH_GROUP:
            if (config_setting_is_group(setting)) {
                strncat(path, ".", sizeof path - strlen(path) - 1);
                check_names(load, setting, path);
            } else {
                complain(load, setting, path, _("expected a group in braces"));
            }
            break;
        case PATH_UNKNOWN:
            if (near != NULL)
                complain(load, setting, path, _("no such option; did you mean %s?"), near);
            else
                complain(load, setting, path, _("no such option"));
        }
    }
}

/* What no single row can say. */
static void check_together(struct load *load)
{
    const struct config *config = load->config;
    if (config->tls.client_certificates != TLS_CLIENT_NONE && config->tls.ca_file != NULL &&
        config->tls.ca_file[0] == '\0')
        complain(load, config_lookup(&load->file, "tls.client_certificates"),
                 "tls.client_certificates", _("tls.ca_file must be set to check them"));
    if (config->in.domains.count == 0 && load->errors == 0)
        complain(load, NULL, "in.domains",
                 _("no domain to take mail for; set in.domains or in.domains_file"));
}

static int read_file(struct load *load, const char *file)
{
    char text[ERROR_TEXT_MAX];

    config_set_include_dir(&load->file, load->folder);
    if (access(file, R_OK) != 0)
        snprintf(text, sizeof text, _("%s: cannot be read: %s"), file, strerror(errno));
    else if (config_read_file(&load->file, file) == CONFIG_TRUE)
        return 0;
    else
        snprintf(text, sizeof text, "%s:%d: %s",
                 config_error_file(&load->file) != NULL ? config_error_file(&load->file) : file,
                 config_error_line(&load->file), config_error_text(&load->file));
    load->report(load->context, text);
    load->errors++;
    return -1;
}

static char *folder_of(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash != NULL && slash != file ? strndup(file, (size_t)(slash - file)) : strdup("/");
}

static char *absolute_name(const char *file)
{
    char *real = realpath(file, NULL);
    return real != NULL ? real : strdup(file);
}

struct config *config_load(const char *file, config_report *report, void *context)
{
    struct counted_config *counted = calloc(1, sizeof *counted);
    struct load load = {.report = report, .context = context};

    if (counted == NULL) {
        report(context, _("out of memory"));
        return NULL;
    }
    atomic_init(&counted->references, 1);
    load.config = &counted->config;
    load.config->file = absolute_name(file);
    load.folder = load.config->file != NULL ? folder_of(load.config->file) : NULL;
    config_init(&load.file);
    if (load.folder != NULL && read_file(&load, file) == 0) {
        check_names(&load, config_root_setting(&load.file), "");
        load_options(&load);
        check_together(&load);
    }
    config_destroy(&load.file);
    free(load.folder);
    if (load.errors == 0)
        return load.config;
    config_unref(load.config);
    return NULL;
}

struct config *config_ref(struct config *config)
{
    atomic_fetch_add(&((struct counted_config *)config)->references, 1);
    return config;
}

static void free_lists(struct config *config)
{
    for (size_t i = 0; i < config->tls.certificate_count; i++) {
        free((char *)config->tls.certificates[i].cert);
        free((char *)config->tls.certificates[i].key);
    }
    free(config->tls.certificates);
    for (size_t i = 0; i < config->in.domains.count; i++)
        free(config->in.domains.items[i]);
    free(config->in.domains.items);
}

void config_unref(struct config *config)
{
    struct counted_config *counted = (struct counted_config *)config;
    if (config == NULL || atomic_fetch_sub(&counted->references, 1) != 1)
        return;
    for (size_t i = 0; i < option_count; i++) {
        void *place = option_place(&options[i], config);
        if (options[i].type <= OPTION_FILE)
            free(*(char **)place);
        else if (options[i].type == OPTION_NETWORKS)
            cidr_set_free(*(struct cidr_set **)place);
    }
    free_lists(config);
    free(config->file);
    free(counted);
}

void config_tls_server(const struct config *config, struct tls_server_config *out)
{
    const struct config_tls *tls = &config->tls;
    *out = (struct tls_server_config){
        .pairs = tls->certificates,
        .pair_count = tls->certificate_count,
        .priority = tls->priority,
        .minimum_version = (enum tls_minimum_version)tls->minimum_version,
        .client_certificates = (enum tls_client_certificates)tls->client_certificates,
        .ca_file = tls->ca_file,
        .dh_params = tls->dh_params,
    };
}
