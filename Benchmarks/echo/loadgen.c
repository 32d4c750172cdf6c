// The load generator of the echo benchmark. One thread on raw epoll; every byte it sends was prepared before the first
// connection, so that it costs less CPU than the servers it measures.
//
// With --compress the same bytes are JSON text in permessage-deflate (RFC 7692) without context takeover, so that every message
// is the same on the wire: the server's first echo is inflated and checked, and those after it are compared with that one.
//
// What comes back is compared with what an exact echo must be: echoes up to FULL_CHECK bytes entirely; larger ones
// entirely for the first and every 16th of a connection, and by their frame header at its expected offset otherwise.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum {
  RECEIVE_BUFFER = 256 << 10,
  SEND_BUFFER = 512 << 10,
  FULL_CHECK = 1024,
  // An echo of at least this size is discarded inside the kernel where it need not be compared.
  DISCARD = 64 << 10,
  EVENTS = 256,
  DRAIN_SECONDS = 10,
  HANDSHAKE_SECONDS = 10,
  IDLE_WARMUP_CONNECTIONS = 64,
};

static struct {
  const char *host;
  const char *port;
  const char *path;
  size_t connections;
  size_t size;
  size_t in_flight;
  double seconds;
  double warmup;
  size_t idle;
  pid_t server;
  bool websocket;
  bool text;
  bool compress;
} options = {
    .host = "127.0.0.1", .path = "/", .connections = 64, .size = 16, .in_flight = 1, .seconds = 2, .warmup = 0.5,
    .websocket = true,
};

struct connection {
  int fd;
  size_t echo_offset;   // bytes that have arrived of the echo in progress
  size_t frame_offset;  // bytes that have been sent of the frame in progress
  size_t owed;          // bytes that are still to be sent
  uint64_t echoes;
  uint64_t outstanding; // messages whose echo is not complete; some may not be sent yet
};

// Frames as the client sends them, back to back, and their echoes as a server must send them, back to back for longer
// than one receive can be: the echo at any offset is one comparison.
static uint8_t *frames, *echoes, *received;
static size_t frames_length, frame_length, echo_length, echo_header;

static enum { WARMUP, MEASURED, DRAINING } phase = WARMUP;
static uint64_t bytes_received, outstanding;

static void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("loadgen: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  exit(1);
}

static void *allocate(size_t count, size_t size) {
  void *memory = calloc(count ? count : 1, size);
  if (!memory) fail("out of memory");
  return memory;
}

// MARK: frames

// RFC 6455 §5.2. Returns the length of the header, mask included.
static size_t frame_header(uint8_t *out, uint8_t opcode, size_t payload, const uint8_t *mask) {
  uint8_t bit = mask ? 0x80 : 0;
  size_t length = 2;
  out[0] = 0x80 | opcode;
  if (payload < 126) {
    out[1] = bit | (uint8_t)payload;
  } else if (payload < 65536) {
    out[1] = bit | 126;
    out[2] = (uint8_t)(payload >> 8);
    out[3] = (uint8_t)payload;
    length = 4;
  } else {
    out[1] = bit | 127;
    for (int i = 0; i < 8; i++) out[2 + i] = (uint8_t)((uint64_t)payload >> (56 - 8 * i));
    length = 10;
  }
  if (!mask) return length;
  memcpy(out + length, mask, 4);
  return length + 4;
}

// Text as applications send it: objects with the same names, and values that differ.
static void fill_json(uint8_t *payload, size_t size) {
  static const char *const symbols[] = {"SLCE", "GATE", "WEIR", "LOCK", "DAMS", "RACE", "FLUM", "MILL"};
  uint32_t state = 0x9e3779b9;
  size_t length = 0;
  while (length < size) {
    char object[256];
    state = state * 1664525 + 1013904223;
    int count = snprintf(object, sizeof object,
                         "%c{\"symbol\":\"%s\",\"price\":%u.%02u,\"volume\":%u,\"side\":\"%s\",\"time\":17000%08u}",
                         length ? ',' : '[', symbols[state >> 29], state >> 22, (state >> 14) % 100, state >> 8 & 0xfff,
                         state & 0x800000 ? "buy" : "sell", (uint32_t)length * 37 + (state >> 20));
    size_t rest = size - length, part = (size_t)count < rest ? (size_t)count : rest;
    memcpy(payload + length, object, part);
    length += part;
  }
  payload[size - 1] = ']';
}

// RFC 7692 §7.2.1. Returns the length in `out`, which is as long as the payload and something.
static size_t deflate_message(const uint8_t *payload, size_t size, uint8_t *out, size_t room) {
  z_stream stream = {.next_in = (Bytef *)payload, .avail_in = (uInt)size, .next_out = out, .avail_out = (uInt)room};
  if (deflateInit2(&stream, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK) fail("deflateInit2");
  if (deflate(&stream, Z_SYNC_FLUSH) != Z_OK || stream.avail_in || !stream.avail_out) fail("deflate");
  size_t length = room - stream.avail_out - 4;
  deflateEnd(&stream);
  return length;
}

static uint8_t *payload;

// The echo that will come back, back to back.
static void prepare_echoes(const uint8_t *header, const uint8_t *body, size_t length) {
  echo_length = echo_header + length;
  size_t count = RECEIVE_BUFFER / echo_length + 2;
  echoes = allocate(count, echo_length);
  for (size_t e = 0; e < count; e++) {
    memcpy(echoes + e * echo_length, header, echo_header);
    memcpy(echoes + e * echo_length + echo_header, body, length);
  }
}

static void prepare_frames(void) {
  static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
  payload = allocate(options.size, 1);
  // Neighbouring bytes differ and nothing repeats soon, so that an echo at a wrong offset cannot match.
  uint32_t state = 0x9e3779b9;
  for (size_t i = 0; i < options.size; i++) {
    state = state * 1664525 + 1013904223;
    payload[i] = options.text ? (uint8_t)(' ' + (state >> 24) % 95) : (uint8_t)(state >> 24);
  }
  uint8_t *sent = payload;
  size_t length = options.size;
  uint8_t opcode = options.text ? 1 : 2;
  if (options.compress) {
    fill_json(payload, options.size);
    sent = allocate(options.size + 1024, 1);
    length = deflate_message(payload, options.size, sent, options.size + 1024);
    opcode |= 0x40;
  }

  uint8_t client[14], server[14];
  size_t client_header = 0;
  if (options.websocket) {
    client_header = frame_header(client, opcode, length, mask);
    echo_header = frame_header(server, opcode, length, NULL);
  }
  frame_length = client_header + length;

  size_t count = SEND_BUFFER / frame_length;
  if (count > options.in_flight) count = options.in_flight;
  if (count < 1) count = 1;
  frames_length = count * frame_length;
  frames = allocate(frames_length, 1);
  for (size_t f = 0; f < count; f++) {
    uint8_t *frame = frames + f * frame_length;
    memcpy(frame, client, client_header);
    for (size_t i = 0; i < length; i++) {
      frame[client_header + i] = options.websocket ? sent[i] ^ mask[i % 4] : sent[i];
    }
  }
  received = allocate(RECEIVE_BUFFER, 1);
  if (!options.compress) prepare_echoes(server, payload, options.size);
}

// MARK: connecting

static struct addrinfo *address;

static void resolve(void) {
  struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  int error = getaddrinfo(options.host, options.port, &hints, &address);
  if (error) fail("%s port %s: %s", options.host, options.port, gai_strerror(error));
}

static void write_all(int fd, const void *bytes, size_t length) {
  while (length) {
    ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("send: %s", strerror(errno));
    bytes = (const uint8_t *)bytes + n;
    length -= (size_t)n;
  }
}

static const char compression[] =
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";

static void handshake(int fd) {
  char text[4096];
  // The key and its answer are RFC 6455 §1.3's own example: no SHA-1 is needed to check the answer.
  int length = snprintf(text, sizeof text,
                        "GET %s HTTP/1.1\r\nHost: %s:%s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                        options.path, options.host, options.port, options.compress ? compression : "");
  if (length < 0 || (size_t)length >= sizeof text) fail("the path is too long");
  write_all(fd, text, (size_t)length);

  size_t have = 0;
  char *end = NULL;
  while (!end) {
    if (have == sizeof text - 1) fail("the handshake's answer is longer than %zu bytes", have);
    ssize_t n = recv(fd, text + have, sizeof text - 1 - have, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("handshake: %s", errno == EAGAIN ? "no answer in time" : strerror(errno));
    if (n == 0) fail("handshake: the server closed the connection after %zu bytes", have);
    have += (size_t)n;
    text[have] = 0;
    end = strstr(text, "\r\n\r\n");
  }
  if (strncmp(text, "HTTP/1.1 101", 12)) fail("handshake: not a 101: %.*s", (int)strcspn(text, "\r\n"), text);
  if (!strstr(text, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")) fail("handshake: wrong Sec-WebSocket-Accept");
  const char *extensions = strcasestr(text, "\nSec-WebSocket-Extensions:");
  if (extensions && !options.compress) fail("handshake: an extension that was not offered");
  if (options.compress && !(extensions && strstr(extensions, "server_no_context_takeover"))) {
    fail("handshake: the server does not compress without context takeover");
  }
  if (end + 4 != text + have) fail("%zu bytes before the first message was sent", (size_t)(text + have - end - 4));
}

static void set_blocking(int fd, bool blocking) {
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK)) {
    fail("fcntl: %s", strerror(errno));
  }
}

// A blocking socket, with a time limit on each call, on which the handshake is done.
static int open_connection(void) {
  int fd = -1, yes = 1;
  for (struct addrinfo *a = address; a && fd < 0; a = a->ai_next) {
    fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0) fail("socket: %s", strerror(errno));
    struct timeval limit = {.tv_sec = HANDSHAKE_SECONDS};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, a->ai_addr, a->ai_addrlen)) {
      if (!a->ai_next) fail("connect to %s port %s: %s", options.host, options.port, strerror(errno));
      close(fd);
      fd = -1;
    }
  }
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  if (options.websocket) handshake(fd);
  return fd;
}

// Says Close and waits for the peer's end, briefly: a server is not made to clean up after a reset.
static void close_connections(const int *fds, size_t count) {
  // RFC 6455 §5.5.1: code 1000, masked with zeros.
  static const uint8_t close_frame[] = {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8};
  for (size_t i = 0; i < count; i++) {
    if (options.websocket) send(fds[i], close_frame, sizeof close_frame, MSG_NOSIGNAL | MSG_DONTWAIT);
    else shutdown(fds[i], SHUT_WR);
  }
  struct timeval limit = {.tv_sec = 1};
  for (size_t i = 0; i < count; i++) {
    uint8_t rest[128];
    setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    while (recv(fds[i], rest, sizeof rest, 0) > 0) continue;
    // A server that does not answer makes this wait once, not once for each connection.
    if (errno == EAGAIN) limit = (struct timeval){.tv_usec = 1};
    errno = 0;
    close(fds[i]);
  }
}

// MARK: measuring the server

struct usage {
  double wall;           // seconds
  double cpu;            // seconds, exact to the scheduler's clock
  double user, system;   // seconds, sampled by the kernel's tick
  double own;            // seconds of CPU that this process used
  uint64_t bytes;
};

static double seconds_of(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time)) fail("clock_gettime: %s (is the server gone?)", strerror(errno));
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static clockid_t server_clock;

static void find_server_clock(void) {
  int error = options.server ? clock_getcpuclockid(options.server, &server_clock) : 0;
  if (error) fail("process %d: %s", (int)options.server, strerror(error));
}

static struct usage usage_now(void) {
  struct usage now = {
      .wall = seconds_of(CLOCK_MONOTONIC), .own = seconds_of(CLOCK_PROCESS_CPUTIME_ID), .bytes = bytes_received};
  if (!options.server) return now;
  now.cpu = seconds_of(server_clock);
  char path[64], line[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", (int)options.server);
  FILE *file = fopen(path, "r");
  unsigned long user, system;
  // The command name may hold spaces and brackets: the fields begin after the last closing bracket.
  char *fields = file && fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
  if (!fields || sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2) {
    fail("cannot read %s", path);
  }
  fclose(file);
  now.user = (double)user / (double)sysconf(_SC_CLK_TCK);
  now.system = (double)system / (double)sysconf(_SC_CLK_TCK);
  return now;
}

// Resident bytes of the server. smaps_rollup is exact where status's VmRSS may be off by some hundred KiB, since the
// kernel counts it in batches for each processor.
static double server_rss(void) {
  static const struct { const char *file, *field; } sources[] = {{"smaps_rollup", "Rss:"}, {"status", "VmRSS:"}};
  for (size_t s = 0; s < 2; s++) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)options.server, sources[s].file);
    FILE *file = fopen(path, "r");
    size_t kib = 0;
    while (file && !kib && fgets(line, sizeof line, file)) {
      size_t name = strlen(sources[s].field);
      if (!strncmp(line, sources[s].field, name)) kib = strtoul(line + name, NULL, 10);
    }
    if (file) fclose(file);
    if (kib) return (double)kib * 1024;
  }
  fail("cannot read the memory of process %d", (int)options.server);
  return 0;
}

// MARK: echoing

static void mismatch(const struct connection *c, const uint8_t *bytes, size_t length) {
  size_t at = 0;
  while (at < length - 1 && bytes[at] == echoes[c->echo_offset + at]) at++;
  fail("echo %llu of a connection differs at byte %zu of %zu (frame header: %zu bytes): 0x%02x instead of 0x%02x",
       (unsigned long long)c->echoes + (c->echo_offset + at) / echo_length, (c->echo_offset + at) % echo_length,
       echo_length, echo_header, bytes[at], echoes[c->echo_offset + at]);
}

static bool is_compared(const struct connection *c) { return echo_length <= FULL_CHECK || c->echoes % 16 == 0; }

static void advance(struct connection *c, size_t length) {
  size_t total = c->echo_offset + length;
  size_t complete = total / echo_length;
  c->echo_offset = total % echo_length;
  c->echoes += complete;
}

static void check(struct connection *c, const uint8_t *bytes, size_t length) {
  if (echo_length <= FULL_CHECK) {
    if (memcmp(bytes, echoes + c->echo_offset, length)) mismatch(c, bytes, length);
    advance(c, length);
    return;
  }
  while (length) {
    size_t step = echo_length - c->echo_offset;
    if (step > length) step = length;
    size_t compared = step;
    if (!is_compared(c)) {
      size_t header = c->echo_offset < echo_header ? echo_header - c->echo_offset : 0;
      if (compared > header) compared = header;
    }
    if (memcmp(bytes, echoes + c->echo_offset, compared)) mismatch(c, bytes, compared);
    advance(c, step);
    bytes += step;
    length -= step;
  }
}

// Reads what has arrived. The epoll registration is edge-triggered: a receive that was filled is tried again.
static void receive_echoes(struct connection *c) {
  uint64_t before = c->echoes;
  for (;;) {
    size_t want = RECEIVE_BUFFER;
    bool discard = false;
    if (echo_length >= DISCARD && !is_compared(c)) {
      discard = c->echo_offset >= echo_header;
      want = (discard ? echo_length : echo_header) - c->echo_offset;
    }
    // tcp(7): MSG_TRUNC drops the bytes and copies nothing.
    ssize_t n = recv(c->fd, discard ? NULL : received, want, discard ? MSG_TRUNC : 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) fail("recv: %s", strerror(errno));
    if (n == 0) fail("the server closed a connection after %llu echoes", (unsigned long long)c->echoes);
    bytes_received += (uint64_t)n;
    if (discard) advance(c, (size_t)n);
    else check(c, received, (size_t)n);
    uint64_t complete = c->echoes - before;
    if (complete > c->outstanding || (complete == c->outstanding && c->echo_offset)) {
      fail("the server sent more than was sent to it");
    }
    if ((size_t)n < want || complete == c->outstanding) break;
  }

  uint64_t complete = c->echoes - before;
  if (phase == DRAINING) {
    c->outstanding -= complete;
    outstanding -= complete;
  } else {
    c->owed += complete * frame_length;
  }
}

static void send_owed(struct connection *c) {
  while (c->owed) {
    size_t length = frames_length - c->frame_offset;
    if (length > c->owed) length = c->owed;
    ssize_t n = send(c->fd, frames + c->frame_offset, length, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) fail("send: %s", strerror(errno));
    c->owed -= (size_t)n;
    c->frame_offset = (c->frame_offset + (size_t)n) % frame_length;
    if ((size_t)n < length) return;
  }
}

static void arm(int timer, double seconds) {
  struct itimerspec when = {.it_value = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (time_t)seconds) * 1e9)}};
  if (!when.it_value.tv_sec && !when.it_value.tv_nsec) when.it_value.tv_nsec = 1;
  if (timerfd_settime(timer, 0, &when, NULL)) fail("timerfd_settime: %s", strerror(errno));
}

static void report(const struct usage *start, const struct usage *end, uint64_t wakeups) {
  double seconds = end->wall - start->wall;
  uint64_t bytes = end->bytes - start->bytes;
  double messages = (double)bytes / (double)echo_length;
  if (messages < 1) fail("not one message came back");
  printf("{\"mode\": \"%s\", \"connections\": %zu, \"size\": %zu, \"in_flight\": %zu, \"messages\": %.0f, "
         "\"seconds\": %.6f, \"msgs_per_sec\": %.1f, \"bytes_per_sec\": %.0f",
         options.websocket ? "ws" : "tcp", options.connections, options.size, options.in_flight, messages, seconds,
         messages / seconds, messages * (double)options.size / seconds);
  if (options.server) {
    double cpu = end->cpu - start->cpu, user = end->user - start->user, system = end->system - start->system;
    // The tick says how the exact time divides; the exact time says how much there was.
    double share = user + system > 0 ? user / (user + system) : 0;
    printf(", \"server_cpu_ns_per_msg\": %.2f, \"server_user_ns_per_msg\": %.2f, \"server_system_ns_per_msg\": %.2f, "
           "\"server_busy\": %.4f",
           cpu * 1e9 / messages, cpu * share * 1e9 / messages, cpu * (1 - share) * 1e9 / messages, cpu / seconds);
  }
  double own = end->own - start->own;
  printf(", \"loadgen_cpu_ns_per_msg\": %.2f, \"loadgen_busy\": %.4f, \"loadgen_wakeups\": %llu}\n",
         own * 1e9 / messages, own / seconds, (unsigned long long)wakeups);
}

static void run_echo(void) {
  int epoll = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (epoll < 0 || timer < 0) fail("epoll or timerfd: %s", strerror(errno));
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event)) fail("epoll_ctl: %s", strerror(errno));

  int *fds = allocate(options.connections, sizeof *fds);
  for (size_t i = 0; i < options.connections; i++) fds[i] = open_connection();
  struct connection *connections = allocate(options.connections, sizeof *connections);
  for (size_t i = 0; i < options.connections; i++) {
    struct connection *c = &connections[i];
    *c = (struct connection){
        .fd = fds[i], .owed = options.in_flight * frame_length, .outstanding = options.in_flight};
    outstanding += options.in_flight;
    set_blocking(c->fd, false);
    // The first event, at once, says that there is room: it sends the first messages.
    event = (struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl: %s", strerror(errno));
  }

  struct usage start = {0}, end = {0};
  uint64_t wakeups = 0;
  arm(timer, options.warmup);
  while (phase != DRAINING || outstanding) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll, events, EVENTS, -1);
    if (count < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
    wakeups += phase == MEASURED && count > 0;
    for (int i = 0; i < count; i++) {
      struct connection *c = events[i].data.ptr;
      if (c) {
        if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) receive_echoes(c);
        if (c->owed) send_owed(c);
        continue;
      }
      uint64_t expirations;
      if (read(timer, &expirations, sizeof expirations) < 0) continue;
      switch (phase) {
      case WARMUP:
        phase = MEASURED;
        arm(timer, options.seconds);
        start = usage_now();
        break;
      case MEASURED:
        end = usage_now();
        phase = DRAINING;
        arm(timer, DRAIN_SECONDS);
        break;
      case DRAINING:
        fail("%llu echoes missing %d seconds after the last message", (unsigned long long)outstanding, DRAIN_SECONDS);
      }
    }
  }

  for (size_t i = 0; i < options.connections; i++) set_blocking(fds[i], true);
  close_connections(fds, options.connections);
  report(&start, &end, wakeups);
}

// MARK: idle connections

static void echo_once(int fd) {
  write_all(fd, frames, frame_length);
  struct connection c = {.fd = fd};
  while (!c.echoes) {
    size_t want = echo_length - c.echo_offset;
    ssize_t n = recv(fd, received, want < RECEIVE_BUFFER ? want : RECEIVE_BUFFER, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("an idle connection's echo: %s", errno == EAGAIN ? "none in time" : strerror(errno));
    if (n == 0) fail("the server closed an idle connection");
    check(&c, received, (size_t)n);
  }
}

// Learns how the server compresses, from one echo that is inflated and compared.
static void learn_echo(void) {
  int fd = open_connection();
  write_all(fd, frames, frame_length);
  size_t have = 0, header = 2, length = 0;
  while (have < header + length || !length) {
    ssize_t n = recv(fd, received + have, RECEIVE_BUFFER - have, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail("the first echo: %s", n ? strerror(errno) : "the server closed the connection");
    have += (size_t)n;
    if (have < 4) continue;
    length = received[1];
    if (length == 126) {
      header = 4;
      length = (size_t)received[2] << 8 | received[3];
    }
    if (length > 126 && header == 2) fail("the first echo is longer than 64 KiB");
  }
  if (received[0] != (options.text ? 0xc1 : 0xc2)) fail("the server does not compress: its frame begins with 0x%02x", received[0]);
  uint8_t *inflated = allocate(options.size + 1, 1), *body = allocate(length + 4, 1);
  memcpy(body, received + header, length);
  memcpy(body + length, "\0\0\xff\xff", 4);
  z_stream stream = {
      .next_in = body, .avail_in = (uInt)length + 4, .next_out = inflated, .avail_out = (uInt)options.size + 1};
  if (inflateInit2(&stream, -15) != Z_OK || inflate(&stream, Z_SYNC_FLUSH) < 0) fail("the first echo is no deflate stream");
  if (stream.total_out != options.size || memcmp(inflated, payload, options.size)) fail("the first echo differs");
  inflateEnd(&stream);
  echo_header = header;
  prepare_echoes(received, body, length);
  close_connections(&fd, 1);
}

static void settle(double seconds) {
  struct timespec time = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (time_t)seconds) * 1e9)};
  nanosleep(&time, NULL);
}

static void run_idle(void) {
  int *fds = allocate(options.idle, sizeof *fds);
  // What a server allocates once, at its first connections, is not a connection's.
  size_t few = options.idle < IDLE_WARMUP_CONNECTIONS ? options.idle : IDLE_WARMUP_CONNECTIONS;
  for (size_t i = 0; i < few; i++) fds[i] = open_connection();
  for (size_t i = 0; i < few; i++) echo_once(fds[i]);
  close_connections(fds, few);
  settle(0.5);

  double before = server_rss();
  double began = seconds_of(CLOCK_MONOTONIC);
  for (size_t i = 0; i < options.idle; i++) fds[i] = open_connection();
  double opening = seconds_of(CLOCK_MONOTONIC) - began;
  settle(1);
  double opened = server_rss();
  for (size_t i = 0; i < options.idle; i++) echo_once(fds[i]);
  settle(1);
  double echoed = server_rss();
  close_connections(fds, options.idle);

  double connections = (double)options.idle;
  printf("{\"mode\": \"%s\", \"idle\": %zu, \"size\": %zu, \"connect_seconds\": %.3f, \"rss_before\": %.0f, "
         "\"rss_open\": %.0f, \"rss_echoed\": %.0f, \"bytes_per_connection\": %.1f, "
         "\"bytes_per_connection_echoed\": %.1f}\n",
         options.websocket ? "ws" : "tcp", options.idle, options.size, opening, before, opened, echoed,
         (opened - before) / connections, (echoed - before) / connections);
}

// MARK: options

static const char usage_text[] =
    "usage: loadgen --port PORT [options]\n"
    "  --host HOST         127.0.0.1\n"
    "  --path PATH         / (of the WebSocket handshake)\n"
    "  --mode ws|tcp       ws; tcp echoes the same payloads without frames\n"
    "  --text, --binary    binary: the opcode, and printable or arbitrary bytes\n"
    "  --compress          JSON text in permessage-deflate without context takeover; ws only\n"
    "  --connections N     64\n"
    "  --size BYTES        16: the payload of a message\n"
    "  --in-flight K       1: messages outstanding on each connection\n"
    "  --seconds S         2: the measured window\n"
    "  --warmup S          0.5: before it\n"
    "  --server-pid PID    reports the server's CPU time, or its memory\n"
    "  --idle N            opens N connections and reports the server's memory for each, instead of echoing;\n"
    "                      needs --server-pid\n"
    "Prints one line of JSON. Exit status 1: the echo was wrong, or a connection failed; 64: wrong options.\n";

static void misuse(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("loadgen: ", stderr);
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n%s", usage_text);
  exit(64);
}

static double number(const char *name, const char *text, double least, double most) {
  char *end;
  double value = strtod(text, &end);
  if (*end || end == text || !(value >= least && value <= most)) {
    misuse("--%s: %s is not from %.0f to %.0f", name, text, least, most);
  }
  return value;
}

static void parse(int argc, char **argv) {
  static const struct option names[] = {
      {"host", 1, NULL, 'h'},    {"port", 1, NULL, 'p'},     {"path", 1, NULL, 'P'},       {"mode", 1, NULL, 'm'},
      {"text", 0, NULL, 't'},    {"binary", 0, NULL, 'b'},   {"compress", 0, NULL, 'z'}, {"connections", 1, NULL, 'c'}, {"size", 1, NULL, 's'},
      {"in-flight", 1, NULL, 'k'}, {"seconds", 1, NULL, 'S'}, {"warmup", 1, NULL, 'w'},     {"server-pid", 1, NULL, 'i'},
      {"idle", 1, NULL, 'I'},     {"help", 0, NULL, '?'},       {0},
  };
  for (int option, index = 0; (option = getopt_long(argc, argv, "", names, &index)) != -1;) {
    const char *name = names[index].name;
    switch (option) {
    case 'h': options.host = optarg; break;
    case 'p': options.port = optarg; break;
    case 'P': options.path = optarg; break;
    case 'm':
      if (strcmp(optarg, "ws") && strcmp(optarg, "tcp")) misuse("--mode is ws or tcp");
      options.websocket = !strcmp(optarg, "ws");
      break;
    case 't': options.text = true; break;
    case 'b': options.text = false; break;
    case 'z': options.compress = options.text = true; break;
    case 'c': options.connections = (size_t)number(name, optarg, 1, 1e6); break;
    case 's': options.size = (size_t)number(name, optarg, 1, 1 << 30); break;
    case 'k': options.in_flight = (size_t)number(name, optarg, 1, 1e6); break;
    case 'S': options.seconds = number(name, optarg, 0, 3600); break;
    case 'w': options.warmup = number(name, optarg, 0, 3600); break;
    case 'i': options.server = (pid_t)number(name, optarg, 1, 1 << 30); break;
    case 'I': options.idle = (size_t)number(name, optarg, 1, 1e6); break;
    default: misuse("unknown option");
    }
  }
  if (optind != argc) misuse("unknown argument %s", argv[optind]);
  if (!options.port) misuse("--port is missing");
  if (options.compress && (!options.websocket || options.size > 32 << 10)) misuse("--compress is of ws, up to 32 KiB");
  if (options.idle && !options.server) misuse("--idle needs --server-pid");
}

static void raise_file_limit(void) {
  size_t needed = (options.idle ? options.idle : options.connections) + 16;
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= needed) return;
  limit.rlim_cur = needed;
  if (limit.rlim_max < needed) limit.rlim_max = needed;
  if (setrlimit(RLIMIT_NOFILE, &limit)) fail("%zu open files are needed: %s", needed, strerror(errno));
}

int main(int argc, char **argv) {
  parse(argc, argv);
  raise_file_limit();
  resolve();
  find_server_clock();
  prepare_frames();
  // The last resort against a server that hangs: no call here waits without a limit of its own except the echo loop's.
  alarm((unsigned)(options.warmup + options.seconds + DRAIN_SECONDS + 120));
  if (options.compress) learn_echo();
  if (options.idle) run_idle();
  else run_echo();
}
