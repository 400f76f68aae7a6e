/* relayctl/init.h - relayctl init: what its two files share
 *
 * init.c asks for the values and writes the file. init-texts.c has the texts: relay.conf, and the lines for the
 * mail server, the DNS, WireGuard and the firewall. One thread.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_INIT_H
#define POSTERN_RELAYCTL_INIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define INIT_DOMAINS_MAX 64
#define INIT_VALUE_MAX 256 /* octets of one, its NUL included */
#define INIT_SMTP_PORT 25

enum { INIT_IN = 1, INIT_OUT = 2 };

/* The values that init needs, in the order of the questions. */
enum init_value {
    INIT_KIND,
    INIT_HOSTNAME,
    INIT_DOMAIN,
    INIT_BACKEND,
    INIT_TUNNEL,
    INIT_DIRECTION,
    INIT_ADDRESS4,
    INIT_ADDRESS6,
    INIT_CERTIFICATE,
    INIT_KEY,
    INIT_VALUES,
};

struct init_kind;

struct init {
    char values[INIT_VALUES][INIT_VALUE_MAX];
    char domains[INIT_DOMAINS_MAX][INIT_VALUE_MAX];
    size_t domain_count;
    const struct init_kind *kind;
    unsigned parts; /* INIT_IN, INIT_OUT */
    const char *file;
    bool print, force;
    bool wrong; /* an option's value was, and stderr has been told */
};

/* Finds a kind of mail server by its name; NULL: the one that is taken unless another is named. Returns
 * NULL if there is none of that name. */
const struct init_kind *init_kind_find(const char *name);

/* Writes relay.conf. */
void init_write_conf(const struct init *init, FILE *out);

/* Prints what belongs elsewhere. */
void init_print_elsewhere(const struct init *init);

#endif
