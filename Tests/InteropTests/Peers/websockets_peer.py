"""The interoperation peer on Python's `websockets` (15 or newer), which `prepare` installs into a venv.

    python websockets_peer.py serve         echo server on 127.0.0.1; prints its port; exits when its stdin ends
    python websockets_peer.py connect URL   runs the script of messages against URL; exits 0 when every echo matched
"""

import asyncio
import http
import os
import re
import sys
import threading
from urllib.parse import urlsplit

from websockets.asyncio.client import connect as websocket_connect
from websockets.asyncio.server import serve as websocket_serve
from websockets.exceptions import ConnectionClosed

PROTOCOLS = ["chat.v2", "chat.v1"]  # what a server picks, most wanted first
TIME_LIMIT = 20  # seconds, for `connect`


# ---------------------------------------------------------------- serve


def close_code(path):
    """The close code that the path asks for; None when it asks for none, 0 when it can't be sent."""
    if not path.startswith("/close/"):
        return None
    code = int(path[7:]) if re.fullmatch(r"[0-9]{4}", path[7:]) else 0
    sendable = (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999
    return code if sendable else 0


def exit_when_stdin_ends():
    while os.read(0, 4096):
        pass
    os._exit(0)


async def serve():
    def pick(_connection, offered):
        return next((name for name in PROTOCOLS if name in offered), None)

    def refuse(connection, request):
        if close_code(request.path) == 0:
            return connection.respond(http.HTTPStatus.BAD_REQUEST, "")
        return None

    async def handle(socket):
        path = socket.request.path
        try:
            code = close_code(path)
            if code is not None:
                await socket.close(code, "bye")
                return
            if path == "/headers":
                await socket.send(socket.request.headers.get("X-Test", ""))
            async for message in socket:
                await socket.send(message)
        except ConnectionClosed as error:
            print(f"websockets_peer.py: {error}", file=sys.stderr)

    async with websocket_serve(
        handle, "127.0.0.1", 0, select_subprotocol=pick, process_request=refuse, max_size=None
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        threading.Thread(target=exit_when_stdin_ends, daemon=True).start()
        await server.serve_forever()


# ---------------------------------------------------------------- connect

step = "opening handshake"


class Mismatch(Exception):
    pass


async def expect(socket, message):
    def told(value):
        return f"text of {len(value.encode())} bytes" if isinstance(value, str) else f"binary of {len(value)} bytes"

    received = await socket.recv()
    if type(received) is not type(message):
        raise Mismatch(f"expected {told(message)}, got {told(received)}")
    if received != message:
        pairs = enumerate(zip(message, received))
        at = next((i for i, (a, b) in pairs if a != b), min(len(message), len(received)))
        raise Mismatch(f"{told(message)} came back as {told(received)}, first different at index {at}")


def pattern(count):
    return bytes((i * 7 + 3) % 251 for i in range(count))


async def run_script(url):
    global step
    socket = await websocket_connect(
        url,
        subprotocols=["chat.v1", "chat.v2"],
        additional_headers={"X-Test": "interop"},
        proxy=None,
        open_timeout=None,
        max_size=None,
    )
    path = urlsplit(url).path
    if path.startswith("/close/"):
        step = "close by the server"
        await socket.wait_closed()
        if str(socket.close_code) != path[7:] or socket.close_reason != "bye":
            raise Mismatch(f'got close {socket.close_code} "{socket.close_reason}"')
        return socket
    if path == "/headers":
        step = "request header"
        await expect(socket, "interop")

    for text in ["", "hello", "grüße 🎈"]:
        step = f'text "{text}"'
        await socket.send(text)
        await expect(socket, text)
    for count in [0, 1, 125, 126, 127, 65535, 65536, 1000003]:
        step = f"binary of {count} bytes"
        await socket.send(pattern(count))
        await expect(socket, pattern(count))
    step = "text of 70000 characters"
    await socket.send("é" * 70000)
    await expect(socket, "é" * 70000)

    # The library ends an iterable's fragments with an empty one of its own: the third.
    # The cut is inside the balloon's four bytes.
    step = "fragmented text"
    whole = "grüße 🎈 in drei Stücken".encode()
    cut = whole.index("🎈".encode()) + 2
    await socket.send([whole[:cut], whole[cut:]], text=True)
    await expect(socket, whole.decode())

    step = "ping"  # the library completes the waiter on a pong with the same payload only
    await (await socket.ping("are you there"))

    texts = [f"message {i:012}" for i in range(1000)]

    async def send_all():
        for text in texts:
            await socket.send(text)

    step = "burst of 1000 texts"
    sending = asyncio.create_task(send_all())
    for i, text in enumerate(texts):
        step = f"text {i} of the burst"
        await expect(socket, text)
    await sending

    step = "close"
    await socket.close(1000, "done")
    try:
        extra = await socket.recv()
    except ConnectionClosed:
        pass
    else:
        raise Mismatch(f"expected close, got a message of length {len(extra)}")
    if socket.close_code == 1006:
        raise Mismatch("the connection ended without an answer to the close frame")
    return socket


async def connect(url):
    try:
        socket = await asyncio.wait_for(run_script(url), TIME_LIMIT)
    except asyncio.TimeoutError:
        reason = f"time limit of {TIME_LIMIT} seconds"
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    else:
        print(f"ok protocol={socket.subprotocol or '-'} close={socket.close_code}", flush=True)
        os._exit(0)
    print(f"websockets_peer.py: {step}: {reason}", file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    elif len(sys.argv) == 3 and sys.argv[1] == "connect":
        asyncio.run(connect(sys.argv[2]))
    else:
        print("usage: websockets_peer.py serve | connect URL", file=sys.stderr)
        sys.exit(2)
