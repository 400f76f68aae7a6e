/* relay-in/missed.c - the ledger of missed mail
 *
 * The file begins with "postern-missed 1" and the key. Then each line is the state of an entry at some time;
 * the last line with the same hash counts:
 *
 *   HASH STATE FIRST LAST SETTLED TRIES REASON NAMED SENDER RECIPIENT CLIENT
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-in/missed.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/i18n.h"
#include "base/log.h"
#include "dns/reverse.h"

#define KEY_LEN 32
#define LINE_MAX 1024
#define RETRY_MS 60000   /* after the file could not be written */
#define SPARE_LINES 1000 /* lines beyond the entries before the file is rewritten */

struct missed {
    pthread_mutex_t lock; /* protects everything below */
    uint8_t key[KEY_LEN];
    bool whole_senders;
    char *path;          /* NULL: in memory only */
    int fd;              /* for appending; -1: none */
    bool lost;           /* it was logged that the file cannot be written */
    int64_t retry_at_ms; /* then it is not tried again before */
    unsigned lines;
    struct missed_entry *entries; /* MISSED_MAX, once there is one */
    unsigned count;
    atomic_uint pending; /* read without the lock */
};

static const struct {
    enum own_reply reply;
    const char *name;
} missed_reasons[] = {
    {REPLY_BACKEND_UNREACHABLE, "unreachable"},
    {REPLY_BACKEND_BUSY, "busy"},
    {REPLY_BACKEND_LOST, "lost"},
    {REPLY_BACKEND_CONFIG, "config"},
};
#define REASON_COUNT (sizeof missed_reasons / sizeof *missed_reasons)

const char *missed_reason_name(enum own_reply reason)
{
    for (size_t i = 0; i < REASON_COUNT; i++) {
        if (missed_reasons[i].reply == reason)
            return missed_reasons[i].name;
    }
    return "?";
}

/* Is the reply one of our own deferrals? Stores which. */
static bool missed_is_ours(const struct reply *reply, enum own_reply *reason)
{
    struct reply own;

    for (size_t i = 0; i < REASON_COUNT; i++) {
        reply_own(&own, missed_reasons[i].reply);
        if (own.code == reply->code && strcmp(own.enhanced, reply->enhanced) == 0 &&
            strcmp(own.text, reply->text) == 0) {
            *reason = missed_reasons[i].reply;
            return true;
        }
    }
    return false;
}

static int64_t missed_now(void)
{
    return (int64_t)time(NULL);
}

/* The file. Everything runs under the lock, or before threads start. */

static void missed_log_problem(const struct missed *missed, const char *what)
{
    struct log_line line;
    log_begin(&line, LOG_LEVEL_WARNING, "event=missed");
    log_str(&line, "status", "memory");
    log_str(&line, "file", missed->path);
    log_str(&line, "reason", what);
    log_str(&line, "effect", "the ledger of missed mail will be lost at the next restart");
    log_end(&line);
}

static void missed_lose_file(struct missed *missed, const char *what)
{
    if (!missed->lost)
        missed_log_problem(missed, what);
    missed->lost = true;
    missed->retry_at_ms = deadline_now_ms() + RETRY_MS;
    if (missed->fd >= 0)
        close(missed->fd);
    missed->fd = -1;
}

static void missed_take_file(struct missed *missed, int fd)
{
    if (missed->lost)
        log_write(LOG_LEVEL_NOTICE, "event=missed status=file");
    missed->lost = false;
    if (missed->fd >= 0)
        close(missed->fd);
    missed->fd = fd;
    missed->lines = missed->count;
}

/* False, with errno, unless all of it is written. */
static bool missed_put(int fd, const char *text, int len)
{
    ssize_t put = write(fd, text, (size_t)len);

    if (put >= 0 && put < len)
        errno = ENOSPC;
    return put == len;
}

static void missed_hex(const uint8_t *octets, size_t len, char *out)
{
    for (size_t i = 0; i < len; i++)
        sprintf(out + 2 * i, "%02x", octets[i]);
}

static bool missed_unhex(const char *text, uint8_t *octets, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned octet;
        if (strspn(text + 2 * i, "0123456789abcdef") < 2 ||
            sscanf(text + 2 * i, "%2x", &octet) != 1)
            return false;
        octets[i] = (uint8_t)octet;
    }
    return true;
}

/* Makes one word of an address. Blanks occur only in quotes, where replacing them does no harm. */
static const char *missed_word(const char *text, char out[MISSED_TEXT_MAX + 1])
{
    snprintf(out, MISSED_TEXT_MAX + 1, "%s", text[0] != '\0' ? text : "-");
    for (char *at = out; *at != '\0'; at++)
        *at = (unsigned char)*at <= ' ' || *at == 0x7f ? '?' : *at;
    return out;
}

static int missed_format(const struct missed_entry *entry, char line[LINE_MAX])
{
    char hash[2 * MISSED_HASH_LEN + 1], sender[MISSED_TEXT_MAX + 1], to[MISSED_TEXT_MAX + 1],
        client[MISSED_TEXT_MAX + 1];

    missed_hex(entry->hash, MISSED_HASH_LEN, hash);
    return snprintf(line, LINE_MAX, "%s %d %" PRId64 " %" PRId64 " %" PRId64 " %u %s %d %s %s %s\n",
                    hash, (int)entry->state, entry->first, entry->last, entry->settled,
                    entry->tries, missed_reason_name(entry->reason), entry->has_name,
                    missed_word(entry->sender, sender), missed_word(entry->recipient, to),
                    missed_word(entry->client, client));
}

static bool missed_parse(const char *line, struct missed_entry *entry)
{
    char hash[2 * MISSED_HASH_LEN + 1], reason[16];
    int state, named, used = 0;

    memset(entry, 0, sizeof *entry);
    if (sscanf(line, "%32s %d %" SCNd64 " %" SCNd64 " %" SCNd64 " %u %15s %d %127s %127s %127s%n",
               hash, &state, &entry->first, &entry->last, &entry->settled, &entry->tries, reason,
               &named, entry->sender, entry->recipient, entry->client, &used) != 11 ||
        line[used] != '\n' || state < MISSED_PENDING || state > MISSED_REFUSED ||
        !missed_unhex(hash, entry->hash, MISSED_HASH_LEN))
        return false;
    entry->state = (enum missed_state)state;
    entry->has_name = named != 0;
    if (strcmp(entry->sender, "-") == 0)
        entry->sender[0] = '\0';
    entry->reason = REPLY_BACKEND_UNREACHABLE;
    for (size_t i = 0; i < REASON_COUNT; i++) {
        if (strcmp(missed_reasons[i].name, reason) == 0)
            entry->reason = missed_reasons[i].reply;
    }
    return true;
}

static int missed_write_new(struct missed *missed, const char *name)
{
    char line[LINE_MAX], key[2 * KEY_LEN + 1];
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    bool good = fd >= 0;

    missed_hex(missed->key, KEY_LEN, key);
    int len = snprintf(line, sizeof line, "postern-missed 1 %s\n", key);
    good = good && missed_put(fd, line, len);
    for (unsigned i = 0; good && i < missed->count; i++) {
        len = missed_format(&missed->entries[i], line);
        good = missed_put(fd, line, len);
    }
    if (good && fsync(fd) == 0)
        return fd;
    int failure = errno;
    if (fd >= 0)
        close(fd);
    errno = failure;
    return -1;
}

/* Rewrites the file without old lines. */
static void missed_rewrite(struct missed *missed)
{
    char *name = NULL;

    if (missed->path == NULL || asprintf(&name, "%s.new", missed->path) < 0)
        return;
    int fd = missed_write_new(missed, name);
    if (fd >= 0 && rename(name, missed->path) == 0) {
        missed_take_file(missed, fd);
    } else {
        missed_lose_file(missed, strerror(errno));
        if (fd >= 0)
            close(fd);
        unlink(name);
    }
    free(name);
}

/* Appends with one write(2), so that only the last line can be incomplete after a crash. Without a file,
 * tries from time to time to write it anew, with all entries. */
static void missed_append(struct missed *missed, const struct missed_entry *entry)
{
    char line[LINE_MAX];

    if (missed->fd >= 0) {
        if (missed_put(missed->fd, line, missed_format(entry, line)))
            missed->lines++;
        else
            missed_lose_file(missed, strerror(errno));
    } else if (missed->path != NULL && deadline_now_ms() >= missed->retry_at_ms) {
        missed_rewrite(missed);
    }
}

/* Entries. Under the lock, here and below. */

static struct missed_entry *missed_find(struct missed *missed, const uint8_t *hash)
{
    for (unsigned i = 0; i < missed->count; i++) {
        if (memcmp(missed->entries[i].hash, hash, MISSED_HASH_LEN) == 0)
            return &missed->entries[i];
    }
    return NULL;
}

static void missed_count_pending(struct missed *missed)
{
    unsigned pending = 0;
    for (unsigned i = 0; i < missed->count; i++)
        pending += missed->entries[i].state == MISSED_PENDING;
    atomic_store(&missed->pending, pending);
}

static void missed_forget_old(struct missed *missed, int64_t now)
{
    for (unsigned i = 0; i < missed->count;) {
        const struct missed_entry *entry = &missed->entries[i];
        int64_t changed = entry->settled > entry->last ? entry->settled : entry->last;
        if (now - changed > MISSED_KEEP_S)
            missed->entries[i] = missed->entries[--missed->count];
        else
            i++;
    }
}

/* The worth of an entry: 0 for a settled one, 1 for one with a single try, 2 for any other. */
static int missed_worth(const struct missed_entry *entry)
{
    return entry->state != MISSED_PENDING ? 0 : entry->tries == 1 ? 1 : 2;
}

/* Makes a place for a new entry; NULL if out of memory. */
static struct missed_entry *missed_place(struct missed *missed, int64_t now)
{
    struct missed_entry *worst;

    if (missed->entries == NULL)
        missed->entries = calloc(MISSED_MAX, sizeof *missed->entries);
    if (missed->entries == NULL)
        return NULL;
    if (missed->count == MISSED_MAX)
        missed_forget_old(missed, now);
    if (missed->count < MISSED_MAX)
        return &missed->entries[missed->count++];
    worst = &missed->entries[0];
    for (unsigned i = 1; i < missed->count; i++) {
        struct missed_entry *entry = &missed->entries[i];
        int worth = missed_worth(entry), least = missed_worth(worst);
        if (worth < least || (worth == least && entry->first < worst->first))
            worst = entry;
    }
    return worst;
}

static void missed_read_line(struct missed *missed, const char *line)
{
    struct missed_entry entry;

    missed->lines++;
    if (!missed_parse(line, &entry))
        return; /* the last line of a process that was killed */
    struct missed_entry *place = missed_find(missed, entry.hash);
    if (place == NULL)
        place = missed_place(missed, entry.last);
    if (place != NULL)
        *place = entry;
}

/* Reads the file. False if it does not exist or is not ours. */
static bool missed_read(struct missed *missed)
{
    char line[LINE_MAX], key[2 * KEY_LEN + 1];
    FILE *file = fopen(missed->path, "re");

    if (file == NULL)
        return false;
    bool good = fgets(line, sizeof line, file) != NULL &&
                sscanf(line, "postern-missed 1 %64s", key) == 1 && strlen(key) == 2 * KEY_LEN &&
                missed_unhex(key, missed->key, KEY_LEN);
    while (good && fgets(line, sizeof line, file) != NULL)
        missed_read_line(missed, line);
    fclose(file);
    return good;
}

struct missed *missed_open(const char *folder, bool whole_senders, struct error *err)
{
    struct missed *missed = calloc(1, sizeof *missed);

    if (missed == NULL || (folder[0] != '\0' && asprintf(&missed->path, "%s/missed", folder) < 0)) {
        error_set(err, _("out of memory"));
        free(missed);
        return NULL;
    }
    pthread_mutex_init(&missed->lock, NULL);
    missed->fd = -1;
    missed->whole_senders = whole_senders;
    if (missed->path != NULL && missed_read(missed))
        missed_forget_old(missed, missed_now());
    else if (getrandom(missed->key, KEY_LEN, 0) != KEY_LEN)
        missed_log_problem(missed, strerror(errno));
    if (missed->path != NULL)
        missed_rewrite(missed);
    missed_count_pending(missed);
    return missed;
}

void missed_close(struct missed *missed)
{
    if (missed == NULL)
        return;
    if (missed->fd < 0)
        missed_rewrite(missed);
    if (missed->fd >= 0)
        close(missed->fd);
    pthread_mutex_destroy(&missed->lock);
    free(missed->entries);
    free(missed->path);
    free(missed);
}

/* Hashes sender and recipient, because a sender may come back from another host. For notices, which have no sender, the
 * client's network stands in. */
static bool missed_hash(const struct missed *missed, const struct envelope *envelope,
                        const char *recipient, uint8_t hash[MISSED_HASH_LEN])
{
    char text[2 * PATH_MAX_OCTETS + 8], network[ADDRESS_TEXT_MAX];
    uint8_t whole[32];
    struct address site = address_site_network(&envelope->client->address);
    const char *sender = envelope->sender.mailbox[0] != '\0' ? envelope->sender.mailbox
                                                             : address_format_ip(&site, network);

    int len = snprintf(text, sizeof text, "%s>%s", sender, recipient);
    if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, missed->key, KEY_LEN, text, (size_t)len, whole) != 0)
        return false;
    memcpy(hash, whole, MISSED_HASH_LEN);
    return true;
}

static void missed_fill(const struct missed *missed, struct missed_entry *entry,
                        const struct envelope *envelope, const char *recipient)
{
    const struct client_identity *client = envelope->client;
    struct address site = address_site_network(&client->address);
    struct reverse_names names = {.status = REVERSE_UNAVAILABLE};
    char network[ADDRESS_TEXT_MAX];

    if (client->names != NULL)
        reverse_peek(client->names, &names);
    entry->has_name = names.status == REVERSE_VERIFIED;
    snprintf(entry->client, sizeof entry->client, "%.*s", MISSED_TEXT_MAX,
             entry->has_name ? names.name : address_format_ip(&site, network));
    snprintf(entry->sender, sizeof entry->sender, "%.*s", MISSED_TEXT_MAX,
             missed->whole_senders ? envelope->sender.mailbox : envelope->sender.domain);
    snprintf(entry->recipient, sizeof entry->recipient, "%.*s", MISSED_TEXT_MAX, recipient);
}

static void missed_enter(struct missed *missed, const uint8_t *hash,
                         const struct envelope *envelope, const char *recipient,
                         enum own_reply reason)
{
    int64_t now = missed_now();
    struct missed_entry *entry = missed_find(missed, hash);

    if (entry == NULL || entry->state != MISSED_PENDING) {
        /* If the first was settled, this is perhaps another message. */
        if (entry == NULL)
            entry = missed_place(missed, now);
        if (entry == NULL)
            return;
        *entry = (struct missed_entry){.first = now};
        memcpy(entry->hash, hash, MISSED_HASH_LEN);
    }
    missed_fill(missed, entry, envelope, recipient);
    entry->last = now;
    entry->tries++;
    entry->reason = reason;
    missed_append(missed, entry);
}

static void missed_settle(struct missed *missed, const uint8_t *hash, enum missed_state state)
{
    struct missed_entry *entry = missed_find(missed, hash);

    if (entry == NULL || entry->state != MISSED_PENDING)
        return;
    entry->state = state;
    entry->settled = missed_now();
    missed_append(missed, entry);
}

/* Notes a recipient that was deferred, or got a final reply while some are awaited. Not inlined, to keep
 * missed_note() small. */
__attribute__((noinline)) static void missed_note_one(struct missed *missed,
                                                      const struct envelope *envelope,
                                                      const char *recipient,
                                                      const struct reply *reply)
{
    uint8_t hash[MISSED_HASH_LEN];
    enum own_reply reason = REPLY_OK; /* it has a final reply */

    if (reply_is_transient(reply) && !missed_is_ours(reply, &reason))
        return;
    pthread_mutex_lock(&missed->lock);
    if (missed_hash(missed, envelope, recipient, hash)) {
        if (reason != REPLY_OK)
            missed_enter(missed, hash, envelope, recipient, reason);
        else
            missed_settle(missed, hash,
                          reply_is_positive(reply) ? MISSED_CAME_BACK : MISSED_REFUSED);
        missed_count_pending(missed);
        if (missed->lines > 2 * missed->count + SPARE_LINES)
            missed_rewrite(missed);
    }
    pthread_mutex_unlock(&missed->lock);
}

/* Called for each recipient of each message, so it must cost almost nothing if the ledger is not concerned. */
void missed_note(struct missed *missed, const struct envelope *envelope, const char *recipient,
                 const struct reply *reply, bool settles)
{
    if (missed == NULL)
        return;
    bool settled = reply_is_permanent(reply) || (reply_is_positive(reply) && settles);
    if (settled ? atomic_load_explicit(&missed->pending, memory_order_relaxed) > 0
                : reply_is_transient(reply))
        missed_note_one(missed, envelope, recipient, reply);
}

void missed_count(struct missed *missed, struct missed_counts *out)
{
    *out = (struct missed_counts){0, 0};
    if (missed == NULL)
        return;
    pthread_mutex_lock(&missed->lock);
    for (unsigned i = 0; i < missed->count; i++) {
        const struct missed_entry *entry = &missed->entries[i];
        if (entry->state != MISSED_PENDING)
            continue;
        out->pending++;
        if (out->oldest == 0 || entry->first < out->oldest)
            out->oldest = entry->first;
    }
    pthread_mutex_unlock(&missed->lock);
}

unsigned missed_since(struct missed *missed, int64_t since)
{
    unsigned count = 0;

    if (missed == NULL)
        return 0;
    pthread_mutex_lock(&missed->lock);
    for (unsigned i = 0; i < missed->count; i++)
        count += missed->entries[i].first >= since;
    pthread_mutex_unlock(&missed->lock);
    return count;
}

static int missed_compare(const void *a, const void *b)
{
    const struct missed_entry *one = a, *other = b;
    return one->first < other->first ? -1 : one->first > other->first;
}

struct missed_entry *missed_list(struct missed *missed, unsigned *count)
{
    struct missed_entry *list = NULL;

    *count = 0;
    if (missed == NULL)
        return NULL;
    pthread_mutex_lock(&missed->lock);
    if (missed->count > 0)
        list = malloc(missed->count * sizeof *list);
    if (list != NULL) {
        memcpy(list, missed->entries, missed->count * sizeof *list);
        *count = missed->count;
    }
    pthread_mutex_unlock(&missed->lock);
    if (list != NULL)
        qsort(list, *count, sizeof *list, missed_compare);
    return list;
}
