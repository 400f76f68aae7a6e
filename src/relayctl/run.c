/* relayctl/run.c - runs another program and takes what it prints
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/deadline.h"

extern char **environ;

/* Reads until the end of the pipe. False if the deadline comes first. */
static bool run_read(int fd, struct deadline deadline, char *out, size_t size)
{
    size_t len = 0;

    for (;;) {
        struct pollfd waits = {.fd = fd, .events = POLLIN};
        char octets[512];
        if (poll(&waits, 1, deadline_left_ms(deadline)) <= 0)
            return false;
        ssize_t got = read(fd, octets, sizeof octets);
        if (got <= 0)
            return got == 0;
        for (ssize_t i = 0; i < got && len + 1 < size; i++)
            out[len++] = octets[i];
        out[len] = '\0';
    }
}

bool run_command(const char *const *arguments, int seconds, char *out, size_t size)
{
    posix_spawn_file_actions_t actions;
    int ends[2], status = 0;
    pid_t pid;

    out[0] = '\0';
    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    int failed =
        posix_spawnp(&pid, arguments[0], &actions, NULL, (char *const *)arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    bool whole =
        failed == 0 && run_read(ends[0], deadline_in_ms((int64_t)seconds * 1000), out, size);
    close(ends[0]);
    if (failed != 0)
        return false;
    if (!whole)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return whole && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
