"""The echo of uWebSockets, as PyPI's socketify ships it: on libuv, called through its C interface.

    uws.py ECHO_LIBRARY [compress]

ECHO_LIBRARY is uws.c as a shared library. With `compress` it agrees to permessage-deflate, without context takeover. Prints `PORT <number>` and serves until it is killed.
"""

import ctypes
import os
import sys

from socketify.native import ffi, lib, library_path
from socketify.uv import UVLoop

NO_TLS = 0

# uws.c finds uws_ws_send in the library that socketify has loaded; RTLD_GLOBAL makes its symbols visible to it.
ctypes.CDLL(library_path, mode=ctypes.RTLD_GLOBAL)
compresses = sys.argv[2:] == ["compress"]
handlers = ctypes.CDLL(os.path.abspath(sys.argv[1]))
echo = handlers.echo_compressed if compresses else handlers.echo

# Not socketify's App.run: it polls without pause from asyncio, so that its CPU time would say nothing.
loop = UVLoop()
lib.uws_get_loop_with_native(loop.get_native_loop())
app = lib.uws_create_app(NO_TLS, ffi.new("struct us_socket_context_options_t *")[0])

behavior = ffi.new("uws_socket_behavior_t *")
behavior.maxPayloadLength = 1 << 30
behavior.maxBackpressure = 0  # no limit: a dropped echo would be an error, not a result
behavior.idleTimeout = 0
if compresses:
    behavior.compression = lib.SHARED_COMPRESSOR | lib.SHARED_DECOMPRESSOR
behavior.message = ffi.cast(
    "uws_websocket_message_handler", ctypes.cast(echo, ctypes.c_void_p).value
)
lib.uws_ws(NO_TLS, app, b"/*", behavior[0], ffi.NULL)


@ffi.callback("uws_listen_handler")
def listening(socket, config, user_data):
    if socket == ffi.NULL:
        sys.exit("uws: cannot listen")
    local = lib.us_socket_local_port(NO_TLS, ffi.cast("struct us_listen_socket_t *", socket))
    print(f"PORT {local}", flush=True)


host = ffi.new("char[]", b"127.0.0.1")
options = ffi.new("uws_app_listen_config_t *")
options.port = 0
options.host = host
lib.uws_app_listen_with_config(NO_TLS, app, options[0], listening, ffi.NULL)
loop.run()
