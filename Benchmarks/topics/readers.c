// The readers of the topics benchmark: readers PORT KIND COUNT STALLED. One thread on epoll. KIND is ws or events. Of COUNT connections, the last STALLED never read.
// Prints "ready" when all are answered. For each line "MESSAGES SECONDS" of input it reads until the others have MESSAGES each, or so much time has passed, and
// prints how many came, and the 50th and 99th percentile of the time from their stamp ("@" and 19 digits) to here, in microseconds; of each read the first stamp counts.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_TIMES = 1 << 22, LATEST = 20 };

struct reader {
  int fd;
  // How much of a stamp has been seen: it may come in two parts.
  int digits;
  uint64_t stamp;
};

static char buffer[256 << 10];
static uint32_t *times;
static size_t time_count;

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void fail(const char *what) {
  fprintf(stderr, "readers: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int compare(const void *a, const void *b) {
  uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
  return left < right ? -1 : left > right;
}

// Counts the stamps of what came.
static uint64_t take(struct reader *reader, const char *bytes, size_t length, uint64_t time) {
  uint64_t count = 0;
  int is_first = 1;
  const char *end = bytes + length;
  while (bytes < end) {
    if (reader->digits == 0) {
      const char *at = memchr(bytes, '@', (size_t)(end - bytes));
      if (!at) break;
      bytes = at + 1;
      reader->digits = 1;
      reader->stamp = 0;
      continue;
    }
    reader->stamp = reader->stamp * 10 + (uint64_t)(*bytes++ - '0');
    if (++reader->digits < LATEST) continue;
    reader->digits = 0;
    count++;
    if (is_first && time_count < MAX_TIMES) times[time_count++] = (uint32_t)((time - reader->stamp) / 1000);
    is_first = 0;
  }
  return count;
}

int main(int argc, char **argv) {
  if (argc != 5) return 64;
  int is_ws = strcmp(argv[2], "ws") == 0;
  size_t count = strtoul(argv[3], NULL, 10), stalled = strtoul(argv[4], NULL, 10);
  struct reader *readers = calloc(count, sizeof *readers);
  times = malloc(MAX_TIMES * sizeof *times);
  int epoll = epoll_create1(0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const char *request = is_ws
    ? "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    : "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
  for (size_t i = 0; i < count; i++) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), small = 4096;
    if (fd < 0) fail("socket");
    if (i >= count - stalled) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
    if (write(fd, request, strlen(request)) < 0) fail("request");
    readers[i].fd = fd;
  }
  for (size_t i = 0; i < count; i++) {
    char head[4096];
    size_t length = 0;
    // The head alone: what follows is counted.
    while (length < 4 || memcmp(head + length - 4, "\r\n\r\n", 4) != 0) {
      if (length == sizeof head || read(readers[i].fd, head + length, 1) != 1) fail("answer");
      length++;
    }
    if (i >= count - stalled) continue;
    fcntl(readers[i].fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &readers[i]};
    epoll_ctl(epoll, EPOLL_CTL_ADD, readers[i].fd, &event);
  }
  puts("ready");
  fflush(stdout);
  char line[100];
  while (fgets(line, sizeof line, stdin)) {
    char *rest;
    uint64_t wanted = strtoull(line, &rest, 10) * (count - stalled), got = 0;
    uint64_t end = now() + (uint64_t)(strtod(rest, NULL) * 1e9);
    time_count = 0;
    while (got < wanted && now() < end) {
      struct epoll_event events[256];
      int found = epoll_wait(epoll, events, 256, 100);
      for (int i = 0; i < found; i++) {
        struct reader *reader = events[i].data.ptr;
        ssize_t length = read(reader->fd, buffer, sizeof buffer);
        if (length == 0 || (length < 0 && errno != EAGAIN)) fail("a connection has ended");
        if (length > 0) got += take(reader, buffer, (size_t)length, now());
      }
    }
    qsort(times, time_count, sizeof *times, compare);
    printf("%llu %u %u\n", (unsigned long long)got, time_count ? times[time_count / 2] : 0, time_count ? times[time_count * 99 / 100] : 0);
    fflush(stdout);
  }
}
