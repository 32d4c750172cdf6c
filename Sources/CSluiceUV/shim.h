#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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
