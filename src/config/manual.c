/* config/manual.c - prints the options as mdoc(7), for relay.conf(5)
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "config/options.h"

#include <stdio.h>
#include <string.h>

#include "base/mdoc.h"
#include "config/load.h"

/* The parts of the manual, in order. An option goes to the part with the longest prefix of its path. */
static const struct manual_part {
    const char *title;
    const char *beginnings[12];
} manual_parts[] = {
    {"The host", {""}},
    {"TLS towards clients", {"tls."}},
    {"The DNS", {"dns."}},
    {"relay-in: the mail it takes", {"in."}},
    {"relay-in: the mail server behind it", {"in.backend", "in.submission"}},
    {"relay-in: welcome and unwelcome clients",
     {"in.private_clients", "in.greet_delay", "in.clients.", "in.dnsbl."}},
    {"relay-in: limits", {"in.workers", "in.limits."}},
    {"relay-in: timeouts", {"in.timeouts."}},
    {"relay-in: under stress", {"in.stress."}},
    {"relay-out: the mail it takes", {"out."}},
    {"relay-out: where mail goes",
     {"out.routes", "out.force_routing", "out.soft_bounce", "out.default_route",
      "out.fallback_route", "out.address_literals", "out.own_addresses", "out.source", "out.family",
      "out.hello", "out.reuse_for", "out.dead_for"}},
    {"relay-out: TLS towards next hops", {"out.tls."}},
    {"relay-out: stored mail",
     {"out.delivery", "out.live_deadline", "out.spool", "out.state", "out.deliveries", "out.retry",
      "out.lifetime", "out.delay_notice", "out.bounce_"}},
    {"relay-out: limits", {"out.workers", "out.limits."}},
    {"relay-out: timeouts", {"out.timeouts."}},
    {"postern-exporter", {"exporter."}},
};
#define MANUAL_PARTS (sizeof manual_parts / sizeof *manual_parts)

static bool manual_is_row_of(const struct option *row, const struct option *group)
{
    if (group->type != OPTION_GROUP && group->type != OPTION_GROUPS)
        return false;
    const struct option_rows *rows = option_rows(group);
    return row >= rows->rows && row < rows->rows + rows->count;
}

/* The first group that has this row, so that shared rows are explained only once. */
static const struct option *manual_first_with_row(const struct option *row)
{
    for (size_t i = 0; i < options.count; i++) {
        if (manual_is_row_of(row, &options.rows[i]))
            return &options.rows[i];
    }
    return NULL;
}

static void manual_describe(const struct option *option, const char *prefix, FILE *out)
{
    char wanted[256];
    fprintf(out, ".It Cm %s%s\n", prefix, option->path);
    mdoc_print_sentences(option->help, out);
    fprintf(out, ".Pp\nValue: %s.\n", option_expected(option, wanted, sizeof wanted));
    if (option->fallback == NULL)
        fputs("It must be set.\n", out);
    else if (option->fallback[0] != '\0')
        fprintf(out, "Default: %s.\n", option->fallback);
    if (option_restarts(option) != 0)
        fprintf(out, "A new value takes effect after a restart%s.\n",
                option_restarts(option) == CONFIG_PART_OUT && config_part_of(option->path) == 0
                    ? " of relay-out"
                    : "");
}

static void manual_describe_group(const struct option *group, FILE *out)
{
    const struct option_rows *rows = option_rows(group);
    const struct option *shared = NULL;
    char prefix[OPTION_PATH_MAX];

    snprintf(prefix, sizeof prefix, "%s.", group->path);
    for (size_t i = 0; i < rows->count; i++) {
        const struct option *first = manual_first_with_row(&rows->rows[i]);
        if (first != group)
            shared = first;
    }
    if (shared != NULL)
        fprintf(out, "The settings of %s apply here as well.\n", shared->path);
    for (size_t i = 0; i < rows->count; i++) {
        if (manual_first_with_row(&rows->rows[i]) == group)
            manual_describe(&rows->rows[i], prefix, out);
    }
}

/* The length of the part's longest prefix of `path`; -1: none. */
static int manual_match(const struct manual_part *part, const char *path)
{
    int best = -1;
    for (size_t i = 0; i < sizeof part->beginnings / sizeof *part->beginnings; i++) {
        const char *beginning = part->beginnings[i];
        int len = beginning != NULL ? (int)strlen(beginning) : -1;
        if (len > best && strncmp(beginning, path, (size_t)len) == 0)
            best = len;
    }
    return best;
}

static const struct manual_part *manual_part_of(const struct option *option)
{
    const struct manual_part *best = &manual_parts[0];
    for (size_t i = 1; i < MANUAL_PARTS; i++) {
        if (manual_match(&manual_parts[i], option->path) > manual_match(best, option->path))
            best = &manual_parts[i];
    }
    return best;
}

void config_print_manual(FILE *out)
{
    for (const struct manual_part *part = manual_parts; part < manual_parts + MANUAL_PARTS;
         part++) {
        fprintf(out, ".Ss %s\n.Bl -tag -width Ds\n", part->title);
        for (size_t i = 0; i < options.count; i++) {
            const struct option *option = &options.rows[i];
            if (manual_part_of(option) != part)
                continue;
            manual_describe(option, "", out);
            if (option->type == OPTION_GROUP || option->type == OPTION_GROUPS)
                manual_describe_group(option, out);
        }
        fputs(".El\n", out);
    }
}
