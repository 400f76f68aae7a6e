/* server/stats-read.c - reads a daemon's answer to "stats"
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/stats-read.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/i18n.h"

const char *stats_program(unsigned daemon)
{
    return daemon == COUNTERS_IN ? "relay-in" : "relay-out";
}

static int stats_read(struct stats *out, FILE *answer)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t len;

    while ((len = getline(&line, &size, answer)) >= 0) {
        if (len > 0 && line[len - 1] == '\n')
            line[len - 1] = '\0';
        char **lines = realloc(out->lines, (out->count + 1) * sizeof *lines);
        if (lines == NULL)
            break;
        out->lines = lines;
        lines[out->count] = strdup(line);
        if (lines[out->count] == NULL)
            break;
        out->count++;
    }
    free(line);
    return feof(answer) ? 0 : -1;
}

enum control_result stats_ask(struct stats *out, const char *folder, unsigned daemon,
                              struct error *err)
{
    FILE *answer;

    *out = (struct stats){.daemon = daemon};
    enum control_result result =
        control_ask(folder, stats_program(daemon), "stats", CONTROL_AT_HAND_S, &answer, err);
    if (result != CONTROL_ANSWERED)
        return result;
    if (stats_read(out, answer) != 0) {
        error_set(err, _("out of memory"));
        stats_free(out);
        result = CONTROL_REFUSED;
    }
    fclose(answer);
    return result;
}

void stats_free(struct stats *stats)
{
    for (size_t i = 0; i < stats->count; i++)
        free(stats->lines[i]);
    free(stats->lines);
    *stats = (struct stats){.daemon = stats->daemon};
}

const char *stats_line(const struct stats *stats, const char *word, size_t index)
{
    size_t len = strlen(word);

    for (size_t i = 0; i < stats->count; i++) {
        const char *line = stats->lines[i];
        if (strncmp(line, word, len) == 0 && line[len] == ' ' && index-- == 0)
            return line + len + 1;
    }
    return NULL;
}

static double stats_find(const struct stats *stats, const char *word, enum counter which,
                         const char *label)
{
    const struct counter_row *row = &counter_rows[which];
    char name[COUNTER_NAME_MAX], wanted[COUNTER_NAME_MAX + 320];
    const char *text;

    counter_name(row, stats->daemon, name);
    if (row->kind == COUNTER_EACH)
        snprintf(wanted, sizeof wanted, "%s{%s=\"%s\"} ", name, row->labels, label);
    else if (row->labels[0] != '\0')
        snprintf(wanted, sizeof wanted, "%s{%s} ", name, row->labels);
    else
        snprintf(wanted, sizeof wanted, "%s ", name);
    size_t len = strlen(wanted);
    for (size_t i = 0; (text = stats_line(stats, word, i)) != NULL; i++) {
        if (strncmp(text, wanted, len) == 0)
            return strtod(text + len, NULL);
    }
    return 0;
}

double stats_value(const struct stats *stats, enum counter which, const char *label)
{
    return stats_find(stats, "sample", which, label);
}

double stats_today(const struct stats *stats, enum counter which)
{
    return stats_find(stats, "today", which, NULL);
}

/* The sum of the values of these rows and of all between them. */
static double stats_sum(const struct stats *stats, enum counter first, enum counter last)
{
    double sum = 0;

    for (enum counter which = first; which <= last; which++)
        sum += stats_value(stats, which, NULL);
    return sum;
}

double stats_connections(const struct stats *stats)
{
    return stats_sum(stats, COUNTER_CONNECTIONS_IPV4_NONE, COUNTER_CONNECTIONS_IPV6_IMPLICIT);
}

double stats_open(const struct stats *stats)
{
    return stats_sum(stats, COUNTER_OPEN_WORKING, COUNTER_OPEN_GREETING);
}

double stats_spooled(const struct stats *stats)
{
    return stats_sum(stats, COUNTER_SPOOL_MESSAGES_WAITING, COUNTER_SPOOL_MESSAGES_HELD);
}

const char *stats_newer_file(const struct stats *stats)
{
    const char *line = stats_line(stats, "config", 0);
    const char *file = line != NULL ? strchr(line, ' ') : NULL;
    struct stat facts;

    return file != NULL && stat(file + 1, &facts) == 0 &&
                   facts.st_mtim.tv_sec > strtoll(line, NULL, 10)
               ? file + 1
               : NULL;
}
