/* relay-out/stsfetch.c - fetches MTA-STS policies by HTTPS
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/stsfetch.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/i18n.h"
#include "dns/name.h"

#define ADDRESSES_MAX 8
#define HTTPS_PORT 443

struct stsfetch {
    struct resolver *resolver;
    pthread_mutex_t lock;
    char *ca_file; /* "": the system's */
};

/* One fetch. */
struct stsfetch_job {
    const atomic_bool *ending;
    struct stscache_fetched *fetched;
    char host[DNS_NAME_MAX];
    CURL *curl;
    struct curl_slist *addresses; /* "HOST:443:ADDRESS,..." */
    bool is_too_long;
};

__attribute__((format(printf, 3, 4))) static void
stsfetch_fail(struct stsfetch_job *job, enum stscache_failure failure, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(job->fetched->why, sizeof job->fetched->why, format, arguments);
    va_end(arguments);
    job->fetched->failure = failure;
}

/* The policy's host. */

/* Appends the addresses that may be connected to. Returns how many. */
static size_t stsfetch_add_addresses(const struct resolver_answer *answer, char *text, size_t size,
                                     size_t already)
{
    size_t count = 0;

    for (size_t i = 0; i < answer->count && already + count < ADDRESSES_MAX; i++) {
        struct address address;
        char ip[ADDRESS_TEXT_MAX];
        size_t len = strlen(text);
        if (dns_address_read((const uint8_t *)answer->data[i], (size_t)answer->lengths[i],
                             &address) != 0 ||
            address_is_private(&address))
            continue;
        address_format_ip(&address, ip);
        snprintf(text + len, size - len, address.family == AF_INET6 ? "%s[%s]" : "%s%s",
                 already + count > 0 ? "," : "", ip);
        count++;
    }
    return count;
}

static bool stsfetch_find_host(struct stsfetch_job *job, struct resolver *resolver)
{
    struct resolver_question questions[] = {{.name = job->host, .type = DNS_TYPE_AAAA},
                                            {.name = job->host, .type = DNS_TYPE_A}};
    char text[DNS_NAME_MAX + 16 + ADDRESSES_MAX * (ADDRESS_TEXT_MAX + 3)];
    bool is_known = true, has_some = false;
    size_t count = 0;

    snprintf(text, sizeof text, "%s:%d:", job->host, HTTPS_PORT);
    resolver_lookup_all(resolver, questions, 2, deadline_in_ms(STSFETCH_TIMEOUT_MS / 3));
    for (size_t i = 0; i < 2; i++) {
        is_known &= questions[i].answer.result != RESOLVER_TEMPORARY;
        has_some |= questions[i].answer.count > 0;
        count += stsfetch_add_addresses(&questions[i].answer, text, sizeof text, count);
        resolver_answer_free(&questions[i].answer);
    }
    if (count > 0) {
        job->addresses = curl_slist_append(NULL, text);
        if (job->addresses == NULL)
            stsfetch_fail(job, STSCACHE_FETCH_FAILED, "out of memory");
        return job->addresses != NULL;
    }
    stsfetch_fail(job, STSCACHE_FETCH_FAILED, "%s %s", job->host,
                  has_some   ? "has only private addresses"
                  : is_known ? "has no addresses"
                             : "cannot be resolved at the moment");
    return false;
}

/* The request. */

static size_t stsfetch_take(char *bytes, size_t size, size_t count, void *context)
{
    struct stsfetch_job *job = context;
    struct stscache_fetched *fetched = job->fetched;
    size_t len = size * count;

    if (len > STS_POLICY_MAX - fetched->len) {
        job->is_too_long = true;
        return 0;
    }
    memcpy(fetched->text + fetched->len, bytes, len);
    fetched->len += len;
    return len;
}

static int stsfetch_watch(void *context, curl_off_t down_total, curl_off_t down,
                          curl_off_t up_total, curl_off_t up)
{
    const struct stsfetch_job *job = context;
    (void)down_total, (void)down, (void)up_total, (void)up;
    return atomic_load(job->ending);
}

static void stsfetch_set_up(struct stsfetch_job *job, const char *ca_file)
{
    char url[DNS_NAME_MAX + 64];
    CURL *curl = job->curl;

    snprintf(url, sizeof url, "https://%s" STS_PATH, job->host);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_RESOLVE, job->addresses);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
#else
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS, CURLPROTO_HTTPS);
#endif
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (ca_file[0] != '\0')
        curl_easy_setopt(curl, CURLOPT_CAINFO, ca_file);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)STSFETCH_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)STSFETCH_TIMEOUT_MS / 2);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, stsfetch_take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, job);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, stsfetch_watch);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, job);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
}

static bool stsfetch_is_verification(CURLcode code)
{
    return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CERTPROBLEM ||
           code == CURLE_SSL_ISSUER_ERROR;
}

/* RFC 8461 3.3: only status 200 is an answer, and only plain text is a policy. */
static void stsfetch_judge(struct stsfetch_job *job, CURLcode code)
{
    const char *type = NULL;
    long status = 0;

    curl_easy_getinfo(job->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(job->curl, CURLINFO_CONTENT_TYPE, &type);
    if (job->is_too_long)
        stsfetch_fail(job, STSCACHE_POLICY_INVALID, "https://%s: longer than 64 KiB", job->host);
    else if (code != CURLE_OK)
        stsfetch_fail(
            job, stsfetch_is_verification(code) ? STSCACHE_WEBPKI_INVALID : STSCACHE_FETCH_FAILED,
            "https://%s: %s", job->host, curl_easy_strerror(code));
    else if (status != 200)
        stsfetch_fail(job, STSCACHE_FETCH_FAILED, "https://%s: HTTP status %ld", job->host, status);
    else if (!sts_is_policy_type(type))
        stsfetch_fail(job, STSCACHE_FETCH_FAILED, "https://%s: media type %.60s", job->host,
                      type != NULL ? type : "missing");
}

static void stsfetch_init(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void stsfetch_run(struct stsfetch_job *job, const char *ca_file)
{
    job->fetched->text = malloc(STS_POLICY_MAX);
    job->curl = job->fetched->text != NULL ? curl_easy_init() : NULL;
    if (job->curl == NULL) {
        stsfetch_fail(job, STSCACHE_FETCH_FAILED, "out of memory");
        return;
    }
    stsfetch_set_up(job, ca_file);
    stsfetch_judge(job, curl_easy_perform(job->curl));
    curl_easy_cleanup(job->curl);
}

static void stsfetch_get(void *context, const char *domain, const atomic_bool *ending,
                         struct stscache_fetched *fetched)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct stsfetch *fetch = context;
    struct stsfetch_job job = {.ending = ending, .fetched = fetched};

    *fetched = (struct stscache_fetched){.failure = STSCACHE_NOTHING_FAILED};
    if (snprintf(job.host, sizeof job.host, STS_HOST_PREFIX ".%s", domain) >=
        (int)sizeof job.host - 1) {
        stsfetch_fail(&job, STSCACHE_FETCH_FAILED, "the name of its policy host is too long");
        return;
    }
    pthread_once(&once, stsfetch_init);
    if (!stsfetch_find_host(&job, fetch->resolver))
        return;
    pthread_mutex_lock(&fetch->lock);
    char *ca_file = strdup(fetch->ca_file);
    pthread_mutex_unlock(&fetch->lock);
    if (ca_file != NULL)
        stsfetch_run(&job, ca_file);
    else
        stsfetch_fail(&job, STSCACHE_FETCH_FAILED, "out of memory");
    free(ca_file);
    curl_slist_free_all(job.addresses);
}

/* The record. */

int stsfetch_record_name(const char *domain, char name[DNS_NAME_MAX])
{
    return snprintf(name, DNS_NAME_MAX, STS_RECORD_PREFIX ".%s", domain) < DNS_NAME_MAX - 1 ? 0
                                                                                            : -1;
}

enum stscache_record stsfetch_read_record(const struct resolver_answer *answer,
                                          char id[STS_ID_MAX + 1])
{
    id[0] = '\0';
    if (answer->result == RESOLVER_TEMPORARY)
        return STSCACHE_RECORD_UNKNOWN;
    return sts_read_record((const char *const *)answer->data, answer->lengths, answer->count, id)
               ? STSCACHE_RECORD
               : STSCACHE_NO_RECORD;
}

static enum stscache_record stsfetch_look_up(void *context, const char *domain,
                                             char id[STS_ID_MAX + 1])
{
    struct stsfetch *fetch = context;
    struct resolver_answer answer;
    char name[DNS_NAME_MAX];

    id[0] = '\0';
    if (stsfetch_record_name(domain, name) != 0)
        return STSCACHE_NO_RECORD;
    resolver_lookup(fetch->resolver, name, DNS_TYPE_TXT, deadline_in_ms(STSFETCH_TIMEOUT_MS / 3),
                    &answer);
    enum stscache_record record = stsfetch_read_record(&answer, id);
    resolver_answer_free(&answer);
    return record;
}

/* Life. */

static int64_t stsfetch_now(void *context)
{
    (void)context;
    return (int64_t)time(NULL);
}

struct stscache_source stsfetch_source(struct stsfetch *fetch)
{
    return (struct stscache_source){
        .fetch = stsfetch_get, .record = stsfetch_look_up, .now_s = stsfetch_now, .context = fetch};
}

struct stsfetch *stsfetch_new(struct resolver *resolver, struct error *err)
{
    struct stsfetch *fetch = calloc(1, sizeof *fetch);
    char *none = strdup("");

    if (fetch == NULL || none == NULL) {
        error_set(err, _("out of memory"));
        free(fetch);
        free(none);
        return NULL;
    }
    fetch->resolver = resolver;
    fetch->ca_file = none;
    pthread_mutex_init(&fetch->lock, NULL);
    return fetch;
}

void stsfetch_use(struct stsfetch *fetch, const char *ca_file)
{
    char *copy = strdup(ca_file);

    if (copy == NULL)
        return;
    pthread_mutex_lock(&fetch->lock);
    free(fetch->ca_file);
    fetch->ca_file = copy;
    pthread_mutex_unlock(&fetch->lock);
}

void stsfetch_free(struct stsfetch *fetch)
{
    if (fetch == NULL)
        return;
    pthread_mutex_destroy(&fetch->lock);
    free(fetch->ca_file);
    free(fetch);
}
