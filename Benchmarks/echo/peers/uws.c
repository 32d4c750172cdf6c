// The message handler of uws.py. In Python it would cost many times what uWebSockets itself does, and the benchmark would
// measure the interpreter.
#include <stddef.h>

// From socketify's native library, which uws.py has loaded for everyone before this is.
extern int uws_ws_send(int ssl, void *socket, const char *message, size_t length, int opcode);

void echo(void *socket, const char *message, size_t length, int opcode, void *context) {
  (void)context;
  uws_ws_send(0, socket, message, length, opcode);
}
