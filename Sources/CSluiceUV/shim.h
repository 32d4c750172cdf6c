#include <errno.h>
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
