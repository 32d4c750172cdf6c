#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#include <sys/eventfd.h>
#else
#include <sys/event.h>
#endif

// What a loop waits with: epoll or kqueue. Its descriptors are level-triggered: the system tells again and again while one is ready.

/// What may be done on a descriptor, as flags; that its other side has gone; that it has failed; and that its other side has ended its half,
/// behind what may be unread.
///
/// epoll tells of gone and failed whatever else it is to tell of, kqueue only with the others, and of an ended half only with what is readable.
enum { SLUICE_READABLE = 1, SLUICE_WRITABLE = 2, SLUICE_GONE = 4, SLUICE_FAILED = 8, SLUICE_ENDED = 16 };

/// What an event is of, where it is no descriptor.
static const uint64_t SLUICE_TOKEN_THREAD = UINT64_MAX, SLUICE_TOKEN_LIBUV = UINT64_MAX - 1;

struct sluice_poller {
  int descriptor;
  /// What other threads write to: an eventfd; kqueue needs none.
  int waker;
};

#ifdef __linux__
typedef struct epoll_event sluice_event;
#else
typedef struct kevent sluice_event;
#endif

static inline void sluice_poller_close(struct sluice_poller poller) {
  close(poller.descriptor);
  if (poller.waker >= 0) close(poller.waker);
}

/// Has the poller tell of `after` instead of `before` for a descriptor; with nothing before it is new, with nothing after it is forgotten.
/// 0, or a negative errno.
static inline int sluice_poller_watch(
    struct sluice_poller poller, int descriptor, unsigned before, unsigned after, uint64_t token) {
#ifdef __linux__
  struct epoll_event event = {
      .events = (after & SLUICE_READABLE ? EPOLLIN : 0u) | (after & SLUICE_WRITABLE ? EPOLLOUT : 0u)
                | (after & SLUICE_ENDED ? EPOLLRDHUP : 0u),
      .data.u64 = token};
  int operation = !before ? EPOLL_CTL_ADD : after ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
  return epoll_ctl(poller.descriptor, operation, descriptor, &event) == 0 ? 0 : -errno;
#else
  static const struct { unsigned flag; short filter; } kinds[] = {{SLUICE_READABLE, EVFILT_READ}, {SLUICE_WRITABLE, EVFILT_WRITE}};
  struct kevent changes[2];
  int count = 0;
  for (int i = 0; i < 2; i++)
    if ((before ^ after) & kinds[i].flag)
      EV_SET(&changes[count++], descriptor, kinds[i].filter, after & kinds[i].flag ? EV_ADD : EV_DELETE, 0, 0, (void *)token);
  return kevent(poller.descriptor, changes, count, 0, 0, 0) == 0 ? 0 : -errno;
#endif
}

/// Makes a poller that is told of a libuv loop's descriptor: 0, or a negative errno.
static inline int sluice_poller_open(struct sluice_poller *poller, int libuv) {
#ifdef __linux__
  poller->descriptor = epoll_create1(EPOLL_CLOEXEC);
  poller->waker = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  // Edge-triggered: each write is told once, and the number written need not be read.
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = SLUICE_TOKEN_THREAD};
  int status = poller->descriptor < 0 || poller->waker < 0 ? -errno
               : epoll_ctl(poller->descriptor, EPOLL_CTL_ADD, poller->waker, &event) ? -errno : 0;
#else
  poller->descriptor = kqueue();
  poller->waker = -1;
  struct kevent change;
  EV_SET(&change, 0, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, (void *)SLUICE_TOKEN_THREAD);
  int status = poller->descriptor < 0 ? -errno : kevent(poller->descriptor, &change, 1, 0, 0, 0) ? -errno : 0;
  if (poller->descriptor >= 0) fcntl(poller->descriptor, F_SETFD, FD_CLOEXEC);
#endif
  if (status == 0) status = sluice_poller_watch(*poller, libuv, 0, SLUICE_READABLE, SLUICE_TOKEN_LIBUV);
  if (status != 0) sluice_poller_close(*poller);
  return status;
}

/// Ends a wait, or the next one. From any thread.
static inline void sluice_poller_wake(struct sluice_poller poller) {
#ifdef __linux__
  uint64_t one = 1;
  long written;
  do written = syscall(SYS_write, poller.waker, &one, sizeof one);
  while (written < 0 && errno == EINTR);
#else
  struct kevent change;
  EV_SET(&change, 0, EVFILT_USER, 0, NOTE_TRIGGER, 0, (void *)SLUICE_TOKEN_THREAD);
  kevent(poller.descriptor, &change, 1, 0, 0, 0);
#endif
}

/// Waits for events: how many there are. 0 when the time is over, or a signal was caught.
static inline int sluice_poller_wait(struct sluice_poller poller, sluice_event *events, int capacity, int milliseconds) {
#ifdef __linux__
  int count = (int)syscall(SYS_epoll_pwait, poller.descriptor, events, capacity, milliseconds, 0, 0);
#else
  struct timespec time = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000L};
  int count = kevent(poller.descriptor, 0, 0, events, capacity, milliseconds < 0 ? 0 : &time);
#endif
  return count < 0 ? 0 : count;
}

static inline uint64_t sluice_event_token(const sluice_event *event) {
#ifdef __linux__
  return event->data.u64;
#else
  return (uint64_t)event->udata;
#endif
}

/// What the event tells, as flags. What has hung up can be read and written: that says how.
static inline unsigned sluice_event_flags(const sluice_event *event) {
#ifdef __linux__
  unsigned flags = (event->events & EPOLLIN ? SLUICE_READABLE : 0u) | (event->events & EPOLLOUT ? SLUICE_WRITABLE : 0u);
  if (event->events & EPOLLRDHUP) flags |= SLUICE_ENDED;
  if (event->events & EPOLLHUP) flags = SLUICE_READABLE | SLUICE_WRITABLE | SLUICE_GONE | SLUICE_ENDED;
  return event->events & EPOLLERR ? flags | SLUICE_FAILED | SLUICE_GONE : flags;
#else
  if (event->flags & EV_ERROR) return SLUICE_FAILED;
  if (event->filter != EVFILT_WRITE) return event->flags & EV_EOF ? SLUICE_READABLE | SLUICE_ENDED : SLUICE_READABLE;
  return event->flags & EV_EOF ? SLUICE_WRITABLE | SLUICE_GONE : SLUICE_WRITABLE;
#endif
}
