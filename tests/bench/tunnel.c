/* tests/bench/tunnel.c - a slow tunnel: real TCP over a line of some milliseconds
 *
 * There are two TUN devices: "near" (10.0.0.1) in the caller's network namespace and "far" (10.0.0.2) in one made
 * here. Each packet is delayed on its way to the other. The command runs at the far end, and the tunnel ends with it.
 * Needs root.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define PACKETS 2048 /* in flight in one direction; further ones are dropped, as on any line */
#define PACKET_MAX 2048

struct packet {
    int64_t due_us;
    size_t len;
    char bytes[PACKET_MAX];
};

/* One direction. */
struct direction {
    int from, to;
    unsigned first, count;
    struct packet packets[PACKETS];
};

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int open_device(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0)
        die("tunnel: /dev/net/tun");
    return fd;
}

static void configure(const char *commands)
{
    if (system(commands) != 0)
        die("tunnel: ip");
}

static void take(struct direction *direction, int64_t delay_us)
{
    char lost[PACKET_MAX];
    for (;;) {
        bool full = direction->count == PACKETS;
        struct packet *packet =
            &direction->packets[(direction->first + direction->count) % PACKETS];
        ssize_t len = read(direction->from, full ? lost : packet->bytes, PACKET_MAX);
        if (len <= 0)
            return;
        if (full)
            continue;
        packet->len = (size_t)len;
        packet->due_us = now_us() + delay_us;
        direction->count++;
    }
}

/* Delivers the packets that are due. Returns when the next one is. */
static int64_t release(struct direction *direction)
{
    while (direction->count > 0) {
        struct packet *packet = &direction->packets[direction->first];
        if (packet->due_us > now_us())
            return packet->due_us;
        if (write(direction->to, packet->bytes, packet->len) < 0 && errno == EAGAIN)
            return now_us() + 100;
        direction->first = (direction->first + 1) % PACKETS;
        direction->count--;
    }
    return INT64_MAX;
}

static void carry(struct direction *there, struct direction *back, int64_t delay_us, pid_t child)
{
    struct pollfd fds[2] = {{.fd = there->from, .events = POLLIN},
                            {.fd = back->from, .events = POLLIN}};
    while (waitpid(child, NULL, WNOHANG) == 0) {
        int64_t a = release(there), b = release(back), wait = (a < b ? a : b) - now_us();
        wait = wait < 0 ? 0 : wait > 200000 ? 200000 : wait;
        const struct timespec limit = {0, wait * 1000};
        ppoll(fds, 2, &limit, NULL);
        take(there, delay_us);
        take(back, delay_us);
    }
}

int main(int argc, char **argv)
{
    static struct direction there, back;
    int64_t delay_us = argc > 2 ? atol(argv[1]) * 1000 : -1;

    if (delay_us < 0) {
        fputs("usage: tunnel MILLISECONDS COMMAND [ARGUMENT...]\n", stderr);
        return 2;
    }
    int near = open_device("near");
    configure("ip address add 10.0.0.1/32 dev near 2>&1; ip link set near up && "
              "ip route add 10.0.0.2/32 dev near src 10.0.0.1");
    if (unshare(CLONE_NEWNET) != 0)
        die("tunnel: unshare");
    int far = open_device("far");
    configure("ip link set lo up && ip address add 10.0.0.2/32 dev far && ip link set far up && "
              "ip route add 10.0.0.1/32 dev far");
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        execvp(argv[2], argv + 2);
        die(argv[2]);
    }
    there.from = back.to = near;
    there.to = back.from = far;
    carry(&there, &back, delay_us, child);
    return 0;
}
