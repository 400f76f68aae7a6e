/* relay-out/outbound.c - relay-out's snapshot: the rules it serves under and what they point to
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/outbound.h"

#include <stdlib.h>

#include "base/i18n.h"

const char *outbound_hello(const struct outbound *out)
{
    const char *name = out->config->out.hello;
    return name[0] != '\0' ? name : out->config->hostname;
}

enum mx_family outbound_family(enum config_family family)
{
    static const enum mx_family families[] = {
        [CONFIG_FAMILY_IPV6] = MX_PREFER_IPV6,
        [CONFIG_FAMILY_IPV4] = MX_PREFER_IPV4,
        [CONFIG_FAMILY_ONLY_IPV6] = MX_ONLY_IPV6,
        [CONFIG_FAMILY_ONLY_IPV4] = MX_ONLY_IPV4,
    };
    return families[family];
}

static void outbound_set_mx(struct outbound *out)
{
    own_addresses_find(&out->ours, out->config);
    out->mx = (struct mx_options){
        .family = outbound_family((enum config_family)out->config->out.family),
        .own_names = out->ours.names,
        .own_name_count = out->ours.name_count,
        .own_addresses = out->ours.addresses,
        .own_address_count = out->ours.address_count,
    };
}

static int outbound_make_tls(struct outbound *out, struct error *err)
{
    const struct config_out_tls_options *tls = &out->config->out.tls;
    struct tls_client_config any = {
        .priority = tls->priority,
        .pair = {tls->cert, tls->key},
    };
    struct tls_client_config verify = any;

    verify.verify = true;
    verify.ca_file = tls->ca_file;
    out->tls_any = tls_client_new(&any, err);
    out->tls_verify = out->tls_any != NULL ? tls_client_new(&verify, err) : NULL;
    return out->tls_verify != NULL ? 0 : -1;
}

static int outbound_load_parts(struct outbound *out, struct error *err)
{
    const struct config_out *config = &out->config->out;

    if (config->users_file[0] != '\0') {
        out->users = users_new(config->users_file, (unsigned)config->limits.auth_failures, err);
        if (out->users == NULL)
            return -1;
    }
    out->routes = routes_new(out->config, err);
    return out->routes != NULL ? outbound_make_tls(out, err) : -1;
}

struct outbound *outbound_new(struct config *config, struct host_cache *host_cache,
                              struct resolver *resolver, struct error *err)
{
    struct outbound *out = calloc(1, sizeof *out);

    if (out == NULL) {
        error_set(err, _("out of memory"));
        return NULL;
    }
    out->config = config_ref(config);
    out->host_cache = host_cache;
    out->resolver = resolver;
    outbound_set_mx(out);
    if (outbound_load_parts(out, err) == 0)
        return out;
    outbound_free(out);
    return NULL;
}

void outbound_free(struct outbound *out)
{
    users_free(out->users);
    routes_free(out->routes);
    tls_client_free(out->tls_any);
    tls_client_free(out->tls_verify);
    tls_server_unref(out->tls);
    config_unref(out->config);
    free(out);
}
