// The message handlers of uws.py. In Python it would cost many times what uWebSockets itself does, and the benchmark would
// measure the interpreter.
#include <stdbool.h>
#include <stddef.h>

// From socketify's native library, which uws.py has loaded for everyone before this is.
extern int uws_ws_send(int ssl, void *socket, const char *message, size_t length, int opcode);
extern int uws_ws_send_with_options(int ssl, void *socket, const char *message, size_t length, int opcode, bool compress,
                                    bool final);

void echo(void *socket, const char *message, size_t length, int opcode, void *context) {
  (void)context;
  uws_ws_send(0, socket, message, length, opcode);
}

void echo_compressed(void *socket, const char *message, size_t length, int opcode, void *context) {
  (void)context;
  uws_ws_send_with_options(0, socket, message, length, opcode, true, true);
}
