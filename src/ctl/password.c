/* ctl/password.c - relayctl password: who may log in at relay-out
 *
 * Writes the file of out.users_file: a line NAME:HASH or NAME:HASH:SENDERS each. The new file takes
 * the place of the old one in one step, so that a reload never finds half of it.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <termios.h>
#include <unistd.h>

#include "base/i18n.h"
#include "ctl/commands.h"

#define PASSWORD_MAX 255
#define NEW_FILE_MODE 0640

struct password_order {
    const char *file, *user;
    char **senders;
    int sender_count;
    bool remove;
};

static void print_help(void)
{
    printf(_("Usage: relayctl password [--delete] FILE USER [SENDER...]\n"
             "Sets the password of a user who may log in at relay-out, in FILE (out.users_file).\n"
             "It is asked for on a terminal, and otherwise read from standard input, a line.\n"
             "\n"
             "  SENDER     addresses that the user may send from: user@example.com, or\n"
             "             @example.com for all of a domain, or \"*\"; none given: those\n"
             "             that the user has, of a new user any\n"
             "  --delete   take the user out\n"
             "\n"
             "Then: systemctl reload relay-out\n"));
}

/* One line; without its end. */
static bool read_line(char *out, size_t size)
{
    if (fgets(out, (int)size, stdin) == NULL)
        return false;
    size_t len = strcspn(out, "\r\n");
    bool whole = out[len] != '\0' || feof(stdin);
    out[len] = '\0';
    return whole;
}

static bool ask_quietly(const char *prompt, char *out, size_t size)
{
    struct termios before, quiet;
    bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;

    if (terminal) {
        fprintf(stderr, "%s", prompt);
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    }
    bool read = read_line(out, size);
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fprintf(stderr, "\n");
    }
    return read;
}

static bool ask_password(char out[PASSWORD_MAX + 2])
{
    char again[PASSWORD_MAX + 2];
    bool same = true;

    if (!ask_quietly(_("Password: "), out, PASSWORD_MAX + 2) || out[0] == '\0') {
        fprintf(stderr, _("relayctl password: a password of 1 to %d octets is needed\n"),
                PASSWORD_MAX);
        return false;
    }
    if (isatty(STDIN_FILENO)) {
        same = ask_quietly(_("Again: "), again, sizeof again) && strcmp(out, again) == 0;
        explicit_bzero(again, sizeof again);
    }
    if (!same)
        fprintf(stderr, _("relayctl password: these two are not the same\n"));
    return same;
}

static bool is_of_user(const char *line, const char *user)
{
    size_t len = strlen(user);
    return strncmp(line, user, len) == 0 && line[len] == ':';
}

/* What stands behind the hash, its colon included; to be freed. NULL: nothing. */
static char *old_senders(const struct password_order *order)
{
    FILE *stream = fopen(order->file, "re");
    char *line = NULL, *found = NULL;
    size_t size = 0;

    while (stream != NULL && found == NULL && getline(&line, &size, stream) >= 0) {
        line[strcspn(line, "\r\n")] = '\0';
        const char *hash = is_of_user(line, order->user) ? line + strlen(order->user) + 1 : "";
        const char *senders = strchr(hash, ':');
        if (senders != NULL)
            found = strdup(senders);
    }
    free(line);
    if (stream != NULL)
        fclose(stream);
    return found;
}

static void put_senders(const struct password_order *order, FILE *stream)
{
    char *old = order->sender_count == 0 ? old_senders(order) : NULL;
    for (int i = 0; i < order->sender_count; i++)
        fprintf(stream, "%s%s", i == 0 ? ":" : " ", order->senders[i]);
    fprintf(stream, "%s\n", old != NULL ? old : "");
    free(old);
}

/* The user's new line, to be freed; NULL with a message on failure. */
static char *make_line(const struct password_order *order)
{
    char password[PASSWORD_MAX + 2], salt[CRYPT_GENSALT_OUTPUT_SIZE];
    struct crypt_data *data = calloc(1, sizeof *data);
    char *line = NULL;
    size_t size;

    /* NULL: the best method that libcrypt knows, with its own randomness. */
    const char *hash = NULL;
    if (data != NULL && crypt_gensalt_rn(NULL, 0, NULL, 0, salt, sizeof salt) != NULL &&
        ask_password(password))
        hash = crypt_r(password, salt, data);
    explicit_bzero(password, sizeof password);
    FILE *stream = hash != NULL && hash[0] != '*' ? open_memstream(&line, &size) : NULL;
    if (stream != NULL) {
        fprintf(stream, "%s:%s", order->user, hash);
        put_senders(order, stream);
        fclose(stream);
    }
    free(data);
    return line;
}

/* All lines of the old file but the user's. True when that was there. */
static bool copy_others(FILE *from, FILE *to, const char *user)
{
    char *line = NULL;
    size_t size = 0;
    bool found = false;

    while (from != NULL && getline(&line, &size, from) >= 0) {
        if (is_of_user(line, user))
            found = true;
        else
            fputs(line, to);
        if (line[strcspn(line, "\n")] == '\0')
            fputc('\n', to);
    }
    free(line);
    return found;
}

/* Owner and mode as the old one's. */
static int open_new(const char *path, const struct stat *old, bool had_old)
{
    mode_t mode = had_old ? old->st_mode & 07777 : NEW_FILE_MODE;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -1;
    if ((!had_old || fchown(fd, old->st_uid, old->st_gid) == 0) && fchmod(fd, mode) == 0)
        return fd;
    close(fd);
    unlink(path);
    return -1;
}

static int replace(const struct password_order *order, const char *line, const char *path)
{
    struct stat status;
    bool had_old = stat(order->file, &status) == 0;
    FILE *from = had_old ? fopen(order->file, "re") : NULL;
    int fd = (had_old && from == NULL) ? -1 : open_new(path, &status, had_old);
    FILE *to = fd >= 0 ? fdopen(fd, "w") : NULL;
    int result = -1;

    if (to != NULL) {
        bool found = copy_others(from, to, order->user);
        if (line != NULL)
            fputs(line, to);
        /* What could not be read or written are users that would be gone. */
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

static int write_file(const struct password_order *order, const char *line)
{
    char *path = NULL;
    int result = asprintf(&path, "%s.new", order->file) >= 0 ? replace(order, line, path) : -1;

    if (result == EX_NOUSER)
        fprintf(stderr, _("relayctl password: there is no user \"%s\" in %s\n"), order->user,
                order->file);
    else if (result != EX_OK && errno == EEXIST)
        fprintf(stderr,
                _("relayctl password: %s is there: another relayctl is at work, or one was "
                  "interrupted; then remove it\n"),
                path);
    else if (result != EX_OK)
        fprintf(stderr, _("relayctl password: cannot write %s: %s\n"), path, strerror(errno));
    if (result != EX_OK && path != NULL && errno != EEXIST)
        unlink(path);
    free(path);
    return result < 0 ? EX_CANTCREAT : result;
}

static bool is_usable(const struct password_order *order)
{
    if (order->user[0] == '\0' || strpbrk(order->user, ":\r\n#") != NULL) {
        fprintf(stderr, _("relayctl password: a user's name has no ':', '#' or line end in it\n"));
        return false;
    }
    for (int i = 0; i < order->sender_count; i++) {
        if (strcmp(order->senders[i], "*") == 0)
            continue;
        if (strchr(order->senders[i], '@') == NULL || strpbrk(order->senders[i], ": \t\r\n,;")) {
            fprintf(stderr, _("relayctl password: \"%s\" is no address and no @domain\n"),
                    order->senders[i]);
            return false;
        }
    }
    return true;
}

int password_main(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"delete", no_argument, NULL, 'd'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct password_order order = {.remove = false};
    int letter;

    while ((letter = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (letter == 'h') {
            print_help();
            return EX_OK;
        }
        if (letter != 'd')
            return EX_USAGE;
        order.remove = true;
    }
    if (argc - optind < 2) {
        fprintf(stderr, _("relayctl password: FILE and USER are needed; see --help\n"));
        return EX_USAGE;
    }
    order.file = argv[optind];
    order.user = argv[optind + 1];
    order.senders = argv + optind + 2;
    order.sender_count = argc - optind - 2;
    if (!is_usable(&order))
        return EX_USAGE;
    char *line = order.remove ? NULL : make_line(&order);
    int status = line != NULL || order.remove ? write_file(&order, line) : EX_DATAERR;
    free(line);
    return status;
}
