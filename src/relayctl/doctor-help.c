/* relayctl/doctor-help.c - helpers for the checks of all groups
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/utf8.h"

void doctor_say(struct doctor_finding *finding, enum doctor_outcome outcome, const char *format,
                ...)
{
    va_list arguments;

    finding->outcome = outcome;
    va_start(arguments, format);
    vsnprintf(finding->seen, sizeof finding->seen, format, arguments);
    va_end(arguments);
    /* Other hosts and zones influence this text, so it must not control the terminal. */
    utf8_mask(finding->seen);
}

void doctor_advise(struct doctor_finding *finding, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(finding->fix, sizeof finding->fix, format, arguments);
    va_end(arguments);
    utf8_mask(finding->fix);
}

enum resolver_result doctor_ask(const struct doctor *doctor, const char *name, int type,
                                struct resolver_answer *answer)
{
    return resolver_lookup(doctor->resolver, name, type, doctor->deadline, answer);
}

/* Joins the strings of the TXT record at `index` into `out`, cut at `size` octets. */
static void doctor_txt(const struct resolver_answer *answer, size_t index, char *out, size_t size)
{
    const unsigned char *data = (const unsigned char *)answer->data[index];
    size_t left = (size_t)answer->lengths[index], len = 0;

    /* Each string starts with a length octet (RFC 1035 3.3.14). */
    while (left > 0 && (size_t)data[0] + 1 <= left) {
        for (size_t i = 1; i <= data[0] && len + 1 < size; i++)
            out[len++] = (char)(data[i] != '\0' ? data[i] : '?');
        left -= (size_t)data[0] + 1;
        data += data[0] + 1;
    }
    out[len] = '\0';
}

int doctor_txt_find(const struct doctor *doctor, const char *name, const char *prefix, char *out,
                    size_t size)
{
    struct resolver_answer answer;
    char text[4096];
    int found = 0;

    out[0] = '\0';
    enum resolver_result result = doctor_ask(doctor, name, DNS_TYPE_TXT, &answer);
    for (size_t i = 0; result == RESOLVER_FOUND && i < answer.count; i++) {
        doctor_txt(&answer, i, text, sizeof text);
        size_t len = strlen(prefix);
        if (strncasecmp(text, prefix, len) != 0 ||
            (text[len] != '\0' && strchr(" ;", text[len]) == NULL && prefix[len - 1] != ';'))
            continue;
        if (found++ == 0)
            snprintf(out, size, "%s", text);
    }
    resolver_answer_free(&answer);
    return result == RESOLVER_TEMPORARY ? -1 : found;
}

int doctor_addresses(const struct doctor *doctor, const char *name, int family, struct address *out,
                     size_t max)
{
    struct resolver_answer answer;
    size_t count = 0;
    enum resolver_result result =
        doctor_ask(doctor, name, family == AF_INET ? DNS_TYPE_A : DNS_TYPE_AAAA, &answer);

    for (size_t i = 0; result == RESOLVER_FOUND && i < answer.count && count < max; i++) {
        if (dns_address_read((const uint8_t *)answer.data[i], (size_t)answer.lengths[i],
                             &out[count]) == 0)
            count++;
    }
    resolver_answer_free(&answer);
    return result == RESOLVER_TEMPORARY ? -1 : (int)count;
}

int doctor_mx(const struct doctor *doctor, const char *domain, char hosts[][DNS_NAME_MAX],
              unsigned *preferences, size_t max)
{
    struct resolver_answer answer;
    size_t count = 0;
    enum resolver_result result = doctor_ask(doctor, domain, DNS_TYPE_MX, &answer);

    for (size_t i = 0; result == RESOLVER_FOUND && i < answer.count && count < max; i++) {
        char host[DNS_NAME_MAX];
        unsigned preference;
        size_t at = count;
        if (dns_mx_read((const uint8_t *)answer.data[i], (size_t)answer.lengths[i], &preference,
                        host) != 0)
            continue;
        while (at > 0 && preferences[at - 1] > preference) {
            preferences[at] = preferences[at - 1];
            memcpy(hosts[at], hosts[at - 1], DNS_NAME_MAX);
            at--;
        }
        preferences[at] = preference;
        memcpy(hosts[at], host, DNS_NAME_MAX);
        count++;
    }
    resolver_answer_free(&answer);
    return result == RESOLVER_TEMPORARY ? -1 : (int)count;
}

bool doctor_is_own(const struct doctor *doctor, const struct address *address)
{
    for (size_t i = 0; i < doctor->own4_count; i++) {
        if (address_same_ip(&doctor->own4[i], address))
            return true;
    }
    for (size_t i = 0; i < doctor->own6_count; i++) {
        if (address_same_ip(&doctor->own6[i], address))
            return true;
    }
    return false;
}

const char *doctor_list(const struct address *addresses, size_t count, char *out, size_t size)
{
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < count && len < size; i++) {
        char text[ADDRESS_TEXT_MAX];
        len += (size_t)snprintf(out + len, size - len, "%s%s", i > 0 ? ", " : "",
                                address_format_ip(&addresses[i], text));
    }
    return out;
}

size_t doctor_domains(const struct doctor *doctor, const char **out, size_t max)
{
    const struct config_in *in = &doctor->config->in;
    size_t count = 0;

    for (size_t i = 0; i < in->domains.count && count < max; i++) {
        if (in->domains.items[i][0] != '.')
            out[count++] = in->domains.items[i];
    }
    for (size_t b = 0; b < in->backends.count; b++) {
        const struct config_backend *backend = &((struct config_backend *)in->backends.items)[b];
        for (size_t i = 0; i < backend->domains.count && count < max; i++) {
            if (backend->domains.items[i][0] != '.')
                out[count++] = backend->domains.items[i];
        }
    }
    return count;
}

bool doctor_source(int family, struct address *own)
{
    struct address far;
    struct sockaddr_storage sockaddr;

    /* Use a real internet address: documentation addresses may have a blackhole route. */
    address_parse_endpoint(&far, family == AF_INET ? "198.41.0.4:25" : "[2001:503:ba3e::2:30]:25",
                           0);
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t len = address_to_sockaddr(&far, &sockaddr);
    bool known = fd >= 0 && connect(fd, (struct sockaddr *)&sockaddr, len) == 0 &&
                 address_of_socket(own, fd);
    if (fd >= 0)
        close(fd);
    own->port = 0;
    return known;
}

static void doctor_add_own(struct doctor *doctor, const struct address *address)
{
    bool six = address->family == AF_INET6;
    struct address *list = six ? doctor->own6 : doctor->own4;
    size_t *count = six ? &doctor->own6_count : &doctor->own4_count;

    if (!doctor_is_own(doctor, address) && *count < DOCTOR_ADDRESSES_MAX)
        list[(*count)++] = *address;
}

/* Takes out.source; else the local address for packets to the internet, if it is public; else
 * out.own_addresses, which exists for hosts behind NAT. */
void doctor_learn_own(struct doctor *doctor)
{
    static const int families[] = {AF_INET, AF_INET6};

    for (size_t i = 0; i < 2; i++) {
        const struct host_list *source = &doctor->config->out.source;
        const struct host_list *own = &doctor->config->out.own_addresses;
        struct address address;
        bool known = false;
        for (size_t n = 0; n < source->count; n++) {
            if (source->items[n].family == families[i] && !address_is_private(&source->items[n])) {
                doctor_add_own(doctor, &source->items[n]);
                known = true;
            }
        }
        if (!known && doctor_source(families[i], &address) && !address_is_private(&address)) {
            doctor_add_own(doctor, &address);
            known = true;
        }
        for (size_t n = 0; !known && n < own->count; n++) {
            if (own->items[n].family == families[i])
                doctor_add_own(doctor, &own->items[n]);
        }
    }
}

bool doctor_listener(const struct doctor *doctor, struct address *address, struct address *from,
                     bool *from_known)
{
    const struct listen_list *listen = &doctor->config->in.listen;
    static const struct address any;

    *from_known = false;
    for (size_t i = 0; i < listen->count; i++) {
        const struct listen_spec *spec = &listen->items[i];
        if (spec->implicit_tls || spec->proxy || spec->submission)
            continue;
        *address = spec->address;
        if (memcmp(address->ip, any.ip, sizeof any.ip) != 0)
            return true;
        bool six = address->family == AF_INET6 && doctor->own6_count > 0;
        *from_known = six || doctor->own4_count > 0;
        if (*from_known)
            *from = six ? doctor->own6[0] : doctor->own4[0];
        else
            address_parse_ip(from, address->family == AF_INET6 ? "::1" : "127.0.0.1");
        *address = *from;
        address->port = spec->address.port;
        return true;
    }
    return false;
}
