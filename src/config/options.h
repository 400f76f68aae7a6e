/* config/options.h - the one table of options
 *
 * Each option is declared once, as a row in options.c: its path in the file, its type, range, unit,
 * default and meaning, and where its value goes in struct config. A group that can occur several
 * times or in several places (backends, certificates) has its own table, which the rows share.
 * Loading, --check messages, --print-config and the list in relay.conf(5) all come from these rows.
 *
 * Internal to config/config, and used for the manual. The tables are constant, so thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_CONFIG_OPTIONS_H
#define POSTERN_CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "config/config.h"

enum option_type {
    OPTION_STRING,       /* char * */
    OPTION_HOSTNAME,     /* char * */
    OPTION_FILE,         /* char *, absolute, readable; "" = none */
    OPTION_FOLDER,       /* char *, absolute; need not exist; "" = none */
    OPTION_INTEGER,      /* int64_t */
    OPTION_DURATION,     /* int64_t, ms; "300ms" "30s" "5m" "1h" "5d", or seconds as a number */
    OPTION_SIZE,         /* int64_t, octets; "100M", or a number */
    OPTION_BOOLEAN,      /* bool */
    OPTION_ENUM,         /* int, index into the names */
    OPTION_GROUP,        /* a struct with its own rows that begins with `bool given` */
    OPTION_LISTEN,       /* struct listen_list */
    OPTION_HOSTS,        /* struct host_list; the port is `min` unless given */
    OPTION_ADDRESSES,    /* struct host_list; no ports */
    OPTION_NETWORKS,     /* struct cidr_set * */
    OPTION_DOMAINS,      /* struct string_list */
    OPTION_STRINGS,      /* struct string_list */
    OPTION_PATTERNS,     /* struct string_list; domains, ".domain", "*" */
    OPTION_NEXT_HOPS,    /* struct string_list; see net/endpoint.h */
    OPTION_DURATIONS,    /* struct duration_list; a default may name several, with spaces between */
    OPTION_GROUPS,       /* struct config_list of structs with their own rows */
    OPTION_DOMAINS_FILE, /* adds to an OPTION_DOMAINS: one domain per line */
    OPTION_NETWORKS_FILE, /* adds to an OPTION_NETWORKS: one network per line */
};

struct option;

/* The rows of a group; their paths and offsets start from the group. */
struct option_rows {
    const struct option *rows;
    size_t count;
    size_t size; /* of the struct, octets */
};

struct option {
    const char *path; /* "in.limits.message_size" */
    enum option_type type;
    size_t offset;        /* in struct config, or in the struct of the group */
    const char *fallback; /* the default as text; NULL: must be set (a group: must be present) */
    int64_t min, max;     /* for numbers, in the unit of the stored value */
    const void *detail; /* OPTION_ENUM: its names (char *[]), NULL-terminated; an empty name cannot
                             be chosen. OPTION_GROUP, OPTION_GROUPS: struct option_rows */
    const char *help;   /* N_(), one or two sentences */
};

#define OPTION_PATH_MAX 256

/* All of struct config. */
extern const struct option_rows options;

/* An option's former name. It is still read, with a warning that names the new one. */
struct option_former {
    const char *path;
    const char *now;  /* the option's name, a duration */
    const char *unit; /* of the former option's number */
};

/* The row with this path as its former or new name; NULL: the option was never renamed. */
const struct option_former *option_former_find(const char *path);

/* Does a path like "in.limits" or "in.backend.hosts" name a group, an option or nothing? */
enum option_kind { OPTION_KIND_NONE, OPTION_KIND_GROUP, OPTION_KIND_OPTION };
enum option_kind option_kind_of(const struct option_rows *rows, const char *path);

/* Stores the known path nearest to this unknown one in `out`. False if none is near. */
bool option_nearest(const struct option_rows *rows, const char *path, char out[OPTION_PATH_MAX]);

/* Does it hold several values? */
bool option_is_list(const struct option *option);

/* Does it name a file with one value per line? */
bool option_is_file_of_lines(const struct option *option);

/* May its list be empty? */
bool option_may_be_empty(const struct option *option);

/* The daemons (CONFIG_PART_...) that need a restart for a new value; 0: a reload is enough. */
unsigned option_restarts(const struct option *option);

/* `detail` as what it is for this type: an enum's names, a group's rows. */
const char *const *option_names(const struct option *option);
const struct option_rows *option_rows(const struct option *option);

/* The address of its value. `base` is the struct that the row's offset starts from. */
void *option_place(const struct option *option, const void *base);

/* Sets a scalar, or adds to a list (from a file of values: one line), from text. Relative paths start
 * from `folder`. Returns 0, or -1 with what was expected in `err`. */
int option_set(const struct option *option, void *base, const char *text, const char *folder,
               struct error *err);

/* Adds an empty group to an OPTION_GROUPS and returns its struct, which the list owns; NULL if out of
 * memory. */
void *option_add_group(const struct option *option, void *base);

/* Frees what option_set() and option_add_group() made for all rows. */
void option_free_rows(const struct option_rows *rows, void *base);

/* "a number from 1 to 1024", "one of \"none\", \"require\"", ... Returns `out`. */
const char *option_expected(const struct option *option, char *out, size_t size);

/* Writes the value in force in the file's own syntax. */
void option_print(const struct option *option, const void *base, FILE *out);

#endif
