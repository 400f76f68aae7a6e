/* relayctl/queue.c - relayctl queue: the command line
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/queue.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/i18n.h"
#include "config/config.h"
#include "relayctl/subcommand.h"
#include "relayctl/queue-live.h"

struct queue_options {
    const char *config;  /* NULL: the default one, if it is there */
    const char *folder;  /* the spool's */
    const char *control; /* the folder of the daemon's socket; "" = work on the files */
    const char *sender;  /* selects messages by sender; NULL: any */
    bool json, body, raw, bounce;
    enum queue_count_by by;
    int64_t now;
    char **arguments; /* after the verb, NULL-terminated */
};

/* The ids of all messages. */
struct ids {
    uint64_t *ids;
    size_t count, room;
    bool failed;
};

/* The folder's owner controls its contents and must not control what root does with them. So switch to
 * that owner. */
static int queue_become_owner(const char *folder, struct error *err)
{
    struct stat status;

    if (geteuid() != 0 || stat(folder, &status) != 0 || status.st_uid == 0)
        return 0;
    if (setgroups(0, NULL) == 0 && setresgid(status.st_gid, status.st_gid, status.st_gid) == 0 &&
        setresuid(status.st_uid, status.st_uid, status.st_uid) == 0)
        return 0;
    error_set(err, _("cannot switch to the owner of %s: %s"), folder, strerror(errno));
    return -1;
}

static struct spool *queue_open_spool(const struct queue_options *options, bool read_only)
{
    struct spool_config config = {.folder = options->folder};
    struct error err = {""};
    if (queue_become_owner(options->folder, &err) != 0) {
        fprintf(stderr, "relayctl queue: %s\n", err.text);
        return NULL;
    }
    struct spool *spool = spool_open(&config, read_only, &err);
    if (spool == NULL)
        fprintf(stderr, "relayctl queue: %s\n", err.text);
    return spool;
}

static int queue_complain(const struct error *err, int status)
{
    fprintf(stderr, "relayctl queue: %s\n", err->text);
    return status;
}

static int queue_look_at_answer(FILE *answer, spool_found *found, void *context)
{
    struct spool_envelope envelope;
    struct error err = {""};
    unsigned lost = 0;
    int result;

    do {
        spool_envelope_init(&envelope);
        result = live_message(answer, &envelope, &lost, &err);
        if (result > 0)
            found(context, &envelope);
        spool_envelope_clear(&envelope);
    } while (result > 0);
    fclose(answer);
    if (lost > 0)
        fprintf(stderr,
                _("relayctl queue: %u notices to senders could not be delivered since relay-out "
                  "started; its log says why (event=notice-lost)\n"),
                lost);
    return result == 0 ? EX_OK : queue_complain(&err, EX_PROTOCOL);
}

/* Shows every message to `found`, from the daemon or from the files. */
static int queue_look(const struct queue_options *options, spool_found *found, void *context)
{
    struct spool_scan_counts counts;
    struct error err = {""};
    FILE *answer;

    switch (live_ask(options->control, &answer, &err, "queue list")) {
    case CONTROL_ANSWERED:
        return queue_look_at_answer(answer, found, context);
    case CONTROL_REFUSED:
        return queue_complain(&err, EX_UNAVAILABLE);
    case CONTROL_DOWN:
        break;
    }
    struct spool *spool = queue_open_spool(options, true);
    if (spool == NULL)
        return EX_NOINPUT;
    int result = spool_scan(spool, found, context, &counts, &err);
    if (result != 0)
        fprintf(stderr, "relayctl queue: %s\n", err.text);
    spool_close(spool);
    return result == 0 ? EX_OK : EX_IOERR;
}

static void queue_print_message(void *context, const struct spool_envelope *envelope)
{
    const struct queue_options *options = context;
    if (options->json)
        queue_print_json(stdout, envelope);
    else
        queue_print_row(stdout, envelope, options->now);
}

static int queue_run_list(struct queue_options *options)
{
    if (!options->json)
        queue_print_heading(stdout);
    return queue_look(options, queue_print_message, options);
}

static int queue_run_count(struct queue_options *options)
{
    struct queue_count count = {.by = options->by};
    struct error err = {""};
    int status = queue_look(options, queue_count_add, &count);
    if (status == EX_OK && count.failed) {
        error_set(&err, _("out of memory"));
        status = queue_complain(&err, EX_OSERR);
    }
    if (status == EX_OK)
        queue_count_print(stdout, &count, options->json, options->now);
    queue_count_free(&count);
    return status;
}

/* `data` is positioned at its first octet; NULL: don't print it. */
static int queue_print_message_of(const struct queue_options *options,
                                  const struct spool_envelope *envelope, FILE *data, uint64_t size)
{
    if (options->json) {
        queue_print_json(stdout, envelope);
        return EX_OK;
    }
    queue_print_envelope(stdout, envelope);
    fputc('\n', stdout);
    if (queue_print_data(stdout, data, size, options->raw) == 0)
        return EX_OK;
    fprintf(stderr, _("relayctl queue: the message cannot be read to its end\n"));
    return EX_IOERR;
}

static int queue_show_files(struct spool *spool, uint64_t id, const struct queue_options *options)
{
    struct spool_envelope envelope;
    struct error err = {""};
    FILE *data = NULL;
    int fd = -1, status = EX_DATAERR;

    if (spool_read(spool, id, &envelope, &err) != SPOOL_OK ||
        spool_open_data(spool, &envelope, &fd, &err) != SPOOL_OK) {
        queue_complain(&err, status);
        goto out;
    }
    uint64_t size = envelope.size;
    if ((!options->body && spool_header_size(fd, &size) != 0) || (data = fdopen(fd, "r")) == NULL) {
        error_set(&err, "%s", strerror(errno));
        status = queue_complain(&err, EX_IOERR);
        close(fd);
        goto out;
    }
    status = queue_print_message_of(options, &envelope, data, size);
    fclose(data);
out:
    spool_envelope_clear(&envelope);
    return status;
}

static int queue_show_answer(FILE *answer, const struct queue_options *options)
{
    struct spool_envelope envelope;
    struct error err = {""};
    uint64_t size = 0;
    int status = EX_PROTOCOL;

    spool_envelope_init(&envelope);
    if (live_message(answer, &envelope, NULL, &err) != 1 || live_data(answer, &size, &err) != 0)
        queue_complain(&err, status);
    else
        status = queue_print_message_of(options, &envelope, answer, size);
    spool_envelope_clear(&envelope);
    fclose(answer);
    return status;
}

static int queue_run_show(struct queue_options *options)
{
    struct error err = {""};
    FILE *answer;
    uint64_t id;
    if (options->arguments[0] == NULL || options->arguments[1] != NULL ||
        !spool_id_parse(options->arguments[0], strlen(options->arguments[0]), &id)) {
        fprintf(stderr, _("relayctl queue show needs one ID, as printed by list\n"));
        return EX_USAGE;
    }
    enum control_result live = live_ask(options->control, &answer, &err, "queue show %s%s",
                                        options->arguments[0], options->body ? "" : " header");
    if (live != CONTROL_DOWN)
        return live == CONTROL_ANSWERED ? queue_show_answer(answer, options)
                                        : queue_complain(&err, EX_DATAERR);
    struct spool *spool = queue_open_spool(options, true);
    if (spool == NULL)
        return EX_NOINPUT;
    int status = queue_show_files(spool, id, options);
    spool_close(spool);
    return status;
}

static void queue_note_id(void *context, const struct spool_envelope *envelope)
{
    struct ids *ids = context;
    if (ids->count == ids->room && !ids->failed) {
        size_t room = ids->room == 0 ? 256 : ids->room * 2;
        uint64_t *longer = realloc(ids->ids, room * sizeof *longer);
        ids->failed = longer == NULL;
        if (longer != NULL) {
            ids->ids = longer;
            ids->room = room;
        }
    }
    if (!ids->failed)
        ids->ids[ids->count++] = envelope->id;
}

/* Carries out the order for an id, a domain or "all". */
static enum spool_result queue_order_one(struct spool *spool, enum queue_order order,
                                         const char *name, const char *sender,
                                         const struct ids *ids, unsigned *changed,
                                         struct error *err)
{
    uint64_t id;
    struct spool_selection selection = {.sender = sender};
    enum spool_result result = SPOOL_OK;

    if (spool_id_parse(name, strlen(name), &id))
        return queue_order(spool, order, id, &selection, changed, err);
    if (strcmp(name, "all") != 0)
        selection.domain = name;
    for (size_t i = 0; i < ids->count && result == SPOOL_OK; i++)
        result = queue_order(spool, order, ids->ids[i], &selection, changed, err);
    return result;
}

/* Carries out the order on the files. Needs the lock, so it is refused while the daemon runs. */
static int queue_order_files(const struct queue_options *options, enum queue_order order)
{
    struct spool_scan_counts counts;
    struct ids ids = {.ids = NULL};
    struct error err = {""};
    unsigned changed = 0;
    int status = EX_OK;

    struct spool *spool = queue_open_spool(options, false);
    if (spool == NULL)
        return EX_UNAVAILABLE;
    if (spool_scan(spool, queue_note_id, &ids, &counts, &err) != 0 || ids.failed)
        status = EX_IOERR;
    for (char **name = options->arguments; *name != NULL && status == EX_OK; name++) {
        enum spool_result result =
            queue_order_one(spool, order, *name, options->sender, &ids, &changed, &err);
        if (result != SPOOL_OK)
            status = result == SPOOL_MISSING ? EX_DATAERR : EX_IOERR;
    }
    if (status != EX_OK)
        fprintf(stderr, "relayctl queue: %s\n", err.text);
    printf(_("%u messages changed\n"), changed);
    free(ids.ids);
    spool_close(spool);
    return status;
}

/* Lets the daemon carry out the order. */
static enum control_result queue_order_live(const struct queue_options *options, const char *verb,
                                            unsigned *changed, struct error *err)
{
    enum control_result result = CONTROL_ANSWERED;

    for (char **name = options->arguments; *name != NULL && result == CONTROL_ANSWERED; name++) {
        unsigned done = 0, busy = 0;
        FILE *answer;
        result = live_ask(options->control, &answer, err, "queue %s %s%s%s%s", verb, *name,
                          options->sender != NULL ? " from=" : "",
                          options->sender != NULL ? options->sender : "",
                          options->bounce ? " bounce" : "");
        if (result != CONTROL_ANSWERED)
            break;
        if (live_done(answer, &done, &busy, err) != 0)
            result = CONTROL_REFUSED;
        if (busy > 0)
            fprintf(stderr, _("%u messages are being delivered and were left alone\n"), busy);
        *changed += done;
        fclose(answer);
    }
    return result;
}

/* Checks the arguments. A sender alone means all of its messages. */
static bool queue_names_some(struct queue_options *options, enum queue_order order)
{
    static char word[] = "all";
    static char *all[] = {word, NULL};

    if (options->sender != NULL && (options->sender[0] == '\0' || strchr(options->sender, ' '))) {
        fprintf(stderr, _("relayctl queue: \"%s\" is not a sender\n"), options->sender);
        return false;
    }
    if (options->arguments[0] == NULL && options->sender != NULL)
        options->arguments = all;
    for (char **name = options->arguments; *name != NULL; name++) {
        if (order == QUEUE_ORDER_REMOVE && strcmp(*name, "all") == 0 && options->sender == NULL) {
            fprintf(stderr, _("relayctl queue: remove does not take all messages; give IDs, "
                              "domains or a sender\n"));
            return false;
        }
    }
    if (options->arguments[0] == NULL)
        fprintf(stderr, _("relayctl queue: which messages? See --help\n"));
    return options->arguments[0] != NULL;
}

static int queue_give_orders(struct queue_options *options, enum queue_order order)
{
    static const char *const names[] = {[QUEUE_ORDER_HOLD] = "hold",
                                        [QUEUE_ORDER_RELEASE] = "release",
                                        [QUEUE_ORDER_RETRY] = "retry",
                                        [QUEUE_ORDER_REMOVE] = "remove"};
    struct error err = {""};
    unsigned changed = 0;

    if (!queue_names_some(options, order))
        return EX_USAGE;
    enum control_result live = queue_order_live(options, names[order], &changed, &err);
    if (live == CONTROL_DOWN && options->bounce) {
        error_set(&err, _("--bounce needs a running relay-out"));
        return queue_complain(&err, EX_UNAVAILABLE);
    }
    if (live == CONTROL_DOWN)
        return queue_order_files(options, order);
    printf(_("%u messages changed\n"), changed);
    return live == CONTROL_ANSWERED ? EX_OK : queue_complain(&err, EX_DATAERR);
}

static int queue_run_hold(struct queue_options *options)
{
    return queue_give_orders(options, QUEUE_ORDER_HOLD);
}

static int queue_run_release(struct queue_options *options)
{
    return queue_give_orders(options, QUEUE_ORDER_RELEASE);
}

static int queue_run_retry(struct queue_options *options)
{
    return queue_give_orders(options, QUEUE_ORDER_RETRY);
}

static int queue_run_remove(struct queue_options *options)
{
    return queue_give_orders(options, QUEUE_ORDER_REMOVE);
}

static const struct {
    const char *name;
    int (*run)(struct queue_options *options);
    bool arguments;
} verbs[] = {
    {"list", queue_run_list, false},      {"show", queue_run_show, true},
    {"count", queue_run_count, false},    {"hold", queue_run_hold, true},
    {"release", queue_run_release, true}, {"retry", queue_run_retry, true},
    {"remove", queue_run_remove, true},
};

static int queue_run_verb(struct queue_options *options)
{
    const char *name = options->arguments[0];
    for (size_t i = 0; name != NULL && i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(verbs[i].name, name) != 0)
            continue;
        options->arguments++;
        if (options->arguments[0] == NULL || verbs[i].arguments)
            return verbs[i].run(options);
        name = options->arguments[0];
        break;
    }
    if (name == NULL)
        fprintf(stderr,
                _("relayctl queue: give one of list, show, count, hold, release, retry, remove\n"));
    else
        fprintf(stderr, _("relayctl queue: unexpected argument \"%s\"\n"), name);
    return EX_USAGE;
}

/* Finds the spool and the socket from the command line or else from the configuration. */
static struct config *queue_find_places(struct queue_options *options, int *status)
{
    struct config *config = NULL;

    *status = EX_OK;
    options->control = "";
    if (options->folder != NULL)
        return NULL;
    if (options->config == NULL && access(config_default_file, F_OK) != 0) {
        options->folder = SPOOLDIR;
        return NULL;
    }
    config = config_load(options->config != NULL ? options->config : config_default_file,
                         subcommand_report, NULL);
    if (config == NULL) {
        *status = EX_CONFIG;
        return NULL;
    }
    options->folder = config->out.spool;
    options->control = config->control;
    if (options->folder == NULL || options->folder[0] == '\0') {
        fprintf(stderr, _("relayctl queue: nothing is stored (out.spool)\n"));
        *status = EX_CONFIG;
    }
    return config;
}

static int queue_run(struct subcommand_line *line)
{
    struct queue_options queue = {.now = (int64_t)time(NULL)};
    bool by_domain = false, by_sender = false;
    const struct subcommand_option options[] = {
        {"config", 'c', .text = &queue.config}, {"spool", 's', .text = &queue.folder},
        {"json", .flag = &queue.json},          {"body", .flag = &queue.body},
        {"bounce", .flag = &queue.bounce},      {"raw", .flag = &queue.raw},
        {"sender", .text = &queue.sender},      {"by-domain", .flag = &by_domain},
        {"by-sender", .flag = &by_sender},      {.name = NULL},
    };
    int status;

    if (!subcommand_parse(line, options, &status))
        return status;
    queue.by = by_sender ? QUEUE_BY_SENDER : by_domain ? QUEUE_BY_DOMAIN : QUEUE_BY_NOTHING;
    queue.arguments = line->argv;
    struct config *config = queue_find_places(&queue, &status);
    if (status == EX_OK)
        status = queue_run_verb(&queue);
    config_unref(config);
    return status;
}

const struct subcommand queue_subcommand = {
    .name = "queue",
    .summary = N_("show and change what relay-out has stored for later"),
    .help = {N_(
        "Usage: relayctl queue COMMAND [OPTION...]\n"
        "Shows and changes the messages that relay-out has stored for later delivery.\n\n"
        "  list                        every message: age, size, recipients left, next attempt\n"
        "  show ID [--body]            its envelope and header, or all of it\n"
        "  count                       messages, recipients left, octets\n"
        "  hold ID...|DOMAIN...|all    do not try them until they are released\n"
        "  release ID...|DOMAIN...|all release them and try them at once\n"
        "  retry ID...|DOMAIN...|all   try them now, or as soon as relay-out runs\n"
        "  remove ID...|DOMAIN...      delete them, or the recipients in that domain\n\n"
        "  -c, --config FILE           names the spool (default %s)\n"
        "  -s, --spool DIR             work on the files of this spool\n"
        "      --sender ADDRESS        hold, release, retry, remove: only messages from\n"
        "                              ADDRESS, @DOMAIN or \"<>\"; remove: all of those\n"
        "      --bounce                remove: notify the senders\n"
        "      --body                  show: the whole message\n"
        "      --raw                   show: control characters as they are\n"
        "      --by-domain             count: for each recipient domain\n"
        "      --by-sender             count: for each sender\n"
        "      --json                  list, show, count: for programs\n\n"
        "The commands ask the running relay-out. If none runs, they work on the files.\n")},
    .arguments = true,
    .run = queue_run,
};
