/* config/load.h - what is under way while one configuration file is loaded
 *
 * Between config.c (values), check.c (how they fit together) and source.c (the text itself, and how
 * complaints are put).
 *
 * Internal to config/config.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_CONFIG_LOAD_H
#define POSTERN_CONFIG_LOAD_H

#include <libconfig.h>

#include "config/config.h"

struct load {
    struct config *config;
    config_t file;
    const char *name; /* of the file, as the operator gave it */
    char *folder;
    config_report *report;
    void *context;
    unsigned daemon;     /* who loads it (CONFIG_PART_...); 0: all of it shall be right */
    unsigned errors;     /* for that one */
    unsigned overlooked; /* in what it has no use for: warnings */
    struct string_list wrong; /* the options that have had their error */
};

/* Of which half (CONFIG_PART_...) the option of this path is; 0: of neither. */
unsigned config_part_of(const char *path);

/* Reports and counts an error; or, where it is in what only the other daemon needs, keeps it as a
 * warning, so that one direction of the mail does not stop for the other. `file` NULL: the main one; line 0: no line is known; `setting` NULL:
 * it is not in the file. */
void load_complain_at(struct load *load, const char *file, unsigned line, const char *option,
                      const char *reason);
void load_complain(struct load *load, const config_setting_t *setting, const char *option,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The same for what is valid and hardly meant: kept for config_warn(). */
void load_warn_at(struct load *load, const char *file, unsigned line, const char *option,
                  const char *reason);
void load_warn(struct load *load, const config_setting_t *setting, const char *option,
               const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The same for what is valid, safe and probably not what is wanted: kept for config_advise(). */
void load_advise(struct load *load, const config_setting_t *setting, const char *option,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Has this option, or one of this group, had its error? Then nothing is said of how it fits others. */
bool load_is_wrong(const struct load *load, const char *option);

/* What libconfig 1.5 does not say, or ends the process for, in the file and those it includes. 0,
 * or -1 when reading on makes no sense. */
int source_check(struct load *load, const char *file);

/* What editors of other systems leave in a text file: why the line (with its end) will not be read
 * as it was meant, or NULL. */
const char *source_line_problem(const char *text, size_t len);

/* What is wrong between settings that are right alone. */
void check_settings(struct load *load);

#endif
