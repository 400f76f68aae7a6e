/* config/config.c - loads and checks relay.conf
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "config/config.h"

#include <errno.h>
#include <libconfig.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
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

/* The rows being loaded, the struct that they fill, their group in the file, and the prefix of their
 * paths. */
struct rows {
    const struct option_rows *table;
    void *base;
    config_setting_t *group; /* NULL: not in the file */
    const char *prefix;
};

static const char *config_full_path(const struct rows *rows, const struct option *option,
                                    char out[OPTION_PATH_MAX])
{
    snprintf(out, OPTION_PATH_MAX, "%s%s", rows->prefix, option->path);
    return out;
}

static const char *config_type_name(const config_setting_t *setting)
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

static void config_complain_type(struct load *load, const struct rows *rows,
                                 const config_setting_t *setting, const struct option *option)
{
    char wanted[256], path[OPTION_PATH_MAX];
    load_complain(load, setting, config_full_path(rows, option, path), _("found %s; expected %s"),
                  config_type_name(setting), option_expected(option, wanted, sizeof wanted));
}

static bool config_takes_number(const struct option *option)
{
    return option->type == OPTION_INTEGER || option->type == OPTION_DURATION ||
           option->type == OPTION_SIZE || option->type == OPTION_DURATIONS;
}

/* The value as text, for option_set(). NULL if the type does not fit. */
static const char *config_scalar_text(const config_setting_t *setting, const struct option *option,
                                      char *out, size_t size)
{
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_STRING:
        return option->type != OPTION_INTEGER ? config_setting_get_string(setting) : NULL;
    case CONFIG_TYPE_BOOL:
        if (option->type != OPTION_BOOLEAN)
            return NULL;
        return config_setting_get_bool(setting) == CONFIG_TRUE ? "true" : "false";
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        if (!config_takes_number(option))
            return NULL;
        snprintf(out, size, "%lld", config_setting_get_int64(setting));
        return out;
    default:
        return NULL;
    }
}

/* Complains about names in `group` that `table` does not have. `prefix` is the start of the names in
 * `table`; `before` comes before them in messages. */
static void config_check_names(struct load *load, config_setting_t *group,
                               const struct option_rows *table, const char *prefix,
                               const char *before)
{
    char path[OPTION_PATH_MAX], near[OPTION_PATH_MAX], shown[2 * OPTION_PATH_MAX];
    for (int i = 0; i < config_setting_length(group); i++) {
        config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
        snprintf(path, sizeof path, "%s%s", prefix, config_setting_name(setting));
        snprintf(shown, sizeof shown, "%s%s", before, path);
        switch (option_kind_of(table, path)) {
        case OPTION_KIND_OPTION:
            break;
        case OPTION_KIND_GROUP:
            if (config_setting_is_group(setting)) {
                strncat(path, ".", sizeof path - strlen(path) - 1);
                config_check_names(load, setting, table, path, before);
            } else {
                load_complain(load, setting, shown, _("found %s; expected a group in braces"),
                              config_type_name(setting));
            }
            break;
        case OPTION_KIND_NONE:
            if (option_former_find(path) != NULL && before[0] == '\0')
                break;
            if (option_nearest(table, path, near))
                load_complain(load, setting, shown, _("no such option; did you mean %s%s?"), before,
                              near);
            else
                load_complain(load, setting, shown, _("no such option"));
        }
    }
}

/* ".com" would accept mail for far more domains than anybody has. */
static void config_warn_of_domain(struct load *load, const struct option *option, const char *text,
                                  const char *file, unsigned line, const char *path)
{
    char reason[ERROR_TEXT_MAX];

    if ((option->type != OPTION_DOMAINS && option->type != OPTION_DOMAINS_FILE) || text[0] != '.' ||
        strchr(text + 1, '.') != NULL)
        return;
    snprintf(reason, sizeof reason, _("\"%s\" means every domain under \"%s\""), text, text + 1);
    load_warn_at(load, file, line, path, reason);
}

static void config_load_value(struct load *load, const struct rows *rows,
                              const config_setting_t *setting, const struct option *option)
{
    char number[32], path[OPTION_PATH_MAX];
    struct error err;
    const char *text = config_scalar_text(setting, option, number, sizeof number);
    if (text == NULL)
        config_complain_type(load, rows, setting, option);
    else if (option_set(option, rows->base, text, load->folder, &err) != 0)
        load_complain(load, setting, config_full_path(rows, option, path), "%s", err.text);
    else
        config_warn_of_domain(load, option, text, config_setting_source_file(setting),
                              config_setting_source_line(setting),
                              config_full_path(rows, option, path));
}

/* Reads one value per line, with comments from '#' on. Haraka's host_list and ACL files work as they
 * are. */
static void config_read_lines(struct load *load, const struct rows *rows, FILE *file,
                              const char *name, const struct option *option)
{
    char *line = NULL, path[OPTION_PATH_MAX];
    size_t size = 0;
    ssize_t len;
    struct error err;

    config_full_path(rows, option, path);
    for (unsigned number = 1; (len = getline(&line, &size, file)) >= 0; number++) {
        const char *problem = source_line_problem(line, (size_t)len);
        const char *text = value_trim(line);
        if (problem != NULL)
            load_complain_at(load, name, number, path, problem);
        else if (text[0] != '\0' && option_set(option, rows->base, text, load->folder, &err) != 0)
            load_complain_at(load, name, number, path, err.text);
        else
            config_warn_of_domain(load, option, text, name, number, path);
    }
    free(line);
}

static void config_load_file_of_lines(struct load *load, const struct rows *rows,
                                      const config_setting_t *setting, const struct option *option)
{
    char *name = NULL, path[OPTION_PATH_MAX];
    struct error err;
    const char *text = config_setting_get_string(setting);
    FILE *file = NULL;

    config_full_path(rows, option, path);
    if (text == NULL) {
        config_complain_type(load, rows, setting, option);
    } else if (value_set_file(&name, text, load->folder, &err) != 0) {
        load_complain(load, setting, path, "%s", err.text);
    } else if (text[0] != '\0' && (file = fopen(name, "re")) == NULL) {
        load_complain(load, setting, path, _("cannot read %s: %s"), name, strerror(errno));
    } else if (file != NULL) {
        config_read_lines(load, rows, file, name, option);
        if (ferror(file))
            load_complain(load, setting, path, _("cannot read %s: %s"), name, strerror(errno));
        fclose(file);
    }
    free(name);
}

static void config_load_rows(struct load *load, const struct rows *rows);

/* Makes a missing text "", so that later checks can read every text. */
static void config_fill_text(const struct option *option, void *place)
{
    if (option->type <= OPTION_FOLDER && *(char **)place == NULL)
        *(char **)place = strdup("");
}

static void config_fill_texts(const struct option_rows *rows, void *base)
{
    for (size_t i = 0; i < rows->count; i++)
        config_fill_text(&rows->rows[i], option_place(&rows->rows[i], base));
}

/* Loads a group. Its names are checked here, because only the row knows them. */
static void config_load_group(struct load *load, const struct rows *rows, config_setting_t *setting,
                              const struct option *option, void *place, const char *suffix)
{
    char path[OPTION_PATH_MAX], prefix[OPTION_PATH_MAX + 16];

    if (!config_setting_is_group(setting)) {
        /* config_check_names() may have reported it already. */
        if (!load_is_wrong(load, config_full_path(rows, option, path)))
            config_complain_type(load, rows, setting, option);
        config_fill_texts(option_rows(option), place);
        return;
    }
    snprintf(prefix, sizeof prefix, "%s%s.", config_full_path(rows, option, path), suffix);
    const struct rows below = {option_rows(option), place, setting, prefix};
    if (option->type == OPTION_GROUPS)
        config_check_names(load, setting, below.table, "", prefix);
    config_load_rows(load, &below);
}

static void config_load_groups_item(struct load *load, const struct rows *rows,
                                    config_setting_t *item, const struct option *option)
{
    char suffix[16];
    const struct config_list *list = option_place(option, rows->base);
    void *place = option_add_group(option, rows->base);

    snprintf(suffix, sizeof suffix, "[%zu]", list->count - 1);
    if (place != NULL)
        config_load_group(load, rows, item, option, place, suffix);
    else
        load_complain(load, item, option->path, "%s", _("out of memory"));
}

static void config_load_list(struct load *load, const struct rows *rows, config_setting_t *setting,
                             const struct option *option)
{
    char path[OPTION_PATH_MAX];

    if (config_setting_type(setting) == CONFIG_TYPE_STRING && option->type != OPTION_GROUPS) {
        config_load_value(load, rows, setting, option);
        return;
    }
    if (!config_setting_is_array(setting) && !config_setting_is_list(setting)) {
        config_complain_type(load, rows, setting, option);
        return;
    }
    if (config_setting_length(setting) == 0 && !option_may_be_empty(option))
        load_complain(load, setting, config_full_path(rows, option, path),
                      _("the list is empty; at least one is needed"));
    for (int i = 0; i < config_setting_length(setting); i++) {
        config_setting_t *item = config_setting_get_elem(setting, (unsigned)i);
        if (option->type == OPTION_GROUPS)
            config_load_groups_item(load, rows, item, option);
        else
            config_load_value(load, rows, item, option);
    }
}

unsigned config_part_of(const char *path)
{
    return strncmp(path, "in.", 3) == 0    ? CONFIG_PART_IN
           : strncmp(path, "out.", 4) == 0 ? CONFIG_PART_OUT
                                           : 0;
}

static bool config_is_demanded(const struct load *load, const struct rows *rows,
                               const struct option *option)
{
    unsigned part = rows->prefix[0] == '\0' ? config_part_of(option->path) : 0;
    return part == 0 || (load->config->parts & part);
}

static void config_load_default(struct load *load, const struct rows *rows,
                                const struct option *option)
{
    char path[OPTION_PATH_MAX], wanted[256];
    struct error err;

    config_full_path(rows, option, path);
    if (option->fallback == NULL && !config_is_demanded(load, rows, option))
        return;
    if (option->fallback == NULL && option->type == OPTION_GROUP) {
        const struct rows below = {option_rows(option), option_place(option, rows->base), NULL,
                                   strcat(path, ".")};
        config_load_rows(load, &below);
    } else if (option->fallback == NULL) {
        load_complain(load, rows->group, path, _("it must be set; expected %s"),
                      option_expected(option, wanted, sizeof wanted));
    } else if ((option->fallback[0] != '\0' || option->type <= OPTION_FOLDER) &&
               option_set(option, rows->base, option->fallback, load->folder, &err) != 0) {
        load_complain(load, NULL, path, "%s", err.text);
    }
}

/* Takes a number given under the option's former name. */
static void config_load_former(struct load *load, const struct rows *rows,
                               const config_setting_t *setting, const struct option_former *former,
                               const struct option *option)
{
    char text[48];
    struct error err;

    if (config_setting_type(setting) != CONFIG_TYPE_INT) {
        load_complain(load, setting, former->path, _("found %s; expected %s"),
                      config_type_name(setting), _("a whole number"));
        return;
    }
    snprintf(text, sizeof text, "%d%s", config_setting_get_int(setting), former->unit);
    if (option_set(option, rows->base, text, load->folder, &err) != 0) {
        load_complain(load, setting, former->path, "%s", err.text);
        return;
    }
    value_format_duration(*(const int64_t *)option_place(option, rows->base), text, sizeof text);
    load_warn(load, setting, former->path, _("this is a former name; write %s = \"%s\" instead"),
              strrchr(former->now, '.') + 1, text);
}

/* Finds the setting under its former name, if the file does not set the new one. */
static config_setting_t *config_find_former(struct load *load, const struct rows *rows,
                                            const struct option_former *former, bool is_set)
{
    config_setting_t *setting = former != NULL && rows->group != NULL && rows->prefix[0] == '\0'
                                    ? config_setting_lookup(rows->group, former->path)
                                    : NULL;
    if (setting == NULL || !is_set)
        return setting;
    load_warn(load, setting, former->path, _("ignored, because %s is set too"), former->now);
    return NULL;
}

static void config_load_option(struct load *load, const struct rows *rows,
                               const struct option *option)
{
    config_setting_t *setting =
        rows->group != NULL ? config_setting_lookup(rows->group, option->path) : NULL;
    const struct option_former *former = option_former_find(option->path);
    const config_setting_t *old = config_find_former(load, rows, former, setting != NULL);
    void *place = option_place(option, rows->base);

    if (old != NULL) {
        config_load_former(load, rows, old, former, option);
    } else if (setting == NULL) {
        config_load_default(load, rows, option);
    } else if (option->type == OPTION_GROUP) {
        *(bool *)place = true;
        config_load_group(load, rows, setting, option, place, "");
    } else if (option_is_file_of_lines(option)) {
        config_load_file_of_lines(load, rows, setting, option);
    } else if (option_is_list(option)) {
        config_load_list(load, rows, setting, option);
    } else {
        config_load_value(load, rows, setting, option);
    }
}

static void config_load_rows(struct load *load, const struct rows *rows)
{
    for (size_t i = 0; i < rows->table->count; i++) {
        const struct option *option = &rows->table->rows[i];
        unsigned before = load->errors + load->overlooked;
        config_load_option(load, rows, option);
        if (load->errors + load->overlooked > before)
            config_fill_text(option, option_place(option, rows->base));
    }
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

/* Word processors insert typographic quotation marks. In UTF-8 all of them begin with these octets. */
static bool config_has_typographic_marks(const char *name, unsigned number)
{
    FILE *file = fopen(name, "re");
    char *line = NULL;
    size_t size = 0;
    bool found = false;

    for (unsigned i = 1; file != NULL && i <= number && getline(&line, &size, file) >= 0; i++)
        found = i == number && strstr(line, "\xe2\x80") != NULL;
    free(line);
    if (file != NULL)
        fclose(file);
    return found;
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
    const char *wrong = config_error_file(&load->file);
    unsigned line = (unsigned)config_error_line(&load->file);
    load_complain_at(load, wrong, line, "",
                     config_has_typographic_marks(wrong != NULL ? wrong : load->name, line)
                         ? _("syntax error: the quotation marks are not plain ones (\")")
                         : config_error_text(&load->file));
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

struct config *config_load_for(const char *file, unsigned parts, config_report *report,
                               void *context)
{
    struct counted_config *counted = calloc(1, sizeof *counted);
    struct load load = {.name = file, .report = report, .context = context, .daemon = parts};

    if (counted == NULL) {
        report(context, _("out of memory"));
        return NULL;
    }
    atomic_init(&counted->references, 1);
    load.config = &counted->config;
    load.config->file = config_absolute_name(file);
    load.folder = load.config->file != NULL ? config_folder_of(load.config->file) : NULL;
    config_init(&load.file);
    if (load.folder == NULL) {
        load_complain(&load, NULL, "", "%s", strerror(errno));
    } else if (config_parse_file(&load) == 0) {
        const struct rows rows = {&options, load.config, config_root_setting(&load.file), ""};
        load.config->parts = config_find_parts(&load, parts);
        config_check_names(&load, rows.group, &options, "", "");
        config_load_rows(&load, &rows);
        load.config->certificates_place = config_place_of(&load, "tls.certificates");
        check_settings(&load);
    }
    config_destroy(&load.file);
    free(load.folder);
    config_free_texts(&load.wrong);
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
