/* config/options.h - the one table of options
 *
 * Each option is declared once, as a row of options.c: where it stands in the file, its type,
 * range, unit, default and meaning, and where its value goes in struct config. A group that may
 * stand several times, or in several places (backends, certificates), has a table of its own that
 * the rows share. Loading, --check messages, --print-config and the list in relay.conf(5) are all
 * made from these rows.
 *
 * Internal to config/config, and for the manual.
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
    OPTION_STRING,        /* char * */
    OPTION_HOSTNAME,      /* char * */
    OPTION_FILE,          /* char *, absolute, readable; "" = none */
    OPTION_FOLDER,        /* char *, absolute; need not be there; "" = none */
    OPTION_INTEGER,       /* int64_t */
    OPTION_DURATION,      /* int64_t, ms; "300ms" "30s" "5m" "1h" "5d", or seconds as a number */
    OPTION_SIZE,          /* int64_t, octets; "100M", or a number */
    OPTION_BOOLEAN,       /* bool */
    OPTION_ENUM,          /* int, index into the names */
    OPTION_GROUP,         /* a struct with rows of its own, that begins with `bool given` */
    OPTION_LISTEN,        /* struct listen_list */
    OPTION_HOSTS,         /* struct host_list; the port is `min` unless given */
    OPTION_ADDRESSES,     /* struct host_list; no ports */
    OPTION_NETWORKS,      /* struct cidr_set * */
    OPTION_DOMAINS,       /* struct string_list */
    OPTION_STRINGS,       /* struct string_list */
    OPTION_PATTERNS,      /* struct string_list; domains, ".domain", "*" */
    OPTION_NEXT_HOPS,     /* struct string_list; see net/endpoint.h */
    OPTION_DURATIONS,     /* struct duration_list; the default may name several, parted by spaces */
    OPTION_GROUPS,        /* struct config_list of structs with rows of their own */
    OPTION_DOMAINS_FILE,  /* adds to an OPTION_DOMAINS: a domain a line */
    OPTION_NETWORKS_FILE, /* adds to an OPTION_NETWORKS: a network a line */
};

struct option;

/* The rows of a group; their paths and offsets start from the group. */
struct option_rows {
    const struct option *rows;
    size_t count;
    size_t size; /* of the struct */
};

struct option {
    const char *path; /* "in.limits.message_size" */
    enum option_type type;
    size_t offset;        /* in struct config, or in the struct of the group */
    const char *fallback; /* the default as text; NULL: must be set (a group: must be there) */
    int64_t min, max;     /* numbers, in the unit of the stored value */
    const void *detail; /* OPTION_ENUM: its names (char *[]), NULL-terminated, an empty one can't be
                             chosen; OPTION_GROUP, OPTION_GROUPS: struct option_rows */
    const char *help;   /* N_(), one or two sentences */
};

#define OPTION_PATH_MAX 256

/* All of struct config. */
extern const struct option_rows options;

/* An option's former name. It is still read, with a warning that names the new one. */
struct option_former {
    const char *path;
    const char *now;  /* the option's name, a duration */
    const char *unit; /* that the former number was in */
};

/* The row of this path, former or new; NULL: the option has always been called so. */
const struct option_former *option_former_find(const char *path);

/* What a path like "in.limits" or "in.backend.hosts" names. */
enum option_kind { OPTION_KIND_NONE, OPTION_KIND_GROUP, OPTION_KIND_OPTION };
enum option_kind option_kind_of(const struct option_rows *rows, const char *path);

/* The path that is nearest to this unknown one, into `out`; false when none is near. */
bool option_nearest(const struct option_rows *rows, const char *path, char out[OPTION_PATH_MAX]);

/* Is it made of several values? */
bool option_is_list(const struct option *option);

/* Does it name a file that holds values, one a line? */
bool option_is_file_of_lines(const struct option *option);

/* May its list have nothing in it? */
bool option_may_be_empty(const struct option *option);

/* CONFIG_PART_... of the daemons in which a new value is in force only after a restart; 0: a reload
 * does. */
unsigned option_restarts(const struct option *option);

const char *const *option_names(const struct option *option);
const struct option_rows *option_rows(const struct option *option);

/* Where its value lives. `base` is the struct that the row's offset starts from. */
void *option_place(const struct option *option, const void *base);

/* Sets a scalar, or adds to a list (files of lines: one line), from text. `folder` is what
 * relative paths start from. 0, or -1 with what was expected in `err`. */
int option_set(const struct option *option, void *base, const char *text, const char *folder,
               struct error *err);

/* Adds an empty group to an OPTION_GROUPS and returns its struct; NULL when out of memory. */
void *option_add_group(const struct option *option, void *base);

/* Frees what option_set() and option_add_group() made, of all rows. */
void option_free_rows(const struct option_rows *rows, void *base);

/* "a number from 1 to 1024", "one of \"none\", \"require\"", ... Returns `out`. */
const char *option_expected(const struct option *option, char *out, size_t size);

/* Writes the value in force in the file's own syntax. */
void option_print(const struct option *option, const void *base, FILE *out);

#endif
