/* relayctl/haraka.c - reads a Haraka configuration as values with their places
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/haraka.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/i18n.h"

#define HARAKA_ENTRIES_MAX 100000
#define HARAKA_FILE_MAX (4 << 20) /* octets */

/* Lists whose names have no suffix. Other files without a suffix are skipped. */
static const char *const haraka_lists[] = {
    "me",
    "host_list",
    "host_list_regex",
    "relay_acl_allow",
    "plugins",
    "databytes",
    "loglevel",
    "max_received_count",
    "max_unrecognized_commands",
    "early_talker.pause",
    "dnsbl.zones",
    "deny_includes_uuid",
    "outbound.bounce_message",
    "internalcmd_key",
    NULL,
};

/* Files that a guide invented and that Haraka never reads. Others like them are below plugins/. */
static const char *const haraka_invented[] = {
    "config",
    "xclient.ini",
    "rcpt_to.in_host_list.ini",
    NULL,
};

static bool haraka_is_one_of(const char *name, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (strcmp(*names, name) == 0)
            return true;
    }
    return false;
}

static bool haraka_is_ini(const char *name)
{
    const char *dot = strrchr(name, '.');
    return (dot != NULL && strcmp(dot, ".ini") == 0) || strcmp(name, "config") == 0;
}

static char *haraka_trim(char *text)
{
    text += strspn(text, " \t\r\n");
    size_t len = strlen(text);
    while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL)
        text[--len] = '\0';
    return text;
}

static int haraka_add(struct haraka *haraka, const char *file, unsigned line, const char *section,
                      const char *key, const char *value)
{
    if (haraka->count == HARAKA_ENTRIES_MAX) {
        errno = E2BIG;
        return -1;
    }
    struct haraka_entry *entries =
        realloc(haraka->entries, (haraka->count + 1) * sizeof *haraka->entries);
    if (entries == NULL)
        return -1;
    haraka->entries = entries;
    struct haraka_entry *entry = &entries[haraka->count];
    *entry = (struct haraka_entry){.file = strdup(file),
                                   .line = line,
                                   .section = strdup(section),
                                   .key = strdup(key),
                                   .value = strdup(value)};
    haraka->count++;
    return entry->file != NULL && entry->section != NULL && entry->key != NULL &&
                   entry->value != NULL
               ? 0
               : -1;
}

static void haraka_lower(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text >= 'A' && *text <= 'Z')
            *text = (char)(*text - 'A' + 'a');
    }
}

/* Takes one line of an ini file: a section or a value. */
static int haraka_take_ini(struct haraka *haraka, const char *file, unsigned line, char *text,
                           char **section)
{
    char *end;

    if (text[0] == '[' && (end = strchr(text, ']')) != NULL) {
        *end = '\0';
        free(*section);
        *section = strdup(haraka_trim(text + 1));
        if (*section == NULL)
            return -1;
        haraka_lower(*section);
        return 0;
    }
    char *value = strchr(text, '=');
    if (value != NULL)
        *value++ = '\0';
    char *key = haraka_trim(text);
    size_t len = strlen(key);
    if (len > 2 && strcmp(key + len - 2, "[]") == 0)
        key[len - 2] = '\0';
    return haraka_add(haraka, file, line, *section, key, value != NULL ? haraka_trim(value) : "");
}

static int haraka_take_file(struct haraka *haraka, FILE *stream, const char *file, bool ini)
{
    char *text = NULL, *section = strdup("main");
    size_t size = 0;
    int result = section != NULL ? 0 : -1;

    for (unsigned line = 1; result == 0 && getline(&text, &size, stream) >= 0; line++) {
        char *start = haraka_trim(text);
        if (start[0] == '\0' || start[0] == '#' || (ini && start[0] == ';'))
            continue;
        result = ini ? haraka_take_ini(haraka, file, line, start, &section)
                     : haraka_add(haraka, file, line, "main", start, "");
    }
    free(section);
    free(text);
    return result;
}

static int haraka_read_file(struct haraka *haraka, int folder, const char *file, struct error *err)
{
    struct stat facts;
    const char *name = strrchr(file, '/') != NULL ? strrchr(file, '/') + 1 : file;
    bool ini = haraka_is_ini(name);

    if (!ini && !haraka_is_one_of(name, haraka_lists))
        return 0;
    int fd = openat(folder, file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    FILE *stream = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (stream == NULL) {
        error_set(err, "%s/%s: %s", haraka->folder, file, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    int result = 0;
    if (fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode)) {
        errno = EFBIG;
        result = facts.st_size > HARAKA_FILE_MAX ? -1 : haraka_take_file(haraka, stream, file, ini);
        if (result != 0)
            error_set(err, "%s/%s: %s", haraka->folder, file, strerror(errno));
    }
    fclose(stream);
    return result;
}

static int haraka_by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Reads the files in the folder, or in its plugins/, in order of their names. */
static int haraka_read_folder(struct haraka *haraka, int folder, const char *below,
                              struct error *err)
{
    struct dirent **names;
    char file[300];
    int result = 0, count = scandirat(folder, below, &names, NULL, haraka_by_name);

    if (count < 0)
        return 0;
    for (int i = 0; i < count; i++) {
        bool top = strcmp(below, ".") == 0;
        snprintf(file, sizeof file, "%s%s%s", top ? "" : below, top ? "" : "/", names[i]->d_name);
        if (result == 0 && names[i]->d_name[0] != '.')
            result = haraka_read_file(haraka, folder, file, err);
        free(names[i]);
    }
    free(names);
    return result;
}

/* Opens the folder that holds the files: this one, or its "config". */
static int haraka_open_folder(const char *folder, char **path)
{
    char below[4096];

    snprintf(below, sizeof below, "%s/config", folder);
    for (const char *at = below; at != NULL; at = at == below ? folder : NULL) {
        *path = realpath(at, NULL);
        int fd = *path != NULL ? open(*path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        if (fd >= 0 && (at == folder || faccessat(fd, "plugins", F_OK, 0) == 0 ||
                        faccessat(fd, "smtp.ini", F_OK, 0) == 0))
            return fd;
        if (fd >= 0)
            close(fd);
        free(*path);
        *path = NULL;
    }
    return -1;
}

int haraka_read(struct haraka *haraka, const char *folder, struct error *err)
{
    *haraka = (struct haraka){0};
    int fd = haraka_open_folder(folder, &haraka->folder);
    if (fd < 0) {
        error_set(err, "%s: %s", folder, strerror(errno));
        return -1;
    }
    const char *slash = strrchr(haraka->folder, '/');
    haraka->name = strdup(slash != NULL && slash[1] != '\0' ? slash + 1 : haraka->folder);
    int result = haraka->name == NULL ? -1 : haraka_read_folder(haraka, fd, ".", err);
    if (result == 0)
        result = haraka_read_folder(haraka, fd, "plugins", err);
    if (result == 0 && haraka->count == 0) {
        error_set(err, _("%s: there are no files of Haraka (smtp.ini, host_list, plugins, ...)"),
                  folder);
        result = -1;
    }
    close(fd);
    if (result != 0)
        haraka_free(haraka);
    return result;
}

void haraka_free(struct haraka *haraka)
{
    for (size_t i = 0; i < haraka->count; i++) {
        free(haraka->entries[i].file);
        free(haraka->entries[i].section);
        free(haraka->entries[i].key);
        free(haraka->entries[i].value);
    }
    free(haraka->entries);
    free(haraka->folder);
    free(haraka->name);
    *haraka = (struct haraka){0};
}

struct haraka_entry *haraka_next(const struct haraka *haraka, const struct haraka_entry *after,
                                 const char *file, const char *section, const char *key)
{
    size_t i = after != NULL ? (size_t)(after - haraka->entries) + 1 : 0;

    for (; i < haraka->count; i++) {
        struct haraka_entry *entry = &haraka->entries[i];
        if (strcmp(entry->file, file) == 0 &&
            (section == NULL || strcmp(entry->section, section) == 0) &&
            (key == NULL || strcasecmp(entry->key, key) == 0))
            return entry;
    }
    return NULL;
}

bool haraka_has(const struct haraka *haraka, const char *file)
{
    char below[300];
    snprintf(below, sizeof below, "plugins/%s", file);
    return haraka_next(haraka, NULL, file, NULL, NULL) != NULL ||
           haraka_next(haraka, NULL, below, NULL, NULL) != NULL;
}

struct haraka_entry *haraka_find(const struct haraka *haraka, const char *file, const char *section,
                                 const char *key)
{
    char below[300];
    struct haraka_entry *found = NULL, *entry = NULL;

    snprintf(below, sizeof below, "plugins/%s", file);
    for (const char *at = file; at != NULL && found == NULL; at = at == file ? below : NULL) {
        while ((entry = haraka_next(haraka, entry, at, section, key)) != NULL)
            found = entry;
    }
    return found;
}

bool haraka_was_read(const struct haraka_entry *entry)
{
    return strchr(entry->file, '/') == NULL && !haraka_is_one_of(entry->file, haraka_invented);
}

bool haraka_is_true(const char *value)
{
    static const char *const words[] = {"true", "yes", "ok", "enabled", "on", "1", NULL};
    for (const char *const *word = words; *word != NULL; word++) {
        if (strcasecmp(*word, value) == 0)
            return true;
    }
    return false;
}
