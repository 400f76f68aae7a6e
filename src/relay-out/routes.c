/* relay-out/routes.c - decides from a recipient's domain where the mail goes
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/routes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/i18n.h"
#include "config/domains.h"
#include "dns/name.h"

#define SMTP_PORT 25

struct routes {
    const struct config *config;
    struct route *routes; /* all of them; not reallocated, because others point into it */
    size_t count;
    struct domains own, listed;   /* with the places of their routes */
    const struct route *fallback; /* NULL: none */
    const struct route *others;   /* the default route, or one without next hops */
    const struct route *bounces;  /* out.bounce_route; NULL: notices go as any other mail */
};

static int routes_add_domains(const struct routes *routes, struct domains *domains,
                              const struct string_list *list, const struct route *route,
                              struct error *err)
{
    if (domains_add(domains, list, (unsigned)(route - routes->routes)) == 0)
        return 0;
    error_set(err, _("out of memory"));
    return -1;
}

static struct route *routes_next_route(struct routes *routes, const char *name)
{
    struct route *route = &routes->routes[routes->count++];
    snprintf(route->name, sizeof route->name, "%s", name);
    route->tls_name = route->user = "";
    route->family = (enum config_family)routes->config->out.family;
    route->connections = (unsigned)routes->config->out.limits.sessions_per_destination;
    return route;
}

static void routes_forget_password(char *line, size_t size)
{
    if (line != NULL)
        explicit_bzero(line, size);
    free(line);
}

/* Reads the first line of a file, without the byte order mark that some editors put there. */
static int routes_read_password(struct route *route, const char *file, struct error *err)
{
    static const char mark[] = "\xef\xbb\xbf";
    FILE *stream = fopen(file, "re");
    char *line = NULL;
    size_t size = 0;
    ssize_t len = stream != NULL ? getline(&line, &size, stream) : -1;
    int result = -1;

    if (len >= 3 && memcmp(line, mark, 3) == 0) {
        len -= 3;
        memmove(line, line + 3, (size_t)len + 1);
    }
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
        line[--len] = '\0';
    if (stream == NULL || (len < 0 && ferror(stream))) {
        error_set(err, _("cannot read %s: %s"), file, strerror(errno));
    } else if (len <= 0 || len > ROUTE_PASSWORD_MAX || strlen(line) != (size_t)len) {
        error_set(err, _("the first line of %s is not a password (1 to %d octets)"), file,
                  ROUTE_PASSWORD_MAX);
    } else if ((route->password = strdup(line)) == NULL) {
        error_set(err, _("out of memory"));
    } else {
        result = 0;
    }
    routes_forget_password(line, size);
    if (stream != NULL)
        fclose(stream);
    return result;
}

/* Makes a TLS client that trusts the route's own CAs, and is otherwise like the configuration's. */
static int routes_set_tls(struct route *route, const char *ca_file,
                          const struct config_out_tls_options *options, struct error *err)
{
    const struct tls_client_config tls = {
        .priority = options->priority,
        .verify = true,
        .ca_file = ca_file,
        .pair = {options->cert, options->key},
    };

    route->tls_client = tls_client_new(&tls, err);
    return route->tls_client != NULL ? 0 : -1;
}

static int routes_fill_route(struct route *route, const struct config_route *settings,
                             bool use_hops, const struct config_out_tls_options *tls,
                             struct error *err)
{
    route->denied = settings->action == CONFIG_ACTION_DENY;
    /* Settings of next hops that are not used must not apply to others, least of all a password. */
    if (settings->next_hops.count > 0 && !use_hops)
        return 0;
    route->tls = (enum config_out_tls)settings->tls;
    route->tls_name = settings->tls_name;
    route->user = settings->user;
    if (settings->family != CONFIG_FAMILY_DEFAULT)
        route->family = (enum config_family)settings->family;
    if (settings->connections > 0)
        route->connections = (unsigned)settings->connections;
    route->rate = (unsigned)settings->rate;
    for (size_t i = 0; i < settings->next_hops.count; i++) {
        if (i == CONFIG_HOSTS_MAX) {
            error_set(err, _("more than %d next hops in one route"), CONFIG_HOSTS_MAX);
            return -1;
        }
        if (endpoint_parse(&route->hops[route->hop_count++], settings->next_hops.items[i],
                           SMTP_PORT, err) != 0)
            return -1;
    }
    if (settings->ca_file[0] != '\0' && routes_set_tls(route, settings->ca_file, tls, err) != 0)
        return -1;
    return settings->user[0] != '\0' ? routes_read_password(route, settings->password_file, err)
                                     : 0;
}

static enum config_out_tls routes_backend_level(const struct config_backend *backend)
{
    switch ((enum config_backend_tls)backend->tls) {
    case CONFIG_TLS_NONE:
        return CONFIG_OUT_TLS_NONE;
    case CONFIG_TLS_ENCRYPT:
        return CONFIG_OUT_TLS_ENCRYPT;
    case CONFIG_TLS_VERIFY:
        return CONFIG_OUT_TLS_VERIFY;
    case CONFIG_TLS_MIRROR:
    case CONFIG_TLS_MAY:
        break;
    }
    return CONFIG_OUT_TLS_MAY;
}

/* Mail for our own domains never uses the DNS, which would lead it back to relay-in. */
static int routes_add_backend(struct routes *routes, const struct config_backend *backend,
                              const struct string_list *domains, size_t number, struct error *err)
{
    char name[32];
    const struct tls_client_config tls = {
        .verify = true,
        .ca_file = backend->ca_file,
        .pair = {backend->cert, backend->key},
    };

    snprintf(name, sizeof name, "backend:%zu", number);
    struct route *route = routes_next_route(routes, name);
    route->tls = routes_backend_level(backend);
    route->proxy = config_proxy_of(backend);
    route->tls_name = backend->tls_name;
    if (route->tls == CONFIG_OUT_TLS_VERIFY &&
        (backend->ca_file[0] != '\0' || backend->cert[0] != '\0') &&
        (route->tls_client = tls_client_new(&tls, err)) == NULL)
        return -1;
    for (size_t i = 0; i < backend->hosts.count; i++) {
        struct endpoint *hop = &route->hops[route->hop_count++];
        char ip[ADDRESS_TEXT_MAX];
        hop->address = backend->hosts.items[i];
        hop->port = backend->hosts.items[i].port;
        snprintf(hop->host, sizeof hop->host, "%s", address_format_ip(&hop->address, ip));
    }
    return routes_add_domains(routes, &routes->own, domains, route, err);
}

static int routes_add_own(struct routes *routes, struct error *err)
{
    const struct config_in *in = &routes->config->in;
    const struct config_backend *backends = in->backends.items;

    if (!(routes->config->parts & CONFIG_PART_IN))
        return 0;
    /* As in relay-in, the backends of single domains take precedence. */
    int result = routes_add_backend(routes, &in->backend, &in->domains, 0, err);
    for (size_t i = 0; i < in->backends.count && result == 0; i++)
        result = routes_add_backend(routes, &backends[i], &backends[i].domains, i + 1, err);
    return result;
}

/* Adds a route that exists only if the configuration gives it. */
static int routes_add_special(struct routes *routes, const char *name,
                              const struct config_route *settings, const struct route **out,
                              struct error *err)
{
    if (!settings->given)
        return 0;
    struct route *route = routes_next_route(routes, name);
    *out = route;
    return routes_fill_route(route, settings, true, &routes->config->out.tls, err);
}

static int routes_add_listed(struct routes *routes, struct error *err)
{
    const struct config_out *out = &routes->config->out;
    const struct config_route *settings = out->routes.items;
    const struct route *first = &routes->routes[routes->count];
    char name[32];

    for (size_t i = 0; i < out->routes.count; i++) {
        snprintf(name, sizeof name, "route:%zu", i);
        struct route *route = routes_next_route(routes, name);
        if (routes_fill_route(route, &settings[i], out->force_routing, &out->tls, err) != 0)
            return -1;
    }
    /* If a pattern appears twice, the first one counts. */
    for (size_t i = out->routes.count; i > 0; i--) {
        if (routes_add_domains(routes, &routes->listed, &settings[i - 1].domains, &first[i - 1],
                               err) != 0)
            return -1;
    }
    struct route *others = routes_next_route(routes, "default");
    routes->others = others;
    if (out->default_route.given &&
        routes_fill_route(others, &out->default_route, true, &out->tls, err) != 0)
        return -1;
    return routes_add_special(routes, "bounces", &out->bounce_route, &routes->bounces, err) == 0 &&
                   routes_add_special(routes, "fallback", &out->fallback_route, &routes->fallback,
                                      err) == 0
               ? 0
               : -1;
}

struct routes *routes_new(const struct config *config, struct error *err)
{
    struct routes *routes = calloc(1, sizeof *routes);

    if (routes != NULL) {
        routes->config = config;
        routes->routes = calloc(config->in.backends.count + config->out.routes.count + 4,
                                sizeof *routes->routes);
    }
    if (routes == NULL || routes->routes == NULL)
        error_set(err, _("out of memory"));
    else if (routes_add_own(routes, err) == 0 && routes_add_listed(routes, err) == 0)
        return routes;
    routes_free(routes);
    return NULL;
}

void routes_free(struct routes *routes)
{
    if (routes == NULL)
        return;
    for (size_t i = 0; i < routes->count; i++) {
        char *password = routes->routes[i].password;
        routes_forget_password(password, password != NULL ? strlen(password) : 0);
        tls_client_free(routes->routes[i].tls_client);
    }
    free(routes->routes);
    domains_free(&routes->own);
    domains_free(&routes->listed);
    free(routes);
}

/* A route without next hops that does not deny leaves where and how the mail goes to the default route. */
const struct route *routes_find(const struct routes *routes, const char *domain)
{
    const struct route *found = routes->others;
    unsigned number;

    if (domains_find(&routes->own, domain, &number) ||
        domains_find(&routes->listed, domain, &number) ||
        domains_find(&routes->listed, "*", &number))
        found = &routes->routes[number];
    return found->hop_count == 0 && !found->denied && routes->others->hop_count > 0 ? routes->others
                                                                                    : found;
}

const struct route *routes_bounce(const struct routes *routes, const char *domain)
{
    const struct route *route =
        routes->bounces != NULL ? routes->bounces : routes_find(routes, domain);
    return route->denied ? routes->others : route;
}

const struct route *routes_default(const struct routes *routes)
{
    return routes->others;
}

const struct route *routes_fallback(const struct routes *routes)
{
    return routes->fallback;
}

const char *route_key(const struct route *route, const char *domain, char out[ROUTE_KEY_MAX])
{
    if (route->hop_count > 0 || !dns_name_fold(domain, out))
        snprintf(out, ROUTE_KEY_MAX, "%s", route->name);
    return out;
}

const char *routes_own_domain(const struct routes *routes)
{
    return routes->own.first;
}

bool routes_is_own(const struct routes *routes, const char *domain)
{
    unsigned number;
    return domains_find(&routes->own, domain, &number);
}
