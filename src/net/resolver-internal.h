/* net/resolver-internal.h - what the files of net/resolver share
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_RESOLVER_INTERNAL_H
#define POSTERN_NET_RESOLVER_INTERNAL_H

#include "net/resolver.h"

struct ub_ctx;

/* The trust anchor file that `config` asks for: a path, or NULL for no validation; -1 with a reason
 * when the named one cannot be read. */
int resolver_trust_anchor(const struct resolver_config *config, const char **file,
                          struct error *err);

/* A finished libunbound context that works in a thread of its own. Checks every setting. NULL with
 * a reason on failure. The caller's, for ub_ctx_delete(). */
struct ub_ctx *resolver_context_new(const struct resolver_config *config, struct error *err);

/* RESOLVER_TEMPORARY, for a reason that is static text. */
void resolver_answer_temporary(struct resolver_answer *answer, const char *reason);

#endif
