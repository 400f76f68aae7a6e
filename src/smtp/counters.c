/* smtp/counters.c - everything that the daemons count, in one table
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/counters.h"

#include <string.h>

#include "base/mdoc.h"

const struct counter_row counter_rows[COUNTERS_COUNT] = {
#define COUNTERS_ROW(id, daemons, kind, name, labels, meaning)                                     \
    {COUNTERS_##daemons, COUNTER_##kind, name, labels, meaning},
    COUNTERS(COUNTERS_ROW)
#undef COUNTERS_ROW
};

const struct counter_row counter_durations[COUNTER_DURATIONS_COUNT] = {
#define COUNTERS_ROW(id, daemons, name, labels, meaning)                                           \
    {COUNTERS_##daemons, COUNTER_TOTAL, name, labels, meaning},
    COUNTERS_DURATIONS(COUNTERS_ROW)
#undef COUNTERS_ROW
};

const int64_t counter_bounds_ms[COUNTER_BUCKETS] = {10,   50,   100,   250,   500,    1000,
                                                    2500, 5000, 10000, 30000, 120000, 600000};

void counters_add(struct counters *counters, enum counter which, uint64_t amount)
{
    if (counters != NULL)
        atomic_fetch_add_explicit(&counters->values[which], amount, memory_order_relaxed);
}

void counters_set(struct counters *counters, enum counter which, uint64_t value)
{
    if (counters != NULL)
        atomic_store_explicit(&counters->values[which], value, memory_order_relaxed);
}

void counters_took(struct counters *counters, enum counter_duration which, int64_t ms)
{
    size_t bucket = 0;

    if (counters == NULL)
        return;
    while (bucket < COUNTER_BUCKETS && ms > counter_bounds_ms[bucket])
        bucket++;
    atomic_fetch_add_explicit(&counters->durations[which].buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counters->durations[which].sum_ms, ms > 0 ? (uint64_t)ms : 0,
                              memory_order_relaxed);
}

uint64_t counters_get(struct counters *counters, enum counter which)
{
    return atomic_load_explicit(&counters->values[which], memory_order_relaxed);
}

uint64_t counters_today(struct counters *counters, enum counter which)
{
    return counters_get(counters, which) -
           atomic_load_explicit(&counters->at_midnight[which], memory_order_relaxed);
}

void counters_begin_day(struct counters *counters)
{
    for (size_t i = 0; i < COUNTERS_COUNT; i++)
        atomic_store_explicit(&counters->at_midnight[i], counters_get(counters, (enum counter)i),
                              memory_order_relaxed);
}

const char *counter_name(const struct counter_row *row, unsigned daemon, char out[COUNTER_NAME_MAX])
{
    const char *star = strchr(row->name, '*');

    if (star == NULL)
        snprintf(out, COUNTER_NAME_MAX, "%s", row->name);
    else
        snprintf(out, COUNTER_NAME_MAX, "%.*s%s%s", (int)(star - row->name), row->name,
                 daemon == COUNTERS_IN ? "in" : "out", star + 1);
    return out;
}

static void counters_print_names(const struct counter_row *row, FILE *out)
{
    char name[COUNTER_NAME_MAX];
    const char *comma = "";

    fputs(".It", out);
    for (unsigned daemon = COUNTERS_IN; daemon <= COUNTERS_OUT; daemon <<= 1) {
        if (!(row->daemons & daemon))
            continue;
        fprintf(out, "%s Li %s", comma, counter_name(row, daemon, name));
        comma = " ,";
        if (strchr(row->name, '*') == NULL)
            break;
    }
    fputs("\n", out);
}

/* Prints the rows of one table. */
static void counters_print_rows(const struct counter_row *rows, size_t count, bool histograms,
                                FILE *out)
{
    for (size_t i = 0; i < count; i++) {
        const struct counter_row *row = &rows[i];
        bool first = i == 0 || strcmp(row->name, row[-1].name) != 0;
        bool last = i + 1 == count || strcmp(row->name, row[1].name) != 0;
        if (first) {
            counters_print_names(row, out);
            mdoc_print_sentences(row->meaning, out);
        }
        if (first && histograms)
            fputs("A histogram.\n", out);
        if (row->labels[0] == '\0')
            continue;
        fprintf(out, "%s%s", first ? ".br\nLabels: " : "; ", row->labels);
        if (last)
            fputs(row->kind == COUNTER_EACH ? " (one for each)\n" : "\n", out);
    }
}

void counters_print_manual(FILE *out)
{
    counters_print_rows(counter_rows, COUNTERS_COUNT, false, out);
    counters_print_rows(counter_durations, COUNTER_DURATIONS_COUNT, true, out);
}
