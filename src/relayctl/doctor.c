/* relayctl/doctor.c - relayctl doctor: does everything work, as far as we can see from here?
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/doctor.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/condition.h"
#include "base/i18n.h"
#include "base/thread.h"
#include "relayctl/subcommand.h"
#include "server/doctor-last.h"
#include "relayctl/json.h"

#define DOCTOR_THREADS 24
#define DOCTOR_STACK (512 * 1024)
#define DOCTOR_TIME_MS 20000
#define DOCTOR_CHECKS_MAX 160
#define DOCTOR_ONLY_MAX 64

static const struct doctor_group *const doctor_groups[] = {
    &doctor_ground,  &doctor_dns,  &doctor_name, &doctor_tls,
    &doctor_backend, &doctor_ways, &doctor_home,
};

#define DOCTOR_GROUP_COUNT (sizeof doctor_groups / sizeof *doctor_groups)

/* One check of this run. */
struct doctor_case {
    const struct doctor_check *check;
    const struct doctor_group *group;
    struct doctor_finding finding;
    bool changed; /* since the run in the state file */
};

struct doctor_run {
    struct doctor doctor;
    struct doctor_case cases[DOCTOR_CHECKS_MAX];
    size_t count;
    atomic_size_t next;     /* the first case that no thread has taken */
    const char *state_file; /* from --state, or else: */
    char state_default[PATH_MAX];
    char *only[DOCTOR_ONLY_MAX];
    size_t only_count;
    bool quiet, changes, json, list;
    const char *notify; /* a shell command to pipe the report to; NULL or "": none */
    FILE *out;
};

static const char *const doctor_outcomes[] = {"ok", "warning", "failed", "unknown", "skipped"};

static const char *doctor_outcome_text(enum doctor_outcome outcome)
{
    static const char *const texts[] = {N_("ok"), N_("warning"), N_("FAILED"), N_("cannot tell"),
                                        ""};
    return _(texts[outcome]);
}

static bool doctor_wants(const struct doctor_run *run, const char *id, const char *group)
{
    for (size_t i = 0; i < run->only_count; i++) {
        if (strcmp(run->only[i], id) == 0 || strcmp(run->only[i], group) == 0)
            return true;
    }
    return run->only_count == 0;
}

/* Does the check apply to this configuration and this side? */
static bool doctor_applies(const struct doctor *doctor, const struct doctor_check *check)
{
    const struct config *config = doctor->config;
    bool at_home = (check->needs & DOCTOR_NEEDS_HOME) != 0;

    if (at_home || config == NULL)
        return at_home && doctor->home_target != NULL;
    return (!(check->needs & DOCTOR_NEEDS_IN) || (config->parts & CONFIG_PART_IN)) &&
           (!(check->needs & DOCTOR_NEEDS_OUT) || (config->parts & CONFIG_PART_OUT)) &&
           (!(check->needs & DOCTOR_NEEDS_TLS) || config->tls.certificates.count > 0);
}

static int doctor_family(const struct doctor_check *check)
{
    return check->needs & DOCTOR_BY_IPV6 ? AF_INET6 : AF_INET;
}

static void doctor_choose(struct doctor_run *run)
{
    for (size_t g = 0; g < DOCTOR_GROUP_COUNT; g++) {
        for (size_t i = 0; i < doctor_groups[g]->count; i++) {
            const struct doctor_check *check = &doctor_groups[g]->checks[i];
            if (run->count < DOCTOR_CHECKS_MAX &&
                doctor_wants(run, check->id, doctor_groups[g]->name) &&
                (run->list || doctor_applies(&run->doctor, check)))
                run->cases[run->count++] =
                    (struct doctor_case){.check = check,
                                         .group = doctor_groups[g],
                                         .finding.family = doctor_family(check)};
        }
    }
}

static void *doctor_work(void *context)
{
    struct doctor_run *run = context;

    for (;;) {
        size_t i = atomic_fetch_add(&run->next, 1);
        if (i >= run->count)
            return NULL;
        struct doctor_case *one = &run->cases[i];
        if ((one->check->needs & DOCTOR_NEEDS_ROOT) != 0 && !run->doctor.root)
            doctor_say(&one->finding, DOCTOR_UNKNOWN, _("only root can see that"));
        else if (deadline_passed(run->doctor.deadline))
            doctor_say(&one->finding, DOCTOR_UNKNOWN, _("it took too long"));
        else
            one->check->look(&run->doctor, &one->finding);
    }
}

/* Runs all cases, on several threads including this one. */
static void doctor_run_all(struct doctor_run *run)
{
    pthread_t threads[DOCTOR_THREADS];
    size_t count = 0;

    run->doctor.deadline = deadline_in_ms(DOCTOR_TIME_MS);
    while (count < DOCTOR_THREADS && count < run->count &&
           thread_start(&threads[count], DOCTOR_STACK, doctor_work, run) == 0)
        count++;
    doctor_work(run);
    while (count > 0)
        pthread_join(threads[--count], NULL);
}

/* Compares with the outcomes of the previous run: one line "ID OUTCOME" each. */
static void doctor_compare(struct doctor_run *run)
{
    char line[DOCTOR_LAST_LINE], id[100], outcome[50];
    FILE *file = doctor_last_open(run->state_file);

    for (size_t i = 0; i < run->count; i++)
        run->cases[i].changed = run->cases[i].finding.outcome != DOCTOR_OK;
    while (file != NULL && doctor_last_next(file, line)) {
        if (sscanf(line, "%99s %49s", id, outcome) != 2)
            continue;
        for (size_t i = 0; i < run->count; i++) {
            struct doctor_case *one = &run->cases[i];
            if (strcmp(one->check->id, id) == 0)
                one->changed = strcmp(outcome, doctor_outcomes[one->finding.outcome]) != 0;
        }
    }
    if (file != NULL)
        fclose(file);
}

/* Saves the outcomes for the next run, in one step. Checks that did not run this time keep their line. */
static int doctor_keep(const struct doctor_run *run)
{
    char fresh[4096], line[DOCTOR_LAST_LINE], id[100];
    FILE *old = doctor_last_open(run->state_file);

    snprintf(fresh, sizeof fresh, "%s.new", run->state_file);
    FILE *file = doctor_last_create(fresh);
    if (file == NULL) {
        fprintf(stderr, "relayctl doctor: %s: %s\n", fresh, strerror(errno));
        if (old != NULL)
            fclose(old);
        return -1;
    }
    while (old != NULL && doctor_last_next(old, line)) {
        bool here = sscanf(line, "%99s", id) != 1;
        for (size_t i = 0; i < run->count; i++)
            here = here || strcmp(run->cases[i].check->id, id) == 0;
        if (!here)
            fputs(line, file);
    }
    for (size_t i = 0; i < run->count; i++) {
        if (run->cases[i].finding.outcome != DOCTOR_SKIPPED)
            fprintf(file, "%s %s\n", run->cases[i].check->id,
                    doctor_outcomes[run->cases[i].finding.outcome]);
    }
    if (old != NULL)
        fclose(old);
    if (fclose(file) != 0 || rename(fresh, run->state_file) != 0) {
        fprintf(stderr, "relayctl doctor: %s: %s\n", run->state_file, strerror(errno));
        return -1;
    }
    return 0;
}

static bool doctor_is_shown(const struct doctor_run *run, const struct doctor_case *one)
{
    enum doctor_outcome outcome = one->finding.outcome;

    if (outcome == DOCTOR_SKIPPED || (run->changes && !one->changed))
        return false;
    return !run->quiet || outcome == DOCTOR_WARNING || outcome == DOCTOR_FAILED ||
           (run->changes && outcome == DOCTOR_OK);
}

static void doctor_print_json(FILE *out, const struct doctor_case *one)
{
    fprintf(out, "{\"id\": ");
    json_string(out, one->check->id, strlen(one->check->id));
    json_member(out, "group", one->group->name);
    json_member(out, "outcome", doctor_outcomes[one->finding.outcome]);
    json_member(out, "seen", one->finding.seen);
    if (one->finding.fix[0] != '\0')
        json_member(out, "fix", one->finding.fix);
    json_member(out, "why", _(one->check->why));
    fprintf(out, "}\n");
}

static void doctor_print_case(FILE *out, const struct doctor_case *one)
{
    const struct doctor_finding *finding = &one->finding;

    fprintf(out, "%-12s %-16s %s\n", doctor_outcome_text(finding->outcome), one->check->id,
            finding->seen);
    if (finding->outcome != DOCTOR_WARNING && finding->outcome != DOCTOR_FAILED)
        return;
    fprintf(out, "%-12s %-16s   %s\n", "", "", _(one->check->why));
    if (finding->fix[0] != '\0')
        fprintf(out, "%-12s %-16s   -> %s\n", "", "", finding->fix);
}

/* Prints the report. Returns the exit status: 0, 1 (warnings) or 2 (failures). */
static int doctor_report(const struct doctor_run *run)
{
    unsigned counts[DOCTOR_SKIPPED + 1] = {0};
    const struct doctor_group *group = NULL;

    for (size_t i = 0; i < run->count; i++) {
        const struct doctor_case *one = &run->cases[i];
        counts[one->finding.outcome]++;
        if (!doctor_is_shown(run, one))
            continue;
        if (run->json) {
            doctor_print_json(run->out, one);
            continue;
        }
        if ((group == NULL || strcmp(one->group->name, group->name) != 0) && !run->quiet)
            fprintf(run->out, "%s-- %s\n", group != NULL ? "\n" : "", one->group->name);
        group = one->group;
        doctor_print_case(run->out, one);
    }
    if (!run->json && !run->quiet)
        fprintf(run->out, _("\n%u ok, %u warnings, %u failed, %u cannot be checked from here\n"),
                counts[DOCTOR_OK], counts[DOCTOR_WARNING], counts[DOCTOR_FAILED],
                counts[DOCTOR_UNKNOWN]);
    return counts[DOCTOR_FAILED] > 0 ? 2 : counts[DOCTOR_WARNING] > 0 ? 1 : 0;
}

/* Prints the report, or pipes it to the command if it is not empty. */
static int doctor_tell(struct doctor_run *run)
{
    char *text = NULL;
    size_t size = 0;

    run->out = stdout;
    if (run->notify == NULL || run->notify[0] == '\0')
        return doctor_report(run);
    run->out = open_memstream(&text, &size);
    if (run->out == NULL)
        return EX_OSERR;
    int status = doctor_report(run);
    fclose(run->out);
    FILE *pipe = size > 0 ? popen(run->notify, "w") : NULL;
    if (size > 0 && (pipe == NULL || fwrite(text, 1, size, pipe) != size || pclose(pipe) != 0)) {
        fprintf(stderr, _("relayctl doctor: \"%s\" failed; the news was:\n%s"), run->notify, text);
        status = EX_UNAVAILABLE;
    }
    free(text);
    return status;
}

static int doctor_print_list(const struct doctor_run *run)
{
    for (size_t i = 0; i < run->count; i++)
        printf("%-16s %-8s %s\n", run->cases[i].check->id, run->cases[i].group->name,
               _(run->cases[i].check->asks));
    return EX_OK;
}

static int doctor_prepare(struct doctor_run *run, struct config *config)
{
    struct resolver_config dns = {.trust_anchor_optional = true};
    struct error err;

    run->doctor.root = geteuid() == 0;
    run->doctor.config = config;
    if (config != NULL) {
        config_resolver(config, &dns);
        doctor_learn_own(&run->doctor);
    }
    run->doctor.resolver = resolver_new(&dns, &err);
    if (run->doctor.resolver != NULL)
        return 0;
    fprintf(stderr, "relayctl doctor: %s\n", err.text);
    return -1;
}

static int doctor_look(struct doctor_run *run)
{
    struct config *config = NULL;
    int status = EX_CONFIG;

    if (run->list) {
        doctor_choose(run);
        return doctor_print_list(run);
    }
    if (run->doctor.home_target == NULL) {
        config = config_load(run->doctor.config_file, subcommand_report, NULL);
        if (config == NULL)
            return EX_CONFIG;
    }
    doctor_last_file(config, run->state_default);
    if (run->state_file == NULL)
        run->state_file = run->state_default;
    if (doctor_prepare(run, config) == 0) {
        doctor_choose(run);
        doctor_run_all(run);
        if (run->changes)
            doctor_compare(run);
        status = doctor_tell(run);
        if (run->changes && doctor_keep(run) != 0)
            status = EX_CANTCREAT;
    }
    resolver_free(run->doctor.resolver);
    config_unref(config);
    return status;
}

static bool doctor_knows(const char *name)
{
    for (size_t g = 0; g < DOCTOR_GROUP_COUNT; g++) {
        if (strcmp(doctor_groups[g]->name, name) == 0)
            return true;
        for (size_t i = 0; i < doctor_groups[g]->count; i++) {
            if (strcmp(doctor_groups[g]->checks[i].id, name) == 0)
                return true;
        }
    }
    return false;
}

/* Splits "a,b,c" in place. */
static bool doctor_take_only(void *context, int tag, char *text)
{
    struct doctor_run *run = context;
    char *save = NULL;

    (void)tag;
    for (char *part = strtok_r(text, ", ", &save); part != NULL;
         part = strtok_r(NULL, ", ", &save)) {
        if (run->only_count == DOCTOR_ONLY_MAX)
            return false;
        run->only[run->only_count++] = part;
    }
    return true;
}

static int doctor_run(struct subcommand_line *line)
{
    static struct doctor_run run; /* too large for the stack */
    const struct subcommand_option options[] = {
        {"config", 'c', .text = &run.doctor.config_file},
        {"only", 'o', .take = doctor_take_only, .context = &run},
        {"quiet", 'q', .flag = &run.quiet},
        {"changes", 'n', .flag = &run.changes},
        {"state", 's', .text = &run.state_file},
        {"json", 'j', .flag = &run.json},
        {"list", 'l', .flag = &run.list},
        {"home", 'H', .text = &run.doctor.home_target},
        {"notify", 'N', .text = &run.notify},
        {.name = NULL},
    };
    int status;

    run.doctor.config_file = config_default_file;
    if (!subcommand_parse(line, options, &status))
        return status;
    for (size_t i = 0; i < run.only_count; i++) {
        if (!doctor_knows(run.only[i])) {
            fprintf(stderr, _("relayctl doctor: there is no check \"%s\"; --list names them\n"),
                    run.only[i]);
            return EX_USAGE;
        }
    }
    return doctor_look(&run);
}

const struct subcommand doctor_subcommand = {
    .name = "doctor",
    .summary = N_("check everything, and say what is wrong and what to do"),
    .help = {N_(
        "Usage: relayctl doctor [OPTION...]\n"
        "Looks at this host, its DNS, its name, its TLS, the tunnel and the mail server, and says\n"
        "what is wrong, why that matters and what to do. Delivers no message anywhere.\n\n"
        "  -c, --config FILE     configuration file\n"
        "  -o, --only NAME,...   only these checks or groups\n"
        "  -q, --quiet           only warnings and failures\n"
        "  -n, --changes         only what has changed since the last run with --changes\n"
        "  -s, --state FILE      where --changes remembers the last run\n"
        "  -N, --notify COMMAND  pass what is printed, if anything, to this shell command\n"
        "  -j, --json            one JSON object per line\n"
        "  -l, --list            list every check and its question\n"
        "  -H, --home HOST       at home: look at the relay on HOST from outside\n\n"
        "The exit status is 0, 1 after warnings, 2 after failures.\n")},
    .run = doctor_run,
};
