"""Scenarios of `--reconnect`, with servers that are killed and come back: reconnect.py NAME TOOL FOLDER PYTHON

FOLDER holds the certificates that Sources/SluiceTestSupport/Certificates/make makes; PYTHON has `websockets`."""

import base64
import hashlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import processes

name, tool, certificates, python = sys.argv[1:5]
LIMIT = 60
RECONNECT = ["--reconnect", "--max-reconnect-delay", "0.3"]
CLEAN = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}


def check(condition, what):
    if not condition:
        print(f"{name}: {what}")
        processes.leave(1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Tool:
    """The tool under test, fed line by line, with what it says on standard error."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [tool, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=CLEAN)
        self.said = b""
        self.reading = threading.Thread(target=self.listen, daemon=True)
        self.reading.start()

    def listen(self):
        while chunk := self.process.stderr.read1():
            self.said += chunk

    def write(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def end(self, status=0):
        self.process.stdin.close()
        self.wait(status)

    def wait(self, status=0):
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            check(False, f"it does not end: {self.said.decode()}")
        self.reading.join()
        self.process.stdout.close()
        check(self.process.returncode == status, f"exit status {self.process.returncode}, not {status}: {self.said.decode()}")


class Server:
    """Takes connections of which each is ended after some bytes, in the middle of whatever is under way. What had been sent until then is
    read to its end, so that nothing that a client's system has taken is overlooked."""

    def __init__(self, upgrade, ends, context=None):
        self.upgrade, self.context, self.ends = upgrade, context, list(ends)
        self.received = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            limit = self.ends.pop(0) if self.ends else None
            client.settimeout(LIMIT)
            if self.context:
                client = self.context.wrap_socket(client, server_side=True)
            rest = self.handshake(client) if self.upgrade else b""
            self.received.append(rest)
            self.seen = 0
            try:
                while limit is None or len(self.received[-1]) < limit:
                    chunk = client.recv(min(4096, limit or 4096))
                    if not chunk:
                        break
                    self.received[-1] += chunk
                    if limit is None and self.upgrade and self.answer_close(client):
                        break
                if limit is not None:
                    # The client sees an end (in TLS a truncated one); what its system has taken still comes.
                    socket.socket.shutdown(client, socket.SHUT_WR)
                    while chunk := client.recv(65536):
                        self.received[-1] += chunk
                elif self.context:
                    client.unwrap()
            except (OSError, ssl.SSLError):
                pass
            client.close()

    def handshake(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        head, rest = head.split(b"\r\n\r\n", 1)
        key = next(line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        client.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        return rest

    def answer_close(self, client):
        while frame := frame_at(self.received[-1], self.seen):
            self.seen = frame[2]
            if frame[0] == 8:
                client.sendall(b"\x88\x02\x03\xe8")
                return True
        return False


def frame_at(stream, start):
    """Opcode, beginning of the masked body and end of a client's frame; None if it is not whole."""
    head = stream[start:start + 14]
    if len(head) < 6:
        return None
    length, size = head[1] & 0x7F, 2
    if length == 126:
        length, size = int.from_bytes(head[2:4]), 4
    elif length == 127:
        length, size = int.from_bytes(head[2:10]), 10
    body = start + size + 4
    return (head[0] & 0x0F, body, body + length) if len(stream) >= body + length else None


def texts_of(stream):
    at = 0
    while frame := frame_at(stream, at):
        opcode, body, at = frame
        key = stream[body - 4:body]
        if opcode == 1:
            mask = (key * ((at - body) // 4 + 1))[:at - body]
            yield (int.from_bytes(stream[body:at]) ^ int.from_bytes(mask)).to_bytes(at - body)


def messages_of(server):
    return [text for stream in server.received for text in texts_of(stream)]


def tls_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(certificates, "good.pem"), os.path.join(certificates, "good.key"))
    return context


def exactly_once():
    """Every line arrives once, in order, whatever connection it takes: what the system has taken is read by the server to the end."""
    lines = [b"line %d %s\n" % (number, b"x" * (number * 37 % 300)) for number in range(4000)]
    ca = ["--ca", os.path.join(certificates, "root.pem")]
    for scheme in ["ws", "wss", "tcp", "tls"]:
        secure = scheme in ("wss", "tls")
        server = Server(
            scheme.startswith("ws"), [5000, 1, 70_000, 333, 123_456], tls_context() if secure else None)
        client = Tool(*RECONNECT, *(ca if secure else []), "-", f"{scheme}://127.0.0.1:{server.port}")
        for start in range(0, len(lines), 100):
            client.write(b"".join(lines[start:start + 100]))
            time.sleep(0.005)
        client.end()
        # A slow server may find more under way than it had meant to take.
        check(len(server.received) >= 4, f"{scheme}: {len(server.received)} connections")
        check(client.said.count(b"reconnecting in") >= len(server.received) - 1, f"{scheme}: {client.said.decode()}")
        if server.upgrade:
            arrived = [message + b"\n" for message in messages_of(server)]
        else:
            # A line that was cut begins anew on the next connection.
            whole = [stream[:stream.rindex(b"\n") + 1] if b"\n" in stream else b"" for stream in server.received]
            arrived = b"".join(whole).splitlines(keepends=True)
        compare(scheme, arrived, lines)
        server.listener.close()
    # Bytes go on at the byte.
    data = os.urandom(3 << 20)
    server = Server(False, [1000, 1, 200_000, 1_000_000])
    client = Tool(*RECONNECT, "--binary", "-", f"tcp://127.0.0.1:{server.port}")
    for start in range(0, len(data), 16 << 10):
        # At a pace that the server keeps up with: what a reset finds in our system's buffer is lost.
        client.write(data[start:start + (16 << 10)])
        time.sleep(0.002)
    client.end()
    check(len(server.received) >= 3 and b"".join(server.received) == data, "bytes over TCP differ")


def compare(what, arrived, lines):
    if arrived == lines:
        return
    at = next((i for i, (a, b) in enumerate(zip(arrived, lines)) if a != b), min(len(arrived), len(lines)))
    check(False, f"{what}: {len(arrived)} lines of {len(lines)}, at {at}: {arrived[at:at + 2]}, not {lines[at:at + 2]}")


SERVE = """
import asyncio, sys, websockets
async def take(ws):
    async for message in ws:
        print(message, flush=True)
        await ws.send(message)
async def main():
    async with websockets.serve(take, "127.0.0.1", int(sys.argv[1])): await asyncio.Future()
asyncio.run(main())
"""


def killed_servers():
    """Python's websockets and the tool itself as servers that are killed, stay away and come back, while numbered lines flow."""
    for kind in ["websockets", "sluice"]:
        with tempfile.TemporaryDirectory() as folder:
            port = free_port()
            log = os.path.join(folder, "log")

            def start():
                if kind == "websockets":
                    command = [python, "-c", SERVE, str(port)]
                else:
                    command = [tool, "-q", f"listen+tcp://127.0.0.1:{port}", f"exec:cat >>'{log}'"]
                with open(log, "ab") as output:
                    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL, env=CLEAN)

            client = Tool(*RECONNECT, "-", f"{'ws' if kind == 'websockets' else 'tcp'}://127.0.0.1:{port}")
            flowing = threading.Event()
            sent = []

            def feed():
                while not flowing.is_set():
                    sent.append(len(sent))
                    client.write(b"%d\n" % sent[-1])
                    time.sleep(0.005)

            feeding = threading.Thread(target=feed, daemon=True)
            feeding.start()
            last_of_each, down = [], []
            try:
                for _ in range(4):
                    server = start()
                    before = os.path.getsize(log)
                    wait_for(lambda: os.path.getsize(log) > before + 50, f"{kind}: nothing arrives")
                    time.sleep(0.3)
                    last_of_each.append(len(sent))
                    server.kill()
                    server.wait()
                    time.sleep(0.5)
                    down.append(len(sent))
                server = start()
                before = os.path.getsize(log)
                wait_for(lambda: os.path.getsize(log) > before + 50, f"{kind}: nothing arrives at last")
            finally:
                flowing.set()
                feeding.join()
            client.end()
            time.sleep(0.5)
            server.terminate()
            server.wait()
            arrived = [int(line) for line in open(log).read().split()]
            check(arrived == sorted(set(arrived)), f"{kind}: a line came twice, or out of order")
            missing = sorted(set(sent) - set(arrived))
            # What was under way when a server was killed died with it; nothing that came while there was none.
            for number in missing:
                check(any(at - 30 < number <= at + 10 for at in last_of_each), f"{kind}: line {number} is lost; killed at {last_of_each}")
            for at, until in zip(last_of_each, down):
                check(set(range(at + 10, until)) <= set(arrived), f"{kind}: lines {at}...{until} of when it was down")
            check(arrived[-1] == sent[-1], f"{kind}: the last line is lost")


def wait_for(condition, what):
    deadline = time.time() + LIMIT
    while not condition():
        check(time.time() < deadline, what)
        time.sleep(0.02)


def slow_servers():
    """A server that does not read is killed: what its and our system's buffers had is lost, what was still waiting is not."""
    lines = [b"%07d %s\n" % (number, b"y" * 1000) for number in range(20_000)]
    listener = socket.create_server(("127.0.0.1", 0))
    client = Tool(*RECONNECT, "-", f"tcp://127.0.0.1:{listener.getsockname()[1]}")
    stalled, _ = listener.accept()
    feeding = threading.Thread(target=lambda: client.write(b"".join(lines)), daemon=True)
    feeding.start()
    time.sleep(2)
    # With unread bytes, a close is a reset.
    stalled.close()
    again, _ = listener.accept()
    arrived = b""
    client_ended = threading.Thread(target=lambda: (feeding.join(), client.end()), daemon=True)
    client_ended.start()
    while chunk := again.recv(1 << 20):
        arrived += chunk
    again.close()
    client_ended.join()
    got = arrived.splitlines(keepends=True)
    check(got == lines[len(lines) - len(got):], "what came is not the end of what was sent, whole")
    lost = len(lines) - len(got)
    check(0 < lost < 15_000, f"{lost} lines of a kilobyte are lost")


def endings():
    """How it ends: the peer's Close, a final answer, an interrupt, the end of the input, and a wrong command line."""
    port = free_port()
    url = f"ws://127.0.0.1:{port}"
    # It waits for a server that is not there yet, and the end of the input is a clean end.
    client = Tool(*RECONNECT, url)
    client.write(b"early\n")
    wait_for(lambda: b"ECONNREFUSED" in client.said and b"reconnecting in" in client.said, "no attempt is told")
    server = subprocess.Popen([tool, "-q", f"listen+{url}", "echo:"], stdin=subprocess.DEVNULL, env=CLEAN)
    check(client.process.stdout.readline() == b"early\n", "no echo of what was there before the server")
    # A server that goes away with 1001 is waited for.
    server.send_signal(signal.SIGINT)
    server.wait(15)
    client.write(b"between\n")
    server = subprocess.Popen([tool, "-q", f"listen+{url}", "echo:"], stdin=subprocess.DEVNULL, env=CLEAN)
    check(client.process.stdout.readline() == b"between\n", "no echo after the restart")
    check(b"connected to ws://" in client.said, client.said.decode())
    client.end()
    # SIGINT closes with 1001.
    client = Tool(*RECONNECT, "-v", url)
    client.write(b"a\n")
    client.process.stdout.readline()
    client.process.send_signal(signal.SIGINT)
    client.wait()
    # While there is no connection: at once, if nothing waits to be sent; at the second, if something does.
    client = Tool(*RECONNECT, url)
    client.write(b"a\n")
    client.process.stdout.readline()
    server.kill()
    server.wait()
    wait_for(lambda: b"reconnecting in" in client.said, "the loss is not told")
    client.process.send_signal(signal.SIGINT)
    client.wait()
    client = Tool(*RECONNECT, "--quiet", url)
    time.sleep(0.5)
    check(client.said == b"", "--quiet says something")
    client.process.send_signal(signal.SIGINT)
    client.wait(130)
    # The peer's 1000 ends it, and so does what will not go away.
    server = subprocess.Popen([tool, "-q", f"listen+{url}", "exec:echo once"], stdin=subprocess.DEVNULL, env=CLEAN)
    time.sleep(0.5)
    client = Tool(*RECONNECT, url)
    check(client.process.stdout.readline() == b"once\n", "nothing came")
    client.wait()
    client.process.stdin.close()
    server.send_signal(signal.SIGINT)
    server.wait(15)
    refusing = "exec:printf 'HTTP/1.1 403 Forbidden\\r\\n\\r\\n'"
    server = subprocess.Popen(
        [tool, "-q", f"listen+tcp://127.0.0.1:{port}", refusing], stdin=subprocess.DEVNULL, env=CLEAN)
    time.sleep(0.5)
    client = Tool(*RECONNECT, url)
    client.wait(6)
    client.process.stdin.close()
    check(b"403" in client.said, client.said.decode())
    server.send_signal(signal.SIGINT)
    server.wait(15)
    for wrong in [["listen+ws://127.0.0.1:0", "echo:"], ["listen+tcp://127.0.0.1:0", "tcp://127.0.0.1:1"], ["-"], ["file:/x", "exec:cat"]]:
        done = subprocess.run([tool, "--reconnect", *wrong], capture_output=True, stdin=subprocess.DEVNULL, timeout=LIMIT, env=CLEAN)
        check(done.returncode == 64 and b"--reconnect" in done.stderr, f"{wrong}: {done}")


def event_streams():
    """An event stream whose server is not there at first, and comes back."""
    port = free_port()
    client = Tool(*RECONNECT, f"sse+http://127.0.0.1:{port}/log")
    wait_for(lambda: b"reconnecting in" in client.said, "no attempt is told")
    for text in [b"one\n", b"two\n"]:
        source = subprocess.Popen(
            [tool, "-q", "-", f"listen+sse+http://127.0.0.1:{port}/log"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=CLEAN)
        said = len(client.said)
        # Whoever listens gets the next event.
        arrived = threading.Event()

        def repeat():
            while not arrived.is_set():
                source.stdin.write(text)
                source.stdin.flush()
                time.sleep(0.2)

        writing = threading.Thread(target=repeat, daemon=True)
        writing.start()
        line = client.process.stdout.readline()
        while line != text:
            line = client.process.stdout.readline()
        arrived.set()
        writing.join()
        source.stdin.close()
        source.kill()
        source.wait()
        wait_for(lambda: b"reconnecting in" in client.said[said:], "the loss is not told")
    client.process.send_signal(signal.SIGINT)
    client.wait()


globals()[name]()
