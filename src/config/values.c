/* config/values.c - parses option values
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "config/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/i18n.h"
#include "base/utf8.h"
#include "config/values.h"
#include "dns/name.h"
#include "net/endpoint.h"
#include "smtp/path.h"

#define SMTP_PORT 25
#define HOSTNAME_MAX 253
#define LABEL_MAX 63
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

static int values_out_of_memory(struct error *err)
{
    error_set(err, _("out of memory"));
    return -1;
}

static int values_set_string(char **place, const char *text, struct error *err)
{
    free(*place);
    *place = strdup(text);
    return *place != NULL ? 0 : values_out_of_memory(err);
}

/* RFC 1123 2.1: letters, digits and hyphens; the last label must not be a number, as in an address. Not
 * every next hop accepts UTF-8 or '_' in EHLO. */
static bool values_is_hostname(const char *text)
{
    size_t whole = strlen(text), len;
    if (whole == 0 || whole > HOSTNAME_MAX)
        return false;
    for (const char *label = text;; label += len + 1) {
        len = strcspn(label, ".");
        if (len == 0 || len > LABEL_MAX || label[0] == '-' || label[len - 1] == '-' ||
            strspn(label, LETTERS "0123456789-") < len)
            return false;
        if (label[len] == '\0')
            return strspn(label, "0123456789") < len;
    }
}

static int values_set_hostname(char **place, const char *text, struct error *err)
{
    if (values_is_hostname(text))
        return values_set_string(place, text, err);
    error_set(err, _("found \"%s\"; expected a host name like mail.example.com"), text);
    return -1;
}

char *value_absolute(const char *text, const char *folder)
{
    char *path = NULL;
    if (text[0] == '/' || text[0] == '\0')
        return strdup(text);
    return asprintf(&path, "%s/%s", folder, text) >= 0 ? path : NULL;
}

const char *value_file_problem(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return strerror(errno);
    if (S_ISDIR(status.st_mode))
        return strerror(EISDIR);
    /* Reading a pipe could block forever, and a second read finds nothing. */
    if (!S_ISREG(status.st_mode))
        return _("not a regular file");
    return access(path, R_OK) == 0 ? NULL : strerror(errno);
}

int value_set_file(char **place, const char *text, const char *folder, struct error *err)
{
    free(*place);
    *place = value_absolute(text, folder);
    if (*place == NULL)
        return values_out_of_memory(err);
    const char *problem = text[0] != '\0' ? value_file_problem(*place) : NULL;
    if (problem == NULL)
        return 0;
    error_set(err, _("cannot read %s: %s"), *place, problem);
    return -1;
}

/* A suffix of a number, and its factor. */
struct suffix {
    const char *text;
    int64_t factor;
};
static const struct suffix no_suffixes[] = {{"", 1}, {NULL, 0}};
static const struct suffix duration_suffixes[] = {
    {"ms", 1}, {"", 1000}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {NULL, 0}};
static const struct suffix size_suffixes[] = {
    {"", 1}, {"K", 1024}, {"M", 1024 * 1024}, {"G", 1024 * 1024 * 1024}, {NULL, 0}};

static bool values_parse_number(const char *text, const struct suffix *suffixes, int64_t *out)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || errno != 0)
        return false;
    for (; suffixes->text != NULL; suffixes++) {
        if (strcmp(end, suffixes->text) == 0)
            return !__builtin_mul_overflow(number, suffixes->factor, out);
    }
    return false;
}

const char *value_format_duration(int64_t ms, char *out, size_t size)
{
    const struct suffix *best = &duration_suffixes[0];
    for (const struct suffix *next = best; next->text != NULL; next++) {
        if (next->text[0] != '\0' && ms % next->factor == 0)
            best = next;
    }
    if (ms == 0)
        snprintf(out, size, "0s");
    else
        snprintf(out, size, "%lld%s", (long long)(ms / best->factor), best->text);
    return out;
}

static int values_expected(const struct option *option, const char *text, struct error *err)
{
    char wanted[256];
    error_set(err, _("found \"%s\"; expected %s"), text,
              option_expected(option, wanted, sizeof wanted));
    return -1;
}

static int values_set_number(const struct option *option, int64_t *place, const char *text,
                             const struct suffix *suffixes, struct error *err)
{
    int64_t value;
    if (!values_parse_number(text, suffixes, &value) || value < option->min || value > option->max)
        return values_expected(option, text, err);
    *place = value;
    return 0;
}

static int values_set_enum(const struct option *option, int *place, const char *text,
                           struct error *err)
{
    const char *const *names = option_names(option);
    for (int i = 0; names[i] != NULL; i++) {
        if (text[0] != '\0' && strcmp(names[i], text) == 0) {
            *place = i;
            return 0;
        }
    }
    return values_expected(option, text, err);
}

static int values_too_many(size_t most, struct error *err)
{
    error_set(err, _("more than %zu values"), most);
    return -1;
}

/* Refuses link-local addresses: they need a link, which the configuration cannot name. */
static int values_check_link(const struct address *address, struct error *err)
{
    char text[ADDRESS_TEXT_MAX];
    bool is_link_local =
        address->family == AF_INET6 && address->ip[0] == 0xfe && (address->ip[1] & 0xc0) == 0x80;

    if (!is_link_local)
        return 0;
    error_set(err,
              _("%s is a link-local address, which cannot be reached without naming its link; give "
                "the host another address, like fd00::2"),
              address_format_ip(address, text));
    return -1;
}

static int values_add_listen(struct listen_list *list, const char *text, struct error *err)
{
    if (list->count == LISTENERS_MAX)
        return values_too_many(LISTENERS_MAX, err);
    if (listener_parse(&list->items[list->count], text, err) != 0 ||
        values_check_link(&list->items[list->count].address, err) != 0)
        return -1;
    list->count++;
    return 0;
}

static int values_add_host(const struct option *option, struct host_list *list, const char *text,
                           struct error *err)
{
    if (list->count == CONFIG_HOSTS_MAX)
        return values_too_many(CONFIG_HOSTS_MAX, err);
    struct address *host = &list->items[list->count];
    if (text[0] == '*' || address_parse_endpoint(host, text, (uint16_t)option->min) != 0 ||
        host->port == 0) {
        error_set(err,
                  _("found \"%s\"; expected an IP address, with or without a port, like "
                    "10.0.0.2:25 or [fd00::2]:25"),
                  text);
        return -1;
    }
    if (values_check_link(host, err) != 0)
        return -1;
    list->count++;
    return 0;
}

static int values_add_address(struct host_list *list, const char *text, struct error *err)
{
    if (list->count == CONFIG_HOSTS_MAX)
        return values_too_many(CONFIG_HOSTS_MAX, err);
    if (address_parse_ip(&list->items[list->count], text) != 0) {
        error_set(err, _("found \"%s\"; expected an IP address without a port"), text);
        return -1;
    }
    if (values_check_link(&list->items[list->count], err) != 0)
        return -1;
    list->count++;
    return 0;
}

/* Takes ownership of `item`, which may be NULL. */
static int values_add_string(struct string_list *list, char *item, struct error *err)
{
    char **items = item != NULL ? realloc(list->items, (list->count + 1) * sizeof *items) : NULL;
    if (items == NULL) {
        free(item);
        return values_out_of_memory(err);
    }
    list->items = items;
    items[list->count++] = item;
    return 0;
}

/* Stores the domain in the form in which domains are compared. */
static int values_add_domain(struct string_list *list, const char *text, struct error *err)
{
    const char *domain = text[0] == '.' ? text + 1 : text;
    char folded[1 + DNS_NAME_MAX] = ".";

    if (!utf8_is_valid(text, strlen(text)) || !path_is_domain(domain, strlen(domain)) ||
        !dns_name_fold(domain, folded + 1)) {
        error_set(err,
                  _("found \"%s\"; expected a domain like example.com, or .example.com for its "
                    "subdomains"),
                  text);
        return -1;
    }
    return values_add_string(list, strdup(text[0] == '.' ? folded : folded + 1), err);
}

/* Accepts "*" as well as what values_add_domain() accepts. */
static int values_add_pattern(struct string_list *list, const char *text, struct error *err)
{
    return strcmp(text, "*") == 0 ? values_add_string(list, strdup(text), err)
                                  : values_add_domain(list, text, err);
}

static int values_add_next_hop(struct string_list *list, const char *text, struct error *err)
{
    struct endpoint endpoint;
    return endpoint_parse(&endpoint, text, SMTP_PORT, err) == 0 &&
                   values_check_link(&endpoint.address, err) == 0
               ? values_add_string(list, strdup(text), err)
               : -1;
}

char *value_trim(char *line)
{
    if (strncmp(line, BYTE_ORDER_MARK, strlen(BYTE_ORDER_MARK)) == 0)
        line += strlen(BYTE_ORDER_MARK);
    line[strcspn(line, "#\r\n")] = '\0';
    line += strspn(line, " \t");
    size_t len = strlen(line);
    while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t'))
        line[--len] = '\0';
    return line;
}

static int values_add_network(struct cidr_set **set, const char *text, struct error *err)
{
    if (*set == NULL)
        *set = cidr_set_new();
    return *set != NULL ? cidr_set_add(*set, text, err) : values_out_of_memory(err);
}

/* One text may hold several, separated by spaces. */
static int values_add_durations(const struct option *option, struct duration_list *list,
                                const char *text, struct error *err)
{
    char word[32];
    for (size_t len; text[strspn(text, " ")] != '\0'; text += len) {
        text += strspn(text, " ");
        len = strcspn(text, " ");
        if (list->count == CONFIG_DURATIONS_MAX)
            return values_too_many(CONFIG_DURATIONS_MAX, err);
        snprintf(word, sizeof word, "%.*s", (int)(len < sizeof word ? len : sizeof word), text);
        if (values_set_number(option, &list->items[list->count], word, duration_suffixes, err) != 0)
            return -1;
        list->count++;
    }
    return 0;
}

static int values_set_folder(char **place, const char *text, const char *folder, struct error *err)
{
    free(*place);
    *place = value_absolute(text, folder);
    return *place != NULL ? 0 : values_out_of_memory(err);
}

static int values_set_boolean(const struct option *option, bool *place, const char *text,
                              struct error *err)
{
    *place = strcmp(text, "true") == 0;
    return *place || strcmp(text, "false") == 0 ? 0 : values_expected(option, text, err);
}

int option_set(const struct option *option, void *base, const char *text, const char *folder,
               struct error *err)
{
    void *place = option_place(option, base);

    switch (option->type) {
    case OPTION_STRING:
        return values_set_string(place, text, err);
    case OPTION_HOSTNAME:
        return text[0] == '\0' && option->fallback != NULL ? values_set_string(place, text, err)
                                                           : values_set_hostname(place, text, err);
    case OPTION_FILE:
        if (text[0] == '\0' && option->fallback == NULL)
            return values_expected(option, text, err);
        return value_set_file(place, text, folder, err);
    case OPTION_FOLDER:
        return values_set_folder(place, text, folder, err);
    case OPTION_INTEGER:
        return values_set_number(option, place, text, no_suffixes, err);
    case OPTION_DURATION:
        return values_set_number(option, place, text, duration_suffixes, err);
    case OPTION_SIZE:
        return values_set_number(option, place, text, size_suffixes, err);
    case OPTION_ENUM:
        return values_set_enum(option, place, text, err);
    case OPTION_BOOLEAN:
        return values_set_boolean(option, place, text, err);
    case OPTION_LISTEN:
        return values_add_listen(place, text, err);
    case OPTION_HOSTS:
        return values_add_host(option, place, text, err);
    case OPTION_ADDRESSES:
        return values_add_address(place, text, err);
    case OPTION_NETWORKS:
    case OPTION_NETWORKS_FILE:
        return values_add_network(place, text, err);
    case OPTION_DOMAINS:
    case OPTION_DOMAINS_FILE:
        return values_add_domain(place, text, err);
    case OPTION_STRINGS:
        return values_add_string(place, strdup(text), err);
    case OPTION_PATTERNS:
        return values_add_pattern(place, text, err);
    case OPTION_NEXT_HOPS:
        return values_add_next_hop(place, text, err);
    case OPTION_DURATIONS:
        return values_add_durations(option, place, text, err);
    case OPTION_GROUP:
    case OPTION_GROUPS:
        break;
    }
    return values_expected(option, text, err);
}

void *option_add_group(const struct option *option, void *base)
{
    struct config_list *list = option_place(option, base);
    size_t size = option_rows(option)->size;
    char *items = realloc(list->items, (list->count + 1) * size);
    if (items == NULL)
        return NULL;
    list->items = items;
    return memset(items + list->count++ * size, 0, size);
}

static void values_list_names(const struct option *option, struct buffer *buffer)
{
    const char *separator = "";
    const char *const *names = option_names(option);
    for (int i = 0; names[i] != NULL; i++) {
        if (names[i][0] == '\0')
            continue;
        buffer_printf(buffer, "%s\"%s\"", separator, names[i]);
        separator = ", ";
    }
}

static const char *const values_wanted[] = {
    [OPTION_STRING] = N_("a string"),
    [OPTION_HOSTNAME] = N_("a host name"),
    [OPTION_FILE] = N_("the name of a file"),
    [OPTION_DOMAINS_FILE] = N_("the name of a file"),
    [OPTION_NETWORKS_FILE] = N_("the name of a file"),
    [OPTION_FOLDER] = N_("the name of a folder"),
    [OPTION_INTEGER] = N_("a number from %lld to %lld"),
    [OPTION_DURATION] = N_("a time like \"30s\" or \"5m\", from %s to %s"),
    [OPTION_SIZE] = N_("a size like \"100M\", from %lld to %lld octets"),
    [OPTION_ENUM] = N_("one of "),
    [OPTION_LISTEN] = N_("a list of addresses with ports"),
    [OPTION_BOOLEAN] = N_("true or false"),
    [OPTION_HOSTS] = N_("a list of addresses"),
    [OPTION_ADDRESSES] = N_("a list of addresses"),
    [OPTION_NETWORKS] = N_("a list of networks"),
    [OPTION_DOMAINS] = N_("a list of domains"),
    [OPTION_STRINGS] = N_("a list of strings"),
    [OPTION_PATTERNS] = N_("a list of domains, \".domain\" or \"*\""),
    [OPTION_NEXT_HOPS] = N_("a list of hosts, with or without a port"),
    [OPTION_DURATIONS] = N_("a list of times like \"30s\" or \"5m\", from %s to %s"),
    [OPTION_GROUP] = N_("a group in braces"),
    [OPTION_GROUPS] = N_("a list of groups ( { ... }, { ... } )"),
};

const char *option_expected(const struct option *option, char *out, size_t size)
{
    const char *wanted = _(values_wanted[option->type]);
    char low[32], high[32];
    struct buffer buffer;

    buffer_init(&buffer, out, size);
    switch (option->type) {
    case OPTION_INTEGER:
    case OPTION_SIZE:
        buffer_printf(&buffer, wanted, (long long)option->min, (long long)option->max);
        break;
    case OPTION_DURATION:
    case OPTION_DURATIONS:
        buffer_printf(&buffer, wanted, value_format_duration(option->min, low, sizeof low),
                      value_format_duration(option->max, high, sizeof high));
        break;
    case OPTION_ENUM:
        buffer_puts(&buffer, wanted);
        values_list_names(option, &buffer);
        break;
    default:
        buffer_puts(&buffer, wanted);
    }
    return out;
}

static void values_free_strings(struct string_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
}

static void values_free_groups(const struct option_rows *rows, struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        option_free_rows(rows, (char *)list->items + i * rows->size);
    free(list->items);
}

static void values_free_option(const struct option *option, void *base)
{
    void *place = option_place(option, base);
    switch (option->type) {
    case OPTION_STRING:
    case OPTION_HOSTNAME:
    case OPTION_FILE:
    case OPTION_FOLDER:
        free(*(char **)place);
        break;
    case OPTION_NETWORKS: /* files of networks add to the same list */
        cidr_set_free(*(struct cidr_set **)place);
        break;
    case OPTION_DOMAINS:
    case OPTION_STRINGS:
    case OPTION_PATTERNS:
    case OPTION_NEXT_HOPS:
        values_free_strings(place);
        break;
    case OPTION_GROUP:
        option_free_rows(option_rows(option), place);
        break;
    case OPTION_GROUPS:
        values_free_groups(option_rows(option), place);
        break;
    default:
        break;
    }
}

void option_free_rows(const struct option_rows *rows, void *base)
{
    for (size_t i = 0; i < rows->count; i++)
        values_free_option(&rows->rows[i], base);
}
