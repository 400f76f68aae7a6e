/* config/options.h - the one table of options
 *
 * Each option is declared once, as a row of options.c: where it stands in the file, its type, range,
 * unit, default and meaning, and where its value goes in struct config. Loading, --check messages,
 * --print-config and the list in relay.conf(5) are all made from these rows.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_CONFIG_OPTIONS_H
#define POSTERN_CONFIG_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "config/config.h"

enum option_type {
    OPTION_STRING,       /* char * */
    OPTION_HOSTNAME,     /* char * */
    OPTION_FILE,         /* char *, absolute, readable; "" = none */
    OPTION_INTEGER,      /* int64_t */
    OPTION_DURATION,     /* int64_t, ms; "300ms" "30s" "5m" "1h" "5d", or seconds as a number */
    OPTION_SIZE,         /* int64_t, octets; "100M", or a number */
    OPTION_ENUM,         /* int, index into `names` */
    OPTION_LISTEN,       /* struct listen_spec[], and the count behind the array */
    OPTION_HOSTS,        /* struct address[], and the count behind the array */
    OPTION_NETWORKS,     /* struct cidr_set * */
    OPTION_DOMAINS,      /* struct string_list */
    OPTION_DOMAINS_FILE, /* the same list: a domain a line */
    OPTION_CERTIFICATES, /* in struct config_tls: groups of cert and key */
};

struct option {
    const char *path; /* "in.limits.message_size" */
    enum option_type type;
    size_t offset;            /* in struct config */
    const char *fallback;     /* the default as text; NULL: must be set */
    int64_t min, max;         /* numbers, in the unit of the stored value */
    const char *const *names; /* OPTION_ENUM, NULL-terminated; an empty name can't be chosen */
    const char *help;         /* N_(), one or two sentences */
};

extern const struct option options[];
extern const size_t option_count;

/* What a path like "in.limits" or "in.limits.queue" names. */
enum option_kind { OPTION_KIND_NONE, OPTION_KIND_GROUP, OPTION_KIND_OPTION };
enum option_kind option_kind_of(const char *path);

/* The option whose path is nearest to this unknown one, or NULL when none is near. */
const struct option *option_nearest(const char *path);

/* Is it made of several values? */
bool option_is_list(const struct option *option);

/* May its list have nothing in it? */
bool option_may_be_empty(const struct option *option);

/* Where its value lives. */
void *option_place(const struct option *option, const struct config *config);

/* Sets a scalar, or adds to a list (OPTION_DOMAINS_FILE: one domain), from text. `folder` is what
 * relative paths start from. 0, or -1 with what was expected in `err`. */
int option_set(const struct option *option, struct config *config, const char *text,
               const char *folder, struct error *err);

/* Frees what option_set() made. */
void option_free(const struct option *option, struct config *config);

/* "a number from 1 to 1024", "\"none\" or \"require\"", ... Returns `out`. */
const char *option_expected(const struct option *option, char *out, size_t size);

/* Writes the value in force in the file's own syntax. */
void option_print(const struct option *option, const struct config *config, FILE *out);

#endif
