"""Fails one system call after another of the tool, each with each error that it can have, and checks how the tool ends.

torture.py TOOL [--scenario NAME] [--call NAME] [--sample N] [--jobs N] [--verbose]

A run is one scenario in which the n-th call of one kind fails once (in each thread that comes so far: strace counts by thread). Whatever fails:

- the tool ends by itself, in time, with a status of its table, and not by a signal of its own making;
- what arrives is a beginning of what was sent, and all of it when the status says that all went well;
- a server goes on to serve the next connection.

Prints a table of calls and errors with the number of runs, and each run that fell short. Exits 1 if one did.
"""
import argparse
import collections
import concurrent.futures
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

# The statuses that `sluice --help` lists, and the C library's for a program that could not be started.
STATUSES = {0, 1, 3, 4, 5, 6, 7, 130, 143}
TIME_LIMIT = 75  # The longest limit that the tool has by itself is stallTimeout, 30 seconds.

ERRORS = {
    "read": ["EINTR", "EAGAIN", "EIO", "ECONNRESET"],
    "readv": ["EINTR", "EAGAIN", "EIO"],
    "pread64": ["EINTR", "EIO"],
    "write": ["EINTR", "EAGAIN", "EIO", "EPIPE", "ENOSPC", "ECONNRESET"],
    "writev": ["EINTR", "EAGAIN", "EIO", "EPIPE", "ENOSPC"],
    "pwrite64": ["EINTR", "EIO", "ENOSPC", "EDQUOT"],
    "recvfrom": ["EINTR", "EAGAIN", "ECONNRESET", "ETIMEDOUT", "ENOMEM"],
    "recvmsg": ["EINTR", "EAGAIN", "ECONNRESET"],
    "sendto": ["EINTR", "EAGAIN", "EPIPE", "ECONNRESET", "ENOBUFS"],
    "sendmsg": ["EINTR", "EAGAIN", "EPIPE", "ECONNRESET", "ENOBUFS"],
    "accept4": ["EINTR", "EAGAIN", "ECONNABORTED", "EMFILE", "ENFILE", "ENOMEM", "EPROTO"],
    "connect": ["EINTR", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH", "EACCES"],
    "shutdown": ["ENOTCONN"],
    "socket": ["EMFILE", "ENFILE", "ENOMEM", "EACCES"],
    "bind": ["EADDRINUSE", "EACCES"],
    "listen": ["EADDRINUSE"],
    "getsockname": ["ENOBUFS"],
    "getpeername": ["ENOTCONN"],
    "setsockopt": ["EINVAL", "ENOPROTOOPT"],
    "getsockopt": ["EINVAL"],
    "epoll_create1": ["EMFILE", "ENFILE"],
    "epoll_ctl": ["ENOMEM", "ENOSPC"],
    "epoll_wait": ["EINTR"],
    "epoll_pwait": ["EINTR"],
    "eventfd2": ["EMFILE", "ENFILE"],
    "openat": ["EMFILE", "ENOENT", "EACCES", "EINTR", "ENOSPC"],
    "pipe2": ["EMFILE", "ENFILE"],
    "socketpair": ["EMFILE"],
    "clone": ["EAGAIN"],
    "clone3": ["EAGAIN"],
    "vfork": ["EAGAIN"],
    "fork": ["EAGAIN"],
    "execve": ["ENOENT", "EACCES", "ENOMEM"],
    "dup": ["EMFILE"],
    # Not EINTR, which Linux gives for a descriptor that blocks in being closed only: a child's standard streams are pipes and sockets.
    "dup2": ["EMFILE"],
    "dup3": ["EMFILE"],
    "fcntl": ["EINVAL"],
    "ioctl": ["ENOTTY"],
    "fstat": ["EIO"],
    "newfstatat": ["EIO", "ENOENT"],
    "statx": ["EIO"],
    "fsync": ["EIO"],
    "ftruncate": ["EIO"],
    "close": ["EIO", "EINTR"],
    "wait4": ["EINTR"],
    "kill": ["ESRCH", "EPERM"],
}

# Libraries beneath the tool that end the process when a call of theirs fails: by the first frame outside of the C library.
BENEATH = re.compile(r"/(libdispatch|libswift\w*|lib_?Foundation\w*|ld-linux[^/]*|libBlocksRuntime)\.so")
# The same of libuv, whose first loop takes a pipe, and which ends the process when it can't wait for a descriptor; what the system never does:
# waking a thread does not fail, nor does the end of a watch, nor does the pipe of its signal handler; and a thread that can't be started.
UNSURVIVABLE = re.compile(
    r"EPOLL_CTL_DEL|(read|write)\(\d+<anon_inode:\[eventfd\]>|(read|write)\(\d+<pipe:\[\d+\]>, \"\*\", 1\)|CLONE_THREAD"
    r"|/libuv\.so[^\n]*\n[^\n]*\(__sigaction"
    r"|pipe2\(.*libuv.*uv_once.*uv_loop_init|epoll_ctl\([^\n]*\n([^\n]*/libc[^\n]*\n)*[^\n]*/libuv\.so", re.S)

LINES = b"".join(b"line %d\n" % number for number in range(4000))


class ShortFall(Exception):
    pass


class Incomplete(ShortFall):
    pass


class LostReader(Incomplete):
    pass


class Outlived(ShortFall):
    pass


class Aborted(ShortFall):
    """Ended by abort(), which is not ours: Swift's traps have other signals."""


class ServedNobody(ShortFall):
    pass


def expect(condition, what):
    if not condition:
        raise ShortFall(what)


# What is started ends with this script, however that ends: strace ends its program when it is told to end.
BOUND = ["setpriv", "--pdeathsig", "TERM"]


class Traced:
    """The tool under strace, in a process group of its own."""

    def __init__(self, run, arguments, stdin, stdout=subprocess.PIPE):
        self.group = subprocess.Popen(
            [*BOUND, *run.tracer, run.tool, *arguments], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, start_new_session=True,
            env={**os.environ, "SWIFT_BACKTRACE": "enable=no"}, cwd=run.folder)
        self.deadline = time.monotonic() + TIME_LIMIT
        self.errors = None

    def first_error_line(self):
        """The first line of its standard error, or what there is of it after a while; the rest is read beside, so that it never waits for that."""
        self.errors = Lines(self.group.stderr)
        return self.errors.first(10)

    def finish(self, data=None, allowed=frozenset()):
        """Its status and output, once it has ended by itself."""
        time_left = max(self.deadline - time.monotonic(), 0.1)
        try:
            if self.errors:
                self.group.wait(time_left)
                out, err = b"", self.errors.all(5)
            else:
                out, err = self.group.communicate(data, timeout=time_left)
        except subprocess.TimeoutExpired:
            has_ended = not children(self.group.pid)
            self.kill()
            raise Outlived("a program that it has started did not end") if has_ended else ShortFall("did not end")
        self.check_status(err, allowed)
        return self.group.returncode, out, err

    def check_status(self, err, allowed):
        # strace ends by the signal that its program has ended by, or with 128 and its number.
        status = self.group.returncode
        text = err.decode(errors="replace").strip().splitlines()[-1:]
        if status not in STATUSES | allowed:
            raise (Aborted if status == -signal.SIGABRT else ShortFall)(f"ended with status {status}: {text}")

    def kill(self):
        try:
            os.killpg(self.group.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.group.wait()


class Lines(threading.Thread):
    """Reads a pipe to its end."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.pipe, self.lines, self.has_line = pipe, [], threading.Event()
        self.start()

    def run(self):
        for line in self.pipe:
            # Of what goes on and on, the end is enough.
            self.lines = self.lines[-1000:] + [line]
            self.has_line.set()
        self.has_line.set()

    def first(self, limit):
        self.has_line.wait(limit)
        return self.lines[0].decode() if self.lines else ""

    def all(self, limit):
        self.join(limit)
        return b"".join(self.lines)


class Sink(threading.Thread):
    """A peer that takes all that one connection sends, TCP or to a Unix socket."""

    def __init__(self, path=None):
        super().__init__(daemon=True)
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            self.listener.listen()
        else:
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.port = self.listener.getsockname()[1]
        self.received = b""
        self.start()

    def run(self):
        # Attempts that come to nothing are connections too.
        self.listener.settimeout(TIME_LIMIT)
        try:
            while True:
                peer, _ = self.listener.accept()
                peer.settimeout(TIME_LIMIT)
                self.take(peer)
        except OSError:
            pass

    def take(self, peer):
        try:
            while chunk := peer.recv(65536):
                self.received += chunk
        except OSError:
            pass
        finally:
            peer.close()

    def finish(self):
        # What the system has taken arrives: the connection is local.
        time.sleep(0.05)
        self.listener.close()
        return self.received


class Run:
    """One scenario, with one call that fails."""

    def __init__(self, tool, tracer, folder, echo):
        self.tool, self.tracer, self.folder, self.echo = tool, tracer, folder, echo

    def path(self, name):
        return os.path.join(self.folder, name)


# MARK: scenarios


def check_sent(status, received, sent, may_lose_reader=False):
    expect(sent.startswith(received), f"what arrived is no beginning of what was sent: {len(received)} of {len(sent)} bytes")
    if status == 0 and received != sent:
        # A reader of standard output that has gone is no failure.
        raise (LostReader if may_lose_reader else Incomplete)(f"status 0, and {len(received)} of {len(sent)} bytes arrived")


def contents(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def input_to_file(run):
    status, _, _ = Traced(run, ["-", "file:out"], subprocess.PIPE).finish(LINES)
    check_sent(status, contents(run.path("out")), LINES)


def file_to_output(run):
    with open(run.path("in"), "wb") as file:
        file.write(LINES)
    status, out, _ = Traced(run, ["file:in", "-"], subprocess.DEVNULL).finish()
    check_sent(status, out, LINES, may_lose_reader=True)


def file_to_tcp(run):
    with open(run.path("in"), "wb") as file:
        file.write(LINES)
    sink = Sink()
    status, _, _ = Traced(run, ["file:in", f"tcp://127.0.0.1:{sink.port}"], subprocess.DEVNULL).finish()
    check_sent(status, sink.finish(), LINES)


def file_to_unix(run):
    with open(run.path("in"), "wb") as file:
        file.write(LINES)
    sink = Sink(run.path("socket"))
    status, _, _ = Traced(run, ["file:in", "unix:socket"], subprocess.DEVNULL).finish()
    check_sent(status, sink.finish(), LINES)


def command_to_file(run):
    status, _, _ = Traced(run, ["exec:seq 3000", "file:out"], subprocess.DEVNULL).finish()
    check_sent(status, contents(run.path("out")), b"".join(b"%d\n" % number for number in range(1, 3001)))


def through_command(run):
    status, out, _ = Traced(run, ["-", "exec:cat"], subprocess.PIPE).finish(LINES)
    check_sent(status, out, LINES, may_lose_reader=True)


def echo_over_websocket(run):
    sent = b"".join(b"line %d\n" % number for number in range(50))
    status, out, _ = Traced(run, ["--answer-timeout", "0.2", "-", run.echo], subprocess.PIPE).finish(sent)
    check_sent(status, out, sent, may_lose_reader=True)


def server(run, endpoint, target, exchange):
    """A server that must survive the failure: it is asked until it has answered twice in a row."""
    traced = Traced(run, [endpoint, target], subprocess.DEVNULL)
    try:
        line = traced.first_error_line()
        # The line itself may be what could not be written.
        if not line and traced.group.poll() is None:
            interrupt(traced)
            return
        if "listening on " not in line:
            # It could not begin, and says why.
            traced.finish()
            expect(traced.group.returncode != 0, "a server that does not listen ended well")
            return
        port = re.search(r":(\d+)", line.split("listening on ")[1].split("//")[-1])
        address = ("127.0.0.1", int(port[1])) if port else run.path("socket")
        answered = 0
        while answered < 2:
            if time.monotonic() > traced.deadline - 10:
                raise ServedNobody("a server served nobody any more")
            expect(traced.group.poll() is None, f"a server ended: {traced.group.returncode}")
            answered = answered + 1 if exchange(address) else 0
        interrupt(traced)
    finally:
        traced.kill()


def interrupt(traced):
    for child in children(traced.group.pid):
        os.kill(child, signal.SIGINT)
    # Where it could not catch the signal, it ends by it.
    traced.finish(allowed={-signal.SIGINT})


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def connection(address):
    if not isinstance(address, str):
        return socket.create_connection(address, 5)
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(5)
    try:
        peer.connect(address)
    except OSError:
        peer.close()
        raise
    return peer


def ask(address):
    try:
        with connection(address) as peer:
            peer.settimeout(5)
            peer.sendall(b"question\n")
            received = b""
            while len(received) < 9:
                chunk = peer.recv(100)
                if not chunk:
                    break
                received += chunk
    except OSError:
        return False
    expect(b"question\n".startswith(received), f"a server answered {received}")
    return received == b"question\n"


def ask_over_websocket(address):
    try:
        with connection(address) as peer:
            peer.settimeout(5)
            peer.sendall(
                b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
            received = b""
            while b"\r\n\r\n" not in received:
                chunk = peer.recv(1000)
                if not chunk:
                    return False
                received += chunk
            expect(received.startswith(b"HTTP/1.1 "), "an answer that is none")
            if not received.startswith(b"HTTP/1.1 101"):
                return False
            # "question", masked with zeros.
            peer.sendall(b"\x81\x88\0\0\0\0question")
            frame = b""
            while len(frame) < 10:
                chunk = peer.recv(100)
                if not chunk:
                    return False
                frame += chunk
            expect(frame[:10] == b"\x81\x08question" or frame[0] == 0x88, f"a frame of {frame[:10]}")
            return frame[:10] == b"\x81\x08question"
    except OSError:
        return False


def tcp_echo_server(run):
    server(run, "listen+tcp://127.0.0.1:0", "echo:", ask)


def tcp_command_server(run):
    server(run, "listen+tcp://127.0.0.1:0", "exec:cat", ask)


def unix_echo_server(run):
    server(run, "listen+unix:socket", "echo:", ask)


def websocket_echo_server(run):
    server(run, "listen+ws://127.0.0.1:0", "echo:", ask_over_websocket)


SCENARIOS = [
    input_to_file, file_to_output, file_to_tcp, file_to_unix, command_to_file, through_command, echo_over_websocket, tcp_echo_server,
    tcp_command_server, unix_echo_server, websocket_echo_server,
]

# MARK: counting and failing


def in_folder(tool, tracer, echo, scenario):
    folder = tempfile.mkdtemp(prefix="sluice-torture-")
    try:
        scenario(Run(tool, [argument.replace("FOLDER", folder) for argument in tracer], folder, echo))
        return contents(os.path.join(folder, "trace")).decode(errors="replace")
    except ShortFall as problem:
        problem.injected = injected(contents(os.path.join(folder, "trace")).decode(errors="replace"))
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def injected(trace):
    """The calls that were made to fail, each with the frames that made it."""
    calls, current, begun = [], None, {}
    for line in trace.splitlines():
        if line.startswith(" > "):
            if current is not None:
                current.append(line[3:])
            continue
        current = None
        thread = line.split()[0]
        if "<unfinished ...>" in line:
            begun[thread] = line
        if "(INJECTED)" in line:
            current = [begun.get(thread, "") + line if "resumed>" in line else line]
            calls.append(current)
    return calls


def caller(call):
    return next((frame for frame in call[1:] if "/libc.so" not in frame), "")


# What the system never does: to refuse the wake of a thread, or a byte of the pipes by which libuv tells of signals and of children.
IMPOSSIBLE = re.compile(
    r"(read|write)\(\d+<anon_inode:\[eventfd\]>|(read|write)\(\d+<pipe:\[\d+\]>[^\n]*\n([^\n]*/libc[^\n]*\n)*[^\n]*/libuv\.so")


def is_beneath(call):
    return bool(BENEATH.search(caller(call)) or UNSURVIVABLE.search("\n".join(call)))


def is_of_program(call):
    """Whether a program made it that the tool has started, or the child that was to become one."""
    if re.match(r"(/usr)?/bin/", caller(call)):
        return True
    # libuv makes these between fork and exec only.
    return bool(re.search(r"\b(dup2|execve)\(", call[0]) and "(uv_spawn" in "\n".join(call))


def is_excused(problem):
    """Whether what fell short is none of the tool's: none of the calls that failed was its own, or a program failed that it needs."""
    if any(IMPOSSIBLE.search("\n".join(call)) for call in problem.injected):
        return True
    own = [call for call in problem.injected if not is_beneath(call)]
    # A call of each thread fails, and one of them was a library's that gives up by that.
    if isinstance(problem, Aborted) and len(own) < len(problem.injected):
        return True
    if problem.injected and not own:
        return True
    # A program that has failed may have said nothing; but the tool ends, with a status of its own, or serves the next.
    if own and all(is_of_program(call) for call in own):
        if isinstance(problem, ServedNobody):
            # Each child counts its calls from 1: then no program can be started for anybody.
            return len({call[0].split()[0] for call in own}) > 2
        return isinstance(problem, (Incomplete, Outlived))
    return False


def count_calls(tool, echo, scenario):
    """For each kind of call, the range of numbers that it has in some thread once the program itself runs."""
    tracer = ["strace", "-f", "-qq", "-e", "signal=none", "-e", "trace=" + ",".join("?" + call for call in ERRORS), "-o", "FOLDER/trace"]
    counts = collections.defaultdict(collections.Counter)
    first_of_main = collections.Counter()
    lines = in_folder(tool, tracer, echo, scenario).splitlines()
    main = lines[0].split()[0] if lines else ""
    for line in lines:
        found = re.match(r"(\d+) +(\w+)\((.*)", line)
        if not found or found[2] not in ERRORS:
            continue
        thread, call, rest = found.groups()
        counts[call][thread] += 1
        # What the loader does is not the program's.
        if thread == main and (".so" in rest or call == "execve"):
            first_of_main.update({name: numbers[main] - first_of_main[name] for name, numbers in counts.items()})
    return {
        call: (1 if any(thread != main for thread in numbers) else first_of_main[call] + 1, max(numbers.values()))
        for call, numbers in counts.items()
        # Only the loader's.
        if max(numbers.values()) > first_of_main[call] or any(thread != main for thread in numbers)
    }, first_of_main


def numbers_to_fail(first, last):
    """All of the first, and ever fewer of the rest."""
    numbers, number = [], first
    while number <= last:
        numbers.append(number)
        number += 1 if number < first + 12 else max(1, (number - first) // 4)
    return numbers


def end(signal_number, _):
    # What it has started is told by the system.
    os._exit(128 + signal_number)


def main():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, end)
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("--scenario")
    parser.add_argument("--call")
    parser.add_argument("--sample", type=int, help="only as many runs, the same each time for the same calls")
    parser.add_argument("--jobs", type=int, default=6)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    tool = os.path.abspath(options.tool)
    echo = subprocess.Popen(
        [*BOUND, tool, "listen+ws://127.0.0.1:0", "echo:"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        address = echo.stderr.readline().decode().split("listening on ")[1].strip()
        sys.exit(torture(tool, address, options))
    finally:
        echo.terminate()
        echo.wait(20)


def torture(tool, echo, options):
    runs = []
    for scenario in SCENARIOS:
        if options.scenario in (None, scenario.__name__):
            calls, loader = count_calls(tool, echo, scenario)
            for call, (first, last) in sorted(calls.items()):
                if options.call in (None, call):
                    for number in numbers_to_fail(max(first, loader[call] + 1), max(last, loader[call] + 1)):
                        runs += [(scenario, call, number, error) for error in ERRORS[call]]
    if options.sample and options.sample < len(runs):
        runs = random.Random("sluice").sample(runs, options.sample)
    print(f"{len(runs)} runs", flush=True)
    table = collections.Counter()
    short = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for run, problem in pool.map(lambda run: (run, attempt(tool, echo, run)), runs):
            scenario, call, number, error = run
            table[call, error] += 1
            if problem:
                short += 1
                print(f"{scenario.__name__}: {call} {number} {error}: {problem}", flush=True)
            elif options.verbose:
                print(f"{scenario.__name__}: {call} {number} {error}: held", flush=True)
    for call in sorted({call for call, _ in table}):
        print(f"{call:14}" + "  ".join(f"{error} {table[call, error]}" for error in ERRORS[call] if table[call, error]))
    print(f"{len(runs) - short} of {len(runs)} held")
    return 1 if short else 0


def attempt(tool, echo, run):
    scenario, call, number, error = run
    tracer = [
        "strace", "-f", "-k", "-y", "-qq", "-e", "signal=none", "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={number}", "-o",
        "FOLDER/trace"]
    try:
        in_folder(tool, tracer, echo, scenario)
    except ShortFall as problem:
        if isinstance(problem, LostReader) and error == "EPIPE":
            return None
        if is_excused(problem):
            return None
        calls = ["\n        ".join(call[:8]) for call in problem.injected]
        return f"{problem}\n    " + "\n    ".join(calls)
    return None


main()
