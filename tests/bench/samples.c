/* tests/bench/samples.c - times of many events, in little memory
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "samples.h"

/* One bucket per microsecond up to 2 * SAMPLE_STEPS; above that, each doubling has SAMPLE_STEPS buckets. */
static unsigned bucket_of(int64_t us)
{
    unsigned shift = 0;
    uint64_t value = us > 0 ? (uint64_t)us : 0;

    while (value >> shift >= 2 * SAMPLE_STEPS)
        shift++;
    unsigned bucket = shift * SAMPLE_STEPS + (unsigned)(value >> shift);
    return bucket < SAMPLE_BUCKETS ? bucket : SAMPLE_BUCKETS - 1;
}

static int64_t upper_end_us(unsigned bucket)
{
    if (bucket < 2 * SAMPLE_STEPS)
        return bucket + 1;
    unsigned shift = bucket / SAMPLE_STEPS - 1;
    return (int64_t)(bucket - shift * SAMPLE_STEPS + 1) << shift;
}

void samples_add(struct samples *samples, int64_t us)
{
    samples->buckets[bucket_of(us)]++;
    samples->count++;
    if (us > samples->largest_us)
        samples->largest_us = us;
}

void samples_merge(struct samples *sum, const struct samples *part)
{
    for (unsigned i = 0; i < SAMPLE_BUCKETS; i++)
        sum->buckets[i] += part->buckets[i];
    sum->count += part->count;
    if (part->largest_us > sum->largest_us)
        sum->largest_us = part->largest_us;
}

double samples_percentile_ms(const struct samples *samples, double percent)
{
    uint64_t below = 0, wanted = (uint64_t)((double)samples->count * percent / 100);

    for (unsigned i = 0; i < SAMPLE_BUCKETS && samples->count > 0; i++) {
        below += samples->buckets[i];
        if (below > wanted)
            return (double)upper_end_us(i) / 1000;
    }
    return (double)samples->largest_us / 1000;
}
