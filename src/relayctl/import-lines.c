/* relayctl/import-lines.c - relayctl import-haraka: single lines of relay.conf, and where they come from
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/import.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/address.h"
#include "base/i18n.h"
#include "base/utf8.h"
#include "config/config.h"

#define IMPORT_PATH_MAX 1024
#define IMPORT_COMMENT_COLUMN 44

const char *import_quoted(struct import *import, const char *text)
{
    char **all = realloc(import->quoted, (import->quoted_count + 1) * sizeof *all);
    size_t size;

    if (all != NULL) {
        import->quoted = all;
        char **quoted = &all[import->quoted_count];
        *quoted = NULL;
        FILE *out = open_memstream(quoted, &size);
        if (out != NULL) {
            config_print_string(text, out);
            fclose(out);
        }
        if (*quoted != NULL)
            return all[import->quoted_count++];
    }
    import->out_of_memory = true;
    return "";
}

void import_comment(FILE *out, const char *format, ...)
{
    char *text = NULL;
    va_list arguments;

    va_start(arguments, format);
    int len = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (len < 0)
        return;
    bool ends = len > 0 && text[len - 1] == '\n';
    if (ends)
        text[len - 1] = '\0';
    utf8_mask(text);
    fprintf(out, "%s%s", text, ends ? "\n" : "");
    free(text);
}

void import_line(struct import *import, const struct haraka *haraka, struct haraka_entry *entry,
                 const char *note, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int len = vfprintf(import->conf, format, arguments);
    va_end(arguments);
    if (entry != NULL || note != NULL)
        fprintf(import->conf, "%*s// ",
                len < IMPORT_COMMENT_COLUMN ? IMPORT_COMMENT_COLUMN - len : 2, "");
    if (entry != NULL) {
        entry->taken = true;
        import_comment(import->conf, _("from %s/%s:%u"), haraka->name, entry->file, entry->line);
        if (entry->value[0] != '\0')
            import_comment(import->conf, " %s", entry->key);
        if (!haraka_was_read(entry))
            fprintf(import->conf, _(" (Haraka never read it)"));
    }
    if (note != NULL)
        fprintf(import->conf, "%s%s", entry != NULL ? "; " : "", note);
    fputc('\n', import->conf);
}

void import_list(struct import *import, const struct haraka *haraka, const char *option,
                 const char *file)
{
    struct haraka_entry *first = haraka_next(haraka, NULL, file, NULL, NULL);
    struct haraka_entry *entry = first;
    char *text = NULL;
    size_t size;

    if (first == NULL)
        return;
    FILE *list = open_memstream(&text, &size);
    if (list == NULL)
        return;
    for (; entry != NULL; entry = haraka_next(haraka, entry, file, NULL, NULL)) {
        fprintf(list, "%s", entry != first ? ", " : "");
        config_print_string(entry->key, list);
        entry->taken = true;
    }
    fclose(list);
    import_line(import, haraka, first, NULL, "  %s = [ %s ];", option, text);
    free(text);
}

/* Writes "[::0]:25, 0.0.0.0:587" in the form of listen_spec. The port `tls_port` has implicit TLS. */
static void import_addresses(struct import *import, const struct haraka *haraka,
                             struct haraka_entry *entry, uint16_t port, uint16_t tls_port)
{
    char text[IMPORT_TEXT_MAX] = "", item[ADDRESS_TEXT_MAX], *save = NULL;
    char *copy = strdup(entry->value);
    size_t len = 0;

    for (char *part = copy != NULL ? strtok_r(copy, ", \t", &save) : NULL; part != NULL;
         part = strtok_r(NULL, ", \t", &save)) {
        struct address address;
        if (address_parse_endpoint(&address, part, port) != 0) {
            import_comment(import->remarks,
                           _("//   %s/%s:%u: %s is not an IP address to listen on\n"), haraka->name,
                           entry->file, entry->line, part);
            continue;
        }
        len += (size_t)snprintf(text + len, sizeof text - len, "%s\"%s%s\"", len > 0 ? ", " : "",
                                address_format_endpoint(&address, item),
                                address.port == tls_port ? " tls" : "");
        if (len >= sizeof text)
            break;
    }
    free(copy);
    if (len > 0 && len < sizeof text)
        import_line(import, haraka, entry, NULL, "  listen = [ %s ];", text);
}

void import_listen(struct import *import, const struct haraka *haraka, uint16_t fallback)
{
    struct haraka_entry *listen = haraka_find(haraka, "smtp.ini", "main", "listen");
    struct haraka_entry *port = haraka_find(haraka, "smtp.ini", "main", "port");
    struct haraka_entry *tls_port = haraka_find(haraka, "smtp.ini", "main", "smtps_port");
    long number = port != NULL ? strtol(port->value, NULL, 10) : fallback;
    long tls_number = tls_port != NULL ? strtol(tls_port->value, NULL, 10) : 465;

    if (listen == NULL)
        listen = haraka_find(haraka, "smtp.ini", "main", "listen_host");
    if (listen != NULL)
        import_addresses(import, haraka, listen,
                         number > 0 && number <= 65535 ? (uint16_t)number : fallback,
                         (uint16_t)tls_number);
    if (port != NULL)
        port->taken = true;
    if (tls_port != NULL)
        tls_port->taken = true;
}

const char *import_number_of(const struct haraka_entry *entry)
{
    const char *value = entry == NULL ? "" : entry->value[0] != '\0' ? entry->value : entry->key;
    bool is_number = value[0] != '\0' && value[strspn(value, "0123456789")] == '\0';
    return is_number && strspn(value, "0") != strlen(value) ? value : NULL;
}

void import_number(struct import *import, const struct haraka *haraka, struct haraka_entry *entry,
                   const char *option)
{
    const char *value = import_number_of(entry);
    if (value != NULL)
        /* libconfig keeps numbers over 31 bits only with this suffix. */
        import_line(import, haraka, entry, NULL, "%s = %s%s;", option, value,
                    strlen(value) > 9 ? "L" : "");
}

bool import_is_domain(const char *text)
{
    size_t len = strlen(text);
    return len > 3 && len < 254 && strchr(text, '.') != NULL && text[0] != '.' &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") == len;
}

/* Takes the file's name without its suffix, if that is a host name. Otherwise `out` stays as it is. */
static bool import_name_in(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/');
    char name[300];

    snprintf(name, sizeof name, "%s", slash != NULL ? slash + 1 : path);
    char *dot = strrchr(name, '.');
    if (dot != NULL &&
        (strcmp(dot, ".pem") == 0 || strcmp(dot, ".crt") == 0 || strcmp(dot, ".cer") == 0))
        *dot = '\0';
    if (!import_is_domain(name))
        return false;
    snprintf(out, size, "%s", name);
    return true;
}

struct haraka_entry *import_name_of(const struct haraka *haraka, bool takes_domains, char *out,
                                    size_t size)
{
    struct haraka_entry *entry = haraka_next(haraka, NULL, "me", NULL, NULL);

    if (entry != NULL && import_is_domain(entry->key)) {
        snprintf(out, size, "%s", entry->key);
        return entry;
    }
    entry = haraka_find(haraka, "tls.ini", "main", "cert");
    if (entry != NULL && import_name_in(entry->value, out, size))
        return entry;
    entry = takes_domains ? NULL : haraka_next(haraka, NULL, "host_list", NULL, NULL);
    if (entry != NULL && import_is_domain(entry->key)) {
        snprintf(out, size, "%s", entry->key);
        return entry;
    }
    return NULL;
}

/* Finds a file that Haraka names: at the path as written, or in the named folder. False, with the path as
 * written in `out`, if it is not there. */
static bool import_find_file(const struct haraka *haraka, const char *value,
                             char out[IMPORT_PATH_MAX])
{
    const char *slash = strrchr(value, '/'), *name = slash != NULL ? slash + 1 : value;
    const char *const below[] = {"", "tls/"};

    if (value[0] == '/' && access(value, R_OK) == 0) {
        snprintf(out, IMPORT_PATH_MAX, "%s", value);
        return true;
    }
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
        snprintf(out, IMPORT_PATH_MAX, "%s/%s%s", haraka->folder, below[i], name);
        if (access(out, R_OK) == 0)
            return true;
    }
    snprintf(out, IMPORT_PATH_MAX, "%s", value);
    return false;
}

/* Writes an entry of tls.certificates. A path that does not exist is kept, with a remark. */
static void import_certificate(struct import *import, const struct haraka *haraka,
                               const char *indent)
{
    struct haraka_entry *cert = haraka_find(haraka, "tls.ini", "main", "cert");
    struct haraka_entry *key = haraka_find(haraka, "tls.ini", "main", "key");
    char cert_path[IMPORT_PATH_MAX], key_path[IMPORT_PATH_MAX] = "";

    bool there = import_find_file(haraka, cert->value, cert_path);
    if (key != NULL) {
        key->taken = true;
        if (strcmp(key->value, cert->value) != 0)
            there = import_find_file(haraka, key->value, key_path) && there;
    }
    bool apart = key_path[0] != '\0';
    import_line(import, haraka, cert, NULL, "%s  certificates = ( { cert = %s;%s%s%s } );", indent,
                import_quoted(import, cert_path), apart ? " key = " : "",
                apart ? import_quoted(import, key_path) : "", apart ? ";" : "");
    if (!there)
        import_comment(import->remarks,
                       _("//   %s/%s:%u: %s cannot be read; give its present path\n"), haraka->name,
                       cert->file, cert->line, cert->value);
}

bool import_has_certificate(const struct haraka *haraka)
{
    const struct haraka_entry *cert =
        haraka != NULL ? haraka_find(haraka, "tls.ini", "main", "cert") : NULL;
    return cert != NULL && haraka_was_read(cert);
}

void import_tls_group(struct import *import, const struct haraka *haraka, const char *group,
                      const char *indent)
{
    struct haraka_entry *version = haraka_find(haraka, "tls.ini", "main", "minversion");

    fprintf(import->conf, "%s%s = {\n", indent, group);
    import_certificate(import, haraka, indent);
    if (version != NULL && strncasecmp(version->value, "TLSv1.", 6) == 0 &&
        version->value[6] != '\0' && strchr("0123", version->value[6]) != NULL)
        import_line(import, haraka, version, NULL, "%s  minimum_version = \"1.%c\";", indent,
                    version->value[6]);
    fprintf(import->conf, "%s};\n", indent);
}

bool import_forward(const struct haraka *haraka, const char *section, const char *port, char *out,
                    size_t size, struct haraka_entry **host_entry)
{
    struct haraka_entry *host = haraka_find(haraka, "smtp_forward.ini", section, "host");
    struct haraka_entry *number = haraka_find(haraka, "smtp_forward.ini", section, "port");

    *host_entry = host;
    if (host == NULL)
        return false;
    if (number != NULL) {
        number->taken = true;
        port = number->value;
    }
    bool six = strchr(host->value, ':') != NULL && host->value[0] != '[';
    snprintf(out, size, "%s%s%s:%s", six ? "[" : "", host->value, six ? "]" : "", port);
    return true;
}
