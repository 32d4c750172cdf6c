// Loads a TLS echo server:
//   tlsload echo PORT ws|raw CONNECTIONS BYTES SECONDS    one message in flight on each: prints messages per second
//   tlsload handshake PORT ws|raw new|resumed SECONDS     one connection after the other: prints handshakes per second
//   tlsload idle PORT ws|raw CONNECTIONS                  opens them, prints "ready" and waits for the end of its input
// `ws` does a WebSocket's handshake and sends masked frames; to `raw`, an echo of bytes, it sends the same frames.
#include "common.h"

typedef struct {
  SSL *ssl;
  int fd;
  size_t received;
} connection;

static int port;
static bool is_ws;
static SSL_CTX *context;

/// A connection that is open, TLS and WebSocket. Blocks.
static connection *open_connection(SSL_SESSION *session) {
  connection *c = calloc(1, sizeof *c);
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {
    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
  if (connect(c->fd, (void *)&address, sizeof address)) die("connect");
  int one = 1;
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  c->ssl = SSL_new(context);
  SSL_set_fd(c->ssl, c->fd);
  if (session) SSL_set_session(c->ssl, session);
  if (SSL_connect(c->ssl) != 1) die("TLS");
  // TLS 1.3 gives its tickets with the first bytes of the server.
  const char *request = is_ws
    ? "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    : "\r\n\r\n";
  if (SSL_write(c->ssl, request, strlen(request)) <= 0) die("request");
  char answer[4096];
  size_t length = 0;
  do {
    int count = SSL_read(c->ssl, answer + length, sizeof answer - 1 - length);
    if (count <= 0) die("answer");
    length += count;
    answer[length] = 0;
  } while (!strstr(answer, "\r\n\r\n"));
  return c;
}

static void close_connection(connection *c) {
  SSL_free(c->ssl);
  close(c->fd);
  free(c);
}

static unsigned char *frame;
static size_t frame_length, answer_length;

static void make_frame(size_t bytes) {
  size_t header = bytes < 126 ? 2 : bytes < 65536 ? 4 : 10;
  frame_length = header + 4 + bytes;
  answer_length = is_ws ? header + bytes : frame_length;
  frame = calloc(1, frame_length);
  frame[0] = 0x82;
  frame[1] = 0x80 | (bytes < 126 ? bytes : bytes < 65536 ? 126 : 127);
  for (size_t i = 0; header > 2 && i < header - 2; i++) frame[2 + i] = bytes >> 8 * (header - 3 - i);
}

static void send_frame(connection *c) {
  size_t sent = 0;
  while (sent < frame_length) {
    int step = SSL_write(c->ssl, frame + sent, frame_length - sent);
    if (step > 0) sent += step;
    else if (SSL_get_error(c->ssl, step) != SSL_ERROR_WANT_WRITE) die("write");
  }
}

static void echo(int connections, size_t bytes, double seconds) {
  make_frame(bytes);
  int poll = epoll_create1(0);
  for (int i = 0; i < connections; i++) {
    connection *c = open_connection(NULL);
    stop_blocking(c->fd);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event);
    send_frame(c);
  }
  static char buffer[256 << 10];
  struct epoll_event events[256];
  long messages = 0;
  double begin = now();
  while (now() - begin < seconds) {
    int ready = epoll_wait(poll, events, 256, 1000);
    for (int i = 0; i < ready; i++) {
      connection *c = events[i].data.ptr;
      for (int count; (count = SSL_read(c->ssl, buffer, sizeof buffer)) > 0;) {
        c->received += count;
        for (; c->received >= answer_length; messages++) {
          c->received -= answer_length;
          send_frame(c);
        }
      }
    }
  }
  printf("%.0f\n", messages / (now() - begin));
}

static void handshakes(bool resumes, double seconds) {
  SSL_SESSION *session = NULL;
  long count = 0;
  double begin = now();
  while (now() - begin < seconds) {
    connection *c = open_connection(session);
    if (session && !SSL_session_reused(c->ssl)) die("the session was not resumed");
    if (resumes) {
      SSL_SESSION_free(session);
      session = SSL_get1_session(c->ssl);
    }
    SSL_shutdown(c->ssl);
    close_connection(c);
    count++;
  }
  printf("%.0f\n", count / (now() - begin));
}

int main(int count, char **arguments) {
  if (count < 5) { fprintf(stderr, "usage: see tlsload.c\n"); return 64; }
  context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE);
  port = atoi(arguments[2]);
  is_ws = !strcmp(arguments[3], "ws");
  if (!strcmp(arguments[1], "echo") && count == 7) {
    echo(atoi(arguments[4]), atol(arguments[5]), atof(arguments[6]));
  } else if (!strcmp(arguments[1], "handshake") && count == 6) {
    handshakes(!strcmp(arguments[4], "resumed"), atof(arguments[5]));
  } else if (!strcmp(arguments[1], "idle")) {
    for (int i = atoi(arguments[4]); i > 0; i--) open_connection(NULL);
    printf("ready\n");
    fflush(stdout);
    while (getchar() != EOF) {}
  }
  return 0;
}
