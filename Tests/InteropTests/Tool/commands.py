"""What becomes of `exec:` commands: commands.py NAME TOOL. Exits 1 and says why when something differs."""

import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import processes

name, tool = sys.argv[1:3]
LIMIT = 60
TIMES = ["--terminate-after", "0.3", "--kill-after", "0.3", "--half-close-timeout", "0.5"]


def check(condition, what):
    if not condition:
        print(f"{name}: {what}")
        processes.leave(1)


def marker():
    """A number of seconds that no other process sleeps."""
    return str(random.randrange(10**8, 10**9))


def living(mark):
    """Processes, other than the tool and zombies, whose command line has the mark."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{process}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            if mark.encode() in b" ".join(words) and words[0] in (b"sleep", b"sh", b"/bin/sh", b"timeout"):
                found.append(b" ".join(words).decode())
        except OSError:
            pass
    return found


def children(parent):
    """The ids and states of a process's children, zombies among them."""
    found = {}
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{process}/stat") as file:
                state, of = file.read().rsplit(")", 1)[1].split()[:2]
            if int(of) == parent:
                found[int(process)] = state
        except OSError:
            pass
    return found


def gone(mark, what, limit=20):
    deadline = time.time() + limit
    while left := living(mark):
        check(time.time() < deadline, f"{what}: left behind: {left}")
        time.sleep(0.05)


class Server:
    def __init__(self, *words, env=None, prefix=()):
        self.process = subprocess.Popen(
            [*prefix, tool, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
        line = self.process.stderr.readline().decode()
        check("listening on " in line, f"no address: {line}")
        self.url = line.split("listening on ")[1].strip()
        self.port = int(re.search(r"://[^/]*:(\d+)", self.url)[1])
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            check(False, "a server did not end after SIGTERM")

    def connect(self):
        """A connection, as a WebSocket if that is served."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT)
        if self.url.startswith("ws"):
            client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(1)
        return client


# What does not end by itself. MARK is there for as long as something of it is.
COMMANDS = {
    "silent": "sleep MARK",
    "a pipeline": "sleep MARK | sleep MARK",
    "reading, then silent": "cat >/dev/null; sleep MARK",
    "deaf": "trap '' TERM HUP; sleep MARK; sleep MARK",
    "in groups of their own": "timeout MARK sleep MARK & timeout MARK sleep MARK | cat",
    "gone, with groups of their own": "timeout MARK sleep MARK >/dev/null & exit 0",
    "grandchildren": "sleep MARK & sleep MARK & wait",
    "gone, with grandchildren": "sleep MARK & sleep MARK >/dev/null & exit 3",
    "writing": "while echo x; do sleep 0.02; done; sleep MARK",
    "without its streams": "exec <&- >&-; sleep MARK",
    "stopped": "kill -STOP $$; sleep MARK",
}


def disconnect(server, client):
    if server.url.startswith("ws"):
        client.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
    client.close()


def reset(server, client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def signalled(*numbers):
    def end(server, client):
        for number in numbers:
            server.process.send_signal(number)
            time.sleep(0.1)
        server.process.wait(LIMIT)
    return end


ENDS = {
    "disconnect": disconnect, "reset": reset, "SIGTERM": signalled(signal.SIGTERM), "SIGINT": signalled(signal.SIGINT),
    "SIGTERM twice": signalled(signal.SIGTERM, signal.SIGTERM), "SIGKILL": signalled(signal.SIGKILL),
}


def left_behind():
    """Nothing, whatever the command is, however its connection or the tool ends."""
    def one(listener, command, end):
        mark = marker()
        what = f"{listener} exec: {command}, {end}"
        server = Server(*TIMES, listener, "exec:" + COMMANDS[command].replace("MARK", mark))
        client = server.connect()
        deadline = time.time() + LIMIT
        while not living(mark) and command not in ("writing", "reading, then silent", "stopped"):
            check(time.time() < deadline, f"{what}: the command did not start")
            time.sleep(0.02)
        time.sleep(0.2)
        ENDS[end](server, client)
        gone(mark, what)
        client.close()
        if server.process.poll() is None:
            server.__exit__()

    for listener in ["listen+tcp://127.0.0.1:0", "listen+ws://127.0.0.1:0"]:
        for end in ENDS:
            threads = [threading.Thread(target=one, args=(listener, command, end), daemon=True) for command in COMMANDS]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()


def left_behind_without_clients():
    """The same for the commands of a tool that serves nobody."""
    for words in [["null:", "exec:sleep MARK | sleep MARK"], ["exec:sleep MARK | sleep MARK", "null:"],
                  ["exec:trap '' TERM; sleep MARK; sleep MARK", "file:/dev/null"], ["exec:sleep MARK & exit 0", "-"],
                  ["exec:sleep MARK >/dev/null & exit 0", "-"]]:
        for numbers in [[signal.SIGTERM], [signal.SIGINT], [signal.SIGTERM, signal.SIGTERM], [signal.SIGKILL]]:
            mark = marker()
            process = subprocess.Popen(
                [tool, *TIMES[:4], *[word.replace("MARK", mark) for word in words]], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.3)
            for number in numbers:
                process.send_signal(number)
                time.sleep(0.1)
            process.wait(LIMIT)
            gone(mark, f"{words}, {numbers}")


def guards(process):
    """The processes that would end a tool's commands if it died."""
    found = []
    for child, state in children(process.pid).items():
        with open(f"/proc/{child}/cmdline") as file:
            if state != "Z" and "# Ends the commands" in file.read():
                found.append(child)
    return found


def guard():
    """The process that ends what we leave is one for all, is replaced when it was killed, holds nothing of ours open, and does not stay."""
    mark = marker()
    server = Server(*TIMES, "listen+tcp://127.0.0.1:0", f"exec:sleep {mark}")
    check(guards(server.process) == [], "a guard of nothing")
    clients = [server.connect() for _ in range(3)]
    time.sleep(0.5)
    check(len(living(mark)) >= 3, f"the commands: {living(mark)}")
    first = guards(server.process)
    check(len(first) == 1, f"one guard for all: {first}")
    check(sorted(os.listdir(f"/proc/{first[0]}/fd")) == ["0", "1", "2"], "what the guard holds open")
    check(os.getsid(first[0]) == first[0], "a session of its own")
    # What a terminal or an init system sends to all does nothing to it.
    for number in [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]:
        os.kill(first[0], number)
    time.sleep(0.2)
    check(guards(server.process) == first, "the guard was interrupted")
    os.kill(first[0], signal.SIGKILL)
    time.sleep(0.2)
    clients.append(server.connect())
    time.sleep(0.5)
    second = guards(server.process)
    check(len(second) == 1 and second != first, f"another guard: {second}")
    check(len(living(mark)) >= 4, "the other commands went on")
    server.process.kill()
    server.process.wait()
    gone(mark, "after the tool's death")
    deadline = time.time() + 10
    while os.path.exists(f"/proc/{second[0]}"):
        check(time.time() < deadline, "the guard stays")
        time.sleep(0.05)
    # Nobody is killed in place of those that are long gone, and the tool's reader sees its end at once.
    start = time.time()
    done = subprocess.run([tool, "exec:echo a", "-"], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT)
    check(done.stdout == b"a\n" and time.time() - start < 5, f"a short command: {done}")


def statuses():
    """Input that a command does not want is no failure; its own status is."""
    with tempfile.NamedTemporaryFile() as big:
        big.write(b"x" * 5_000_000)
        big.flush()
        for command, status in [("true", 0), ("exit 3", 7), ("head -c 10 >/dev/null", 0), ("head -c 10 >/dev/null; exit 3", 7),
                                ("exec <&-; sleep 0.2", 0), ("exec <&-; sleep 0.2; exit 3", 7), ("kill -9 $$", 7),
                                ("cat >/dev/null", 0), ("cat", 0), ("cat; exit 3", 7)]:
            for words, source in [(["-", "exec:" + command], open(big.name, "rb")),
                                  (["file:" + big.name, "exec:" + command], subprocess.DEVNULL)]:
                done = subprocess.run([tool, *words], stdin=source, capture_output=True, timeout=LIMIT)
                check(done.returncode == status, f"{words[0]} to {command}: {done.returncode}, {done.stderr}")
                # What comes back from a command that a file goes to is nobody's.
                if command in ("cat", "cat; exit 3") and words[0] == "-":
                    check(len(done.stdout) == 5_000_000, f"{command}: {len(done.stdout)} bytes")
    for stream in ["/dev/stdin", "/proc/self/fd/0"]:
        done = subprocess.run([tool, "-", f"exec:cat {stream} >/dev/stdout"], input=b"hi\n", capture_output=True, timeout=LIMIT)
        check(done.stdout == b"hi\n", f"{stream}: {done}")


def told(server, *words, data=b""):
    done = subprocess.run(
        [tool, *words, "--on-end", "defer", server.url] if server.url.startswith("ws") else [tool, *words, "-", server.url],
        input=data, capture_output=True, timeout=LIMIT)
    return dict(line.split("=", 1) for line in done.stdout.decode().splitlines() if "=" in line)


def variables():
    """What a command is told of its connection, and nothing that a client could set otherwise."""
    env = dict(os.environ, SLUICE_BASIC_AUTH="ann:secret", HTTP_X_OLD="old", REMOTE_USER="root", HTTP_PROXY="http://127.0.0.1:1")
    with Server("listen+ws://127.0.0.1:0/a", "exec:env", env=env) as server:
        got = told(server, "--proxy", "none", "--header", "X-Trace: 7", "--header", "Proxy: http://evil", "--header", "X_Trace: evil",
                   "--basic-auth", "ann:secret")
        for key, value in {"REMOTE_ADDR": "127.0.0.1", "SERVER_ADDR": "127.0.0.1", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": str(server.port),
                           "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_SOFTWARE": "Sluice", "GATEWAY_INTERFACE": "CGI/1.1",
                           "REQUEST_METHOD": "GET", "REQUEST_URI": "/a", "PATH_INFO": "/a", "SCRIPT_NAME": "", "QUERY_STRING": "",
                           "HTTP_X_TRACE": "7", "HTTP_HOST": f"127.0.0.1:{server.port}", "HTTP_UPGRADE": "websocket",
                           "AUTH_TYPE": "Basic", "REMOTE_USER": "ann", "HTTP_PROXY": "http://127.0.0.1:1"}.items():
            check(got.get(key) == value, f"{key} is {got.get(key)}, not {value}")
        check(0 < int(got["REMOTE_PORT"]) < 65536, "REMOTE_PORT")
        check("PATH" in got, "our environment")
        for key in ["HTTP_X_OLD", "HTTP_AUTHORIZATION", "SLUICE_BASIC_AUTH"]:
            check(key not in got, f"{key} is told")
        check("evil" not in str(got) and "secret" not in str(got), f"{got}")
    with Server("listen+tcp://127.0.0.1:0", "--proxy-protocol-from", "127.0.0.1", "exec:env") as server:
        got = told(server, data=b"PROXY TCP4 192.0.2.9 192.0.2.1 1111 80\r\n")
        check(got.get("REMOTE_ADDR") == "192.0.2.9" and "REMOTE_PORT" not in got, f"behind a load balancer: {got}")
        check(got.get("SERVER_PORT") == str(server.port) and "REQUEST_METHOD" not in got, f"{got}")
    done = subprocess.run([tool, "exec:env", "-"], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, env=env)
    check(b"REMOTE_USER=root" in done.stdout and b"REMOTE_ADDR" not in done.stdout, "a command without a connection has our environment")


def first_process():
    """As process 1 the tool reaps what it is given, and its own commands' statuses are still its own."""
    check(shutil.which("unshare"), "unshare is missing (util-linux)")
    prefix = ["unshare", "--pid", "--fork", "--kill-child"] + ([] if os.getuid() == 0 else ["--user", "--map-root-user"])
    with Server("listen+tcp://127.0.0.1:0", "exec:setsid sh -c 'sleep 0.1' >/dev/null 2>&1 & echo $$; exit 0", prefix=prefix) as server:
        first = next(iter(children(server.process.pid)))
        for _ in range(30):
            with server.connect() as client:
                answer = b""
                while chunk := client.recv(100):
                    answer += chunk
                check(re.fullmatch(rb"\d+\n", answer), f"a command's output: {answer}")
        deadline = time.time() + 10
        while zombies := [child for child, state in children(first).items() if state == "Z"]:
            check(time.time() < deadline, f"zombies: {zombies}")
            time.sleep(0.1)
        os.kill(first, signal.SIGTERM)
        check(server.process.wait(LIMIT) == 0, f"exit status {server.process.returncode}")


globals()[name]()
