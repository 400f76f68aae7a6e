/* tests/unit/dns-sign.h - rows of tests/unit/dns-server.h, signed by DNSSEC (RFC 4034, RFC 8080)
 *
 * Signs with an Ed25519 key made for the run, so nothing in the tests expires. It signs existing records
 * only: the absence of a record stays unproven.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_TESTS_DNS_SIGN_H
#define POSTERN_TESTS_DNS_SIGN_H

#include "dns-server.h"

struct signed_rows {
    struct dns_row *rows; /* the given rows, the key, and a signature for each row of the zone */
    size_t count;
    char *anchor_file; /* with the zone's DS record */
};

/* Signs the rows at and below `zone` ("": only the root's own). Free it with signed_rows_free(), which
 * removes the file. */
struct signed_rows *dns_sign(const struct dns_row *rows, size_t count, const char *zone);
void signed_rows_free(struct signed_rows *signed_rows);

#endif
