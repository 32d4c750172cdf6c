// The limit: TLS echo of bytes in C, OpenSSL over epoll, one thread. tlsecho CERTIFICATE KEY prints its port.
#include "common.h"

typedef struct {
  SSL *ssl;
  int fd;
  bool is_open;
} connection;

static void serve(connection *c) {
  static char buffer[256 << 10];
  if (!c->is_open) {
    int result = SSL_accept(c->ssl);
    if (result != 1) {
      int error = SSL_get_error(c->ssl, result);
      if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return;
      goto gone;
    }
    c->is_open = true;
  }
  for (;;) {
    int count = SSL_read(c->ssl, buffer, sizeof buffer);
    if (count <= 0) {
      if (SSL_get_error(c->ssl, count) == SSL_ERROR_WANT_READ) return;
      goto gone;
    }
    // The generator has one message in flight, so that the kernel takes it; else this waits.
    int sent = 0;
    while (sent < count) {
      int step = SSL_write(c->ssl, buffer + sent, count - sent);
      if (step > 0) sent += step;
      else if (SSL_get_error(c->ssl, step) != SSL_ERROR_WANT_WRITE) goto gone;
    }
  }
gone:
  ERR_clear_error();
  SSL_free(c->ssl);
  close(c->fd);
  free(c);
}

int main(int count, char **arguments) {
  if (count != 3) { fprintf(stderr, "usage: tlsecho CERTIFICATE KEY\n"); return 64; }
  SSL_CTX *context = SSL_CTX_new(TLS_server_method());
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (SSL_CTX_use_certificate_chain_file(context, arguments[1]) != 1) die("certificate");
  if (SSL_CTX_use_PrivateKey_file(context, arguments[2], SSL_FILETYPE_PEM) != 1) die("key");
  SSL_CTX_set_session_id_context(context, (const unsigned char *)"echo", 4);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  if (bind(listener, (void *)&address, sizeof address) || listen(listener, 1024)) die("listen");
  getsockname(listener, (void *)&address, &length);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  int poll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int ready = epoll_wait(poll, events, 256, -1);
    for (int i = 0; i < ready; i++) {
      if (events[i].data.ptr) { serve(events[i].data.ptr); continue; }
      for (int fd; (fd = accept(listener, NULL, NULL)) >= 0;) {
        stop_blocking(fd);
        connection *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->ssl = SSL_new(context);
        SSL_set_fd(c->ssl, fd);
        struct epoll_event more = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &more);
      }
    }
  }
}
