#ifdef __linux__
#include <linux/sockios.h>
#include <linux/tls.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#else
#include <pthread.h>
#include <sys/event.h>
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

// The system calls of reading and writing are made directly: the C library's wrappers are cancellation points, which cost two
// atomic operations each in a process with several threads.

/// What a system call came to: a number of bytes, or a negative libuv status.
static inline long sluice_result(long result) {
  if (result >= 0) return result;
  return errno == EAGAIN || errno == EWOULDBLOCK ? UV_EAGAIN : -errno;
}

/// Reads what is there now: the number of bytes, 0 for the end, or a negative libuv status.
static inline long sluice_read(int descriptor, bool is_socket, void *bytes, unsigned long count) {
  long received;
#ifdef __linux__
  do received = is_socket ? syscall(SYS_recvfrom, descriptor, bytes, count, MSG_DONTWAIT, 0, 0)
                          : syscall(SYS_read, descriptor, bytes, count);
#else
  do received = is_socket ? recv(descriptor, bytes, count, MSG_DONTWAIT) : read(descriptor, bytes, count);
#endif
  while (received < 0 && errno == EINTR);
  return sluice_result(received);
}

/// Writes what the system takes now: the number of bytes, or a negative libuv status.
static inline long sluice_send(int descriptor, bool is_socket, const void *bytes, unsigned long count) {
  long sent;
#ifdef __linux__
  do sent = is_socket ? syscall(SYS_sendto, descriptor, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0)
                      : syscall(SYS_write, descriptor, bytes, count);
#else
  do sent = is_socket ? send(descriptor, bytes, count, MSG_DONTWAIT) : write(descriptor, bytes, count);
#endif
  while (sent < 0 && errno == EINTR);
  return sluice_result(sent);
}

/// The same for several parts.
static inline long sluice_write(int descriptor, bool is_socket, struct iovec *parts, int count) {
  if (count == 1) return sluice_send(descriptor, is_socket, parts->iov_base, parts->iov_len);
  long sent;
#ifdef __linux__
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
  do sent = is_socket ? syscall(SYS_sendmsg, descriptor, &message, MSG_NOSIGNAL | MSG_DONTWAIT)
                      : syscall(SYS_writev, descriptor, parts, count);
#else
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
  do sent = is_socket ? sendmsg(descriptor, &message, MSG_DONTWAIT) : writev(descriptor, parts, count);
#endif
  while (sent < 0 && errno == EINTR);
  return sluice_result(sent);
}

/// Whether the system can encrypt what a TCP connection sends (kernel TLS).
static inline bool sluice_has_kernel_tls(void) {
#ifdef __linux__
  int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return false;
  // Where it is known, it is refused only for want of a connection.
  bool is_known = setsockopt(descriptor, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") == 0 || errno == ENOTCONN;
  close(descriptor);
  return is_known;
#else
  return false;
#endif
}

/// Has the system encrypt what a TCP connection sends, or, after the first time, do so with other keys (`struct tls_crypto_info` and
/// what follows it): 0, or a negative libuv status.
static inline int sluice_encrypt(int descriptor, bool is_first, const void *keys, socklen_t length) {
#ifdef __linux__
  if (is_first && setsockopt(descriptor, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") != 0) return -errno;
  return setsockopt(descriptor, SOL_TLS, TLS_TX, keys, length) == 0 ? 0 : -errno;
#else
  return UV_ENOTSUP;
#endif
}

/// Sends a record of a type of its own on a connection that the system encrypts, all of it or nothing: the number of bytes, or a
/// negative libuv status.
static inline long sluice_send_record(int descriptor, unsigned char type, void *bytes, unsigned long count) {
#ifdef __linux__
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof type)];
  } control = {.header = {.cmsg_level = SOL_TLS, .cmsg_type = TLS_SET_RECORD_TYPE, .cmsg_len = CMSG_LEN(sizeof type)}};
  *CMSG_DATA(&control.header) = type;
  struct iovec part = {.iov_base = bytes, .iov_len = count};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = control.header.cmsg_len};
  long sent;
  do sent = syscall(SYS_sendmsg, descriptor, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (sent < 0 && errno == EINTR);
  return sluice_result(sent);
#else
  return UV_ENOTSUP;
#endif
}

/// Opens what a descriptor stands for, a pipe or a terminal, once more: another open file, which does not block, whatever others who share
/// the first one expect of that. The new descriptor, or a negative libuv status where it can't be: what belongs to another user (EACCES), a
/// pipe that nobody reads any more (ENXIO), a system without /proc.
static inline int sluice_reopen(int descriptor, bool is_input) {
#ifdef TIOCGPTN
  // The controlling end of a pseudoterminal: to open its name makes a new one.
  int number;
  if (ioctl(descriptor, TIOCGPTN, &number) == 0) return UV_ENOTSUP;
#endif
  int flags = (is_input ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, opened;
  char path[256];
#ifdef __linux__
  snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
  do opened = open(path, flags);
  while (opened < 0 && errno == EINTR);
  if (opened >= 0 || errno == ENXIO) return opened < 0 ? -errno : opened;
#endif
  if (ttyname_r(descriptor, path, sizeof path) != 0) return UV_ENOTSUP;
  do opened = open(path, flags);
  while (opened < 0 && errno == EINTR);
  return opened < 0 ? -errno : opened;
}

/// Another descriptor of the same open file, above the standard ones and not inherited, or a negative libuv status.
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

/// Makes a descriptor of our own block: 0, or a negative libuv status.
static inline int sluice_block(int descriptor) {
  int off = 0;
  return ioctl(descriptor, FIONBIO, &off) == 0 ? 0 : -errno;
}

/// Whether so many descriptors can be opened now: 0, or a negative libuv status. Some of what is beneath ends the process where one is missing.
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

/// Has `close` tell the peer of a TCP connection, with RST rather than FIN, that it did not get everything.
static inline void sluice_reset_on_close(int descriptor) {
  struct linger linger = {.l_onoff = 1, .l_linger = 0};
  setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

/// Sends small writes of a TCP connection at once.
static inline void sluice_set_no_delay(int descriptor) {
  int on = 1;
  setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/// Has the peer of a TCP connection probed after a silence, ten times with a second between.
static inline void sluice_keep_alive(int descriptor, int seconds) {
  int on = 1, interval = 1, count = 10;
  setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
#ifdef TCP_KEEPIDLE
  setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
#else
  setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPALIVE, &seconds, sizeof seconds);
#endif
  setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

/// Bytes of a TCP connection that the peer has acknowledged in all; -1 if the system does not tell.
static inline long long sluice_acknowledged(int descriptor) {
#ifdef __linux__
  // `tcpi_bytes_acked` of the kernel's `struct tcp_info`, which the C library's header does not have everywhere.
  enum { offset = 120 };
  unsigned char info[offset + sizeof(unsigned long long)];
  socklen_t length = sizeof info;
  unsigned long long acknowledged;
  if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, info, &length) != 0 || length < sizeof info) return -1;
  memcpy(&acknowledged, info + offset, sizeof acknowledged);
  return (long long)acknowledged;
#elif defined(TCP_CONNECTION_INFO)
  struct tcp_connection_info info;
  socklen_t length = sizeof info;
  if (getsockopt(descriptor, IPPROTO_TCP, TCP_CONNECTION_INFO, &info, &length) != 0) return -1;
  return (long long)info.tcpi_txbytes;
#else
  return -1;
#endif
}

/// Bytes of a TCP connection that the peer has not acknowledged, those included that have not left; -1 if the system does not tell, or this is
/// another kind of stream.
static inline long long sluice_unacknowledged(int descriptor) {
  if (sluice_acknowledged(descriptor) < 0) return -1;
#ifdef __linux__
  int count;
  return ioctl(descriptor, SIOCOUTQ, &count) == 0 ? count : -1;
#elif defined(SO_NWRITE)
  int count;
  socklen_t length = sizeof count;
  return getsockopt(descriptor, SOL_SOCKET, SO_NWRITE, &count, &length) == 0 ? count : -1;
#else
  return -1;
#endif
}

/// Whether the process ignores a signal.
static inline bool sluice_ignores(int number) {
  struct sigaction action;
  return sigaction(number, 0, &action) == 0 && !(action.sa_flags & SA_SIGINFO) && action.sa_handler == SIG_IGN;
}

/// Names the calling thread.
static inline void sluice_name_thread(const char *name) {
#ifdef __linux__
  prctl(PR_SET_NAME, name);
#else
  pthread_setname_np(name);
#endif
}

#ifdef __linux__
// What CoreFoundation calls to have the main dispatch queue run in an event loop of its own.

extern int _dispatch_get_main_queue_handle_4CF(void);
extern void _dispatch_main_queue_callback_4CF(void *ignored);

static inline bool sluice_is_main_thread(void) { return syscall(SYS_gettid) == getpid(); }

/// What is readable while the main dispatch queue has something to run.
static inline int sluice_main_queue_descriptor(void) { return _dispatch_get_main_queue_handle_4CF(); }

/// Runs what the main dispatch queue has. On the main thread.
static inline void sluice_run_main_queue(int descriptor) {
  uint64_t count;
  if (read(descriptor, &count, sizeof count) < 0) return;
  _dispatch_main_queue_callback_4CF(0);
}
#endif

/// Makes a descriptor not block: 0, or a negative libuv status.
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

/// A stream socket that does not block and is not inherited, or a negative libuv status.
static inline int sluice_socket(int family) {
#ifdef __linux__
  int descriptor = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
#else
  int descriptor = socket(family, SOCK_STREAM, 0);
#endif
  return descriptor < 0 ? -errno : sluice_prepare(descriptor);
}

/// Begins to connect: 0, also where that goes on in the background, or a negative libuv status. When the socket may be written,
/// `sluice_connected` tells what came of it.
static inline int sluice_connect(int descriptor, const struct sockaddr *address, socklen_t length) {
  return connect(descriptor, address, length) == 0 || errno == EINPROGRESS || errno == EINTR ? 0 : -errno;
}

/// 0, or why connecting has failed, as a negative libuv status.
static inline int sluice_connected(int descriptor) {
  int failure = 0;
  socklen_t size = sizeof failure;
  return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &failure, &size) == 0 ? -failure : -errno;
}

/// A TCP socket that listens at an address and does not block, or a negative libuv status.
static inline int sluice_listen(const struct sockaddr *address, socklen_t length, int backlog, bool shares_port) {
  int descriptor = sluice_socket(address->sa_family), on = 1, off = 0;
  if (descriptor < 0) return descriptor;
  // A server that is started again need not wait for the connections of the one before.
  setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  // An IPv6 address that means all addresses means those of IPv4 too, whatever the system's default is.
  if (address->sa_family == AF_INET6) setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (shares_port) setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  if (bind(descriptor, address, length) == 0 && listen(descriptor, backlog) == 0) return descriptor;
  int failure = -errno;
  close(descriptor);
  return failure;
}

/// Accepts a connection: its descriptor, which does not block and is not inherited, or a negative libuv status.
static inline int sluice_accept(int listener) {
  int descriptor;
#ifdef __linux__
  do descriptor = (int)syscall(SYS_accept4, listener, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
  do descriptor = accept(listener, 0, 0);
#endif
  while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) return errno == EWOULDBLOCK ? UV_EAGAIN : -errno;
  return sluice_prepare(descriptor);
}

// Child processes beyond what libuv does with them.

/// Closes every descriptor from `first` on: between fork and exec.
static inline void sluice_close_from(int first) {
#ifdef SYS_close_range
  if (syscall(SYS_close_range, first, ~0U, 0) == 0) return;
#endif
  for (long descriptor = sysconf(_SC_OPEN_MAX); descriptor-- > first;) close((int)descriptor);
}

/// Has a pipe hold 256 KiB rather than 64, if the system lets it.
static inline void sluice_grow_pipe(int descriptor) {
#ifdef __linux__
  enum { set_pipe_size = 1031 };  // F_SETPIPE_SZ, which only GNU's header has
  fcntl(descriptor, set_pipe_size, 256 << 10);
#endif
}

/// Starts a shell, in a session of its own, that runs a script with a pipe as its standard input and nothing else of ours: its process id, and our end of
/// the pipe, which does not block; or a negative libuv status.
static inline int sluice_start_guard(const char *script, int *writer) {
  char *arguments[] = {"sh", "-c", (char *)script, 0}, *environment[] = {"PATH=/usr/bin:/bin", 0};
  int ends[2], status = uv_pipe(ends, 0, UV_NONBLOCK_PIPE);
  if (status != 0) return status;
  // No handler of ours runs in the child.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_t process = fork();
  if (process == 0) {
    setsid();
    // Above what is replaced, should one of these be free.
    int input = fcntl(ends[0], F_DUPFD, 3), nothing = open("/dev/null", O_WRONLY);
    if (dup2(input, 0) < 0 || dup2(nothing, 1) < 0 || dup2(nothing, 2) < 0 || chdir("/") != 0) _exit(127);
    sluice_close_from(3);
    for (int number = 1; number < 32; number++) signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, 0);
    execve("/bin/sh", arguments, environment);
    _exit(127);
  }
  status = process < 0 ? -errno : process;
  pthread_sigmask(SIG_SETMASK, &before, 0);
  close(ends[0]);
  if (status > 0) *writer = ends[1];
  else close(ends[1]);
  return status;
}

/// Sends a signal to what is in a session, but not in the group of its leader: the number of processes. Signal 0 asks for that alone. 0 where the system
/// does not tell.
static inline int sluice_signal_other_groups(pid_t session, int signal) {
  int count = 0;
#ifdef __linux__
  DIR *folder = opendir("/proc");
  struct dirent *entry;
  while (folder && (entry = readdir(folder))) {
    pid_t process = atoi(entry->d_name);
    if (process > 0 && getsid(process) == session && getpgid(process) != session && kill(process, signal) == 0) count++;
  }
  if (folder) closedir(folder);
#endif
  return count;
}

/// The id of a child that has exited and was not reaped yet; 0 if there is none.
static inline pid_t sluice_exited_child(void) {
  siginfo_t info = {0};
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 ? info.si_pid : 0;
}

// What a loop waits with: epoll or kqueue. Its descriptors are level-triggered: the system tells again and again while one is ready.

/// What may be done on a descriptor, as flags; that its other side has gone; and that it has failed.
///
/// epoll tells of the latter two whatever else it is to tell of, kqueue only with the others.
enum { SLUICE_READABLE = 1, SLUICE_WRITABLE = 2, SLUICE_GONE = 4, SLUICE_FAILED = 8 };

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
/// 0, or a negative libuv status.
static inline int sluice_poller_watch(
    struct sluice_poller poller, int descriptor, unsigned before, unsigned after, uint64_t token) {
#ifdef __linux__
  struct epoll_event event = {
      .events = (after & SLUICE_READABLE ? EPOLLIN : 0u) | (after & SLUICE_WRITABLE ? EPOLLOUT : 0u), .data.u64 = token};
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

/// Makes a poller that is told of a libuv loop's descriptor: 0, or a negative libuv status.
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
  if (event->events & EPOLLHUP) flags = SLUICE_READABLE | SLUICE_WRITABLE | SLUICE_GONE;
  return event->events & EPOLLERR ? flags | SLUICE_FAILED | SLUICE_GONE : flags;
#else
  if (event->flags & EV_ERROR) return SLUICE_FAILED;
  if (event->filter != EVFILT_WRITE) return SLUICE_READABLE;
  return event->flags & EV_EOF ? SLUICE_WRITABLE | SLUICE_GONE : SLUICE_WRITABLE;
#endif
}

// Two functions of Swift's runtime that compiled code calls. The library's own ways to them, `withUnsafeCurrentTask` and `Task.isCancelled`,
// copy and count tasks, at a fifteenth of the instructions of an echoed message.

extern void *swift_task_getCurrent(void) __attribute__((swiftcall));
extern bool swift_task_isCancelled(void *task) __attribute__((swiftcall));

/// The task that runs on the calling thread, not counted; null if there is none.
static inline void *sluice_current_task(void) { return swift_task_getCurrent(); }

/// Whether a task that lives was cancelled.
static inline bool sluice_is_cancelled(void *task) { return swift_task_isCancelled(task); }
