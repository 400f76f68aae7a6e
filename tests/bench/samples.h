/* tests/bench/samples.h - times of many events, in little memory
 *
 * A histogram. A bucket's width is a 64th of its value, so a percentile is right to 2 %. One thread writes; histograms
 * are added up once all threads have ended.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BENCH_SAMPLES_H
#define POSTERN_BENCH_SAMPLES_H

#include <stdint.h>

#define SAMPLE_STEPS 64
#define SAMPLE_BUCKETS (SAMPLE_STEPS * 32)

struct samples {
    uint64_t count;
    int64_t largest_us;
    uint64_t buckets[SAMPLE_BUCKETS];
};

void samples_add(struct samples *samples, int64_t us);
void samples_merge(struct samples *sum, const struct samples *part);
/* Returns the time in milliseconds that `percent` of the events stayed below; 0 if there are none. */
double samples_percentile_ms(const struct samples *samples, double percent);

#endif
