/* config/print.c - prints options as text: all, those changed, those that need a restart
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "config/options.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "config/load.h"
#include "config/values.h"

void config_print_string(const char *text, FILE *out)
{
    fputc('"', out);
    for (size_t len = strlen(text), step; len > 0; text += step, len -= step) {
        bool visible = utf8_is_visible(utf8_decode(text, len, &step));
        if (!visible) {
            step = 1; /* the rest of a character is not well-formed, and follows in the same way */
            fprintf(out, "\\x%02x", (unsigned char)*text);
            continue;
        }
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fwrite(text, 1, step, out);
    }
    fputc('"', out);
}

static void print_listen(const struct listen_list *list, FILE *out)
{
    char text[LISTENER_TEXT_MAX];
    for (size_t i = 0; i < list->count; i++)
        fprintf(out, "%s\"%s\"", i > 0 ? ", " : "", listener_format(&list->items[i], text));
}

static void print_hosts(const struct host_list *list, FILE *out)
{
    char text[ADDRESS_TEXT_MAX];
    for (size_t i = 0; i < list->count; i++)
        fprintf(out, "%s\"%s\"", i > 0 ? ", " : "",
                list->items[i].port > 0 ? address_format_endpoint(&list->items[i], text)
                                        : address_format_ip(&list->items[i], text));
}

static void print_networks(const struct cidr_set *set, FILE *out)
{
    char text[ADDRESS_TEXT_MAX];
    for (size_t i = 0; i < cidr_set_count(set); i++)
        fprintf(out, "%s\"%s\"", i > 0 ? ", " : "", cidr_set_format(set, i, text));
}

static void print_strings(const struct string_list *list, FILE *out)
{
    for (size_t i = 0; i < list->count; i++) {
        fputs(i > 0 ? ", " : "", out);
        config_print_string(list->items[i], out);
    }
}

static void print_durations(const struct duration_list *list, FILE *out)
{
    char text[32];
    for (size_t i = 0; i < list->count; i++)
        fprintf(out, "%s\"%s\"", i > 0 ? ", " : "",
                value_format_duration(list->items[i], text, sizeof text));
}

/* Skips files of values, which are printed with the list that they add to, and groups that are not
 * given. */
static bool print_is_printed(const struct option *option, const void *base)
{
    return !option_is_file_of_lines(option) &&
           (option->type != OPTION_GROUP || *(const bool *)option_place(option, base));
}

static void print_rows(const struct option_rows *rows, const void *base, FILE *out)
{
    for (size_t i = 0; i < rows->count; i++) {
        if (!print_is_printed(&rows->rows[i], base))
            continue;
        fprintf(out, "%s = ", rows->rows[i].path);
        option_print(&rows->rows[i], base, out);
        fputs("; ", out);
    }
}

static void print_groups(const struct option *option, const struct config_list *list, FILE *out)
{
    const struct option_rows *rows = option_rows(option);
    for (size_t i = 0; i < list->count; i++) {
        fputs(i > 0 ? ", { " : "{ ", out);
        print_rows(rows, (const char *)list->items + i * rows->size, out);
        fputs("}", out);
    }
}

static void print_list(const struct option *option, const void *base, FILE *out)
{
    const void *place = option_place(option, base);
    bool groups = option->type == OPTION_GROUPS;
    fputs(groups ? "( " : "[ ", out);
    switch (option->type) {
    case OPTION_LISTEN:
        print_listen(place, out);
        break;
    case OPTION_HOSTS:
    case OPTION_ADDRESSES:
        print_hosts(place, out);
        break;
    case OPTION_NETWORKS:
        print_networks(*(struct cidr_set *const *)place, out);
        break;
    case OPTION_DURATIONS:
        print_durations(place, out);
        break;
    case OPTION_GROUPS:
        print_groups(option, place, out);
        break;
    default:
        print_strings(place, out);
    }
    fputs(groups ? " )" : " ]", out);
}

void option_print(const struct option *option, const void *base, FILE *out)
{
    const void *place = option_place(option, base);
    char text[32];
    switch (option->type) {
    case OPTION_STRING:
    case OPTION_HOSTNAME:
    case OPTION_FILE:
    case OPTION_FOLDER:
        config_print_string(*(char *const *)place, out);
        break;
    case OPTION_INTEGER:
        fprintf(out, "%lld", (long long)*(const int64_t *)place);
        break;
    case OPTION_SIZE:
        /* libconfig keeps numbers over 31 bits only with this suffix. */
        fprintf(out, "%lldL", (long long)*(const int64_t *)place);
        break;
    case OPTION_DURATION:
        fprintf(out, "\"%s\"", value_format_duration(*(const int64_t *)place, text, sizeof text));
        break;
    case OPTION_BOOLEAN:
        fputs(*(const bool *)place ? "true" : "false", out);
        break;
    case OPTION_ENUM:
        config_print_string(option_names(option)[*(const int *)place], out);
        break;
    case OPTION_GROUP:
        fputs("{ ", out);
        print_rows(option_rows(option), place, out);
        fputs("}", out);
        break;
    default:
        print_list(option, base, out);
    }
}

/* The length of the group that both paths begin with, including its last dot. */
static size_t print_shared_group(const char *a, const char *b)
{
    size_t shared = 0;
    for (size_t i = 0; a[i] != '\0' && a[i] == b[i]; i++) {
        if (a[i] == '.')
            shared = i + 1;
    }
    return shared;
}

static int print_count_dots(const char *text)
{
    int dots = 0;
    for (; *text != '\0'; text++)
        dots += *text == '.';
    return dots;
}

/* Closes the groups of `before` that `path` is not in, and opens those of `path`. */
static void print_change_groups(const char *before, const char *path, FILE *out)
{
    size_t shared = print_shared_group(before, path);
    int depth = print_count_dots(before);
    for (int close = print_count_dots(before + shared); close > 0; close--)
        fprintf(out, "%*s};\n", 2 * --depth, "");
    for (const char *at = path + shared, *dot; (dot = strchr(at, '.')) != NULL; at = dot + 1)
        fprintf(out, "%*s%.*s = {\n", 2 * depth++, "", (int)(dot - at), at);
}

void config_print(const struct config *config, FILE *out)
{
    const char *before = "";
    for (size_t i = 0; i < options.count; i++) {
        const struct option *option = &options.rows[i];
        const char *path = option->path, *name = strrchr(path, '.');
        unsigned part = config_part_of(path);
        if (!print_is_printed(option, config) || (part != 0 && !(config->parts & part)))
            continue;
        print_change_groups(before, path, out);
        fprintf(out, "%*s%s = ", 2 * print_count_dots(path), "", name != NULL ? name + 1 : path);
        option_print(option, config, out);
        fputs(";\n", out);
        before = path;
    }
    print_change_groups(before, "", out);
}

static char *print_value(const struct option *option, const void *base)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    if (out == NULL)
        return NULL;
    option_print(option, base, out);
    fclose(out);
    return text;
}

/* The option's value if the file does not set it; NULL: none. */
static char *print_default(const struct option *option, const char *folder)
{
    struct config *scratch = calloc(1, sizeof *scratch);
    const struct option_rows row = {option, 1, sizeof *scratch};
    struct error err;
    char *text = NULL;

    if (scratch == NULL || option->fallback == NULL)
        goto out;
    bool needless = option_is_list(option) && option->fallback[0] == '\0';
    if (option->type != OPTION_GROUP &&
        (needless || option_set(option, scratch, option->fallback, folder, &err) == 0))
        text = print_value(option, scratch);
    option_free_rows(&row, scratch);
out:
    free(scratch);
    return text;
}

void config_print_changed(const struct config *config, FILE *out)
{
    for (size_t i = 0; i < options.count; i++) {
        const struct option *option = &options.rows[i];
        unsigned part = config_part_of(option->path);
        if (!print_is_printed(option, config) || (part != 0 && !(config->parts & part)))
            continue;
        char *is = print_value(option, config), *was = print_default(option, "/");
        if (is != NULL && (was == NULL || strcmp(is, was) != 0))
            fprintf(out, "%s = %s;\n", option->path, is);
        free(is);
        free(was);
    }
}

void config_report_restarts(const struct config *before, const struct config *after, unsigned parts,
                            config_report *report, void *context)
{
    for (size_t i = 0; i < options.count; i++) {
        const struct option *option = &options.rows[i];
        if (!(option_restarts(option) & parts))
            continue;
        char *was = print_value(option, before), *is = print_value(option, after);
        if (was != NULL && is != NULL && strcmp(was, is) != 0)
            report(context, option->path);
        free(was);
        free(is);
    }
}
