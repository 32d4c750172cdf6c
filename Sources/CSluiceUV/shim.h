#ifdef __linux__
#include <sys/prctl.h>
#else
#include <pthread.h>
#endif
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

/// Sends what the kernel takes now: the number of bytes, or a negative libuv status. Never a signal.
///
/// The system call is made directly: the C library's wrapper is a cancellation point, which costs two atomic operations in
/// a process with several threads.
static inline long sluice_send(int descriptor, const void *bytes, unsigned long count) {
#ifdef __linux__
  long sent;
  do sent = syscall(SYS_sendto, descriptor, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0);
#else
  long sent;
  do sent = send(descriptor, bytes, count, MSG_DONTWAIT);
#endif
  while (sent < 0 && errno == EINTR);
  if (sent >= 0) return sent;
  return errno == EAGAIN || errno == EWOULDBLOCK ? UV_EAGAIN : -errno;
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

/// Names the calling thread.
static inline void sluice_name_thread(const char *name) {
#ifdef __linux__
  prctl(PR_SET_NAME, name);
#else
  pthread_setname_np(name);
#endif
}

/// Makes a descriptor not block, and not be inherited.
static inline int sluice_prepare(int descriptor) {
#ifndef __linux__
  fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  fcntl(descriptor, F_SETFL, O_NONBLOCK);
#endif
  return descriptor;
}

/// A TCP socket that listens at an address and does not block, or a negative libuv status.
static inline int sluice_listen(const struct sockaddr *address, socklen_t length, int backlog, bool shares_port) {
#ifdef __linux__
  int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
#else
  int type = SOCK_STREAM;
#endif
  int descriptor = socket(address->sa_family, type, 0), on = 1, off = 0;
  if (descriptor < 0) return -errno;
  sluice_prepare(descriptor);
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
