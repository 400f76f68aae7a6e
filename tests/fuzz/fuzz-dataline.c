/* tests/fuzz/fuzz-dataline.c - the scanner: canonical output, and the same for every way to cut the input
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "smtp/dataline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t run(const char *in, size_t len, size_t step, char *out, struct dataline *scanner)
{
    size_t used = 0, out_len = 0;
    dataline_init(scanner, DATALINE_NORMALIZE, DATALINE_LINES);
    while (used < len && !scanner->ended) {
        struct dataline_output output;
        size_t piece = len - used < step ? len - used : step;
        used += dataline_scan(scanner, in + used, piece, &output);
        for (int i = 0; i < output.count; i++) {
            memcpy(out + out_len, output.iov[i].iov_base, output.iov[i].iov_len);
            out_len += output.iov[i].iov_len;
        }
    }
    return out_len;
}

static void must(int condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dataline a, b;
    /* An octet becomes two at the most, and a false end "..\r\n". */
    char *one = malloc(4 * size + 8), *two = malloc(4 * size + 8);
    size_t one_len = run((const char *)data, size, size, one, &a);
    size_t two_len = run((const char *)data, size, 1, two, &b);
    must(one_len == two_len && memcmp(one, two, one_len) == 0);
    must(a.ended == b.ended && a.octets == b.octets && a.received_count == b.received_count);
    for (size_t i = 0; i < one_len; i++) {
        must(one[i] != '\0');
        must(one[i] != '\n' || (i > 0 && one[i - 1] == '\r'));
        must(one[i] != '\r' || i + 1 == one_len || one[i + 1] == '\n');
        if (one[i] == '.' && (i == 0 || one[i - 1] == '\n') && i + 1 < one_len)
            must(one[i + 1] != '\r');
    }
    free(one);
    free(two);
    return 0;
}
