/* relay-out/users.c - who may log in, and with which sender addresses
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/users.h"

#include <crypt.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/deadline.h"
#include "base/i18n.h"
#include "dns/name.h"

#define FAILURE_MS 1000        /* least time of a failed check */
#define FAILURES_FOR_MS 600000 /* how long a failure is remembered */
#define CLIENTS_MAX 256        /* whose failures are remembered */
/* Most passwords being checked or waiting for it. A hash takes a tenth of a second of CPU time, and
 * guessers from many addresses must not take up the CPUs or the workers. One is computed at a time. */
#define CHECKS_MAX 4
#define SENDER_SEPARATORS " \t,;" /* between senders */

struct user {
    char *line; /* owns what the others point into */
    const char *name, *hash;
    const char *senders; /* "" = any */
};

struct failures {
    struct address client;
    unsigned count;
    int64_t until_ms;
};

struct users {
    struct user *items;
    size_t count;
    unsigned limit;
    pthread_mutex_t lock;
    struct failures failures[CLIENTS_MAX];
    unsigned checks;           /* under `lock`, too */
    pthread_mutex_t hash_lock; /* held while a hash is computed */
};

/* Takes ownership of the line. False if it is malformed, or when out of memory. */
static bool users_add_user(struct users *users, char *line)
{
    struct user user = {.line = line, .name = line, .senders = ""};
    char *hash = strchr(line, ':');
    struct user *items = realloc(users->items, (users->count + 1) * sizeof *items);

    if (items == NULL) {
        free(line);
        return false;
    }
    users->items = items;
    items[users->count++] = user;
    if (hash == NULL || hash == line)
        return false;
    *hash++ = '\0';
    char *senders = strchr(hash, ':');
    if (senders != NULL) {
        *senders++ = '\0';
        items[users->count - 1].senders = senders + strspn(senders, SENDER_SEPARATORS);
    }
    items[users->count - 1].hash = hash;
    return hash[0] != '\0';
}

static int users_read_users(struct users *users, FILE *stream, const char *file, struct error *err)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t len;

    for (unsigned number = 1; (len = getline(&line, &size, stream)) >= 0; number++) {
        while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
            line[--len] = '\0';
        if (len == 0 || line[0] == '#')
            continue;
        char *copy = strdup(line);
        if (copy == NULL || !users_add_user(users, copy)) {
            error_set(err,
                      _("%s:%u: expected NAME:HASH or NAME:HASH:SENDERS, as relayctl "
                        "password writes it"),
                      file, number);
            free(line);
            return -1;
        }
    }
    free(line);
    return 0;
}

struct users *users_new(const char *file, unsigned failures, struct error *err)
{
    struct users *users = calloc(1, sizeof *users);
    FILE *stream = fopen(file, "re");
    int result = -1;

    if (users == NULL) {
        error_set(err, _("out of memory"));
    } else {
        pthread_mutex_init(&users->lock, NULL);
        pthread_mutex_init(&users->hash_lock, NULL);
    }
    if (stream == NULL)
        error_set(err, _("cannot read %s: %s"), file, strerror(errno));
    if (users != NULL && stream != NULL) {
        users->limit = failures;
        result = users_read_users(users, stream, file, err);
    }
    if (stream != NULL)
        fclose(stream);
    if (result == 0)
        return users;
    users_free(users);
    return NULL;
}

void users_free(struct users *users)
{
    if (users == NULL)
        return;
    for (size_t i = 0; i < users->count; i++) {
        explicit_bzero(users->items[i].line, strlen(users->items[i].line));
        free(users->items[i].line);
    }
    free(users->items);
    pthread_mutex_destroy(&users->hash_lock);
    pthread_mutex_destroy(&users->lock);
    free(users);
}

static const struct user *users_find_user(const struct users *users, const char *name)
{
    for (size_t i = 0; i < users->count; i++) {
        if (strcmp(users->items[i].name, name) == 0)
            return &users->items[i];
    }
    return NULL;
}

/* The client's entry, or a new one in place of the one that ends first. Under the lock. */
static struct failures *users_failures_of(struct users *users, const struct address *client)
{
    struct address network = address_client_network(client);
    struct failures *first = &users->failures[0];
    int64_t now = deadline_now_ms();

    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        struct failures *at = &users->failures[i];
        if (at->until_ms > now && address_same_ip(&at->client, &network))
            return at;
        if (at->until_ms < first->until_ms)
            first = at;
    }
    *first = (struct failures){.client = network};
    return first;
}

static bool users_is_over_limit(struct users *users, const struct address *client)
{
    pthread_mutex_lock(&users->lock);
    bool over = users_failures_of(users, client)->count >= users->limit;
    pthread_mutex_unlock(&users->lock);
    return over;
}

static void users_count_failure(struct users *users, const struct address *client)
{
    pthread_mutex_lock(&users->lock);
    struct failures *failures = users_failures_of(users, client);
    failures->count++;
    failures->until_ms = deadline_in_ms(FAILURES_FOR_MS).at_ms;
    pthread_mutex_unlock(&users->lock);
}

/* The time that it takes does not reveal where they differ. */
static bool users_is_same(const char *a, const char *b)
{
    size_t len = strlen(a);
    unsigned char differ = strlen(b) != len;
    for (size_t i = 0; i < len && !(differ && i >= strlen(b)); i++)
        differ |= (unsigned char)(a[i] ^ b[i]);
    return differ == 0;
}

/* An unknown name takes as long as the first user's, so that the time does not reveal who exists. */
static bool users_is_password(const struct users *users, const char *name, const char *password)
{
    const struct user *user = users_find_user(users, name);
    const struct user *model = user != NULL ? user : users->count > 0 ? &users->items[0] : NULL;
    struct crypt_data *data = calloc(1, sizeof *data);
    bool same = false;

    if (data != NULL && model != NULL) {
        const char *hash = crypt_r(password, model->hash, data);
        same = hash != NULL && hash[0] != '*' && users_is_same(hash, model->hash);
        explicit_bzero(data, sizeof *data);
    }
    free(data);
    return same && user != NULL;
}

static bool users_begin_check(struct users *users)
{
    pthread_mutex_lock(&users->lock);
    bool begins = users->checks < CHECKS_MAX;
    users->checks += begins;
    pthread_mutex_unlock(&users->lock);
    if (begins)
        pthread_mutex_lock(&users->hash_lock);
    return begins;
}

static void users_end_check(struct users *users)
{
    pthread_mutex_unlock(&users->hash_lock);
    pthread_mutex_lock(&users->lock);
    users->checks--;
    pthread_mutex_unlock(&users->lock);
}

enum own_reply users_check(struct users *users, const struct address *client, const char *user,
                           const char *password, int64_t *answer_at_ms)
{
    int64_t failed_ms = deadline_now_ms() + FAILURE_MS;

    *answer_at_ms = 0;
    if (users_is_over_limit(users, client))
        return REPLY_AUTH_TOO_OFTEN;
    if (!users_begin_check(users))
        return REPLY_AUTH_TEMPORARY;
    bool right = users_is_password(users, user, password);
    users_end_check(users);
    if (right)
        return REPLY_OK;
    users_count_failure(users, client);
    *answer_at_ms = failed_ms;
    return REPLY_AUTH_FAILED;
}

/* "*", "@domain" or a mailbox. */
static bool users_sender_fits(const char *pattern, size_t len, const struct path *sender)
{
    const char *at = memrchr(pattern, '@', len);
    char domain[PATH_DOMAIN_MAX + 1];

    if (len == 1 && pattern[0] == '*')
        return true;
    if (at == NULL || pattern + len - at > PATH_DOMAIN_MAX)
        return false;
    snprintf(domain, sizeof domain, "%.*s", (int)(pattern + len - at - 1), at + 1);
    size_t local_len = (size_t)(at - pattern);
    return (local_len == 0 || (local_len == sender->local_len &&
                               strncasecmp(sender->mailbox, pattern, local_len) == 0)) &&
           dns_name_equal(sender->domain, domain);
}

bool users_may_send(const struct users *users, const char *name, const struct path *sender)
{
    const struct user *user = users_find_user(users, name);

    if (user == NULL || sender->is_null || user->senders[0] == '\0')
        return user != NULL;
    if (sender->domain[0] == '\0')
        return false;
    for (const char *at = user->senders; *at != '\0';) {
        size_t len = strcspn(at, SENDER_SEPARATORS);
        if (len > 0 && users_sender_fits(at, len, sender))
            return true;
        at += len + strspn(at + len, SENDER_SEPARATORS);
    }
    return false;
}
