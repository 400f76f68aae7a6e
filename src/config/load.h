/* config/load.h - the state while one configuration file is loaded
 *
 * Shared by config.c (the file), rows.c (values), check.c (how values fit together) and source.c (the
 * text itself, and the form of error messages). Internal to config/config. One thread.
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
    const char *name; /* the file's, as the operator gave it */
    char *folder;
    config_report *report;
    void *context;
    unsigned daemon;     /* which daemon loads it (CONFIG_PART_...); 0: everything must be right */
    unsigned errors;     /* in what that daemon needs */
    unsigned overlooked; /* errors elsewhere, reported as warnings */
    struct string_list wrong; /* the options with a reported error */
};

/* The half (CONFIG_PART_...) that the option of this path belongs to; 0: neither. */
unsigned config_part_of(const char *path);

/* Report and count an error. An error in something that only the other daemon needs is kept as a
 * warning, so that a fault in one direction does not stop the other. A NULL `file` means the main
 * one; line 0, that no line is known; a NULL `setting`, that it is not in the file. */
void load_complain_at(struct load *load, const char *file, unsigned line, const char *option,
                      const char *reason);
void load_complain(struct load *load, const config_setting_t *setting, const char *option,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The same for settings that are valid but hardly intended: kept for config_warn(). */
void load_warn_at(struct load *load, const char *file, unsigned line, const char *option,
                  const char *reason);
void load_warn(struct load *load, const config_setting_t *setting, const char *option,
               const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The same for settings that are valid and safe but probably not intended: kept for config_advise(). */
void load_advise(struct load *load, const config_setting_t *setting, const char *option,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Has an error been reported for this option, or for one in this group? Then its relation to other
 * options is not checked. */
bool load_is_wrong(const struct load *load, const char *option);

/* Checks the file and those it includes for faults that libconfig 1.5 does not report, or for which it
 * ends the process. Returns 0, or -1 if there is no point in reading further. */
int source_check(struct load *load, const char *file);

/* Looks for what editors on other systems leave in a text file. Says why the line (with its end) would
 * not be read as intended, or returns NULL. */
const char *source_line_problem(const char *text, size_t len);

/* Fills load->config from the parsed file and the defaults; its `parts` must be set. Complains about each
 * setting that is unknown, missing, or has a wrong value. */
void rows_load(struct load *load);

/* Checks how settings that are valid by themselves fit together. */
void check_settings(struct load *load);

#endif
