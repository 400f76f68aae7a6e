/* tests/fuzz/fuzz-sts.c - MTA-STS policies and records
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dns/name.h"
#include "relay-out/sts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_policy(const char *text, size_t size)
{
    const char *why = NULL;
    struct sts_policy *policy = sts_read_policy(text, size, &why);

    if (policy == NULL) {
        if (why == NULL)
            abort();
        return;
    }
    if (policy->max_age_s > STS_AGE_MAX_S ||
        (policy->mode != STS_MODE_NONE && policy->pattern_count == 0))
        abort();
    const char *pattern = policy->patterns;
    for (size_t i = 0; i < policy->pattern_count; i++, pattern += strlen(pattern) + 1) {
        if (pattern[0] != '*' && !sts_allows(policy, pattern))
            abort();
        if (pattern[0] == '*' && !dns_name_is_hostname(pattern + 2))
            abort();
    }
    sts_allows(policy, "mail.example");
    free(policy);
}

static void try_records(const uint8_t *data, size_t size)
{
    /* The first octet says where the second record begins. */
    size_t first = size > 0 ? data[0] : 0;
    const char *items[2] = {(const char *)data, (const char *)data + (first < size ? first : 0)};
    int lengths[2] = {(int)size, (int)(first < size ? size - first : 0)};
    char id[STS_ID_MAX + 1];

    for (size_t count = 1; count <= 2; count++) {
        if (sts_read_record(items, lengths, count, id) &&
            strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") !=
                strlen(id))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_policy((const char *)data, size);
    try_records(data, size);
    return 0;
}
