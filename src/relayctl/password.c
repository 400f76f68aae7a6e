/* relayctl/password.c - relayctl password: manages who may log in to relay-out
 *
 * Writes the file of out.users_file, with one line NAME:HASH or NAME:HASH:SENDERS per user. The new
 * file replaces the old one in one step, so that a reload never reads half a file.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <termios.h>
#include <unistd.h>

#include "base/i18n.h"
#include "config/config.h"
#include "relayctl/subcommand.h"
#include "server/privileges.h"

#define PASSWORD_MAX 255
#define NEW_FILE_MODE 0640
#define DEFAULT_USER "postern"

struct password_order {
    const char *config;
    const char *file, *user;
    char **senders;
    int sender_count;
    bool remove;
};

/* Reads one line, without its end. */
static bool password_read_line(char *out, size_t size)
{
    if (fgets(out, (int)size, stdin) == NULL)
        return false;
    size_t len = strcspn(out, "\r\n");
    bool whole = out[len] != '\0' || feof(stdin);
    out[len] = '\0';
    return whole;
}

/* The terminal must get its echo back, however the prompt ends. */
static const int ending_signals[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGALRM,
                                     SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2};
#define ENDING_SIGNALS (sizeof ending_signals / sizeof *ending_signals)

static volatile sig_atomic_t caught_signal;

static void password_note_signal(int number)
{
    caught_signal = number;
}

/* Reads one line from the terminal. Signals are delivered only while this waits. */
static bool password_wait_for_line(const sigset_t *open, char *out, size_t size)
{
    struct pollfd terminal = {.fd = STDIN_FILENO, .events = POLLIN};
    int ready;
    do
        ready = ppoll(&terminal, 1, NULL, open);
    while (ready < 0 && errno == EINTR && caught_signal == 0);
    return ready > 0 && password_read_line(out, size);
}

static bool password_ask_terminal(const char *prompt, const struct termios *before, char *out,
                                  size_t size)
{
    const struct sigaction action = {.sa_handler = password_note_signal};
    struct sigaction former[ENDING_SIGNALS];
    struct termios quiet = *before;
    sigset_t blocked, open;

    caught_signal = 0;
    sigemptyset(&blocked);
    for (size_t i = 0; i < ENDING_SIGNALS; i++)
        sigaddset(&blocked, ending_signals[i]);
    sigprocmask(SIG_BLOCK, &blocked, &open);
    for (size_t i = 0; i < ENDING_SIGNALS; i++)
        sigaction(ending_signals[i], &action, &former[i]);
    fprintf(stderr, "%s", prompt);
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    bool read = password_wait_for_line(&open, out, size);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, before);
    fprintf(stderr, "\n");
    for (size_t i = 0; i < ENDING_SIGNALS; i++)
        sigaction(ending_signals[i], &former[i], NULL);
    sigprocmask(SIG_SETMASK, &open, NULL);
    return read;
}

static bool password_ask_quietly(const char *prompt, char *out, size_t size)
{
    struct termios before;
    bool read;

    if (tcgetattr(STDIN_FILENO, &before) != 0)
        return password_read_line(out, size);
    do {
        read = password_ask_terminal(prompt, &before, out, size);
        /* Let the signal do its work now: end us, or stop us until we own the terminal again. */
        if (caught_signal != 0)
            raise(caught_signal);
    } while (!read && caught_signal != 0);
    return read;
}

static bool password_ask_password(char out[PASSWORD_MAX + 2])
{
    char again[PASSWORD_MAX + 2];
    bool same = true;

    if (!password_ask_quietly(_("Password: "), out, PASSWORD_MAX + 2) || out[0] == '\0') {
        fprintf(stderr, _("relayctl password: the password must have 1 to %d octets\n"),
                PASSWORD_MAX);
        return false;
    }
    if (isatty(STDIN_FILENO)) {
        same = password_ask_quietly(_("Again: "), again, sizeof again) && strcmp(out, again) == 0;
        explicit_bzero(again, sizeof again);
    }
    if (!same)
        fprintf(stderr, _("relayctl password: the two passwords differ\n"));
    return same;
}

static bool password_is_of_user(const char *line, const char *user)
{
    size_t len = strlen(user);
    return strncmp(line, user, len) == 0 && line[len] == ':';
}

/* The text after the user's hash, including its colon. The caller frees it. NULL: none. */
static char *password_old_senders(const struct password_order *order)
{
    FILE *stream = fopen(order->file, "re");
    char *line = NULL, *found = NULL;
    size_t size = 0;

    while (stream != NULL && found == NULL && getline(&line, &size, stream) >= 0) {
        line[strcspn(line, "\r\n")] = '\0';
        const char *hash =
            password_is_of_user(line, order->user) ? line + strlen(order->user) + 1 : "";
        const char *senders = strchr(hash, ':');
        if (senders != NULL)
            found = strdup(senders);
    }
    free(line);
    if (stream != NULL)
        fclose(stream);
    return found;
}

static void password_put_senders(const struct password_order *order, FILE *stream)
{
    char *old = order->sender_count == 0 ? password_old_senders(order) : NULL;
    for (int i = 0; i < order->sender_count; i++)
        fprintf(stream, "%s%s", i == 0 ? ":" : " ", order->senders[i]);
    fprintf(stream, "%s\n", old != NULL ? old : "");
    free(old);
}

/* The user's new line, which the caller frees; NULL with a message on failure. */
static char *password_make_line(const struct password_order *order)
{
    char password[PASSWORD_MAX + 2], salt[CRYPT_GENSALT_OUTPUT_SIZE];
    struct crypt_data *data = calloc(1, sizeof *data);
    char *line = NULL;
    size_t size;

    /* NULL means libcrypt's best method, with its own randomness. */
    const char *hash = NULL;
    if (data != NULL && crypt_gensalt_rn(NULL, 0, NULL, 0, salt, sizeof salt) != NULL &&
        password_ask_password(password))
        hash = crypt_r(password, salt, data);
    explicit_bzero(password, sizeof password);
    FILE *stream = hash != NULL && hash[0] != '*' ? open_memstream(&line, &size) : NULL;
    if (stream != NULL) {
        fprintf(stream, "%s:%s", order->user, hash);
        password_put_senders(order, stream);
        fclose(stream);
    }
    free(data);
    return line;
}

/* Copies all lines of the old file except the user's. True if the user had one. */
static bool password_copy_others(FILE *from, FILE *to, const char *user)
{
    char *line = NULL;
    size_t size = 0;
    bool found = false;

    while (from != NULL && getline(&line, &size, from) >= 0) {
        if (password_is_of_user(line, user))
            found = true;
        else
            fputs(line, to);
        if (line[strcspn(line, "\n")] == '\0')
            fputc('\n', to);
    }
    free(line);
    return found;
}

static void password_drop_report(void *context, const char *text)
{
    (void)context;
    (void)text;
}

/* Finds the user that relay-out runs as. An invalid configuration counts as none: this command may be
 * part of the fix. */
static bool password_find_reader(const struct password_order *order, uid_t *uid, gid_t *gid)
{
    struct error err;
    struct config *config = access(order->config, R_OK) == 0
                                ? config_load(order->config, password_drop_report, NULL)
                                : NULL;
    bool found = config != NULL ? privileges_find(config->user, config->group, uid, gid, &err) == 0
                                : privileges_find(DEFAULT_USER, "", uid, gid, &err) == 0;
    config_unref(config);
    return found;
}

/* Keeps the old file's owner and mode if they let the daemon read it; otherwise the file is useless. */
static void password_choose_rights(const struct password_order *order, struct stat *rights)
{
    uid_t uid;
    gid_t gid;

    if (geteuid() != 0 || !password_find_reader(order, &uid, &gid))
        return;
    mode_t mode = rights->st_mode;
    if ((mode & S_IROTH) || (rights->st_uid == uid && (mode & S_IRUSR)) ||
        (rights->st_gid == gid && (mode & S_IRGRP)))
        return;
    rights->st_gid = gid;
    rights->st_mode |= S_IRGRP;
}

static int password_open_new(const char *path, const struct stat *rights)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -1;
    if (fchown(fd, rights->st_uid, rights->st_gid) == 0 && fchmod(fd, rights->st_mode & 07777) == 0)
        return fd;
    close(fd);
    unlink(path);
    return -1;
}

static int password_replace(const struct password_order *order, const char *line, const char *path)
{
    struct stat status;
    bool had_old = stat(order->file, &status) == 0;
    if (!had_old)
        status = (struct stat){.st_uid = geteuid(), .st_gid = getegid(), .st_mode = NEW_FILE_MODE};
    password_choose_rights(order, &status);
    FILE *from = had_old ? fopen(order->file, "re") : NULL;
    int fd = (had_old && from == NULL) ? -1 : password_open_new(path, &status);
    FILE *to = fd >= 0 ? fdopen(fd, "w") : NULL;
    int result = -1;

    if (to != NULL) {
        bool found = password_copy_others(from, to, order->user);
        if (line != NULL)
            fputs(line, to);
        /* A failed read or write would silently drop users. */
        bool whole = (from == NULL || !ferror(from)) && fflush(to) == 0 && !ferror(to);
        result = order->remove && !found ? EX_NOUSER : EX_OK;
        if (!whole || fsync(fd) != 0 || fclose(to) != 0 ||
            (result == EX_OK && rename(path, order->file) != 0))
            result = -1;
    }
    if (from != NULL)
        fclose(from);
    return result;
}

static int password_write_file(const struct password_order *order, const char *line)
{
    char *path = NULL;
    int result =
        asprintf(&path, "%s.new", order->file) >= 0 ? password_replace(order, line, path) : -1;

    if (result == EX_NOUSER)
        fprintf(stderr, _("relayctl password: there is no user \"%s\" in %s\n"), order->user,
                order->file);
    else if (result != EX_OK && errno == EEXIST)
        fprintf(stderr,
                _("relayctl password: %s exists: another relayctl is running; if one was "
                  "interrupted, remove the file\n"),
                path);
    else if (result != EX_OK)
        fprintf(stderr, _("relayctl password: cannot write %s: %s\n"), path, strerror(errno));
    if (result != EX_OK && path != NULL && errno != EEXIST)
        unlink(path);
    free(path);
    return result < 0 ? EX_CANTCREAT : result;
}

static bool password_is_usable(const struct password_order *order)
{
    if (order->user[0] == '\0' || strpbrk(order->user, ":\r\n#") != NULL) {
        fprintf(stderr,
                _("relayctl password: a user's name must not contain ':', '#' or a line end\n"));
        return false;
    }
    for (int i = 0; i < order->sender_count; i++) {
        if (strcmp(order->senders[i], "*") == 0)
            continue;
        if (strchr(order->senders[i], '@') == NULL || strpbrk(order->senders[i], ": \t\r\n,;")) {
            fprintf(stderr, _("relayctl password: \"%s\" is neither an address nor @DOMAIN\n"),
                    order->senders[i]);
            return false;
        }
    }
    return true;
}

static int password_run(struct subcommand_line *line)
{
    struct password_order order = {.config = config_default_file};
    const struct subcommand_option options[] = {
        {"config", 'c', .text = &order.config}, {"delete", .flag = &order.remove}, {.name = NULL}};
    int status;

    if (!subcommand_parse(line, options, &status))
        return status;
    if (line->argc < 2) {
        fprintf(stderr, _("relayctl password: give FILE and USER\n"));
        return EX_USAGE;
    }
    order.file = line->argv[0];
    order.user = line->argv[1];
    order.senders = line->argv + 2;
    order.sender_count = line->argc - 2;
    if (!password_is_usable(&order))
        return EX_USAGE;
    char *entry = order.remove ? NULL : password_make_line(&order);
    status = entry != NULL || order.remove ? password_write_file(&order, entry) : EX_DATAERR;
    free(entry);
    return status;
}

const struct subcommand password_subcommand = {
    .name = "password",
    .summary = N_("set the password of a user who may log in at relay-out"),
    .help = {N_(
        "Usage: relayctl password [OPTION...] FILE USER [SENDER...]\n"
        "Sets the password of a user who may log in at relay-out, in FILE (out.users_file).\n"
        "It is asked for on a terminal, and otherwise read from standard input, a line.\n\n"
        "  SENDER     addresses that the user may send from: user@example.com, or\n"
        "             @example.com for a whole domain, or \"*\"; if none is given, an\n"
        "             existing user keeps the old ones, a new user may use any\n"
        "  --delete   remove the user\n"
        "  -c, --config FILE  names the user and group that must be able to read it\n"
        "             (default %s)\n\n"
        "Then: systemctl reload relay-out\n")},
    .arguments = true,
    .run = password_run,
};
