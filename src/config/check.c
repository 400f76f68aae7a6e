/* config/check.c - checks that involve more than one row of the option table
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "config/load.h"

#include <stdio.h>
#include <string.h>

#include "base/i18n.h"
#include "dns/dnsbl-zone.h"
#include "net/endpoint.h"

#define WORKERS_SPARE 8 /* for clients without a backend session (yet) */

static bool check_has_family(const struct host_list *list, int family, size_t from)
{
    for (size_t i = from; i < list->count; i++) {
        if (list->items[i].family == family)
            return true;
    }
    return false;
}

static void check_source(struct load *load, const struct host_list *source, const char *option)
{
    for (size_t i = 0; i < source->count; i++) {
        if (check_has_family(source, source->items[i].family, i + 1))
            load_complain(load, NULL, option,
                          _("source takes at most one IPv4 and one IPv6 address"));
    }
}

/* systemd can hand over sockets for [::] that are for IPv6 only. */
static void check_collision(struct load *load, const char *option, const struct address *one,
                            const struct address *other)
{
    char text[ADDRESS_TEXT_MAX], text2[ADDRESS_TEXT_MAX];
    const config_setting_t *setting = config_lookup(&load->file, option);

    if (!address_collides(one, other))
        return;
    address_format_endpoint(one, text);
    address_format_endpoint(other, text2);
    if (one->family == other->family)
        load_complain(load, setting, option, _("%s and %s cannot both be listened on"), text,
                      text2);
    else
        load_warn(load, setting, option,
                  _("[::] includes IPv4, so %s and %s cannot both be listened on"), text, text2);
}

static void check_collisions(struct load *load, const char *option,
                             const struct listen_list *listen, const struct listen_list *others)
{
    for (size_t i = 0; i < listen->count; i++) {
        const struct address *address = &listen->items[i].address;
        for (size_t j = i + 1; j < listen->count; j++)
            check_collision(load, option, address, &listen->items[j].address);
        for (size_t j = 0; others != NULL && j < others->count; j++)
            check_collision(load, option, address, &others->items[j].address);
    }
}

static bool check_is_loopback(const struct address *address)
{
    static const struct address v6 = {.family = AF_INET6, .ip = {[15] = 1}};
    return (address->family == AF_INET && address->ip[0] == 127) || address_same_ip(address, &v6);
}

/* A backend that is one of our own listeners would be sent its mail again and again. */
static void check_self(struct load *load, const struct config_backend *backend, const char *option)
{
    const struct listen_list *listen = &load->config->in.listen;
    char text[ADDRESS_TEXT_MAX];

    for (size_t i = 0; i < backend->hosts.count; i++) {
        const struct address *host = &backend->hosts.items[i];
        for (size_t j = 0; j < listen->count; j++) {
            const struct address *own = &listen->items[j].address;
            if (address_equal(host, own) ||
                (check_is_loopback(host) && address_collides(own, host)))
                load_complain(load, NULL, option, _("%s is relay-in itself"),
                              address_format_endpoint(host, text));
        }
    }
}

static void check_backend(struct load *load, const struct config_backend *backend,
                          const char *option)
{
    if (backend->tls == CONFIG_TLS_VERIFY && backend->tls_name[0] == '\0')
        load_complain(load, NULL, option, _("tls = \"verify\" needs tls_name"));
    check_source(load, &backend->source, option);
    check_self(load, backend, option);
}

static bool check_has_string(const struct string_list *list, const char *text)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i], text) == 0)
            return true;
    }
    return false;
}

/* With too few workers, a backend that answers all its sessions slowly would keep new clients from
 * being greeted. */
static void check_warn_of_few_workers(struct load *load)
{
    const struct config_in *in = &load->config->in;
    const struct config_backend *backends = in->backends.items;
    int64_t sessions = in->backend.max_sessions;

    for (size_t i = 0; i < in->backends.count; i++)
        sessions = backends[i].max_sessions > sessions ? backends[i].max_sessions : sessions;
    if (in->workers < sessions + WORKERS_SPARE)
        load_warn(load, config_lookup(&load->file, "in.workers"), "in.workers",
                  _("all %lld workers may be waiting for a backend with max_sessions = %lld, and "
                    "then new clients wait for a worker; have at least %lld"),
                  (long long)in->workers, (long long)sessions,
                  (long long)(sessions + WORKERS_SPARE));
}

/* If several backends claim a domain, the last one gets it. */
static void check_warn_of_shared_domain(struct load *load, size_t backend, size_t domain)
{
    const struct config_in *in = &load->config->in;
    const struct config_backend *backends = in->backends.items;
    const char *name = backends[backend].domains.items[domain];
    char option[64], place[80];
    bool shared = check_has_string(&in->domains, name);

    for (size_t i = 0; i < backend && !shared; i++)
        shared = check_has_string(&backends[i].domains, name);
    if (!shared)
        return;
    snprintf(option, sizeof option, "in.backends[%zu].domains", backend);
    snprintf(place, sizeof place, "in.backends.[%zu].domains.[%zu]", backend, domain);
    config_setting_t *setting = config_lookup(&load->file, place);
    if (setting == NULL) {
        *strrchr(place, '.') = '\0'; /* a single value instead of a list */
        setting = config_lookup(&load->file, place);
    }
    load_warn(load, setting, option,
              _("%s also belongs to another backend; its mail goes to this one"), name);
}

static void check_warn_of_shared_domains(struct load *load)
{
    const struct config_backend *backends = load->config->in.backends.items;

    for (size_t i = 0; i < load->config->in.backends.count; i++) {
        for (size_t j = 0; j < backends[i].domains.count; j++)
            check_warn_of_shared_domain(load, i, j);
    }
}

/* Checks a group of TLS settings: "tls" or "out.listen_tls". `name` is the name that clients use; NULL:
 * any. */
static void check_tls(struct load *load, const char *group, const struct config_tls *tls,
                      const char *name)
{
    const struct tls_pair *pairs = tls->certificates.items;
    char certificates[64], priority[64], version[64], clients[64], ca_file[64];
    struct error err;

    snprintf(certificates, sizeof certificates, "%s.certificates", group);
    snprintf(priority, sizeof priority, "%s.priority", group);
    snprintf(version, sizeof version, "%s.minimum_version", group);
    snprintf(clients, sizeof clients, "%s.client_certificates", group);
    snprintf(ca_file, sizeof ca_file, "%s.ca_file", group);
    bool covered =
        name == NULL || tls->certificates.count == 0 || load_is_wrong(load, certificates);
    for (size_t i = 0; i < tls->certificates.count && !covered; i++)
        covered = tls_certificate_covers(pairs[i].cert, name) != 0;
    if (!covered)
        load_warn(load, config_lookup(&load->file, certificates), certificates,
                  _("no certificate is for %s (hostname)"), name);
    const config_setting_t *place = config_lookup(&load->file, priority);
    if (!load_is_wrong(load, priority) && !load_is_wrong(load, version) &&
        tls_check_priority(tls->priority, (enum tls_minimum_version)tls->minimum_version, &err) !=
            0)
        load_complain(load, place != NULL ? place : config_lookup(&load->file, version), priority,
                      "%s", err.text);
    if (tls->client_certificates == TLS_CLIENT_REQUIRE && tls->ca_file[0] == '\0' &&
        !load_is_wrong(load, ca_file))
        load_complain(load, config_lookup(&load->file, clients), clients,
                      _("%s must be set to check client certificates"), ca_file);
}

static void check_backends(struct load *load)
{
    const struct config_in *in = &load->config->in;
    const struct config_backend *backends = in->backends.items;
    char option[48];

    check_backend(load, &in->backend, "in.backend");
    for (size_t i = 0; i < in->listen.count; i++) {
        if (in->listen.items[i].submission && !in->submission.given)
            load_complain(load, config_lookup(&load->file, "in.listen"), "in.listen",
                          _("a submission listener needs in.submission"));
    }
    if (in->submission.given)
        check_backend(load, &in->submission, "in.submission");
    for (size_t i = 0; i < in->backends.count; i++) {
        snprintf(option, sizeof option, "in.backends[%zu]", i);
        check_backend(load, &backends[i], option);
    }
}

/* Certificates are for names; few are for an address. */
static bool check_lacks_name(const struct config_out *out, const struct config_route *route)
{
    struct endpoint endpoint;
    struct error err;

    int level = route->tls != CONFIG_OUT_TLS_DEFAULT ? route->tls : out->tls.level;
    if (level != CONFIG_OUT_TLS_VERIFY || route->tls_name[0] != '\0')
        return false;
    for (size_t i = 0; i < route->next_hops.count; i++) {
        if (endpoint_parse(&endpoint, route->next_hops.items[i], 1, &err) == 0 &&
            endpoint.address.family != AF_UNSPEC)
            return true;
    }
    return false;
}

static void check_route(struct load *load, const struct config_route *route, const char *option)
{
    if (check_lacks_name(&load->config->out, route))
        load_complain(load, NULL, option, _("tls = \"verify\" at an IP address needs tls_name"));
    if (route->tls == CONFIG_OUT_TLS_DANE && !load->config->dns.validate)
        load_complain(load, NULL, option, _("tls = \"dane\" needs dns.validate"));
    /* Otherwise the password would go to whatever host the DNS names. */
    if (route->user[0] != '\0' && route->next_hops.count == 0)
        load_complain(load, NULL, option, _("a log-in (user) needs a next_hop"));
    if (route->user[0] != '\0' && route->tls != CONFIG_OUT_TLS_VERIFY)
        load_complain(load, NULL, option, _("a log-in (user) needs tls = \"verify\""));
    if ((route->user[0] != '\0') != (route->password_file[0] != '\0'))
        load_complain(load, NULL, option, _("user and password_file must be set together"));
}

static void check_tls_listeners(struct load *load, const char *option,
                                const struct listen_list *listen, const struct config_tls *settings)
{
    bool tls = false;

    for (size_t i = 0; i < listen->count; i++)
        tls |= listen->items[i].implicit_tls;
    if (tls && settings->certificates.count == 0 && !load_is_wrong(load, "tls") &&
        !load_is_wrong(load, "out.listen_tls"))
        load_complain(load, config_lookup(&load->file, option), option,
                      _("a listener marked \"tls\" needs tls.certificates"));
}

static void check_out_listeners(struct load *load)
{
    const struct config_out *out = &load->config->out;
    for (size_t i = 0; i < out->listen.count; i++) {
        const struct listen_spec *spec = &out->listen.items[i];
        if (spec->proxy)
            load_complain(load, config_lookup(&load->file, "out.listen"), "out.listen",
                          _("relay-out does not accept PROXY headers"));
        if (spec->submission && out->users_file[0] == '\0')
            load_complain(load, config_lookup(&load->file, "out.listen"), "out.listen",
                          _("a submission listener needs out.users_file"));
    }
}

/* 10.0.0.0/8 and fc00::/7 are the largest private networks; anything wider includes the internet.
 * `format` says what that would mean and contains a "%s" for the network. */
__attribute__((format(printf, 4, 0))) static void check_width(struct load *load, const char *option,
                                                              const struct cidr_set *networks,
                                                              const char *format)
{
    char text[ADDRESS_TEXT_MAX];

    for (size_t i = 0; i < cidr_set_count(networks); i++) {
        if (cidr_set_is_wider(networks, i, 8, 7))
            load_complain(load, config_lookup(&load->file, option), option, format,
                          cidr_set_format(networks, i, text));
    }
}

/* Checks which hosts are believed about the clients they speak for. */
static void check_trust(struct load *load)
{
    const struct config_in *in = &load->config->in;

    check_width(
        load, "in.xclient_hosts", in->xclient_hosts,
        _("%s lets anybody claim any address by XCLIENT; give only the relay's own address"));
    check_width(load, "in.proxy_hosts", in->proxy_hosts,
                _("%s lets anybody claim any address by a PROXY header; give only the load "
                  "balancer's own address"));
    check_width(
        load, "in.private_clients", in->private_clients,
        _("%s is not a private network; list only private networks whose clients may connect"));
}

static void check_out(struct load *load)
{
    const struct config_out *out = &load->config->out;
    const struct config_route *routes = out->routes.items;
    char option[48];

    if (!load_is_wrong(load, "out.allow") && !load_is_wrong(load, "out.allow_file") &&
        !load_is_wrong(load, "out.users_file") && cidr_set_count(out->allow) == 0 &&
        out->users_file[0] == '\0' && !out->open_relay)
        load_complain(load, config_lookup(&load->file, "out"), "out.allow",
                      _("nobody may send; set out.allow to the mail server's address in the "
                        "tunnel"));
    if (out->users_file[0] != '\0' && !load_is_wrong(load, "tls") &&
        config_tls_of(load->config, CONFIG_PART_OUT)->certificates.count == 0)
        load_complain(load, config_lookup(&load->file, "out.users_file"), "out.users_file",
                      _("log-ins need TLS: set tls.certificates"));
    if (!out->open_relay)
        check_width(load, "out.allow", out->allow,
                    _("%s makes an open relay; give only the mail server's own address"));
    check_out_listeners(load);
    check_tls_listeners(load, "out.listen", &out->listen,
                        config_tls_of(load->config, CONFIG_PART_OUT));
    check_source(load, &out->source, "out");
    if (out->default_route.given)
        check_route(load, &out->default_route, "out.default_route");
    if (out->bounce_route.given)
        check_route(load, &out->bounce_route, "out.bounce_route");
    if (out->fallback_route.given)
        check_route(load, &out->fallback_route, "out.fallback_route");
    if (out->fallback_route.given && out->fallback_route.next_hops.count == 0)
        load_complain(load, NULL, "out.fallback_route", _("a fallback needs a next_hop"));
    if (out->delivery == CONFIG_DELIVERY_SPOOL && out->spool[0] == '\0')
        load_complain(load, config_lookup(&load->file, "out.spool"), "out.spool",
                      _("delivery = \"spool\" needs a folder to store mail in"));
    for (size_t i = 0; i < out->routes.count; i++) {
        snprintf(option, sizeof option, "out.routes[%zu]", i);
        check_route(load, &routes[i], option);
    }
}

static void check_listeners(struct load *load)
{
    const struct config_in *in = &load->config->in;
    bool proxy = false;
    for (size_t i = 0; i < in->listen.count; i++)
        proxy |= in->listen.items[i].proxy;
    if (proxy && cidr_set_count(in->proxy_hosts) == 0)
        load_complain(load, config_lookup(&load->file, "in.listen"), "in.listen",
                      _("a listener marked \"proxy\" needs in.proxy_hosts: the load balancers' "
                        "addresses"));
}

static void check_dnsbl(struct load *load)
{
    const struct string_list *zones = &load->config->in.dnsbl.zones;
    struct dnsbl_zone zone;
    struct error err;

    if (zones->count > CONFIG_DNSBL_ZONES_MAX)
        load_complain(load, config_lookup(&load->file, "in.dnsbl.zones"), "in.dnsbl.zones",
                      _("more than %d zones"), CONFIG_DNSBL_ZONES_MAX);
    for (size_t i = 0; i < zones->count; i++) {
        if (dnsbl_parse(zones->items[i], &zone, &err) != 0)
            load_complain(load, config_lookup(&load->file, "in.dnsbl.zones"), "in.dnsbl.zones",
                          "%s", err.text);
    }
}

static void check_advise_on_in(struct load *load)
{
    const struct config_in *in = &load->config->in;

    if (in->backend.identity == CONFIG_IDENTITY_NONE && in->backend.given)
        load_advise(load, config_lookup(&load->file, "in.backend.identity"), "in.backend.identity",
                    _("\"none\" makes every client look like this host, which SPF, blocklists and "
                      "greylisting then judge instead"));
}

/* The mail server behind relay-in is the one that sends through relay-out. */
static void check_advise_on_allow(struct load *load)
{
    const struct config *config = load->config;
    const struct host_list *hosts = &config->in.backend.hosts;
    char text[ADDRESS_TEXT_MAX];

    if (!(config->parts & CONFIG_PART_IN) || config->out.users_file[0] != '\0' ||
        config->out.open_relay || config->out.allow == NULL)
        return;
    for (size_t i = 0; i < hosts->count; i++) {
        if (!cidr_set_contains(config->out.allow, &hosts->items[i]))
            load_advise(
                load, config_lookup(&load->file, "out.allow"), "out.allow",
                _("%s, the mail server of in.backend, is not in the list: its mail is refused"),
                address_format_ip(&hosts->items[i], text));
    }
}

/* Looks for listeners that the internet can reach. */
static void check_advise_on_out(struct load *load)
{
    const struct listen_list *listen = &load->config->out.listen;
    char text[ADDRESS_TEXT_MAX];

    for (size_t i = 0; i < listen->count; i++) {
        const struct listen_spec *spec = &listen->items[i];
        static const struct address any;
        bool everywhere = memcmp(spec->address.ip, any.ip, sizeof any.ip) == 0;
        if (!spec->submission && (everywhere || !address_is_private(&spec->address)))
            load_advise(load, config_lookup(&load->file, "out.listen"), "out.listen",
                        _("%s can be reached from the internet; give the address in the tunnel"),
                        address_format_endpoint(&spec->address, text));
    }
}

/* Anybody who can reach the exporter sees who writes to whom. */
static void check_exporter(struct load *load)
{
    const struct host_list *listen = &load->config->exporter.listen;
    static const struct address any;
    char text[ADDRESS_TEXT_MAX];

    for (size_t i = 0; i < listen->count && !load->config->exporter.open; i++) {
        bool everywhere = memcmp(listen->items[i].ip, any.ip, sizeof any.ip) == 0;
        if (everywhere || !address_is_private(&listen->items[i]))
            load_complain(load, config_lookup(&load->file, "exporter.listen"), "exporter.listen",
                          _("%s can be reached from the internet; give an address in the tunnel, "
                            "or set exporter.public"),
                          address_format_endpoint(&listen->items[i], text));
    }
}

void check_settings(struct load *load)
{
    const struct config *config = load->config;
    check_listeners(load);
    if (config->parts & CONFIG_PART_IN)
        check_collisions(load, "in.listen", &config->in.listen, NULL);
    if (config->parts & CONFIG_PART_OUT)
        check_collisions(load, "out.listen", &config->out.listen,
                         config->parts & CONFIG_PART_IN ? &config->in.listen : NULL);
    check_trust(load);
    check_tls_listeners(load, "in.listen", &config->in.listen, &config->tls);
    check_dnsbl(load);
    check_exporter(load);
    if ((config->parts & CONFIG_PART_IN) && config->in.domains.count == 0 &&
        config->in.backends.count == 0 && !load_is_wrong(load, "in.domains") &&
        !load_is_wrong(load, "in.domains_file"))
        load_complain(load, NULL, "in.domains",
                      _("there is no domain to take mail for; set in.domains or in.domains_file"));
    check_tls(load, "tls", &config->tls, config->hostname);
    if (config->out.listen_tls.given)
        check_tls(load, "out.listen_tls", &config->out.listen_tls.tls, NULL);
    if (config->parts & CONFIG_PART_IN) {
        check_backends(load);
        check_warn_of_few_workers(load);
        check_warn_of_shared_domains(load);
        check_advise_on_in(load);
    }
    if (config->parts & CONFIG_PART_OUT) {
        check_out(load);
        check_advise_on_out(load);
        check_advise_on_allow(load);
    }
    if (strchr(config->hostname, '.') == NULL && !load_is_wrong(load, "hostname"))
        load_advise(load, config_lookup(&load->file, "hostname"), "hostname",
                    _("\"%s\" is a single word: others cannot look it up, and refuse mail from it"),
                    config->hostname);
    if (config->tls.certificates.count == 0 && !load_is_wrong(load, "tls"))
        load_advise(load, NULL, "tls.certificates", _("there is none, so STARTTLS is not offered"));
}
