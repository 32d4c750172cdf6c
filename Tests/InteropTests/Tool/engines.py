"""Servers of topics for the scripts beside this, each with a folder of its own."""
import contextlib
import json
import re
import socket
import subprocess
import tempfile
import time

import processes  # noqa: F401


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


class Cluster(Engine):
    """Servers of one cluster, of which one at a time may be away."""

    # Whether what was acknowledged may be lost with a server.
    loses = False

    def __init__(self):
        self.folder, self.processes, self.port = tempfile.mkdtemp(), {}, None
        # A port for clients and one for the others, each.
        self.ports = [(free_port(), free_port()) for _ in range(self.size)]
        for number in range(self.size):
            self.start_node(number)
        self.url = f"{self.scheme}://" + ",".join(f"127.0.0.1:{client}" for client, _ in self.ports)

    def topic(self, name):
        return f"{self.url}/{name}"

    def kill(self):
        for process in self.processes.values():
            process.kill()
            process.wait()

    def kill_node(self, number):
        self.processes[number].kill()
        self.processes[number].wait()


class RedisCluster(Cluster):
    """Three primaries with a replica each. What a replica has not got when its primary dies is lost."""

    size, scheme, loses = 6, "topic+redis", True

    def __init__(self):
        super().__init__()
        slots = [(0, 5460), (5461, 10921), (10922, 16383)]
        for number, (client, bus) in enumerate(self.ports):
            if number < 3:
                self.command(number, "cluster", "addslotsrange", *slots[number])
            self.command(0, "cluster", "meet", "127.0.0.1", client, bus)
        names = [self.command(number, "cluster", "myid").strip() for number in range(6)]
        for number in range(3, 6):
            self.until(lambda: names[number - 3] in self.command(number, "cluster", "nodes"))
            self.until(lambda: self.command(number, "cluster", "replicate", names[number - 3]).strip() == "OK")
        for number in range(6):
            self.until(lambda: "cluster_state:ok" in self.command(number, "cluster", "info"))
        for number in range(3, 6):
            self.until(lambda: "master_link_status:up" in self.command(number, "info", "replication"))

    def start_node(self, number):
        client, bus = self.ports[number]
        folder = f"{self.folder}/{number}"
        subprocess.run(["mkdir", "-p", folder], check=True)
        self.processes[number] = subprocess.Popen(
            ["redis-server", "--port", str(client), "--cluster-port", str(bus), "--bind", "127.0.0.1", "--cluster-enabled", "yes",
             "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0", "--appendonly", "yes", "--appendfsync", "always", "--save", "",
             "--dir", folder, "--logfile", f"{folder}/log"])
        self.until(lambda: self.command(number, "ping").strip() == "PONG")

    def command(self, number, *words):
        return subprocess.run(["redis-cli", "-p", str(self.ports[number][0]), *map(str, words)], capture_output=True, text=True).stdout

    @staticmethod
    def until(condition):
        for _ in range(1500):
            if condition():
                return
            time.sleep(0.02)
        raise SystemExit("the cluster does not come about")


class NatsCluster(Cluster):
    """Three servers, each with a copy of each stream: while two live, nothing is lost."""

    size, scheme = 3, "topic+nats"

    def __init__(self):
        super().__init__()
        for _ in range(1500):
            logs = ""
            for number in range(3):
                with open(f"{self.folder}/log{number}") as file:
                    logs += file.read()
            if "JetStream cluster new metadata leader" in logs:
                return
            time.sleep(0.02)
        raise SystemExit("the cluster does not come about")

    def topic(self, name):
        return f"{self.url}/{name}?replicas=3"

    def start_node(self, number):
        client, route = self.ports[number]
        routes = ",".join(f"nats://127.0.0.1:{other}" for _, other in self.ports)
        self.processes[number] = subprocess.Popen(
            ["nats-server", "-n", f"n{number}", "-a", "127.0.0.1", "-p", str(client), "-js", "-sd", f"{self.folder}/store{number}",
             "--cluster_name", "c", "--cluster", f"nats://127.0.0.1:{route}", "--routes", routes, "-l", f"{self.folder}/log{number}"])
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", client), timeout=5) as connection:
                if connection.recv(100).startswith(b"INFO"):
                    return
            time.sleep(0.02)
        raise SystemExit("nats-server does not start")
