/* exporter/history.c - past values for the page's plots
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "exporter/history.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HISTORY_DAY_STEP 10
#define HISTORY_DAY_STEPS 8640
#define HISTORY_WEEK_STEP 600
#define HISTORY_WEEK_STEPS 1152
#define HISTORY_MAGIC "PSTHIST2"

static const struct {
    int64_t step; /* seconds */
    size_t count;
    size_t first; /* index among all steps in the file */
} history_rings[HISTORY_RINGS] = {
    [HISTORY_DAY] = {HISTORY_DAY_STEP, HISTORY_DAY_STEPS, 0},
    [HISTORY_WEEK] = {HISTORY_WEEK_STEP, HISTORY_WEEK_STEPS, HISTORY_DAY_STEPS},
};

struct history_step {
    int64_t at; /* start of the step, seconds since 1970; 0: unused */
    float values[HISTORY_VALUES];
};

struct history_head {
    char magic[8];
    uint32_t step_size, step_count;
};

#define HISTORY_STEPS (HISTORY_DAY_STEPS + HISTORY_WEEK_STEPS)

struct history {
    pthread_mutex_t lock;
    int fd; /* -1: none */
    bool seen;
    double before[HISTORY_SUMS]; /* the counters at the previous look */
    struct history_step steps[HISTORY_STEPS];
};

/* The counter for each sum. */
static const struct {
    unsigned daemon;
    enum counter counter;
} history_counters[] = {
    [HISTORY_IN_DELIVERED] = {COUNTERS_IN, COUNTER_MESSAGES_DELIVERED},
    [HISTORY_IN_DEFERRED] = {COUNTERS_IN, COUNTER_MESSAGES_DEFERRED},
    [HISTORY_IN_REFUSED] = {COUNTERS_IN, COUNTER_MESSAGES_REFUSED},
    [HISTORY_OUT_DELIVERED] = {COUNTERS_OUT, COUNTER_MESSAGES_DELIVERED},
    [HISTORY_OUT_STORED] = {COUNTERS_OUT, COUNTER_MESSAGES_STORED},
    [HISTORY_OUT_DEFERRED] = {COUNTERS_OUT, COUNTER_MESSAGES_DEFERRED},
    [HISTORY_OUT_REFUSED] = {COUNTERS_OUT, COUNTER_MESSAGES_REFUSED},
};

static bool history_load(struct history *history)
{
    struct history_head head;

    return pread(history->fd, &head, sizeof head, 0) == (ssize_t)sizeof head &&
           memcmp(head.magic, HISTORY_MAGIC, sizeof head.magic) == 0 &&
           head.step_size == sizeof *history->steps && head.step_count == HISTORY_STEPS &&
           pread(history->fd, history->steps, sizeof history->steps, sizeof head) ==
               (ssize_t)sizeof history->steps;
}

static int history_begin(struct history *history)
{
    struct history_head head = {.step_size = sizeof *history->steps, .step_count = HISTORY_STEPS};

    memcpy(head.magic, HISTORY_MAGIC, sizeof head.magic);
    memset(history->steps, 0, sizeof history->steps);
    return pwrite(history->fd, &head, sizeof head, 0) == (ssize_t)sizeof head &&
                   pwrite(history->fd, history->steps, sizeof history->steps, sizeof head) ==
                       (ssize_t)sizeof history->steps
               ? 0
               : -1;
}

struct history *history_open(const char *file, struct error *err)
{
    struct history *history = calloc(1, sizeof *history);

    if (history == NULL) {
        error_set(err, "%s", strerror(errno));
        return NULL;
    }
    pthread_mutex_init(&history->lock, NULL);
    history->fd = file != NULL ? open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640) : -1;
    if (file == NULL ||
        (history->fd >= 0 && (history_load(history) || history_begin(history) == 0)))
        return history;
    error_set(err, "%s: %s", file, strerror(errno));
    history_close(history);
    return NULL;
}

void history_close(struct history *history)
{
    if (history == NULL)
        return;
    if (history->fd >= 0)
        close(history->fd);
    pthread_mutex_destroy(&history->lock);
    free(history);
}

static size_t history_index(enum history_ring ring, int64_t at)
{
    return history_rings[ring].first +
           (size_t)(at / history_rings[ring].step) % history_rings[ring].count;
}

/* Adds to the current step. A new step replaces the one from a full ring ago. */
static void history_put(struct history *history, enum history_ring ring, int64_t now,
                        const double values[HISTORY_VALUES])
{
    size_t index = history_index(ring, now);
    struct history_step *step = &history->steps[index];
    int64_t at = now - now % history_rings[ring].step;

    if (step->at != at)
        *step = (struct history_step){.at = at};
    for (size_t i = 0; i < HISTORY_VALUES; i++)
        step->values[i] = (float)(i < HISTORY_SUMS ? step->values[i] + values[i] : values[i]);
    if (history->fd >= 0 && pwrite(history->fd, step, sizeof *step,
                                   (off_t)(sizeof(struct history_head) + index * sizeof *step)) < 0)
        return; /* the page uses the copy in memory; the next look tries again */
}

/* The sum or the count of one row of a daemon's histograms. */
static double history_histogram(const struct stats *stats, enum counter_duration which,
                                const char *ending)
{
    const struct counter_row *row = &counter_durations[which];
    char name[COUNTER_NAME_MAX], wanted[2 * COUNTER_NAME_MAX + 32];
    const char *line;

    if (stats == NULL)
        return 0;
    snprintf(wanted, sizeof wanted, "%s%s{%s} ", counter_name(row, stats->daemon, name), ending,
             row->labels);
    size_t len = strlen(wanted);
    for (size_t i = 0; (line = stats_line(stats, "sample", i)) != NULL; i++) {
        if (strncmp(line, wanted, len) == 0)
            return strtod(line + len, NULL);
    }
    return 0;
}

/* The whole time of all messages. */
static double history_message_time(const struct stats *stats)
{
    return history_histogram(stats, COUNTER_DURATION_MESSAGE_DIALOG, "_sum") +
           history_histogram(stats, COUNTER_DURATION_MESSAGE_DATA, "_sum") +
           history_histogram(stats, COUNTER_DURATION_MESSAGE_FINAL, "_sum");
}

static void history_read(double now[HISTORY_VALUES], const struct stats *in,
                         const struct stats *out)
{
    for (size_t i = 0; i < sizeof history_counters / sizeof *history_counters; i++) {
        const struct stats *stats = history_counters[i].daemon == COUNTERS_IN ? in : out;
        now[i] = stats != NULL ? stats_value(stats, history_counters[i].counter, NULL) : 0;
    }
    now[HISTORY_TIMED] = history_histogram(in, COUNTER_DURATION_MESSAGE_DATA, "_count") +
                         history_histogram(out, COUNTER_DURATION_MESSAGE_DATA, "_count");
    now[HISTORY_TIME] = history_message_time(in) + history_message_time(out);
    now[HISTORY_TRIES_PUT_OFF] = out != NULL ? stats_value(out, COUNTER_PUT_OFF, NULL) : 0;
    now[HISTORY_TRIES] = out == NULL
                             ? 0
                             : now[HISTORY_TRIES_PUT_OFF] + stats_value(out, COUNTER_SENT, NULL) +
                                   stats_value(out, COUNTER_BOUNCED, NULL);
    now[HISTORY_SPOOL] = out != NULL ? stats_spooled(out) : 0;
    now[HISTORY_MISSED] = in != NULL ? stats_value(in, COUNTER_MISSED_PENDING, NULL) : 0;
}

void history_add(struct history *history, int64_t now, const struct stats *in,
                 const struct stats *out)
{
    double counted[HISTORY_VALUES], values[HISTORY_VALUES];

    history_read(counted, in, out);
    for (size_t i = 0; i < HISTORY_VALUES; i++) {
        values[i] = counted[i];
        if (i >= HISTORY_SUMS)
            continue;
        /* A restarted daemon counts from 0. Counts from before our first look do not belong here. */
        values[i] = !history->seen                     ? 0
                    : counted[i] >= history->before[i] ? counted[i] - history->before[i]
                                                       : counted[i];
        history->before[i] = counted[i];
    }
    history->seen = true;
    pthread_mutex_lock(&history->lock);
    history_put(history, HISTORY_DAY, now, values);
    history_put(history, HISTORY_WEEK, now, values);
    pthread_mutex_unlock(&history->lock);
}

size_t history_sum(struct history *history, enum history_ring ring, int64_t from, int64_t to,
                   double out[HISTORY_VALUES])
{
    const int64_t size = history_rings[ring].step;
    size_t found = 0;

    for (size_t i = 0; i < HISTORY_VALUES; i++)
        out[i] = 0;
    pthread_mutex_lock(&history->lock);
    for (int64_t at = from - from % size; at < to; at += size) {
        const struct history_step *step = &history->steps[history_index(ring, at)];
        if (step->at != at || at < from)
            continue;
        found++;
        for (size_t i = 0; i < HISTORY_VALUES; i++)
            out[i] = i < HISTORY_SUMS ? out[i] + (double)step->values[i] : (double)step->values[i];
    }
    pthread_mutex_unlock(&history->lock);
    return found;
}
