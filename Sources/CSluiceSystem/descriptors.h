#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/vfs.h>
#endif

// What fails gives a negative errno, which is what libuv's statuses are on these systems too.

/// Opens what a descriptor stands for, a pipe or a terminal, once more: another open file, which does not block, whatever others who share
/// the first one expect of that. The new descriptor, or a negative errno where it can't be: what belongs to another user (EACCES), a
/// pipe that nobody reads any more (ENXIO), a system without /proc.
static inline int sluice_reopen(int descriptor, bool is_input) {
#ifdef TIOCGPTN
  // The controlling end of a pseudoterminal: to open its name makes a new one.
  int number;
  if (ioctl(descriptor, TIOCGPTN, &number) == 0) return -ENOTSUP;
#endif
  int flags = (is_input ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, opened;
  char path[256];
#ifdef __linux__
  snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
  do opened = open(path, flags);
  while (opened < 0 && errno == EINTR);
  if (opened >= 0 || errno == ENXIO) return opened < 0 ? -errno : opened;
#endif
  if (ttyname_r(descriptor, path, sizeof path) != 0) return -ENOTSUP;
  do opened = open(path, flags);
  while (opened < 0 && errno == EINTR);
  return opened < 0 ? -errno : opened;
}

/// Another descriptor of the same open file, above the standard ones and not inherited, or a negative errno.
static inline int sluice_duplicate(int descriptor) {
  int duplicate = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
  return duplicate < 0 ? -errno : duplicate;
}

/// Whether a pipe has no name, by which another reader or writer could come.
static inline bool sluice_is_anonymous_pipe(int descriptor) {
#ifdef __linux__
  struct statfs status;
  enum { pipefs_magic = 0x50495045 };
  return fstatfs(descriptor, &status) == 0 && status.f_type == pipefs_magic;
#else
  return false;
#endif
}

/// Whether the other side of a descriptor has gone.
static inline bool sluice_has_hung_up(int descriptor) {
  struct pollfd query = {.fd = descriptor};
  return poll(&query, 1, 0) > 0 && (query.revents & (POLLHUP | POLLERR));
}

/// Makes a descriptor of our own block: 0, or a negative errno.
static inline int sluice_block(int descriptor) {
  int off = 0;
  return ioctl(descriptor, FIONBIO, &off) == 0 ? 0 : -errno;
}

/// Whether so many descriptors can be opened now: 0, or a negative errno. Some of what is beneath ends the process where one is missing.
static inline int sluice_can_open(int count) {
  enum { most = 16 };
  int opened[most], used = 0, status = 0;
  while (used < count && used < most && status == 0) {
    int descriptor = used == 0 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : fcntl(opened[0], F_DUPFD_CLOEXEC, 0);
    if (descriptor < 0) status = -errno;
    else opened[used++] = descriptor;
  }
  while (used > 0) close(opened[--used]);
  return status;
}

/// Makes a descriptor not block: 0, or a negative errno.
static inline int sluice_unblock(int descriptor) {
  int on = 1;
  return ioctl(descriptor, FIONBIO, &on) == 0 ? 0 : -errno;
}

/// Makes a descriptor not block, and not be inherited.
static inline int sluice_prepare(int descriptor) {
#ifndef __linux__
  fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  fcntl(descriptor, F_SETFL, O_NONBLOCK);
#endif
  return descriptor;
}

/// Has a pipe hold 256 KiB rather than 64, if the system lets it.
static inline void sluice_grow_pipe(int descriptor) {
#ifdef __linux__
  enum { set_pipe_size = 1031 };  // F_SETPIPE_SZ, which only GNU's header has
  fcntl(descriptor, set_pipe_size, 256 << 10);
#endif
}
