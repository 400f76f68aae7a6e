/* tests/fault/disk-stop.h - ends the process at a chosen step on its way to the disk
 *
 * Linked with --wrap for the calls that change files. Each call has two or three points at which the process can end by
 * SIGKILL: before it, after it, and in the middle of a write. It also keeps, in memory that outlives the process, what
 * the kernel has not been told to make durable, so that a loss of power can be simulated: disk_stop_lose() undoes a
 * random part of it.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_TESTS_FAULT_DISK_STOP_H
#define POSTERN_TESTS_FAULT_DISK_STOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Call it once, before any fork. Exits if there is no memory. */
void disk_stop_init(void);

/* Makes a new folder to work in: in /dev/shm unless TMPDIR is set. Only the order of the calls matters here, so memory
 * serves as well as a disk, whose slow syncs would make these tests take minutes. The caller frees the name. */
char *disk_stop_folder(const char *name);

/* In the child: counts calls from now on and ends the process at point `at` (0 = never). With `power`, name changes in
 * `folder` are recorded. */
void disk_stop_arm(const char *folder, unsigned at, bool power);

/* Called instead of every fsync(2); its result is returned. NULL: the real call is made. */
extern int (*disk_stop_sync)(int fd);
int __real_fsync(int fd);

/* While set, envelopes cannot be opened for reading: EIO. */
extern atomic_bool disk_stop_unreadable;

/* The number of points passed since disk_stop_arm(). */
unsigned disk_stop_points(void);

/* In the parent, after the child's death: loses a random part of what was not synced. Returns how many changes were
 * lost. */
unsigned disk_stop_lose(const char *folder, uint32_t random);

#endif
