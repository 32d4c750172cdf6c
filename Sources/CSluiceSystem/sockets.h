#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#ifdef __linux__
#include <linux/sockios.h>
#include <linux/tls.h>
#endif
#include "descriptors.h"

// The system calls of reading and writing are made directly: the C library's wrappers are cancellation points, which cost two
// atomic operations each in a process with several threads.

/// What a system call came to: a number of bytes, or a negative errno.
static inline long sluice_result(long result) {
  if (result >= 0) return result;
  return errno == EAGAIN || errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

/// Reads what is there now: the number of bytes, 0 for the end, or a negative errno.
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

/// Writes what the system takes now: the number of bytes, or a negative errno.
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
/// what follows it): 0, or a negative errno.
static inline int sluice_encrypt(int descriptor, bool is_first, const void *keys, socklen_t length) {
#ifdef __linux__
  if (is_first && setsockopt(descriptor, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") != 0) return -errno;
  return setsockopt(descriptor, SOL_TLS, TLS_TX, keys, length) == 0 ? 0 : -errno;
#else
  return -ENOTSUP;
#endif
}

/// Sends a record of a type of its own on a connection that the system encrypts, all of it or nothing: the number of bytes, or a
/// negative errno.
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
  return -ENOTSUP;
#endif
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

/// A stream socket that does not block and is not inherited, or a negative errno.
static inline int sluice_socket(int family) {
#ifdef __linux__
  int descriptor = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
#else
  int descriptor = socket(family, SOCK_STREAM, 0);
#endif
  return descriptor < 0 ? -errno : sluice_prepare(descriptor);
}

/// Begins to connect: 0, also where that goes on in the background, or a negative errno. When the socket may be written,
/// `sluice_connected` tells what came of it.
static inline int sluice_connect(int descriptor, const struct sockaddr *address, socklen_t length) {
  return connect(descriptor, address, length) == 0 || errno == EINPROGRESS || errno == EINTR ? 0 : -errno;
}

/// 0, or why connecting has failed, as a negative errno.
static inline int sluice_connected(int descriptor) {
  int failure = 0;
  socklen_t size = sizeof failure;
  return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &failure, &size) == 0 ? -failure : -errno;
}

/// A TCP socket that listens at an address and does not block, or a negative errno.
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

enum { SLUICE_LISTENING, SLUICE_CONNECTED };

/// Has a stream socket that was inherited not be inherited any more, nor block if it listens: which of these it is, or a negative errno.
static inline int sluice_own_socket(int descriptor) {
  int type, listens = 0;
  socklen_t length = sizeof type;
  if (getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &length) != 0) return -errno;
  if (type != SOCK_STREAM) return -EPROTOTYPE;
  length = sizeof listens;
  if (getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) != 0) return -errno;
  if (fcntl(descriptor, F_SETFD, FD_CLOEXEC) != 0) return -errno;
  if (listens) {
    int status = sluice_unblock(descriptor);
    return status < 0 ? status : SLUICE_LISTENING;
  }
  struct sockaddr_storage peer;
  length = sizeof peer;
  // A peer that has gone already leaves a connection, whose end is read.
  bool is_connected = getpeername(descriptor, (struct sockaddr *)&peer, &length) == 0 || errno == EINVAL;
  return is_connected ? SLUICE_CONNECTED : -EINVAL;
}

/// Gives the file of a socket an owner and a group (-1: as they are), then a mode (-1: as it is): 0, or a negative errno. Nothing that a link points at.
static inline int sluice_set_access(const char *path, long mode, uid_t owner, gid_t group) {
  if ((owner != (uid_t)-1 || group != (gid_t)-1) && lchown(path, owner, group) != 0) return -errno;
  if (mode >= 0 && fchmodat(AT_FDCWD, path, (mode_t)mode, AT_SYMLINK_NOFOLLOW) != 0) return -errno;
  return 0;
}

/// Accepts a connection: its descriptor, which does not block and is not inherited, or a negative errno.
static inline int sluice_accept(int listener) {
  int descriptor;
#ifdef __linux__
  do descriptor = (int)syscall(SYS_accept4, listener, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
  do descriptor = accept(listener, 0, 0);
#endif
  while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) return errno == EWOULDBLOCK ? -EAGAIN : -errno;
  return sluice_prepare(descriptor);
}

/// A socket of whole messages that does not block and is not inherited, or a negative errno: of datagrams, or of connections (SOCK_SEQPACKET), of which macOS
/// has none.
static inline int sluice_message_socket(int family, bool connects) {
#ifdef __linux__
  int descriptor = socket(family, (connects ? SOCK_SEQPACKET : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  return descriptor >= 0 ? descriptor : -errno;
#else
  if (connects) return -EPROTONOSUPPORT;
  int descriptor = socket(family, SOCK_DGRAM, 0);
  if (descriptor < 0) return -errno;
  fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  int failure = sluice_unblock(descriptor);
  if (failure == 0) return descriptor;
  close(descriptor);
  return failure;
#endif
}

/// Has an open connection of whole messages tell its end from a message without bytes: see `sluice_receive_message`. 0, or a negative errno.
static inline int sluice_mark_messages(int descriptor) {
#ifdef __linux__
  int on = 1;
  return setsockopt(descriptor, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0 ? 0 : -errno;
#else
  (void)descriptor;
  return 0;
#endif
}

/// Receives a message that is there now, and where it comes from: its bytes, or a negative errno; EMSGSIZE for one that is longer than `count`. No bytes are the end of a
/// connection unless `is_message`: a message comes with its sender's credentials, for which there is no room here, and the end without (unix(7), SO_PASSCRED).
static inline long sluice_receive_message(
    int descriptor, void *bytes, unsigned long count, void *address, unsigned int *length, bool *is_message) {
  struct iovec part = {.iov_base = bytes, .iov_len = count};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_name = address, .msg_namelen = *length};
  long received;
  do received = recvmsg(descriptor, &message, MSG_DONTWAIT);
  while (received < 0 && errno == EINTR);
  if (received < 0) return sluice_result(received);
  *length = message.msg_namelen;
  *is_message = message.msg_flags & MSG_CTRUNC;
  return message.msg_flags & MSG_TRUNC ? -EMSGSIZE : received;
}

/// Ends our half of a connection.
static inline void sluice_end_sending(int descriptor) { shutdown(descriptor, SHUT_WR); }

/// Sends a datagram, to an address if there is one: its bytes, or a negative errno.
static inline long sluice_send_datagram(
    int descriptor, const void *bytes, unsigned long count, const void *address, unsigned int length) {
  int flags = MSG_DONTWAIT;
#ifdef MSG_NOSIGNAL
  flags |= MSG_NOSIGNAL;
#endif
  long sent;
  do sent = sendto(descriptor, bytes, count, flags, length > 0 ? (const struct sockaddr *)address : 0, length);
  while (sent < 0 && errno == EINTR);
  return sluice_result(sent);
}
