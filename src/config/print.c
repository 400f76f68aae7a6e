/* config/print.c - options as text: --print-config and the manual
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "config/options.h"

#include <stdlib.h>
#include <string.h>

#include "config/values.h"

static void print_quoted(const char *text, FILE *out)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void print_listen(const struct config_in *in, FILE *out)
{
    char text[ADDRESS_TEXT_MAX];
    for (size_t i = 0; i < in->listen_count; i++)
        fprintf(out, "%s\"%s%s\"", i > 0 ? ", " : "",
                address_format_endpoint(&in->listen[i].address, text),
                in->listen[i].implicit_tls ? " tls" : "");
}

static void print_hosts(const struct config_backend *backend, FILE *out)
{
    char text[ADDRESS_TEXT_MAX];
    for (size_t i = 0; i < backend->host_count; i++)
        fprintf(out, "%s\"%s\"", i > 0 ? ", " : "",
                address_format_endpoint(&backend->hosts[i], text));
}

static void print_networks(const struct cidr_set *set, FILE *out)
{
    char text[ADDRESS_TEXT_MAX];
    for (size_t i = 0; i < cidr_set_count(set); i++)
        fprintf(out, "%s\"%s\"", i > 0 ? ", " : "", cidr_set_format(set, i, text));
}

static void print_domains(const struct string_list *list, FILE *out)
{
    for (size_t i = 0; i < list->count; i++) {
        fputs(i > 0 ? ", " : "", out);
        print_quoted(list->items[i], out);
    }
}

static void print_certificates(const struct config_tls *tls, FILE *out)
{
    for (size_t i = 0; i < tls->certificate_count; i++) {
        fputs(i > 0 ? ", { cert = " : "{ cert = ", out);
        print_quoted(tls->certificates[i].cert, out);
        fputs("; key = ", out);
        print_quoted(tls->certificates[i].key, out);
        fputs("; }", out);
    }
}

static void print_list(const struct option *option, const struct config *config, FILE *out)
{
    bool groups = option->type == OPTION_CERTIFICATES;
    fputs(groups ? "( " : "[ ", out);
    switch (option->type) {
    case OPTION_LISTEN:
        print_listen(&config->in, out);
        break;
    case OPTION_HOSTS:
        print_hosts(&config->in.backend, out);
        break;
    case OPTION_NETWORKS:
        print_networks(*(struct cidr_set **)option_place(option, config), out);
        break;
    case OPTION_DOMAINS:
        print_domains(option_place(option, config), out);
        break;
    default:
        print_certificates(&config->tls, out);
    }
    fputs(groups ? " )" : " ]", out);
}

void option_print(const struct option *option, const struct config *config, FILE *out)
{
    void *place = option_place(option, config);
    char text[32];
    switch (option->type) {
    case OPTION_STRING:
    case OPTION_HOSTNAME:
    case OPTION_FILE:
        print_quoted(*(char **)place, out);
        break;
    case OPTION_INTEGER:
        fprintf(out, "%lld", (long long)*(int64_t *)place);
        break;
    case OPTION_SIZE:
        /* libconfig keeps numbers over 31 bits only with this ending. */
        fprintf(out, "%lldL", (long long)*(int64_t *)place);
        break;
    case OPTION_DURATION:
        fprintf(out, "\"%s\"", value_format_duration(*(int64_t *)place, text, sizeof text));
        break;
    case OPTION_ENUM:
        print_quoted(option->names[*(int *)place], out);
        break;
    default:
        print_list(option, config, out);
    }
}

/* Octets of the group that both paths begin with, its last dot included. */
static size_t shared_group(const char *a, const char *b)
{
    size_t shared = 0;
    for (size_t i = 0; a[i] != '\0' && a[i] == b[i]; i++) {
        if (a[i] == '.')
            shared = i + 1;
    }
    return shared;
}

static int count_dots(const char *text)
{
    int dots = 0;
    for (; *text != '\0'; text++)
        dots += *text == '.';
    return dots;
}

/* Closes the groups of `before` that `path` is not in, and opens those of `path`. */
static void change_groups(const char *before, const char *path, FILE *out)
{
    size_t shared = shared_group(before, path);
    int depth = count_dots(before);
    for (int close = count_dots(before + shared); close > 0; close--)
        fprintf(out, "%*s};\n", 2 * --depth, "");
    for (const char *at = path + shared, *dot; (dot = strchr(at, '.')) != NULL; at = dot + 1)
        fprintf(out, "%*s%.*s = {\n", 2 * depth++, "", (int)(dot - at), at);
}

void config_print(const struct config *config, FILE *out)
{
    const char *before = "";
    for (size_t i = 0; i < option_count; i++) {
        const char *path = options[i].path, *name = strrchr(path, '.');
        /* Its domains stand in in.domains. */
        if (options[i].type == OPTION_DOMAINS_FILE)
            continue;
        change_groups(before, path, out);
        fprintf(out, "%*s%s = ", 2 * count_dots(path), "", name != NULL ? name + 1 : path);
        option_print(&options[i], config, out);
        fputs(";\n", out);
        before = path;
    }
    change_groups(before, "", out);
}

void config_print_manual(FILE *out)
{
    char wanted[256];
    for (size_t i = 0; i < option_count; i++) {
        const struct option *option = &options[i];
        fprintf(out, ".It Cm %s\n%s\n.Pp\nValue: %s.\n", option->path, option->help,
                option_expected(option, wanted, sizeof wanted));
        if (option->fallback == NULL)
            fputs("It must be set.\n", out);
        else if (option->fallback[0] != '\0')
            fprintf(out, "Default: %s.\n", option->fallback);
    }
}
