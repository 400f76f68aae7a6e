/* out/tlspolicy.c - what TLS does this next hop need?
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "out/tlspolicy.h"

#include <string.h>
#include <strings.h>

static bool fits(const char *pattern, const char *name)
{
    if (strcmp(pattern, "*") == 0)
        return true;
    if (pattern[0] != '.')
        return strcasecmp(pattern, name) == 0;
    size_t pattern_len = strlen(pattern), len = strlen(name);
    return len > pattern_len && strcasecmp(name + len - pattern_len, pattern) == 0;
}

static bool is_excepted(const struct string_list *patterns, const struct tls_question *question)
{
    for (size_t i = 0; i < patterns->count; i++) {
        if (fits(patterns->items[i], question->domain) || fits(patterns->items[i], question->host))
            return true;
    }
    return false;
}

/* The name for SNI and certificate. Under VERIFY a host that anybody may have put into the DNS does not
 * stand for the domain: the certificate must. */
static const char *tls_policy_name(const struct tls_question *question, enum config_out_tls level)
{
    if (question->route->tls_name[0] != '\0')
        return question->route->tls_name;
    if (level == CONFIG_OUT_TLS_VERIFY && !question->host_secure)
        return question->ascii;
    return question->host_is_address ? NULL : question->host; /* RFC 6066 3: never an address */
}

void tls_policy_find(const struct config_out *config, const struct tls_question *question,
                     struct tls_need *need)
{
    const struct route *route = question->route;

    *need = (struct tls_need){.level = route->tls, .why = "route"};
    if (route->tls == CONFIG_OUT_TLS_DEFAULT) {
        need->level = (enum config_out_tls)config->tls.level;
        need->why = "out.tls.level";
    }
    need->name = tls_policy_name(question, need->level);
    if (need->level != CONFIG_OUT_TLS_MAY)
        return;
    if (is_excepted(&config->tls.no_tls, question)) {
        need->level = CONFIG_OUT_TLS_NONE;
        need->why = "out.tls.no_tls";
    }
}
