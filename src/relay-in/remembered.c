/* relay-in/remembered.c - remembers a backend's offer across restarts
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-in/remembered.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"

#define REMEMBERED_MAGIC "postern-backend 1"
#define REMEMBERED_LINE_MAX 2048

static const struct {
    const char *word;
    unsigned extension;
} remembered_table[] = {
    {"8BITMIME", EXTENSION_8BITMIME},
    {"SMTPUTF8", EXTENSION_SMTPUTF8},
    {"ENHANCEDSTATUSCODES", EXTENSION_ENHANCEDSTATUSCODES},
    {"DSN", EXTENSION_DSN},
    {"CHUNKING", EXTENSION_CHUNKING},
    {"BINARYMIME", EXTENSION_BINARYMIME},
    {"REQUIRETLS", EXTENSION_REQUIRETLS},
};

const char *remembered_words(unsigned extensions, char out[REMEMBERED_WORDS_MAX])
{
    struct buffer text;

    buffer_init(&text, out, REMEMBERED_WORDS_MAX);
    for (size_t i = 0; i < sizeof remembered_table / sizeof *remembered_table; i++) {
        if (extensions & remembered_table[i].extension)
            buffer_join(&text, text.len > 0 ? "," : "", remembered_table[i].word, NULL);
    }
    return out;
}

bool remembered_is_same(const struct nexthop_capabilities *a, const struct nexthop_capabilities *b)
{
    return ((a->extensions ^ b->extensions) & REMEMBERED_EXTENSIONS) == 0 &&
           a->size_limit == b->size_limit && a->recipients == b->recipients &&
           strcmp(a->mechanisms, b->mechanisms) == 0;
}

/* Writes the hosts, one word each, to identify the file. */
static void remembered_hosts(const struct config_backend *settings, char out[REMEMBERED_LINE_MAX])
{
    struct buffer text;
    char host[ADDRESS_TEXT_MAX];

    buffer_init(&text, out, REMEMBERED_LINE_MAX);
    for (size_t i = 0; i < settings->hosts.count; i++) {
        buffer_puts(&text, i > 0 ? " " : "");
        buffer_puts(&text, address_format_endpoint(&settings->hosts.items[i], host));
    }
}

/* Names the file after the first host. False if the name is too long. */
static bool remembered_file(const char *folder, const struct config_backend *settings,
                            bool submission, char out[PATH_MAX])
{
    char host[ADDRESS_TEXT_MAX];
    int len = snprintf(out, PATH_MAX, "%s/backend-%s%s", folder,
                       address_format_endpoint(&settings->hosts.items[0], host),
                       submission ? "-submission" : "");
    return folder[0] != '\0' && len < PATH_MAX - (int)sizeof ".new";
}

static unsigned remembered_parse_words(char *text)
{
    unsigned extensions = 0;
    char *rest = text;

    for (const char *word; (word = strsep(&rest, ",")) != NULL;) {
        for (size_t i = 0; i < sizeof remembered_table / sizeof *remembered_table; i++) {
            if (strcmp(word, remembered_table[i].word) == 0)
                extensions |= remembered_table[i].extension;
        }
    }
    return extensions;
}

/* Parses a line after the first: a name, a space, a value. */
static void remembered_parse_line(char *line, const char *hosts, bool *ours,
                                  struct nexthop_capabilities *out)
{
    char *value = strchr(line, ' ');

    if (value == NULL)
        return;
    *value++ = '\0';
    if (strcmp(line, "hosts") == 0)
        *ours = strcmp(value, hosts) == 0;
    else if (strcmp(line, "extensions") == 0)
        out->extensions = remembered_parse_words(value);
    else if (strcmp(line, "size") == 0)
        out->size_limit = strtoull(value, NULL, 10);
    else if (strcmp(line, "recipients") == 0)
        out->recipients = (unsigned)strtoul(value, NULL, 10);
    else if (strcmp(line, "auth") == 0)
        snprintf(out->mechanisms, sizeof out->mechanisms, "%s", value);
}

bool remembered_read(const char *folder, const struct config_backend *settings, bool submission,
                     struct nexthop_capabilities *out)
{
    char name[PATH_MAX], hosts[REMEMBERED_LINE_MAX], line[REMEMBERED_LINE_MAX + 8];
    bool ours = false, whole = false;

    memset(out, 0, sizeof *out);
    FILE *file = remembered_file(folder, settings, submission, name) ? fopen(name, "re") : NULL;
    if (file == NULL)
        return false;
    remembered_hosts(settings, hosts);
    bool known = fgets(line, sizeof line, file) != NULL && strcmp(line, REMEMBERED_MAGIC "\n") == 0;
    while (known && !whole && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        whole = strcmp(line, "end") == 0;
        remembered_parse_line(line, hosts, &ours, out);
    }
    fclose(file);
    return ours && whole;
}

static void remembered_print(FILE *file, const struct config_backend *settings,
                             const struct nexthop_capabilities *seen)
{
    char hosts[REMEMBERED_LINE_MAX], words[REMEMBERED_WORDS_MAX];

    remembered_hosts(settings, hosts);
    fprintf(file, REMEMBERED_MAGIC "\nhosts %s\nextensions %s\nsize %llu\nrecipients %u\n", hosts,
            remembered_words(seen->extensions, words), (unsigned long long)seen->size_limit,
            seen->recipients);
    if (seen->mechanisms[0] != '\0')
        fprintf(file, "auth %s\n", seen->mechanisms);
    fputs("end\n", file);
}

int remembered_write(const char *folder, const struct config_backend *settings, bool submission,
                     const struct nexthop_capabilities *seen, struct error *err)
{
    char name[PATH_MAX], fresh[PATH_MAX + 4];

    if (!remembered_file(folder, settings, submission, name)) {
        error_set(err, "%s", strerror(ENAMETOOLONG));
        return -1;
    }
    snprintf(fresh, sizeof fresh, "%s.new", name);
    FILE *file = fopen(fresh, "we");
    bool good = file != NULL;
    if (good) {
        remembered_print(file, settings, seen);
        good = ferror(file) == 0;
        good = fclose(file) == 0 && good && rename(fresh, name) == 0;
    }
    if (good)
        return 0;
    error_set(err, "%s: %s", fresh, strerror(errno));
    if (file != NULL)
        unlink(fresh);
    return -1;
}
