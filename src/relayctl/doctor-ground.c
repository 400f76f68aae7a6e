/* relayctl/doctor-ground.c - checks of the host itself: units, ports, files, disk space, clock
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/doctor.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include "base/i18n.h"
#include "relayctl/run.h"
#include "relayctl/ports.h"
#include "server/stats-read.h"

#define GROUND_FULL_PERCENT 80

/* Stores the names of this configuration's daemons. Returns their number. */
static size_t ground_daemons(const struct doctor *doctor, const char *names[2])
{
    size_t count = 0;

    if (doctor->config->parts & CONFIG_PART_IN)
        names[count++] = "relay-in";
    if (doctor->config->parts & CONFIG_PART_OUT)
        names[count++] = "relay-out";
    return count;
}

static bool ground_read(const char *path, char *out, size_t size)
{
    FILE *file = fopen(path, "r");
    size_t len = file != NULL ? fread(out, 1, size - 1, file) : 0;

    out[len] = '\0';
    if (file != NULL)
        fclose(file);
    return file != NULL;
}

/* The id of the process with that name; 0: none. */
static long ground_process(const char *name)
{
    DIR *folder = opendir("/proc");
    long found = 0;

    for (struct dirent *entry; folder != NULL && found == 0 && (entry = readdir(folder)) != NULL;) {
        char path[300], comm[64];
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        snprintf(path, sizeof path, "/proc/%s/comm", entry->d_name);
        if (ground_read(path, comm, sizeof comm)) {
            comm[strcspn(comm, "\n")] = '\0';
            if (strcmp(comm, name) == 0)
                found = strtol(entry->d_name, NULL, 10);
        }
    }
    if (folder != NULL)
        closedir(folder);
    return found;
}

static void ground_keep_warning(void *context, const char *text)
{
    struct doctor_finding *finding = context;

    if (finding->outcome == DOCTOR_OK)
        doctor_say(finding, DOCTOR_WARNING, "%s", text);
}

/* Checks for files edited since the last reload. Another check covers a daemon that is not running. */
static void ground_newer(const struct doctor *doctor, struct doctor_finding *finding)
{
    static const unsigned daemons[] = {COUNTERS_IN, COUNTERS_OUT};
    static const unsigned parts[] = {CONFIG_PART_IN, CONFIG_PART_OUT};
    struct stats stats;
    struct error err;

    for (size_t i = 0; i < 2 && finding->outcome == DOCTOR_OK; i++) {
        if (!(doctor->config->parts & parts[i]) ||
            stats_ask(&stats, doctor->config->control, daemons[i], &err) != CONTROL_ANSWERED)
            continue;
        const char *file = stats_newer_file(&stats), *program = stats_program(daemons[i]);
        if (file != NULL) {
            doctor_say(finding, DOCTOR_WARNING,
                       _("%s: %s is newer than the configuration in use: systemctl reload %s"),
                       program, file, program);
            doctor_advise(finding, "systemctl reload %s", program);
        }
        stats_free(&stats);
    }
}

static void ground_config(const struct doctor *doctor, struct doctor_finding *finding)
{
    doctor_say(finding, DOCTOR_OK, _("%s is valid"), doctor->config_file);
    config_warn(doctor->config, ground_keep_warning, finding);
    if (finding->outcome != DOCTOR_OK)
        doctor_advise(finding, "relayctl check -c %s", doctor->config_file);
    else
        ground_newer(doctor, finding);
}

/* Finds "Name=value" in the output of systemctl show. */
static const char *ground_property(char *text, const char *name, char *out, size_t size)
{
    char *at = strstr(text, name);

    snprintf(out, size, "%s", at != NULL ? at + strlen(name) : "");
    out[strcspn(out, "\n")] = '\0';
    return out;
}

static void ground_units(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *names[2];
    size_t count = ground_daemons(doctor, names);
    char text[1000], active[40], enabled[40], restarts[40];

    doctor_say(finding, DOCTOR_OK, _("running, and starts at boot"));
    for (size_t i = 0; i < count && finding->outcome == DOCTOR_OK; i++) {
        const char *const command[] = {"systemctl", "show", "-pActiveState,UnitFileState,NRestarts",
                                       names[i], NULL};
        if (!run_command(command, 5, text, sizeof text)) {
            doctor_say(finding, DOCTOR_UNKNOWN, _("systemd does not answer here"));
            return;
        }
        ground_property(text, "ActiveState=", active, sizeof active);
        ground_property(text, "UnitFileState=", enabled, sizeof enabled);
        ground_property(text, "NRestarts=", restarts, sizeof restarts);
        if (strcmp(active, "active") != 0) {
            doctor_say(finding, DOCTOR_FAILED, _("%s is %s"), names[i], active);
            doctor_advise(finding, "systemctl enable --now %s; journalctl -u %s -p err -n 5",
                          names[i], names[i]);
        } else if (strtol(restarts, NULL, 10) > 3) {
            doctor_say(finding, DOCTOR_WARNING, _("%s was restarted %s times"), names[i], restarts);
            doctor_advise(finding, "journalctl -u %s -p err", names[i]);
        } else if (strcmp(enabled, "disabled") == 0) {
            doctor_say(finding, DOCTOR_WARNING, _("%s does not start at boot"), names[i]);
            doctor_advise(finding, "systemctl enable %s", names[i]);
        }
    }
}

static void ground_ports(const struct listen_list *listen, const char *daemon,
                         struct doctor_finding *finding)
{
    char owner[64], text[ADDRESS_TEXT_MAX];

    doctor_say(finding, DOCTOR_OK, _("%s listens on each of them"), daemon);
    for (size_t i = 0; i < listen->count && finding->outcome == DOCTOR_OK; i++) {
        unsigned port = listen->items[i].address.port;
        enum ports_result held = ports_holder(&listen->items[i].address, owner, sizeof owner);
        if (held == PORTS_FREE) {
            doctor_say(finding, DOCTOR_FAILED, _("nothing listens on %s"),
                       address_format_endpoint(&listen->items[i].address, text));
            doctor_advise(finding, "systemctl enable %s && systemctl restart %s", daemon, daemon);
        } else if (held == PORTS_UNSEEN) {
            doctor_say(finding, DOCTOR_UNKNOWN, _("cannot see what listens on port %u"), port);
        } else if (strcmp(owner, daemon) != 0 && strcmp(owner, "systemd") != 0) {
            doctor_say(finding, DOCTOR_FAILED, _("%s listens on port %u"), owner, port);
            if (ports_unit(owner) != NULL)
                doctor_advise(finding, "systemctl disable --now %s", ports_unit(owner));
            else
                doctor_advise(finding, "ss -ltnp 'sport = %u'", port);
        }
    }
}

static void ground_in_ports(const struct doctor *doctor, struct doctor_finding *finding)
{
    ground_ports(&doctor->config->in.listen, "relay-in", finding);
}

static void ground_out_ports(const struct doctor *doctor, struct doctor_finding *finding)
{
    ground_ports(&doctor->config->out.listen, "relay-out", finding);
}

static void ground_hostname(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *name = doctor->config->hostname;
    struct resolver_answer answer;
    struct address addresses[4];

    if (strchr(name, '.') == NULL || strncmp(name, "localhost", 9) == 0) {
        doctor_say(finding, DOCTOR_FAILED, _("\"%s\" is not a name that others can look up"), name);
        doctor_advise(finding, "hostname = \"mail.example.com\";");
        return;
    }
    enum resolver_result alias = doctor_ask(doctor, name, DNS_TYPE_CNAME, &answer);
    resolver_answer_free(&answer);
    int four = doctor_addresses(doctor, name, AF_INET, addresses, 4);
    int six = doctor_addresses(doctor, name, AF_INET6, addresses, 4);
    if (four < 0 && six < 0) {
        doctor_say(finding, DOCTOR_UNKNOWN, _("the DNS does not answer for %s at the moment"),
                   name);
    } else if (four <= 0 && six <= 0) {
        doctor_say(finding, DOCTOR_FAILED, _("%s has no address in the DNS"), name);
        doctor_advise(
            finding,
            _("publish A and AAAA records for %s, or set hostname to this host's real name"), name);
    } else if (alias == RESOLVER_FOUND) {
        doctor_say(finding, DOCTOR_WARNING, _("%s is an alias (CNAME)"), name);
        doctor_advise(
            finding,
            _("an MX must not point to an alias (RFC 2181 10.3): publish A and AAAA records"));
    } else {
        doctor_say(finding, DOCTOR_OK, _("%s has its address in the DNS"), name);
    }
}

static void ground_user(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *user = doctor->config->user;
    char buffer[2048];
    struct passwd entry, *found = NULL;

    if (getpwnam_r(user, &entry, buffer, sizeof buffer, &found) != 0 || found == NULL) {
        doctor_say(finding, DOCTOR_FAILED, _("there is no user \"%s\""), user);
        doctor_advise(finding, "systemd-sysusers");
    } else if (entry.pw_uid == 0) {
        doctor_say(finding, DOCTOR_WARNING, _("the daemons run as root"));
        doctor_advise(finding, "user = \"postern\";");
    } else {
        doctor_say(finding, DOCTOR_OK, _("the daemons run as %s"), user);
    }
}

static void ground_clock(const struct doctor *doctor, struct doctor_finding *finding)
{
    struct timex facts = {.modes = 0};
    int state = adjtimex(&facts);

    (void)doctor;
    if (state < 0) {
        doctor_say(finding, DOCTOR_UNKNOWN, "adjtimex: %s", strerror(errno));
    } else if (state == TIME_ERROR || (facts.status & STA_UNSYNC) != 0) {
        doctor_say(finding, DOCTOR_WARNING, _("no time server keeps the clock right"));
        doctor_advise(finding, "timedatectl set-ntp true");
    } else {
        doctor_say(finding, DOCTOR_OK, _("the clock is right within %ld ms"),
                   facts.maxerror / 1000);
    }
}

static void ground_disk(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *spool = doctor->config->out.spool;
    struct statvfs room;

    if (spool[0] == '\0') {
        doctor_say(finding, DOCTOR_WARNING, _("out.spool is empty: nothing can be stored"));
        return;
    }
    if (statvfs(spool, &room) != 0) {
        doctor_say(finding, errno == ENOENT ? DOCTOR_WARNING : DOCTOR_UNKNOWN, "%s: %s", spool,
                   strerror(errno));
        return;
    }
    uint64_t bytes = (uint64_t)room.f_bavail * room.f_frsize;
    uint64_t wanted = (uint64_t)doctor->config->out.spool_reserve +
                      (uint64_t)doctor->config->out.daemon.limits.message_size;
    if ((room.f_flag & ST_RDONLY) != 0)
        doctor_say(finding, DOCTOR_FAILED, _("%s is read-only"), spool);
    else if (bytes < (uint64_t)doctor->config->out.spool_reserve)
        doctor_say(finding, DOCTOR_FAILED,
                   _("%s has %" PRIu64 " MB free, less than out.spool_reserve"), spool,
                   bytes >> 20);
    else if (bytes < wanted)
        doctor_say(finding, DOCTOR_WARNING,
                   _("%s has %" PRIu64 " MB free: no room for one large message"), spool,
                   bytes >> 20);
    else if (room.f_files > 0 && room.f_favail * 100 < room.f_files * 2)
        doctor_say(finding, DOCTOR_WARNING, _("%s has few inodes left"), spool);
    else
        doctor_say(finding, DOCTOR_OK, _("%s has %" PRIu64 " MB free"), spool, bytes >> 20);
    if (finding->outcome != DOCTOR_OK)
        doctor_advise(finding, "df -h %s; journalctl --vacuum-size=200M", spool);
}

/* Stores how many descriptors a process has open and may open. False if that cannot be seen. */
static bool ground_count_fds(long pid, unsigned long *used, unsigned long *most)
{
    char path[64], text[2048];
    DIR *folder;

    snprintf(path, sizeof path, "/proc/%ld/limits", pid);
    const char *at = ground_read(path, text, sizeof text) ? strstr(text, "Max open files") : NULL;
    snprintf(path, sizeof path, "/proc/%ld/fd", pid);
    if (at == NULL || (folder = opendir(path)) == NULL)
        return false;
    *most = strtoul(at + strlen("Max open files"), NULL, 10);
    *used = 0;
    while (readdir(folder) != NULL)
        (*used)++;
    closedir(folder);
    return *most > 0;
}

static void ground_fds(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *names[2];
    size_t count = ground_daemons(doctor, names);
    unsigned long used, most;

    doctor_say(finding, DOCTOR_UNKNOWN, _("no daemon is running"));
    for (size_t i = 0; i < count; i++) {
        long pid = ground_process(names[i]);
        if (pid == 0 || !ground_count_fds(pid, &used, &most))
            continue;
        if (used * 100 > most * GROUND_FULL_PERCENT) {
            doctor_say(finding, DOCTOR_WARNING, _("%s has %lu of %lu descriptors in use"), names[i],
                       used, most);
            doctor_advise(finding, "[Service] LimitNOFILE=%lu", most * 2);
            return;
        }
        doctor_say(finding, DOCTOR_OK, _("%s has %lu of %lu descriptors in use"), names[i], used,
                   most);
    }
}

static void ground_memory(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *names[2];
    size_t count = ground_daemons(doctor, names);
    char text[4096], path[200];

    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "/sys/fs/cgroup/system.slice/%s.service/memory.events",
                 names[i]);
        const char *kills = ground_read(path, text, sizeof text) ? strstr(text, "oom_kill ") : NULL;
        if (kills != NULL && strtol(kills + strlen("oom_kill "), NULL, 10) > 0) {
            doctor_say(finding, DOCTOR_FAILED, _("%s was killed for lack of memory"), names[i]);
            doctor_advise(finding, _("use fewer workers or a larger machine"));
            return;
        }
    }
    ground_read("/proc/meminfo", text, sizeof text);
    const char *all = strstr(text, "MemTotal:"), *left = strstr(text, "MemAvailable:");
    if (all == NULL || left == NULL) {
        doctor_say(finding, DOCTOR_UNKNOWN, _("/proc/meminfo does not tell"));
        return;
    }
    unsigned long total = strtoul(all + strlen("MemTotal:"), NULL, 10);
    unsigned long available = strtoul(left + strlen("MemAvailable:"), NULL, 10);
    doctor_say(finding, available * 20 < total ? DOCTOR_WARNING : DOCTOR_OK,
               _("%lu of %lu MB are available"), available >> 10, total >> 10);
    if (finding->outcome != DOCTOR_OK)
        doctor_advise(finding, "systemd-cgtop -m");
}

static void ground_conntrack(const struct doctor *doctor, struct doctor_finding *finding)
{
    char now[32], most[32];

    (void)doctor;
    if (!ground_read("/proc/sys/net/netfilter/nf_conntrack_count", now, sizeof now) ||
        !ground_read("/proc/sys/net/netfilter/nf_conntrack_max", most, sizeof most)) {
        doctor_say(finding, DOCTOR_OK, _("the firewall tracks no connections"));
        return;
    }
    unsigned long used = strtoul(now, NULL, 10), limit = strtoul(most, NULL, 10);
    doctor_say(finding, used * 100 > limit * GROUND_FULL_PERCENT ? DOCTOR_WARNING : DOCTOR_OK,
               _("%lu of %lu connections are tracked"), used, limit);
    if (finding->outcome != DOCTOR_OK)
        doctor_advise(finding, "sysctl -w net.netfilter.nf_conntrack_max=%lu", limit * 2);
}

/* Can others than the owner and the group read the file? */
static bool ground_is_open(const char *path, struct doctor_finding *finding)
{
    struct stat facts;

    if (path == NULL || path[0] == '\0' || stat(path, &facts) != 0 ||
        (facts.st_mode & S_IROTH) == 0)
        return false;
    doctor_say(finding, DOCTOR_FAILED, _("everyone on this host can read %s"), path);
    doctor_advise(finding, "chmod o-rwx %s", path);
    return true;
}

static void ground_secrets(const struct doctor *doctor, struct doctor_finding *finding)
{
    const struct config *config = doctor->config;
    const struct tls_pair *pairs = config->tls.certificates.items;
    const struct config_route *routes = config->out.routes.items;

    doctor_say(finding, DOCTOR_OK, _("others cannot read keys and passwords"));
    for (size_t i = 0; i < config->tls.certificates.count; i++) {
        const char *key =
            pairs[i].key != NULL && pairs[i].key[0] != '\0' ? pairs[i].key : pairs[i].cert;
        if (ground_is_open(key, finding))
            return;
    }
    for (size_t i = 0; (config->parts & CONFIG_PART_OUT) && i < config->out.routes.count; i++) {
        if (ground_is_open(routes[i].password_file, finding))
            return;
    }
    if (config->parts & CONFIG_PART_OUT && !ground_is_open(config->out.users_file, finding))
        ground_is_open(config->out.default_route.password_file, finding);
}

static void ground_spool(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *spool = doctor->config->out.spool;
    struct stat facts;
    char buffer[2048];
    struct passwd entry, *user = NULL;

    if (spool[0] == '\0' || stat(spool, &facts) != 0) {
        doctor_say(finding, spool[0] == '\0' ? DOCTOR_SKIPPED : DOCTOR_UNKNOWN, "%s: %s", spool,
                   strerror(errno));
        return;
    }
    getpwnam_r(doctor->config->user, &entry, buffer, sizeof buffer, &user);
    if (user != NULL && facts.st_uid != entry.pw_uid) {
        doctor_say(finding, DOCTOR_FAILED, _("%s does not belong to %s"), spool,
                   doctor->config->user);
        doctor_advise(finding, "chown -R %s: %s", doctor->config->user, spool);
    } else if ((facts.st_mode & (S_IRWXO | S_IWGRP)) != 0) {
        doctor_say(finding, DOCTOR_WARNING, _("others can look into %s"), spool);
        doctor_advise(finding, "chmod 700 %s", spool);
    } else {
        doctor_say(finding, DOCTOR_OK, _("%s belongs only to %s"), spool, doctor->config->user);
    }
}

static void ground_updates(const struct doctor *doctor, struct doctor_finding *finding)
{
    const char *names[2];
    size_t count = ground_daemons(doctor, names);
    char path[64], target[4096];

    doctor_say(finding, DOCTOR_UNKNOWN, _("no daemon is running"));
    for (size_t i = 0; i < count; i++) {
        long pid = ground_process(names[i]);
        snprintf(path, sizeof path, "/proc/%ld/exe", pid);
        ssize_t len = pid != 0 ? readlink(path, target, sizeof target - 1) : -1;
        if (len < 0)
            continue;
        target[len] = '\0';
        if (strstr(target, " (deleted)") != NULL) {
            doctor_say(finding, DOCTOR_WARNING,
                       _("%s runs from a file that has since been replaced"), names[i]);
            doctor_advise(finding, "systemctl restart %s", names[i]);
            return;
        }
        doctor_say(finding, DOCTOR_OK, _("the installed version is running"));
    }
}

static void ground_workers(const struct doctor *doctor, struct doctor_finding *finding)
{
    int64_t workers = doctor->config->in.workers;
    int64_t sessions = doctor->config->in.backend.max_sessions;

    doctor_say(finding, DOCTOR_OK,
               _("%" PRId64 " workers for %" PRId64 " sessions with the mail server"), workers,
               sessions);
    if (workers < sessions / 4) {
        doctor_say(finding, DOCTOR_WARNING,
                   _("%" PRId64 " workers cannot use %" PRId64 " sessions with the mail server"),
                   workers, sessions);
        doctor_advise(finding, "workers = %" PRId64 ";", sessions + 8);
    }
}

static const struct doctor_check ground_checks[] = {
    {"config", 0, ground_config, N_("Is relay.conf valid, and free of dangerous settings?"),
     N_("the daemons do what the file says, dangerous or not")},
    {"units", 0, ground_units, N_("Do the daemons run, and will they run after a reboot?"),
     N_("without them no mail moves")},
    {"in-ports", DOCTOR_NEEDS_IN | DOCTOR_NEEDS_ROOT, ground_in_ports,
     N_("Does relay-in hold its ports?"), N_("another program would get the mail")},
    {"out-ports", DOCTOR_NEEDS_OUT | DOCTOR_NEEDS_ROOT, ground_out_ports,
     N_("Does relay-out hold its ports?"), N_("the mail server could not hand over its mail")},
    {"hostname", 0, ground_hostname, N_("Is hostname a name that others can look up?"),
     N_("receivers look up the name in EHLO and refuse mail if there is none")},
    {"user", 0, ground_user, N_("Does the user exist that the daemons become?"),
     N_("they do not start without it")},
    {"clock", 0, ground_clock, N_("Is the clock right?"),
     N_("with a wrong clock, certificates and DNSSEC signatures fail")},
    {"disk", DOCTOR_NEEDS_OUT, ground_disk, N_("Is there room for the spool?"),
     N_("mail that needs the spool is refused with 452")},
    {"descriptors", DOCTOR_NEEDS_ROOT, ground_fds, N_("Do the daemons have descriptors left?"),
     N_("without any left, no connection is accepted")},
    {"memory", 0, ground_memory, N_("Is there memory left?"),
     N_("the kernel ends processes without warning")},
    {"conntrack", 0, ground_conntrack, N_("Is there room in the firewall's table?"),
     N_("new connections vanish when it is full")},
    {"secrets", 0, ground_secrets, N_("Are keys and password files closed to others?"),
     N_("any program on this host could use them")},
    {"spool-owner", DOCTOR_NEEDS_OUT, ground_spool,
     N_("Does the spool belong to the daemon's user?"),
     N_("stored mail could not be delivered, or be read by others")},
    {"updates", DOCTOR_NEEDS_ROOT, ground_updates,
     N_("Is the installed version the one that runs?"),
     N_("a fixed fault persists until the restart")},
    {"workers", DOCTOR_NEEDS_IN, ground_workers,
     N_("Do workers and sessions with the mail server fit together?"),
     N_("otherwise clients wait although the mail server has room")},
};

const struct doctor_group doctor_ground = {"ground", ground_checks,
                                           sizeof ground_checks / sizeof *ground_checks};
