/* config/config.c - loading and checking relay.conf
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "config/config.h"

#include <errno.h>
#include <libconfig.h>
#include <limits.h>
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
#define INCLUDES_MAX 10 /* libconfig's own depth */
#define NAME_OCTETS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_*"

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
    const char *name; /* of the file, as the operator gave it */
    char *folder;
    config_report *report;
    void *context;
    unsigned errors;
    bool domains_wrong; /* the domains have had their error */
};

/* line 0: no line is known. libconfig names included files from the folder of the main one. */
static void complain_at(struct load *load, const char *file, unsigned line, const char *option,
                        const char *reason)
{
    char text[ERROR_TEXT_MAX + 4 * PATH_TEXT_MAX], place[16] = "";
    bool is_included = file != NULL && file[0] != '/' && strcmp(file, load->name) != 0;

    if (line > 0)
        snprintf(place, sizeof place, ":%u", line);
    snprintf(text, sizeof text, "%s%s%s%s: %s%s%s", is_included ? load->folder : "",
             is_included ? "/" : "", file != NULL ? file : load->name, place, option,
             option[0] != '\0' ? ": " : "", reason);
    load->report(load->context, text);
    load->errors++;
}

static void complain(struct load *load, const config_setting_t *setting, const char *option,
                     const char *format, ...) __attribute__((format(printf, 4, 5)));
static void complain(struct load *load, const config_setting_t *setting, const char *option,
                     const char *format, ...)
{
    char reason[ERROR_TEXT_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    if (setting != NULL)
        complain_at(load, config_setting_source_file(setting), config_setting_source_line(setting),
                    option, reason);
    else
        complain_at(load, load->name, 0, option, reason);
}

static const char *type_name(const config_setting_t *setting)
{
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_GROUP:
        return _("a group");
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        return _("a whole number");
    case CONFIG_TYPE_FLOAT:
        return _("a number with a fraction");
    case CONFIG_TYPE_STRING:
        return _("a string");
    case CONFIG_TYPE_BOOL:
        return _("true or false");
    default:
        return _("a list");
    }
}

static void complain_type(struct load *load, const config_setting_t *setting,
                          const struct option *option)
{
    char wanted[256];
    complain(load, setting, option->path, _("found %s; expected %s"), type_name(setting),
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

/* The file named by `name` in the group of a certificate; NULL with an error reported. */
static char *certificate_file(struct load *load, config_setting_t *group, const char *name,
                              const char *option)
{
    char *path = NULL;
    struct error err;
    config_setting_t *setting = config_setting_get_member(group, name);
    const char *text = setting != NULL ? config_setting_get_string(setting) : NULL;

    if (text == NULL || text[0] == '\0')
        complain(load, setting != NULL ? setting : group, option,
                 _("%s must be the name of a file"), name);
    else if (value_set_file(&path, text, load->folder, &err) == 0)
        return path;
    else
        complain(load, setting, option, "%s", err.text);
    free(path);
    return NULL;
}

static void check_certificate_names(struct load *load, config_setting_t *group, const char *option)
{
    for (int i = 0; i < config_setting_length(group); i++) {
        config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
        const char *name = config_setting_name(setting);
        if (strcmp(name, "cert") != 0 && strcmp(name, "key") != 0)
            complain(load, setting, option, _("%s: no such setting; did you mean cert or key?"),
                     name);
    }
}

static void load_certificate(struct load *load, config_setting_t *group,
                             const struct option *option)
{
    struct config_tls *tls = &load->config->tls;

    if (!config_setting_is_group(group)) {
        complain_type(load, group, option);
        return;
    }
    check_certificate_names(load, group, option->path);
    struct tls_pair *pairs =
        realloc(tls->certificates, (tls->certificate_count + 1) * sizeof *pairs);
    if (pairs == NULL) {
        complain(load, group, option->path, "%s", _("out of memory"));
        return;
    }
    tls->certificates = pairs;
    bool has_key = config_setting_get_member(group, "key") != NULL;
    char *cert = certificate_file(load, group, "cert", option->path);
    char *key = NULL;
    if (has_key)
        key = certificate_file(load, group, "key", option->path);
    else if (cert != NULL)
        key = strdup(cert);
    pairs[tls->certificate_count++] = (struct tls_pair){cert, key};
}

/* Haraka's host_list as it is: a domain a line, comments from '#'. */
static void read_domains(struct load *load, FILE *file, const char *path,
                         const struct option *option)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t len;
    struct error err;

    for (unsigned number = 1; (len = getline(&line, &size, file)) >= 0; number++) {
        const char *zero = memchr(line, '\0', (size_t)len);
        const char *text = value_trim(line);
        if (zero != NULL)
            complain_at(load, path, number, option->path, _("the line has a zero octet"));
        else if (text[0] != '\0' && option_set(option, load->config, text, load->folder, &err) != 0)
            complain_at(load, path, number, option->path, err.text);
    }
    free(line);
}

static void load_domains_file(struct load *load, const config_setting_t *setting,
                              const struct option *option)
{
    char *path = NULL;
    struct error err;
    const char *text = config_setting_get_string(setting);
    FILE *file = NULL;

    if (text == NULL) {
        complain_type(load, setting, option);
    } else if (value_set_file(&path, text, load->folder, &err) != 0) {
        complain(load, setting, option->path, "%s", err.text);
    } else if (text[0] != '\0' && (file = fopen(path, "re")) == NULL) {
        complain(load, setting, option->path, _("cannot read %s: %s"), path, strerror(errno));
    } else if (file != NULL) {
        read_domains(load, file, path, option);
        if (ferror(file))
            complain(load, setting, option->path, _("cannot read %s: %s"), path, strerror(errno));
        fclose(file);
    }
    free(path);
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
    if (config_setting_length(setting) == 0 && !option_may_be_empty(option))
        complain(load, setting, option->path, _("the list is empty; at least one is needed"));
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
    } else if ((option->fallback[0] != '\0' || option->type <= OPTION_FILE) &&
               option_set(option, load->config, option->fallback, load->folder, &err) != 0) {
        complain(load, NULL, option->path, "%s", err.text);
    }
}

static void load_option(struct load *load, const struct option *option)
{
    config_setting_t *setting = config_lookup(&load->file, option->path);
    if (setting == NULL)
        load_default(load, option);
    else if (option->type == OPTION_DOMAINS_FILE)
        load_domains_file(load, setting, option);
    else if (option_is_list(option))
        load_list(load, setting, option);
    else
        load_value(load, setting, option);
}

static void load_options(struct load *load)
{
    for (size_t i = 0; i < option_count; i++) {
        unsigned before = load->errors;
        load_option(load, &options[i]);
        if ((options[i].type == OPTION_DOMAINS || options[i].type == OPTION_DOMAINS_FILE) &&
            load->errors > before)
            load->domains_wrong = true;
    }
}

static void check_names(struct load *load, config_setting_t *group, const char *prefix)
{
    char path[PATH_TEXT_MAX];
    for (int i = 0; i < config_setting_length(group); i++) {
        config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
        snprintf(path, sizeof path, "%s%s", prefix, config_setting_name(setting));
        const struct option *near = option_nearest(path);
        switch (option_kind_of(path)) {
        case OPTION_KIND_OPTION:
            break;
        case OPTION_KIND_GROUP:
            if (config_setting_is_group(setting)) {
                strncat(path, ".", sizeof path - strlen(path) - 1);
                check_names(load, setting, path);
            } else {
                complain(load, setting, path, _("found %s; expected a group in braces"),
                         type_name(setting));
            }
            break;
        case OPTION_KIND_NONE:
            if (near != NULL)
                complain(load, setting, path, _("no such option; did you mean %s?"), near->path);
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
    if (config->in.domains.count == 0 && !load->domains_wrong)
        complain(load, NULL, "in.domains",
                 _("no domain to take mail for; set in.domains or in.domains_file"));
}

/* libconfig 1.5 cuts plain numbers to 32 bits without a word. */
static const char *check_number(struct load *load, const char *file, unsigned line, const char *at)
{
    char *end, text[64];
    errno = 0;
    long long number = strtoll(at, &end, at[0] == '0' && (at[1] | 32) == 'x' ? 16 : 10);
    if (errno == ERANGE || (number > INT32_MAX && strchr("L.eE", *end) == NULL)) {
        snprintf(text, sizeof text, "%.*s", (int)(end - at), at);
        complain_at(load, file, line, text,
                    _("too large for a plain number; write it with an L behind, or as a text"));
    }
    return end + strspn(end, "L.0123456789eE");
}

enum source_state { SOURCE_CODE, SOURCE_STRING, SOURCE_COMMENT };

static enum source_state check_line(struct load *load, const char *file, unsigned line,
                                    const char *at, enum source_state state)
{
    while (*at != '\0') {
        if (state == SOURCE_STRING) {
            if (*at == '"')
                state = SOURCE_CODE;
            at += *at == '\\' && at[1] != '\0' ? 2 : 1;
        } else if (state == SOURCE_COMMENT) {
            const char *end = strstr(at, "*/");
            if (end == NULL)
                break;
            state = SOURCE_CODE;
            at = end + 2;
        } else if (*at == '#' || strncmp(at, "//", 2) == 0) {
            break;
        } else if (strncmp(at, "/*", 2) == 0) {
            state = SOURCE_COMMENT;
            at += 2;
        } else if (*at == '"') {
            state = SOURCE_STRING;
            at++;
        } else if (*at >= '0' && *at <= '9') {
            at = check_number(load, file, line, at);
        } else {
            size_t name = strspn(at, NAME_OCTETS);
            at += name > 0 ? name + strspn(at + name, NAME_OCTETS "0123456789-") : 1;
        }
    }
    return state;
}

static int check_source(struct load *load, const char *file, unsigned depth);

/* Of an @include line: 1 when it is none, 0 when the file is fine, else -1. */
static int check_include(struct load *load, const char *file, unsigned line, const char *text,
                         unsigned depth)
{
    char name[PATH_MAX];
    int used = 0;
    const char *problem;

    if (sscanf(text, " @include%*[ \t]\"%n%4095[^\"]", &used, name) != 1 || used == 0)
        return 1;
    char *path = NULL;
    if (asprintf(&path, "%s/%s", load->folder, name) < 0)
        path = NULL;
    if (path == NULL)
        problem = strerror(ENOMEM);
    else if (name[0] == '/')
        problem = _("the name must start from the folder of the main file");
    else if (depth == INCLUDES_MAX)
        problem = _("too many files within each other");
    else
        problem = value_file_problem(path);
    if (problem != NULL)
        complain_at(load, file, line, name, problem);
    int result = problem == NULL ? check_source(load, path, depth + 1) : -1;
    free(path);
    return result;
}

/* What libconfig 1.5 does not say, or ends the process for (a folder in place of a file). */
static int check_source(struct load *load, const char *file, unsigned depth)
{
    enum source_state state = SOURCE_CODE;
    const char *problem = value_file_problem(file);
    FILE *stream = problem == NULL ? fopen(file, "re") : NULL;
    char *text = NULL;
    size_t size = 0;
    int result = 0;

    if (stream == NULL) {
        complain_at(load, file, 0, _("cannot be read"),
                    problem != NULL ? problem : strerror(errno));
        return -1;
    }
    for (unsigned line = 1; result == 0 && getline(&text, &size, stream) >= 0; line++) {
        int include = state == SOURCE_CODE ? check_include(load, file, line, text, depth) : 1;
        if (include > 0)
            state = check_line(load, file, line, text, state);
        else
            result = include;
    }
    free(text);
    fclose(stream);
    return result;
}

static int read_file(struct load *load)
{
    if (check_source(load, load->name, 0) != 0)
        return -1;
    config_set_include_dir(&load->file, load->folder);
    if (config_read_file(&load->file, load->name) == CONFIG_TRUE)
        return 0;
    complain_at(load, config_error_file(&load->file), (unsigned)config_error_line(&load->file), "",
                config_error_text(&load->file));
    return -1;
}

static char *folder_of(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash != NULL && slash != file ? strndup(file, (size_t)(slash - file)) : strdup("/");
}

/* Symbolic links stay: what stands beside the link is meant, not beside what it points to. */
static char *absolute_name(const char *file)
{
    char *folder = file[0] != '/' ? getcwd(NULL, 0) : NULL;
    char *name = folder != NULL || file[0] == '/' ? value_absolute(file, folder) : NULL;
    free(folder);
    return name;
}

struct config *config_load(const char *file, config_report *report, void *context)
{
    struct counted_config *counted = calloc(1, sizeof *counted);
    struct load load = {.name = file, .report = report, .context = context};

    if (counted == NULL) {
        report(context, _("out of memory"));
        return NULL;
    }
    atomic_init(&counted->references, 1);
    load.config = &counted->config;
    load.config->file = absolute_name(file);
    load.folder = load.config->file != NULL ? folder_of(load.config->file) : NULL;
    config_init(&load.file);
    if (load.folder == NULL) {
        complain(&load, NULL, "", "%s", strerror(errno));
    } else if (read_file(&load) == 0) {
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

void config_unref(struct config *config)
{
    struct counted_config *counted = (struct counted_config *)config;
    if (config == NULL || atomic_fetch_sub(&counted->references, 1) != 1)
        return;
    for (size_t i = 0; i < option_count; i++)
        option_free(&options[i], config);
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
