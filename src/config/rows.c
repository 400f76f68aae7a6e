/* config/rows.c - reads the settings of relay.conf into the struct, row by row of the option table
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/i18n.h"
#include "config/load.h"
#include "config/options.h"
#include "config/values.h"

/* The rows being loaded, the struct that they fill, their group in the file, and the prefix of their
 * paths. */
struct rows {
    const struct option_rows *table;
    void *base;
    config_setting_t *group; /* NULL: not in the file */
    const char *prefix;
};

static const char *rows_full_path(const struct rows *rows, const struct option *option,
                                  char out[OPTION_PATH_MAX])
{
    snprintf(out, OPTION_PATH_MAX, "%s%s", rows->prefix, option->path);
    return out;
}

static const char *rows_type_name(const config_setting_t *setting)
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

static void rows_complain_type(struct load *load, const struct rows *rows,
                               const config_setting_t *setting, const struct option *option)
{
    char wanted[256], path[OPTION_PATH_MAX];
    load_complain(load, setting, rows_full_path(rows, option, path), _("found %s; expected %s"),
                  rows_type_name(setting), option_expected(option, wanted, sizeof wanted));
}

static bool rows_takes_number(const struct option *option)
{
    return option->type == OPTION_INTEGER || option->type == OPTION_DURATION ||
           option->type == OPTION_SIZE || option->type == OPTION_DURATIONS;
}

/* The value as text, for option_set(). NULL if the type does not fit. */
static const char *rows_scalar_text(const config_setting_t *setting, const struct option *option,
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
        if (!rows_takes_number(option))
            return NULL;
        snprintf(out, size, "%lld", config_setting_get_int64(setting));
        return out;
    default:
        return NULL;
    }
}

/* Complains about names in `group` that `table` does not have. `prefix` is the start of the names in
 * `table`; `before` comes before them in messages. */
static void rows_check_names(struct load *load, config_setting_t *group,
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
                rows_check_names(load, setting, table, path, before);
            } else {
                load_complain(load, setting, shown, _("found %s; expected a group in braces"),
                              rows_type_name(setting));
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
static void rows_warn_of_domain(struct load *load, const struct option *option, const char *text,
                                const char *file, unsigned line, const char *path)
{
    char reason[ERROR_TEXT_MAX];

    if ((option->type != OPTION_DOMAINS && option->type != OPTION_DOMAINS_FILE) || text[0] != '.' ||
        strchr(text + 1, '.') != NULL)
        return;
    snprintf(reason, sizeof reason, _("\"%s\" means every domain under \"%s\""), text, text + 1);
    load_warn_at(load, file, line, path, reason);
}

static void rows_load_value(struct load *load, const struct rows *rows,
                            const config_setting_t *setting, const struct option *option)
{
    char number[32], path[OPTION_PATH_MAX];
    struct error err;
    const char *text = rows_scalar_text(setting, option, number, sizeof number);
    if (text == NULL)
        rows_complain_type(load, rows, setting, option);
    else if (option_set(option, rows->base, text, load->folder, &err) != 0)
        load_complain(load, setting, rows_full_path(rows, option, path), "%s", err.text);
    else
        rows_warn_of_domain(load, option, text, config_setting_source_file(setting),
                            config_setting_source_line(setting),
                            rows_full_path(rows, option, path));
}

/* Reads one value per line, with comments from '#' on. Haraka's host_list and ACL files work as they
 * are. */
static void rows_read_lines(struct load *load, const struct rows *rows, FILE *file,
                            const char *name, const struct option *option)
{
    char *line = NULL, path[OPTION_PATH_MAX];
    size_t size = 0;
    ssize_t len;
    struct error err;

    rows_full_path(rows, option, path);
    for (unsigned number = 1; (len = getline(&line, &size, file)) >= 0; number++) {
        const char *problem = source_line_problem(line, (size_t)len);
        const char *text = value_trim(line);
        if (problem != NULL)
            load_complain_at(load, name, number, path, problem);
        else if (text[0] != '\0' && option_set(option, rows->base, text, load->folder, &err) != 0)
            load_complain_at(load, name, number, path, err.text);
        else
            rows_warn_of_domain(load, option, text, name, number, path);
    }
    free(line);
}

static void rows_load_file_of_lines(struct load *load, const struct rows *rows,
                                    const config_setting_t *setting, const struct option *option)
{
    char *name = NULL, path[OPTION_PATH_MAX];
    struct error err;
    const char *text = config_setting_get_string(setting);
    FILE *file = NULL;

    rows_full_path(rows, option, path);
    if (text == NULL) {
        rows_complain_type(load, rows, setting, option);
    } else if (value_set_file(&name, text, load->folder, &err) != 0) {
        load_complain(load, setting, path, "%s", err.text);
    } else if (text[0] != '\0' && (file = fopen(name, "re")) == NULL) {
        load_complain(load, setting, path, _("cannot read %s: %s"), name, strerror(errno));
    } else if (file != NULL) {
        rows_read_lines(load, rows, file, name, option);
        if (ferror(file))
            load_complain(load, setting, path, _("cannot read %s: %s"), name, strerror(errno));
        fclose(file);
    }
    free(name);
}

static void rows_fill(struct load *load, const struct rows *rows);

/* Makes a missing text "", so that later checks can read every text. */
static void rows_fill_text(const struct option *option, void *place)
{
    if (option->type <= OPTION_FOLDER && *(char **)place == NULL)
        *(char **)place = strdup("");
}

static void rows_fill_texts(const struct option_rows *rows, void *base)
{
    for (size_t i = 0; i < rows->count; i++)
        rows_fill_text(&rows->rows[i], option_place(&rows->rows[i], base));
}

/* Loads a group. Its names are checked here, because only the row knows them. */
static void rows_load_group(struct load *load, const struct rows *rows, config_setting_t *setting,
                            const struct option *option, void *place, const char *suffix)
{
    char path[OPTION_PATH_MAX], prefix[OPTION_PATH_MAX + 16];

    if (!config_setting_is_group(setting)) {
        /* rows_check_names() may have reported it already. */
        if (!load_is_wrong(load, rows_full_path(rows, option, path)))
            rows_complain_type(load, rows, setting, option);
        rows_fill_texts(option_rows(option), place);
        return;
    }
    snprintf(prefix, sizeof prefix, "%s%s.", rows_full_path(rows, option, path), suffix);
    const struct rows below = {option_rows(option), place, setting, prefix};
    if (option->type == OPTION_GROUPS)
        rows_check_names(load, setting, below.table, "", prefix);
    rows_fill(load, &below);
}

static void rows_load_groups_item(struct load *load, const struct rows *rows,
                                  config_setting_t *item, const struct option *option)
{
    char suffix[16];
    const struct config_list *list = option_place(option, rows->base);
    void *place = option_add_group(option, rows->base);

    snprintf(suffix, sizeof suffix, "[%zu]", list->count - 1);
    if (place != NULL)
        rows_load_group(load, rows, item, option, place, suffix);
    else
        load_complain(load, item, option->path, "%s", _("out of memory"));
}

static void rows_load_list(struct load *load, const struct rows *rows, config_setting_t *setting,
                           const struct option *option)
{
    char path[OPTION_PATH_MAX];

    if (config_setting_type(setting) == CONFIG_TYPE_STRING && option->type != OPTION_GROUPS) {
        rows_load_value(load, rows, setting, option);
        return;
    }
    if (!config_setting_is_array(setting) && !config_setting_is_list(setting)) {
        rows_complain_type(load, rows, setting, option);
        return;
    }
    if (config_setting_length(setting) == 0 && !option_may_be_empty(option))
        load_complain(load, setting, rows_full_path(rows, option, path),
                      _("the list is empty; at least one is needed"));
    for (int i = 0; i < config_setting_length(setting); i++) {
        config_setting_t *item = config_setting_get_elem(setting, (unsigned)i);
        if (option->type == OPTION_GROUPS)
            rows_load_groups_item(load, rows, item, option);
        else
            rows_load_value(load, rows, item, option);
    }
}

static bool rows_is_demanded(const struct load *load, const struct rows *rows,
                             const struct option *option)
{
    unsigned part = rows->prefix[0] == '\0' ? config_part_of(option->path) : 0;
    return part == 0 || (load->config->parts & part);
}

static void rows_load_default(struct load *load, const struct rows *rows,
                              const struct option *option)
{
    char path[OPTION_PATH_MAX], wanted[256];
    struct error err;

    rows_full_path(rows, option, path);
    if (option->fallback == NULL && !rows_is_demanded(load, rows, option))
        return;
    if (option->fallback == NULL && option->type == OPTION_GROUP) {
        const struct rows below = {option_rows(option), option_place(option, rows->base), NULL,
                                   strcat(path, ".")};
        rows_fill(load, &below);
    } else if (option->fallback == NULL) {
        load_complain(load, rows->group, path, _("it must be set; expected %s"),
                      option_expected(option, wanted, sizeof wanted));
    } else if ((option->fallback[0] != '\0' || option->type <= OPTION_FOLDER) &&
               option_set(option, rows->base, option->fallback, load->folder, &err) != 0) {
        load_complain(load, NULL, path, "%s", err.text);
    }
}

/* Takes a number given under the option's former name. */
static void rows_load_former(struct load *load, const struct rows *rows,
                             const config_setting_t *setting, const struct option_former *former,
                             const struct option *option)
{
    char text[48];
    struct error err;

    if (config_setting_type(setting) != CONFIG_TYPE_INT) {
        load_complain(load, setting, former->path, _("found %s; expected %s"),
                      rows_type_name(setting), _("a whole number"));
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
static config_setting_t *rows_find_former(struct load *load, const struct rows *rows,
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

static void rows_load_option(struct load *load, const struct rows *rows,
                             const struct option *option)
{
    config_setting_t *setting =
        rows->group != NULL ? config_setting_lookup(rows->group, option->path) : NULL;
    const struct option_former *former = option_former_find(option->path);
    const config_setting_t *old = rows_find_former(load, rows, former, setting != NULL);
    void *place = option_place(option, rows->base);

    if (old != NULL) {
        rows_load_former(load, rows, old, former, option);
    } else if (setting == NULL) {
        rows_load_default(load, rows, option);
    } else if (option->type == OPTION_GROUP) {
        *(bool *)place = true;
        rows_load_group(load, rows, setting, option, place, "");
    } else if (option_is_file_of_lines(option)) {
        rows_load_file_of_lines(load, rows, setting, option);
    } else if (option_is_list(option)) {
        rows_load_list(load, rows, setting, option);
    } else {
        rows_load_value(load, rows, setting, option);
    }
}

static void rows_fill(struct load *load, const struct rows *rows)
{
    for (size_t i = 0; i < rows->table->count; i++) {
        const struct option *option = &rows->table->rows[i];
        unsigned before = load->errors + load->overlooked;
        rows_load_option(load, rows, option);
        if (load->errors + load->overlooked > before)
            rows_fill_text(option, option_place(option, rows->base));
    }
}

void rows_load(struct load *load)
{
    const struct rows rows = {&options, load->config, config_root_setting(&load->file), ""};

    rows_check_names(load, rows.group, &options, "", "");
    rows_fill(load, &rows);
}
