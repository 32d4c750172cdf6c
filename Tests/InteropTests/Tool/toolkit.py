"""What the scripts of scenarios beside this share: a tool that serves, and clients of it."""
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import processes

name, tool = sys.argv[1:3]
LIMIT = 60


def check(condition, what):
    if not condition:
        print(f"{name}: {what}")
        processes.leave(1)


def run(*arguments, data=b"", status=0, **rest):
    done = subprocess.run([tool, *arguments], input=data, capture_output=True, timeout=LIMIT, **rest)
    check(done.returncode == status, f"{arguments} exited with {done.returncode}, not {status}: {done.stderr.decode()}")
    return done


def within(what, condition, limit=20):
    """Waits until something holds."""
    deadline = time.monotonic() + limit
    while not condition():
        check(time.monotonic() < deadline, f"not within {limit} s: {what}")
        time.sleep(0.01)


# Connections of this script. A server that ends waits for what they have to say: nothing.
clients = []


class Server:
    """A listening tool, whose address is read from standard error."""

    def __init__(self, *words, status=0, **rest):
        self.status = status
        self.stopped = False
        self.process = subprocess.Popen(
            [tool, *words], stdin=rest.pop("stdin", subprocess.DEVNULL), stdout=rest.pop("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE, **rest)
        # What it says before.
        self.said = b""
        line = self.process.stderr.readline().decode()
        while line and "listening on " not in line:
            self.said += line.encode()
            line = self.process.stderr.readline().decode()
        check("listening on " in line, f"no address from {words}: {self.said}")
        self.url = line.split("listening on ")[1].strip()
        port = re.search(r"://[^/]*:(\d+)", self.url)
        self.port = int(port[1]) if port else None
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def stop(self):
        """SIGTERM: a second one would be another order."""
        if not self.stopped and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.stopped = True

    def read(self):
        for line in self.process.stderr:
            self.said += line

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        while clients:
            clients.pop().close()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            check(False, "a server did not end after SIGTERM")
        check(self.process.returncode == self.status, f"a server ended with {self.process.returncode}: {self.said}")


class Line:
    """A TCP or Unix connection that speaks in lines."""

    def __init__(self, port_or_path, source=None):
        if isinstance(port_or_path, int):
            self.socket = socket.create_connection(
                ("127.0.0.1", port_or_path), timeout=LIMIT, source_address=source and (source, 0))
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(LIMIT)
            self.socket.connect(port_or_path)
        clients.append(self.socket)
        self.rest = b""

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """A line, or b"" at the end."""
        while b"\n" not in self.rest:
            try:
                chunk = self.socket.recv(65536)
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                return b""
            self.rest += chunk
        line, self.rest = self.rest.split(b"\n", 1)
        return line + b"\n"

    def close(self):
        self.socket.close()


class WebSocket:
    """A client of few words: small frames, no fragments."""

    def __init__(self, port, path="/", headers="", source=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT, source_address=source and (source, 0))
        clients.append(self.socket)
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{headers}"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        self.rest = b""
        while b"\r\n\r\n" not in self.rest:
            chunk = self.socket.recv(65536)
            if not chunk:
                break
            self.rest += chunk
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        self.status = int(head.split(b" ")[1]) if head else 0
        self.head = head

    def send(self, text, opcode=1):
        data = text if isinstance(text, bytes) else text.encode()
        length = struct.pack("!B", 0x80 | len(data)) if len(data) < 126 else struct.pack("!BH", 0xFE, len(data))
        self.socket.sendall(struct.pack("!B", 0x80 | opcode) + length + b"\0\0\0\0" + data)

    def take(self, count):
        while len(self.rest) < count:
            chunk = self.socket.recv(65536)
            if not chunk:
                return None
            self.rest += chunk
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def frame(self):
        """Opcode and payload, or None at the end."""
        head = self.take(2)
        if not head:
            return None
        length = head[1] & 127
        if length == 126:
            length = struct.unpack("!H", self.take(2))[0]
        elif length == 127:
            length = struct.unpack("!Q", self.take(8))[0]
        return head[0] & 15, self.take(length)

    def receive(self):
        """A message as text, the code of a Close, or None at the end."""
        frame = self.frame()
        if not frame:
            return None
        opcode, data = frame
        return struct.unpack("!H", data[:2])[0] if opcode == 8 else data.decode() if opcode == 1 else data

    def close(self):
        self.socket.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
        while self.frame():
            pass
        self.socket.close()


def get(port, path, headers=""):
    """Status, head and body of a GET."""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n".encode())
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head, body
