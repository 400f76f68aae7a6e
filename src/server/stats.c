/* server/stats.c - what a daemon reports on its control socket
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/stats.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

#define LINE_MAX 1024

void stats_put_line(struct control_client *client, const char *format, ...)
{
    char line[LINE_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    utf8_mask(line); /* strangers have chosen some of it, and terminals show it */
    control_printf(client, "%s\n", line);
}

static void stats_put_metric(struct control_client *client, const struct counter_row *row,
                             unsigned daemon, const char *type)
{
    char name[COUNTER_NAME_MAX];
    stats_put_line(client, "metric %s %s %s", counter_name(row, daemon, name), type, row->meaning);
}

static void stats_put_sample(struct control_client *client, const char *word,
                             const struct counter_row *row, unsigned daemon, uint64_t value)
{
    char name[COUNTER_NAME_MAX];
    bool labels = row->labels[0] != '\0';
    stats_put_line(client, "%s %s%s%s%s %" PRIu64, word, counter_name(row, daemon, name),
                   labels ? "{" : "", row->labels, labels ? "}" : "", value);
}

static void stats_put_duration(struct control_client *client, struct counters *counters, size_t i,
                               unsigned daemon)
{
    const struct counter_row *row = &counter_durations[i];
    const char *comma = row->labels[0] != '\0' ? "," : "";
    char name[COUNTER_NAME_MAX], labels[COUNTER_NAME_MAX] = "";
    uint64_t count = 0;

    if (row->meaning[0] != '\0')
        stats_put_metric(client, row, daemon, "histogram");
    counter_name(row, daemon, name);
    if (row->labels[0] != '\0')
        snprintf(labels, sizeof labels, "{%s}", row->labels);
    for (size_t bucket = 0; bucket <= COUNTER_BUCKETS; bucket++) {
        count += atomic_load(&counters->durations[i].buckets[bucket]);
        if (bucket < COUNTER_BUCKETS)
            stats_put_line(client, "sample %s_bucket{%s%sle=\"%g\"} %" PRIu64, name, row->labels,
                           comma, (double)counter_bounds_ms[bucket] / 1000, count);
    }
    stats_put_line(client, "sample %s_bucket{%s%sle=\"+Inf\"} %" PRIu64, name, row->labels, comma,
                   count);
    stats_put_line(client, "sample %s_sum%s %.3f", name, labels,
                   (double)atomic_load(&counters->durations[i].sum_ms) / 1000);
    stats_put_line(client, "sample %s_count%s %" PRIu64, name, labels, count);
}

void stats_put_counters(struct control_client *client, struct counters *counters, unsigned daemon)
{
    static const char *const types[] = {"counter", "gauge", "gauge"};

    for (size_t i = 0; i < COUNTERS_COUNT; i++) {
        const struct counter_row *row = &counter_rows[i];
        if (!(row->daemons & daemon))
            continue;
        /* The first row of a metric may belong only to the other daemon. */
        if (row->meaning[0] != '\0')
            stats_put_metric(client, row, daemon, types[row->kind]);
        if (row->kind == COUNTER_EACH)
            continue;
        stats_put_sample(client, "sample", row, daemon, counters_get(counters, (enum counter)i));
        if (row->kind == COUNTER_TOTAL)
            stats_put_sample(client, "today", row, daemon,
                             counters_today(counters, (enum counter)i));
    }
    for (size_t i = 0; i < COUNTER_DURATIONS_COUNT; i++) {
        if (counter_durations[i].daemons & daemon)
            stats_put_duration(client, counters, i, daemon);
    }
}

void stats_put_each(struct control_client *client, enum counter which, unsigned daemon,
                    const char *label, double value)
{
    const struct counter_row *row = &counter_rows[which];
    char name[COUNTER_NAME_MAX];
    stats_put_line(client, "sample %s{%s=\"%s\"} %.*f", counter_name(row, daemon, name),
                   row->labels, label, value == (double)(int64_t)value ? 0 : 3, value);
}

void stats_put_certificates(struct control_client *client, const struct tls_server *tls,
                            unsigned daemon)
{
    const struct tls_server_certificate *certificates = NULL;
    size_t count = tls != NULL ? tls_server_certificates(tls, &certificates) : 0;
    char label[24], file[512];

    for (size_t i = 0; i < count; i++) {
        snprintf(label, sizeof label, "%zu", i);
        snprintf(file, sizeof file, "%s", certificates[i].file);
        for (char *at = file; *at != '\0'; at++)
            *at = *at == ' ' ? '?' : *at;
        stats_put_each(client, COUNTER_CERTIFICATE, daemon, label, (double)certificates[i].expiry);
        stats_put_line(client, "certificate %zu %lld %s %s", i, certificates[i].expiry, file,
                       certificates[i].name);
    }
}
