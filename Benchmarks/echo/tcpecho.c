// The limit: an echo of raw TCP on epoll, with nothing above it. One thread, one read buffer for all connections;
// a connection holds memory only while its peer does not read.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256 };

struct connection {
  int fd;
  // What a partial write left over; reading waits until it is gone.
  uint8_t *pending;
  size_t pending_length;
};

static int epoll;
static uint8_t *buffer;
static size_t buffer_length = 64 << 10;

static void fail(const char *what) {
  fprintf(stderr, "tcpecho: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void watch(struct connection *c, uint32_t events, int operation) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  if (epoll_ctl(epoll, operation, c->fd, &event)) fail("epoll_ctl");
}

static void end(struct connection *c) {
  close(c->fd);
  free(c->pending);
  free(c);
}

static void accept_all(int listener) {
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), yes = 1;
    if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (fd < 0 && errno == EAGAIN) return;
    if (fd < 0) fail("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct connection *c = calloc(1, sizeof *c);
    if (!c) fail("memory");
    c->fd = fd;
    watch(c, EPOLLIN, EPOLL_CTL_ADD);
  }
}

static ssize_t send_some(int fd, const uint8_t *bytes, size_t length) {
  ssize_t n;
  do n = send(fd, bytes, length, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return n < 0 && errno == EAGAIN ? 0 : n;
}

static void echo(struct connection *c) {
  ssize_t n = recv(c->fd, buffer, buffer_length, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) return end(c);
  ssize_t sent = send_some(c->fd, buffer, (size_t)n);
  if (sent == n) return;
  if (sent < 0) return end(c);
  c->pending_length = (size_t)(n - sent);
  c->pending = malloc(c->pending_length);
  if (!c->pending) fail("memory");
  memcpy(c->pending, buffer + sent, c->pending_length);
  watch(c, EPOLLOUT, EPOLL_CTL_MOD);
}

static void send_pending(struct connection *c) {
  ssize_t sent = send_some(c->fd, c->pending, c->pending_length);
  if (sent < 0) return end(c);
  c->pending_length -= (size_t)sent;
  memmove(c->pending, c->pending + sent, c->pending_length);
  if (c->pending_length) return;
  free(c->pending);
  c->pending = NULL;
  watch(c, EPOLLIN, EPOLL_CTL_MOD);
}

static int listen_on(uint16_t port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  if (fd < 0) fail("socket");
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(fd, (struct sockaddr *)&address, length) || listen(fd, 4096)) fail("listen");
  if (getsockname(fd, (struct sockaddr *)&address, &length)) fail("getsockname");
  printf("PORT %u\n", ntohs(address.sin_port));
  fflush(stdout);
  return fd;
}

int main(int argc, char **argv) {
  static const struct option names[] = {{"port", 1, NULL, 'p'}, {"buffer", 1, NULL, 'b'}, {0}};
  unsigned long port = 0;
  for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
    if (option == 'p') port = strtoul(optarg, NULL, 10);
    if (option == 'b') buffer_length = strtoul(optarg, NULL, 10);
    if (option == '?' || port > 65535 || !buffer_length) {
      fputs("usage: tcpecho [--port PORT] [--buffer BYTES]\n", stderr);
      return 64;
    }
  }
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);

  buffer = malloc(buffer_length);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  if (!buffer || epoll < 0) fail("start");
  int listener = listen_on((uint16_t)port);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event)) fail("epoll_ctl");

  for (;;) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll, events, EVENTS, -1);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < count; i++) {
      struct connection *c = events[i].data.ptr;
      if (!c) accept_all(listener);
      else if (c->pending) send_pending(c);
      else echo(c);
    }
  }
}
