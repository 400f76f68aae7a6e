/* relayctl/certificate.c - relayctl certificate: may this certificate be used?
 *
 * install-certificate asks before it installs anything. A certificate that the relay could not load is
 * always refused. One that clients would object to is refused unless --force is given.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "base/i18n.h"
#include "config/config.h"
#include "relayctl/subcommand.h"
#include "net/certificate.h"
#include "net/dane.h"
#include "dns/name.h"
#include "dns/resolver.h"

#define CERTIFICATE_DNS_MS 10000 /* for the records of one name */
#define CERTIFICATE_ASKED_MAX 16 /* names given by --name */

struct certificate_question {
    const char *names[CERTIFICATE_ASKED_MAX]; /* the names of the relay */
    size_t name_count;
    const char *file, *key_file;
    bool force;
    bool refused;          /* for a reason that --force overrules */
    struct config *config; /* NULL: none names the host */
    struct certificate certificate;
};

static bool certificate_add_name(void *context, int tag, char *value)
{
    struct certificate_question *question = context;

    (void)tag;
    if (question->name_count == CERTIFICATE_ASKED_MAX)
        return false;
    question->names[question->name_count++] = value;
    return true;
}

/* Reports an objection. With --force it does not refuse the certificate. */
static void certificate_object(struct certificate_question *question, const char *text)
{
    question->refused |= !question->force;
    fprintf(stderr, "%s: %s\n", question->file, text);
}

/* Loads it as the daemons will: what fails here would fail there. */
static int certificate_load(const struct certificate_question *question)
{
    struct tls_pair pair = {question->file, question->key_file};
    const struct tls_server_config config = {.pairs = &pair,
                                             .pair_count = 1,
                                             .priority = "NORMAL",
                                             .minimum_version = TLS_MIN_1_2,
                                             .client_certificates = TLS_CLIENT_NONE};
    struct error err;
    struct tls_server *tls = tls_server_new(&config, NULL, &err);

    if (tls == NULL)
        fprintf(stderr, "%s\n", err.text);
    tls_server_unref(tls);
    return tls != NULL ? 0 : -1;
}

static void certificate_check_dates(struct certificate_question *question)
{
    long long now = time(NULL);

    if (question->certificate.not_after <= now)
        certificate_object(question, _("it has expired"));
    else if (question->certificate.not_before > now)
        certificate_object(question, _("it is not valid yet (is the clock right?)"));
}

static void certificate_check_chain(struct certificate_question *question)
{
    const struct certificate *certificate = &question->certificate;

    if (certificate->state == CERTIFICATE_UNORDERED)
        certificate_object(question, _("its certificates are in the wrong order"));
    else if (certificate->state == CERTIFICATE_INCOMPLETE && certificate->chain_count == 1)
        certificate_object(
            question, _("its issuer's certificate is missing: use fullchain.pem, not cert.pem"));
}

static bool certificate_is_ours(const struct certificate_question *question)
{
    for (size_t i = 0; i < question->name_count; i++) {
        if (certificate_covers(&question->certificate, question->names[i]))
            return true;
    }
    return false;
}

static void certificate_tell_stranger(const struct certificate_question *question)
{
    const struct certificate *certificate = &question->certificate;

    fprintf(stderr, _("%s: it is for %s, not for %s\n"), question->file,
            certificate->name_count > 0 ? certificate->names[0] : "?", question->names[0]);
}

/* Writes the TLSA record that matches this key, and thus any later certificate with it (RFC 7671
 * 5.1). */
static int certificate_record(const struct certificate_question *question, char *out, size_t size)
{
    struct tls_certificate key;
    unsigned char digest[32];

    if (dane_public_key(&question->certificate.chain[0], &key) != 0 ||
        gnutls_hash_fast(GNUTLS_DIG_SHA256, key.der, key.len, digest) != 0)
        return -1;
    size_t at = (size_t)snprintf(out, size, "3 1 1 ");
    for (size_t i = 0; i < sizeof digest && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%02x", digest[i]);
    return 0;
}

static void certificate_compare(struct certificate_question *question, const char *host,
                                const struct resolver_answer *answer)
{
    char text[512], record[80] = "";
    struct dane_records *records =
        dane_records_new((const char *const *)answer->data, answer->lengths, answer->count);
    const struct certificate *certificate = &question->certificate;

    /* Unsigned or unusable records bind nobody (RFC 7672 2.2). */
    if (records != NULL && records->count > 0 && answer->secure &&
        dane_match(records, certificate->chain, certificate->chain_count, &host, 1).result !=
            DANE_MATCH) {
        certificate_record(question, record, sizeof record);
        snprintf(
            text, sizeof text,
            _("the TLSA records of %s do not cover it; first publish this one beside the old one:\n"
              "    _25._tcp.%s. IN TLSA %s\n"
              "and try again after %u seconds"),
            host, host, record, answer->ttl);
        certificate_object(question, text);
    }
    free(records);
}

/* A name server that does not answer must not block a renewal. */
static void certificate_check_tlsa(struct certificate_question *question)
{
    struct resolver_config config;
    struct resolver *resolver;
    struct error err;

    if (question->config == NULL)
        return;
    config_resolver(question->config, &config);
    resolver = resolver_new(&config, &err);
    for (size_t i = 0; i < question->name_count && resolver != NULL; i++) {
        const char *host = question->names[i];
        char name[DNS_NAME_MAX + 20];
        struct resolver_answer answer;

        if (!certificate_covers(&question->certificate, host))
            continue;
        snprintf(name, sizeof name, "_25._tcp.%s", host);
        enum resolver_result result = resolver_lookup(resolver, name, DNS_TYPE_TLSA,
                                                      deadline_in_ms(CERTIFICATE_DNS_MS), &answer);
        if (result == RESOLVER_FOUND)
            certificate_compare(question, host, &answer);
        else if (result == RESOLVER_TEMPORARY)
            fprintf(stderr, _("%s: cannot find out whether there are TLSA records: %s\n"), name,
                    answer.reason);
        resolver_answer_free(&answer);
    }
    resolver_free(resolver);
}

static int certificate_answer(struct certificate_question *question)
{
    struct error err;

    if (certificate_load(question) != 0)
        return EX_DATAERR;
    if (certificate_read(&question->certificate, question->file, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        return EX_DATAERR;
    }
    certificate_check_dates(question);
    certificate_check_chain(question);
    if (question->name_count > 0 && !certificate_is_ours(question)) {
        certificate_tell_stranger(question);
        if (!question->force)
            return EX_NOHOST;
    }
    certificate_check_tlsa(question);
    if (question->refused)
        return EX_DATAERR;
    if (question->name_count > 0)
        return EX_OK;
    fprintf(stderr,
            _("%s: cannot tell whether it is for this relay: relay.conf has no valid hostname, or "
              "cannot be read; see relayctl check\n"),
            question->file);
    return EX_CONFIG;
}

static int certificate_run(struct subcommand_line *line)
{
    struct certificate_question question = {.name_count = 1};
    const char *file = config_default_file;
    const struct subcommand_option options[] = {
        {"config", 'c', .text = &file},
        {"name", .take = certificate_add_name, .context = &question},
        {"force", .flag = &question.force},
        {.name = NULL},
    };
    int status;

    if (!subcommand_parse(line, options, &status))
        return status;
    if (line->argc < 1 || line->argc > 2) {
        fprintf(stderr, _("relayctl certificate: give one certificate and its key\n"));
        return EX_USAGE;
    }
    question.file = line->argv[0];
    question.key_file = line->argv[line->argc - 1];
    /* The first certificate comes while the files that relay.conf names are missing. */
    question.config = config_load_unfinished(file);
    if (question.config != NULL)
        question.names[0] = question.config->hostname;
    else
        question.names[0] = question.names[--question.name_count];
    status = certificate_answer(&question);
    certificate_clear(&question.certificate);
    config_unref(question.config);
    return status;
}

const struct subcommand certificate_subcommand = {
    .name = "certificate",
    .summary = N_("say whether a certificate is fit for use"),
    .help = {N_(
        "Usage: relayctl certificate [OPTION...] CERT [KEY]\n"
        "Says whether a certificate (with its chain, PEM) is fit for use here: whether the\n"
        "daemons can load it, its dates, chain and name, and the TLSA records of that name.\n\n"
        "  -c, --config FILE           gives hostname and DNS servers (default %s)\n"
        "      --name NAME             also accept this name; may be given several times\n"
        "      --force                 refuse only a certificate that cannot be loaded\n\n"
        "Exit status: 0 yes, 65 no, 68 it is another host's, 78 yes, but it is not known "
        "whose.\n")},
    .arguments = true,
    .run = certificate_run,
};
