/* spool/spool-scan.c - scans the spool at the start, and puts it in order after a crash
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "spool/spool-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/log.h"

/* A message, and which files it has. */
struct found {
    uint64_t id;
    unsigned files; /* 1 << enum spool_file */
};

struct scan {
    struct spool *spool;
    struct found *found;
    size_t count, room;
    char **strangers; /* names that are not ours */
    size_t stranger_count;
    struct spool_scan_counts *counts;
};

#define HAS(file) (1U << (file))

static void scan_log_event(enum log_level level, const char *event, const char *name,
                           const char *reason)
{
    struct log_line line;
    log_begin(&line, level, event);
    log_str(&line, "file", name);
    log_str(&line, "reason", reason);
    log_end(&line);
}

/* Moves a file to the quarantine, under a free name. Never deletes it. */
static void scan_quarantine(struct scan *scan, const char *name, const char *reason)
{
    scan->counts->quarantined++;
    if (scan->spool->read_only)
        scan_log_event(LOG_LEVEL_WARNING, "event=spool-unreadable", name, reason);
    else if (spool_quarantine(scan->spool, name) == 0)
        scan_log_event(LOG_LEVEL_ERROR, "event=spool-quarantine", name, reason);
    else
        scan_log_event(LOG_LEVEL_ERROR, "event=spool-quarantine-failed", name, strerror(errno));
}

static void scan_quarantine_files(struct scan *scan, const struct found *found, const char *reason)
{
    char name[SPOOL_NAME_MAX];
    if (found->files & HAS(SPOOL_ENV))
        scan_quarantine(scan, spool_file_name(found->id, SPOOL_ENV, name), reason);
    if (found->files & HAS(SPOOL_DATA))
        scan_quarantine(scan, spool_file_name(found->id, SPOOL_DATA, name), reason);
}

static void scan_remove_rest(struct scan *scan, const struct found *found, enum spool_file file,
                             const char *reason)
{
    char name[SPOOL_NAME_MAX];
    if (!(found->files & HAS(file)) || scan->spool->read_only)
        return;
    spool_file_name(found->id, file, name);
    if (spool_delete(scan->spool, found->id, file) != 0) {
        scan_log_event(LOG_LEVEL_ERROR, "event=spool-remove-failed", name, strerror(errno));
        return;
    }
    scan->counts->removed++;
    scan_log_event(LOG_LEVEL_NOTICE, "event=spool-remove", name, reason);
}

/* Collecting names. */

static int scan_add_stranger(struct scan *scan, const char *name)
{
    char **longer = realloc(scan->strangers, (scan->stranger_count + 1) * sizeof *longer);
    if (longer == NULL)
        return -1;
    scan->strangers = longer;
    longer[scan->stranger_count] = strdup(name);
    return longer[scan->stranger_count] != NULL ? (int)(scan->stranger_count++, 0) : -1;
}

static int scan_add_name(struct scan *scan, const char *name)
{
    uint64_t id;
    enum spool_file file;

    if (!spool_file_parse(name, &id, &file))
        return scan_add_stranger(scan, name);
    spool_note_id(scan->spool, id);
    if (scan->count == scan->room) {
        size_t room = scan->room == 0 ? 256 : scan->room * 2;
        struct found *longer = realloc(scan->found, room * sizeof *longer);
        if (longer == NULL)
            return -1;
        scan->found = longer;
        scan->room = room;
    }
    scan->found[scan->count++] = (struct found){id, HAS(file)};
    return 0;
}

static int scan_compare_ids(const void *a, const void *b)
{
    uint64_t left = ((const struct found *)a)->id, right = ((const struct found *)b)->id;
    return left < right ? -1 : left > right;
}

static void scan_merge_names(struct scan *scan)
{
    size_t merged = 0;
    if (scan->count > 0)
        qsort(scan->found, scan->count, sizeof *scan->found, scan_compare_ids);
    for (size_t i = 0; i < scan->count; i++) {
        if (merged > 0 && scan->found[merged - 1].id == scan->found[i].id)
            scan->found[merged - 1].files |= scan->found[i].files;
        else
            scan->found[merged++] = scan->found[i];
    }
    scan->count = merged;
}

static int scan_read_names(struct scan *scan, struct error *err)
{
    DIR *folder = spool_list_folder(scan->spool->queue_fd);
    struct dirent *entry;
    int result = folder != NULL ? 0 : -1;

    while (result == 0 && (errno = 0, entry = readdir(folder)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = scan_add_name(scan, entry->d_name);
    }
    if (result == 0 && errno != 0)
        result = -1;
    if (result != 0)
        spool_failure(scan->spool, _("read"), "", err);
    if (folder != NULL)
        closedir(folder);
    scan_merge_names(scan);
    return result;
}

/* Judging a message by its files. */

/* A permission problem does not go away by itself: the operator must fix it. */
static int scan_refuse(const struct scan *scan, const char *name, struct error *err)
{
    if (errno == EACCES || errno == EPERM)
        error_set(
            err,
            _("the spool cannot read %s/queue/%s: %s; everything in it must belong to the user "
              "that the daemon runs as: chown -R %ld:%ld %s"),
            scan->spool->folder, name, strerror(errno), (long)scan->spool->owner,
            (long)scan->spool->group, scan->spool->folder);
    return -1;
}

static int scan_check_data(struct scan *scan, uint64_t id, struct error *err)
{
    char name[SPOOL_NAME_MAX];
    struct stat stat;

    spool_file_name(id, SPOOL_DATA, name);
    if (fstatat(scan->spool->queue_fd, name, &stat, AT_SYMLINK_NOFOLLOW) != 0 ||
        stat.st_uid == geteuid() ||
        faccessat(scan->spool->queue_fd, name, R_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    return errno == EACCES ? scan_refuse(scan, name, err) : 0;
}

static bool scan_is_ours_to_mend(int number)
{
    return number == EACCES || number == EPERM || number == ENOMEM || number == EMFILE ||
           number == ENFILE;
}

static void scan_take_unreadable(struct scan *scan, uint64_t id, const char *reason,
                                 spool_found *report, void *context)
{
    struct spool_envelope envelope;
    char name[SPOOL_NAME_MAX];

    scan->counts->unreadable++;
    scan_log_event(LOG_LEVEL_ERROR, "event=spool-unreadable", spool_file_name(id, SPOOL_ENV, name),
                   reason);
    spool_envelope_init(&envelope);
    envelope.id = id;
    if (!scan->spool->read_only)
        report(context, &envelope);
}

static int scan_take_message(struct scan *scan, const struct found *found, spool_found *report,
                             void *context, struct error *err)
{
    struct spool_envelope envelope;
    struct error reason = {""};
    char name[SPOOL_NAME_MAX];
    enum spool_result result = spool_read(scan->spool, found->id, &envelope, &reason);
    int status = 0;

    if (result == SPOOL_OK) {
        status = scan_check_data(scan, found->id, err);
        scan->counts->messages++;
        if (status == 0)
            report(context, &envelope);
    } else if (result == SPOOL_SENSELESS) {
        scan_quarantine_files(scan, found, reason.text);
    } else if (scan_is_ours_to_mend(errno)) {
        *err = reason;
        status = scan_refuse(scan, spool_file_name(found->id, SPOOL_ENV, name), err);
    } else if (result != SPOOL_MISSING || !scan->spool->read_only) {
        /* MISSING: a running daemon has removed it since its name was read. */
        scan_take_unreadable(scan, found->id, reason.text, report, context);
    }
    spool_envelope_clear(&envelope);
    return status;
}

static int scan_settle(struct scan *scan, const struct found *found, spool_found *report,
                       void *context, struct error *err)
{
    bool data = found->files & HAS(SPOOL_DATA), env = found->files & HAS(SPOOL_ENV);
    const char *half = "half stored, half removed or half changed when the program ended";
    int result = 0;

    errno = 0;
    if (env && (data || !(found->files & HAS(SPOOL_DATA_NEW))))
        result = scan_take_message(scan, found, report, context, err);
    else if (env)
        scan_quarantine_files(scan, found, "the mail data is missing");
    else if (data && (found->files & HAS(SPOOL_ENV_NEW)))
        scan_remove_rest(scan, found, SPOOL_DATA, half);
    else if (data)
        scan_quarantine_files(scan, found, "the envelope is missing");
    /* Remove the temporary envelope last: while it exists, the data file is known to be left over. */
    scan_remove_rest(scan, found, SPOOL_DATA_NEW, half);
    scan_remove_rest(scan, found, SPOOL_ENV_NEW, half);
    return result;
}

int spool_scan(struct spool *spool, spool_found *found, void *context,
               struct spool_scan_counts *counts, struct error *err)
{
    struct scan scan = {.spool = spool, .counts = counts};

    memset(counts, 0, sizeof *counts);
    spool_forget_fresh(spool);
    int result = scan_read_names(&scan, err);
    for (size_t i = 0; i < scan.stranger_count; i++) {
        if (result == 0)
            scan_quarantine(&scan, scan.strangers[i], "the spool does not use such names");
        free(scan.strangers[i]);
    }
    for (size_t i = 0; i < scan.count && result == 0; i++)
        result = scan_settle(&scan, &scan.found[i], found, context, err);
    if (result == 0 && counts->removed + counts->quarantined > 0 && !spool->read_only &&
        (fsync(spool->quarantine_fd) != 0 || fsync(spool->queue_fd) != 0)) {
        spool_failure(spool, _("sync"), "", err);
        result = -1;
    }
    free(scan.strangers);
    free(scan.found);
    return result;
}
