"""Servers of topics for the scripts beside this, each with a folder of its own."""
import contextlib
import json
import re
import socket
import subprocess
import tempfile
import time


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Engine:
    """A server of topics of its own."""

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        subprocess.run(["rm", "-r", self.folder])


class Redis(Engine):
    """A redis-server, at a port and at a Unix socket."""

    def __init__(self, *options, durable=False):
        self.folder, self.port, self.options = tempfile.mkdtemp(), free_port(), options
        if durable:
            self.options += ("--appendonly", "yes", "--appendfsync", "always")
        self.url = f"topic+redis://127.0.0.1:{self.port}"
        self.socket = f"{self.folder}/redis.sock"
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--unixsocket", self.socket, "--dir", self.folder, "--save", "",
             "--logfile", f"{self.folder}/log", *self.options])
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                # That it wants a password is an answer too.
                if b"LOADING" not in connection.recv(100):
                    return
            time.sleep(0.02)
        raise SystemExit("redis-server does not start")

    def topics(self):
        """The names of all that there is of topics."""
        keys = subprocess.run(["redis-cli", "-p", str(self.port), "--raw", "keys", "*"], capture_output=True).stdout.decode().split()
        return {re.search(r"\{(.*?)\}", key)[1] for key in keys} - {"sluice:check"}


class Nats(Engine):
    """A nats-server with JetStream, whose files outlive its process."""

    def __init__(self, configuration="", durable=True):
        self.folder, self.port = tempfile.mkdtemp(), free_port()
        self.url = f"topic+nats://127.0.0.1:{self.port}"
        with open(f"{self.folder}/conf", "w") as file:
            file.write(configuration)
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["nats-server", "-c", f"{self.folder}/conf", "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", f"{self.folder}/store",
             "-l", f"{self.folder}/log"])
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                if connection.recv(100).startswith(b"INFO"):
                    return
            time.sleep(0.02)
        raise SystemExit("nats-server does not start")

    def topics(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(b'CONNECT {"verbose":false}\r\nSUB answer 1\r\nPUB $JS.API.STREAM.NAMES answer 0\r\n\r\n')
            lines = connection.makefile("rb")
            while not next(lines).startswith(b"MSG "):
                pass
            streams = json.loads(next(lines))["streams"]
        return {stream[7:].replace("=", ".") for stream in streams if stream.startswith("sluice_")}
