/* config/source.c - checks the text of a configuration file beyond libconfig, and formats errors
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "config/load.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/utf8.h"
#include "config/options.h"
#include "config/values.h"

#define INCLUDES_MAX 10 /* libconfig's own limit */
#define NAME_OCTETS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_*"

#define LOAD_TEXT_MAX (ERROR_TEXT_MAX + 4 * OPTION_PATH_MAX)

/* Line 0 means that no line is known. libconfig names included files relative to the main file's
 * folder. */
static void load_format(const struct load *load, const char *file, unsigned line,
                        const char *option, const char *reason, char out[LOAD_TEXT_MAX])
{
    char place[16] = "";
    bool is_included = file != NULL && file[0] != '/' && strcmp(file, load->name) != 0;

    if (line > 0)
        snprintf(place, sizeof place, ":%u", line);
    snprintf(out, LOAD_TEXT_MAX, "%s%s%s%s: %s%s%s", is_included ? load->folder : "",
             is_included ? "/" : "", file != NULL ? file : load->name, place, option,
             option[0] != '\0' ? ": " : "", reason);
    utf8_mask(out); /* it quotes the file, and terminals show it */
}

/* Adds a copy. If out of memory, does nothing. */
static void load_keep(struct string_list *list, const char *text)
{
    char **items = realloc(list->items, (list->count + 1) * sizeof *items);

    if (items == NULL)
        return;
    list->items = items;
    items[list->count] = strdup(text);
    list->count += items[list->count] != NULL;
}

static bool load_starts_with(const char *option, const char *group)
{
    size_t len = strlen(group);
    return strncmp(option, group, len) == 0 &&
           (option[len] == '\0' || option[len] == '.' || option[len] == '[');
}

/* Does the daemon that loads the file use this option? From relay-in's half relay-out takes the domains
 * whose mail goes home, the way there, and the listeners that would be a loop. */
static bool load_is_needed(const struct load *load, const char *option)
{
    static const char *const shared[] = {"in.domains", "in.domains_file", "in.backend",
                                         "in.backends", "in.listen"};

    if (load->daemon == CONFIG_PART_EXPORTER)
        return option[0] == '\0' || load_starts_with(option, "exporter") ||
               load_starts_with(option, "control");
    if (load->daemon == CONFIG_PART_IN)
        return !load_starts_with(option, "out");
    if (load->daemon != CONFIG_PART_OUT || !load_starts_with(option, "in") ||
        strcmp(option, "in") == 0)
        return true;
    for (size_t i = 0; i < sizeof shared / sizeof shared[0]; i++) {
        if (load_starts_with(option, shared[i]))
            return true;
    }
    return false;
}

void load_complain_at(struct load *load, const char *file, unsigned line, const char *option,
                      const char *reason)
{
    char text[LOAD_TEXT_MAX];

    load_keep(&load->wrong, option);
    if (!load_is_needed(load, option)) {
        load->overlooked++;
        load_warn_at(load, file, line, option, reason);
        return;
    }
    load_format(load, file, line, option, reason, text);
    load->report(load->context, text);
    load->errors++;
}

bool load_is_wrong(const struct load *load, const char *option)
{
    size_t len = strlen(option);

    for (size_t i = 0; i < load->wrong.count; i++) {
        const char *wrong = load->wrong.items[i];
        if (strncmp(wrong, option, len) == 0 &&
            (wrong[len] == '\0' || wrong[len] == '.' || wrong[len] == '['))
            return true;
    }
    return false;
}

void load_warn_at(struct load *load, const char *file, unsigned line, const char *option,
                  const char *reason)
{
    char text[LOAD_TEXT_MAX];

    load_format(load, file, line, option, reason, text);
    load_keep(&load->config->warnings, text);
}

static void load_advise_at(struct load *load, const char *file, unsigned line, const char *option,
                           const char *reason)
{
    char text[LOAD_TEXT_MAX];

    load_format(load, file, line, option, reason, text);
    load_keep(&load->config->advice, text);
}

typedef void load_say_at(struct load *load, const char *file, unsigned line, const char *option,
                         const char *reason);

static void load_say(struct load *load, const config_setting_t *setting, const char *option,
                     load_say_at *say_at, const char *format, va_list arguments)
{
    char reason[ERROR_TEXT_MAX];

    vsnprintf(reason, sizeof reason, format, arguments);
    if (setting != NULL)
        say_at(load, config_setting_source_file(setting), config_setting_source_line(setting),
               option, reason);
    else
        say_at(load, load->name, 0, option, reason);
}

void load_complain(struct load *load, const config_setting_t *setting, const char *option,
                   const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    load_say(load, setting, option, load_complain_at, format, arguments);
    va_end(arguments);
}

void load_warn(struct load *load, const config_setting_t *setting, const char *option,
               const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    load_say(load, setting, option, load_warn_at, format, arguments);
    va_end(arguments);
}

void load_advise(struct load *load, const config_setting_t *setting, const char *option,
                 const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    load_say(load, setting, option, load_advise_at, format, arguments);
    va_end(arguments);
}

/* libconfig 1.5 silently truncates plain numbers to 32 bits. */
static const char *load_check_number(struct load *load, const char *file, unsigned line,
                                     const char *at)
{
    char *end, text[64];
    errno = 0;
    long long number = strtoll(at, &end, at[0] == '0' && (at[1] | 32) == 'x' ? 16 : 10);
    if (errno == ERANGE || (number > INT32_MAX && strchr("L.eE", *end) == NULL)) {
        snprintf(text, sizeof text, "%.*s", (int)(end - at), at);
        load_complain_at(load, file, line, text,
                         _("too large for a plain number; append an L, or write it as a text"));
    }
    return end + strspn(end, "L.0123456789eE");
}

enum source_state { SOURCE_CODE, SOURCE_STRING, SOURCE_COMMENT };

static enum source_state load_check_line(struct load *load, const char *file, unsigned line,
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
            at = load_check_number(load, file, line, at);
        } else {
            size_t name = strspn(at, NAME_OCTETS);
            at += name > 0 ? name + strspn(at + name, NAME_OCTETS "0123456789-") : 1;
        }
    }
    return state;
}

const char *source_line_problem(const char *text, size_t len)
{
    const char *cr = memchr(text, '\r', len);

    if (strncmp(text, "\xff\xfe", 2) == 0 || strncmp(text, "\xfe\xff", 2) == 0)
        return _("the file is UTF-16; save it as UTF-8");
    if (memchr(text, '\0', len) != NULL)
        return _("the line contains a NUL octet");
    if (cr != NULL && cr + 1 < text + len && cr[1] != '\n')
        return _("a line ends in CR alone; save the file with LF line ends");
    return NULL;
}

/* libconfig does not skip a byte order mark; the loader removes the main file's. */
static bool load_begins_with_mark(const char *text)
{
    return strncmp(text, BYTE_ORDER_MARK, strlen(BYTE_ORDER_MARK)) == 0;
}

static int source_check_source(struct load *load, const char *file, unsigned depth);

/* Checks an @include line. Returns 1 if it is none, 0 if the file is fine, -1 otherwise. */
static int load_check_include(struct load *load, const char *file, unsigned line, const char *text,
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
        problem = _("the name must be relative to the folder of the main file");
    else if (depth == INCLUDES_MAX)
        problem = _("files are included too deeply");
    else
        problem = value_file_problem(path);
    if (problem != NULL)
        load_complain_at(load, file, line, name, problem);
    int result = problem == NULL ? source_check_source(load, path, depth + 1) : -1;
    free(path);
    return result;
}

/* Checks for faults that libconfig 1.5 does not report, or for which it ends the process (a folder in
 * place of a file). */
static int source_check_source(struct load *load, const char *file, unsigned depth)
{
    enum source_state state = SOURCE_CODE;
    const char *problem = value_file_problem(file);
    FILE *stream = problem == NULL ? fopen(file, "re") : NULL;
    char *text = NULL;
    size_t size = 0;
    int result = 0;
    ssize_t len;

    if (stream == NULL) {
        const char *why = problem != NULL ? problem : strerror(errno);
        bool absent = depth == 0 && access(file, F_OK) != 0 && errno == ENOENT;
        char reason[ERROR_TEXT_MAX];
        snprintf(reason, sizeof reason, absent ? _("%s; relayctl init writes the first one") : "%s",
                 why);
        load_complain_at(load, file, 0, _("cannot be read"), reason);
        return -1;
    }
    for (unsigned line = 1; result == 0 && (len = getline(&text, &size, stream)) >= 0; line++) {
        problem = source_line_problem(text, (size_t)len);
        if (line == 1 && depth > 0 && load_begins_with_mark(text))
            problem = _("the file begins with a byte order mark; save it without");
        if (problem != NULL) {
            load_complain_at(load, file, line, "", problem);
            result = -1;
            continue;
        }
        int include = state == SOURCE_CODE ? load_check_include(load, file, line, text, depth) : 1;
        if (include > 0)
            state = load_check_line(load, file, line, text, state);
        else
            result = include;
    }
    free(text);
    fclose(stream);
    return result;
}

int source_check(struct load *load, const char *file)
{
    return source_check_source(load, file, 0);
}
