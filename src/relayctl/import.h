/* relayctl/import.h - relayctl import-haraka: what its files share
 *
 * import.c is the command: which folder is for which direction, and what is left over. import-groups.c
 * writes the groups `in` and `out`, import-lines.c single lines of them, each with its source. Nothing but
 * the result is written. One thread.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_IMPORT_H
#define POSTERN_RELAYCTL_IMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "relayctl/haraka.h"

#define IMPORT_FOLDERS_MAX 8
#define IMPORT_TEXT_MAX 4096 /* octets of the listeners */

struct import {
    struct haraka folders[IMPORT_FOLDERS_MAX];
    size_t count;
    const struct haraka *in, *out; /* the folder for each direction; may be the same */
    FILE *conf;                    /* the result */
    FILE *remarks;                 /* what the operator should check; writes to remark_text */
    char *remark_text;
    size_t remark_size;
    char **quoted; /* what import_quoted() made */
    size_t quoted_count;
    bool out_of_memory;
};

/* import-lines.c. `haraka` is the folder that an entry comes from; entries that are used become `taken`. */

/* Writes one line of the result, followed by its source. `entry` NULL: it has none. */
void import_line(struct import *import, const struct haraka *haraka, struct haraka_entry *entry,
                 const char *note, const char *format, ...) __attribute__((format(printf, 5, 6)));

/* The text as a value of relay.conf, with its quotes. It lives as long as `import`. */
const char *import_quoted(struct import *import, const char *text);

/* Writes a part of a comment that quotes the files, without what a terminal must not get. A line end has an effect
 * only at the end of it. */
void import_comment(FILE *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Writes the items of a list file as a list of strings, one per line if there are several. */
void import_list(struct import *import, const struct haraka *haraka, const char *option,
                 const char *file);

/* Writes the listeners of smtp.ini; `fallback` is the port of one that names none. */
void import_listen(struct import *import, const struct haraka *haraka, uint16_t fallback);

/* The number in an entry of an ini file or a list. NULL if it is not a number, or 0. */
const char *import_number_of(const struct haraka_entry *entry);

/* Writes an option that is a number, if the entry has one. */
void import_number(struct import *import, const struct haraka *haraka, struct haraka_entry *entry,
                   const char *option);

/* Could it be the name of a domain or a host? */
bool import_is_domain(const char *text);

/* Finds the name of an instance: from the file "me", or from its certificate's file name, or from the only
 * line of host_list if it accepts no mail for domains. Returns the entry; NULL: none. */
struct haraka_entry *import_name_of(const struct haraka *haraka, bool takes_domains, char *out,
                                    size_t size);

/* Does the instance name a certificate, in a file that Haraka reads? */
bool import_has_certificate(const struct haraka *haraka);

/* Writes the certificate of one instance as a group with that name. */
void import_tls_group(struct import *import, const struct haraka *haraka, const char *group,
                      const char *indent);

/* Makes "host:port" from a section of smtp_forward.ini. False if it names no host. */
bool import_forward(const struct haraka *haraka, const char *section, const char *port, char *out,
                    size_t size, struct haraka_entry **host_entry);

/* import-groups.c */

/* Write the groups `in` and `out`. `hostname` is what the result has: `out` says hello with its own. */
void import_in(struct import *import);
void import_out(struct import *import, const char *hostname);

#endif
