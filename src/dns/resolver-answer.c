/* dns/resolver-answer.c - turns libunbound's results into answers
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "dns/resolver-internal.h"

#include <string.h>
#include <unbound.h>

#define RCODE_NXDOMAIN 3

static const char *resolver_rcode_name(int rcode)
{
    static const char *const names[] = {"no answer", "FORMERR", "SERVFAIL",
                                        "NXDOMAIN",  "NOTIMP",  "REFUSED"};
    return rcode >= 0 && rcode < (int)(sizeof names / sizeof names[0]) ? names[rcode] : "error";
}

void resolver_answer_temporary(struct resolver_answer *answer, const char *reason)
{
    *answer = (struct resolver_answer){.result = RESOLVER_TEMPORARY, .reason = reason};
}

static const char *resolver_without_final_dot(char *name)
{
    size_t len = strlen(name);
    if (len > 1 && name[len - 1] == '.')
        name[len - 1] = '\0';
    return name;
}

static void resolver_fill_records(struct resolver_answer *answer, struct ub_result *result)
{
    answer->result = RESOLVER_FOUND;
    answer->canonical =
        resolver_without_final_dot(result->canonname != NULL ? result->canonname : result->qname);
    answer->data = result->data;
    answer->lengths = result->len;
    while (result->data[answer->count] != NULL)
        answer->count++;
}

void resolver_answer_fill(struct resolver_answer *answer, int error, struct ub_result *result)
{
    if (error != 0 || result == NULL) {
        resolver_answer_temporary(answer, error != 0 ? ub_strerror(error) : "no answer");
    } else if (result->bogus) {
        resolver_answer_temporary(answer, result->why_bogus != NULL ? result->why_bogus : "bogus");
        answer->bogus = true;
    } else if (result->rcode != 0 && result->rcode != RCODE_NXDOMAIN) {
        resolver_answer_temporary(answer, resolver_rcode_name(result->rcode));
    } else {
        *answer = (struct resolver_answer){.reason = "", .secure = result->secure};
        answer->ttl = result->ttl > 0 ? (unsigned)result->ttl : 0;
        if (result->havedata && !result->nxdomain)
            resolver_fill_records(answer, result);
        else
            answer->result = result->nxdomain ? RESOLVER_NO_NAME : RESOLVER_NO_DATA;
    }
    answer->owner = result;
}

void resolver_answer_move(struct resolver_answer *to, struct resolver_answer *from)
{
    *to = *from;
    resolver_answer_temporary(from, "");
}

void resolver_answer_free(struct resolver_answer *answer)
{
    if (answer->owner != NULL)
        ub_resolve_free(answer->owner);
    resolver_answer_temporary(answer, "");
}
