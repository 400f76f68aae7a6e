/* tests/bench/samples.h - times of many events, in little memory
 *
 * A histogram whose buckets are a 64th of their value wide, so that a percentile is right to 2 %.
 * One thread writes; sums are made when all are done.
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
/* The time that `percent` of the events stayed below, in milliseconds; 0 when there are none. */
double samples_percentile_ms(const struct samples *samples, double percent);

#endif
