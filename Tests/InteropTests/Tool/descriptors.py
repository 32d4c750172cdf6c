"""What the tool does with descriptors that are not its own, that are no files, or that are few: descriptors.py NAME TOOL"""

import contextlib
import fcntl
import os
import pty
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tty

import processes

name, tool = sys.argv[1:3]
LIMIT = 60
children = []


def check(condition, what):
    if not condition:
        print(f"{name}: {what}")
        processes.leave(1)


def start(*arguments, program=None, **options):
    options.setdefault("stderr", subprocess.PIPE)
    child = subprocess.Popen([program or tool, *arguments], **options)
    children.append(child)
    return child


def ended(child, what, status=0, limit=15):
    """Waits for a child, which has so many seconds."""
    try:
        told = child.communicate(timeout=limit)[1]
    except subprocess.TimeoutExpired:
        check(False, f"{what}: still there after {limit} s")
    check(child.returncode == status, f"{what}: status {child.returncode}, not {status}: {told}")
    return told


@contextlib.contextmanager
def server(*arguments, **options):
    child = start(*arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **options)
    line = child.stderr.readline().decode()
    check("listening on " in line, f"no address from {arguments}: {line}")
    yield line.split("listening on ")[1].strip()
    child.kill()
    child.wait()


def processor_time(child):
    with open(f"/proc/{child.pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Kind:
    """A pair of descriptors: what the tool gets, and the other side of it; and what both sides of a copy of ours share with it."""

    def __init__(self, kind, is_input):
        self.kind = kind
        self.folder = None
        if kind == "pipe":
            reader, writer = os.pipe()
            self.tools, self.peers = (reader, writer) if is_input else (writer, reader)
        elif kind == "socketpair":
            one, two = socket.socketpair()
            self.tools, self.peers = one.detach(), two.detach()
        elif kind == "tcp":
            with socket.create_server(("127.0.0.1", 0)) as listener:
                one = socket.create_connection(listener.getsockname())
                two, _ = listener.accept()
            self.tools, self.peers = one.detach(), two.detach()
        elif kind == "terminal":
            self.peers, self.tools = pty.openpty()
            tty.setraw(self.tools)
        elif kind == "fifo":
            self.folder = tempfile.mkdtemp()
            os.mkfifo(self.folder + "/f")
            reader = os.open(self.folder + "/f", os.O_RDONLY | os.O_NONBLOCK)
            writer = os.open(self.folder + "/f", os.O_WRONLY)
            os.set_blocking(reader, True)
            self.tools, self.peers = (reader, writer) if is_input else (writer, reader)

    def flags(self):
        return fcntl.fcntl(self.tools, fcntl.F_GETFL)

    def close(self):
        for descriptor in [self.tools, self.peers]:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        if self.folder:
            shutil.rmtree(self.folder)


KINDS = ["pipe", "socketpair", "tcp", "terminal", "fifo"]


def shared_flags():
    """Every kind as standard input, output and error: its flags are never changed, not even by a tool that is killed."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for user in [None, 65534]:
            program = tool
            if user:
                # What belongs to another user can't be opened once more.
                if os.getuid() != 0:
                    continue
                program = shutil.copy(tool, folder)
            for kind in KINDS:
                source, target = Kind(kind, True), Kind(kind, False)
                before = source.flags(), target.flags()
                child = start("-", "exec:cat", program=program, user=user, stdin=source.tools, stdout=target.tools)
                where = f"{kind} of {'another user' if user else 'ours'}"
                for _ in range(3):
                    os.write(source.peers, b"line\n")
                    check(os.read(target.peers, 5) == b"line\n", f"{where}: what was read")
                    check((source.flags(), target.flags()) == before, f"{where}: the flags while it runs")
                # Others can write to it meanwhile.
                big = b"x" * 200_000
                threading.Thread(target=lambda: os.write(target.tools, big), daemon=True).start()
                count = 0
                while count < len(big):
                    count += len(os.read(target.peers, 65536))
                child.kill()
                child.wait()
                check((source.flags(), target.flags()) == before, f"{where}: the flags once it was killed")
                source.close()
                target.close()


def readers_that_go():
    """Standard output whose reader goes ends the tool, also while there is nothing to write, whatever its input and the other end are."""
    folder = tempfile.mkdtemp()
    with open(folder + "/feed.py", "w") as feed:
        feed.write("import sys,time\nprint('first',flush=True)\ntime.sleep(100)\n")
    once = f"exec:python3 {folder}/feed.py"
    with server("listen+ws://127.0.0.1:0", "echo:") as echo, server("listen+ws://127.0.0.1:0", once) as feed, \
            server("listen+tcp://127.0.0.1:0", once) as stream, server("listen+tcp://127.0.0.1:0", "echo:") as bytes_back:
        cases = []
        for kind in ["pipe", "socketpair", "terminal"]:
            cases += [(kind, url, given) for url in [feed, stream] for given in ["nothing", "null", "terminal"]]
            cases += [(kind, url, "yes") for url in [echo, bytes_back]]
        for kind, url, given in cases:
            where = f"{url} into a {kind}, with {given} as input"
            target = Kind(kind, False)
            other = None
            if given == "yes":
                other = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
                source = other.stdout
            elif given == "null":
                source = subprocess.DEVNULL
            elif given == "terminal":
                source = Kind("terminal", True).tools
            else:
                source, other_side = os.pipe()
            child = start(url, stdin=source, stdout=target.tools)
            os.close(target.tools)
            os.read(target.peers, 2)
            used = processor_time(child)
            os.close(target.peers)
            ended(child, where, limit=8)
            if other:
                other.kill()
                other.stdout.close()
                other.wait()
            check(used < 5, where)
    shutil.rmtree(folder)


def no_input():
    """Standard input that is /dev/null or closed does not end what is received; one that was named does."""
    late = "exec:sleep 1; echo late"
    with server("listen+ws://127.0.0.1:0", late) as messages, server("listen+tcp://127.0.0.1:0", late) as stream:
        for url in [messages, stream]:
            for redirection, arguments in [("</dev/null", ""), ("<&-", ""), ("", "--no-input"), ("</dev/null >&2", "")]:
                done = subprocess.run(
                    ["sh", "-c", f"'{tool}' --half-close-timeout 0.2 {arguments} {url} {redirection}"], stdin=subprocess.PIPE,
                    capture_output=True, timeout=LIMIT)
                check(b"late\n" in done.stdout + done.stderr and done.returncode == 0, f"{url} {redirection} {arguments}: {done}")
    # A command finds the end of its input, and what stands first is sent.
    done = subprocess.run([tool, "exec:cat; echo end"], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT)
    check(done.stdout == b"end\n" and done.returncode == 0, f"a command: {done}")
    done = subprocess.run([tool, "--no-input", "exec:cat; echo end"], stdin=subprocess.PIPE, capture_output=True, timeout=LIMIT)
    check(done.stdout == b"end\n" and done.returncode == 0, f"a command without input: {done}")
    with server("listen+tcp://127.0.0.1:0", "exec:cat; echo end") as url:
        done = subprocess.run([tool, "-", url], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT)
        check(done.stdout == b"end\n" and done.returncode == 0, f"an input that was named: {done}")
        # A signal ends what receives.
        child = start(url, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        time.sleep(0.5)
        child.terminate()
        ended(child, "a receiver")
    for words in [["--no-input", "-", "null:"], ["--no-input", "tcp://127.0.0.1:1", "file:/dev/null"]]:
        done = subprocess.run([tool, *words], capture_output=True, timeout=LIMIT)
        check(done.returncode == 64 and b"--no-input" in done.stderr, f"{words}: {done}")
    # One visitor's lines, for a service that is given no input.
    listener = start("listen+tcp://127.0.0.1:0", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    port = int(listener.stderr.readline().decode().rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as visitor:
        time.sleep(0.3)
        visitor.sendall(b"hello\n")
    check(listener.communicate(timeout=15)[0] == b"hello\n" and listener.returncode == 0, "a listener without input")


def named_pipes():
    """Named pipes that nobody opens keep neither a signal, nor a peer's end, nor other files waiting."""
    folder = tempfile.mkdtemp()
    path = folder + "/f"
    os.mkfifo(path)
    # Nothing was open yet where the target waits for its reader.
    for words, statuses in [([f"file:{path}", "-"], [0]), ([f"file:{path}", "null:"], [0]), (["null:", f"file:{path}"], [130, 143]),
                            (["exec:sleep 50", f"file:{path}"], [130, 143])]:
        for number in [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]:
            child = start(*words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            time.sleep(0.5)
            child.send_signal(number)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                check(False, f"{words}: still there 10 s after signal {number}")
            check(child.returncode in statuses or child.returncode == 128 + number, f"{words}, signal {number}: {child.returncode}")
    # Data in both directions, with whoever comes first.
    for waits in [True, False]:
        reader = start(f"file:{path}", "-", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if waits:
            time.sleep(0.3)
        writer = start("-", f"file:{path}", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        size = 500_000

        # More than all the pipes on the way hold: it is read meanwhile.
        def write():
            writer.stdin.write(b"x" * size)
            writer.stdin.close()
        writing = threading.Thread(target=write, daemon=True)
        writing.start()
        check(len(reader.stdout.read()) == size, "what came through a named pipe")
        writing.join()
        check(reader.wait(10) == 0 and writer.wait(10) == 0, "the ends of a named pipe")
    # The reader of a TARGET has gone: a quiet end.
    writer = start("exec:yes", f"file:{path}", stdin=subprocess.DEVNULL)
    with open(path, "rb") as reading:
        reading.read(10)
    ended(writer, "a named pipe whose reader has gone")
    # A peer that ends, while the pipe is silent.
    with server("listen+ws://127.0.0.1:0", "exec:read x; echo got $x") as url:
        child = start("-q", f"file:{path}", url, stdin=subprocess.DEVNULL)
        holder = os.open(path, os.O_WRONLY)
        os.write(holder, b"go\n")
        ended(child, "a peer that ends")
        os.close(holder)
    # A server whose connections write to pipes that nobody reads goes on with others.
    for index in range(6):
        os.mkfifo(f"{folder}/{index}")
    waiting = [start(f"file:{folder}/{index}", "null:", stdin=subprocess.DEVNULL) for index in range(6)]
    with server("listen+tcp://127.0.0.1:0", f"file:{path}") as url, open(folder + "/x", "w") as other:
        port = int(url.rsplit(":", 1)[1])
        visitors = [socket.create_connection(("127.0.0.1", port)) for _ in range(6)]
        time.sleep(0.3)
        with open(path, "rb") as reading:
            # Between two visitors there is no end of the pipe.
            holder = os.open(path, os.O_WRONLY)
            for visitor in visitors:
                visitor.sendall(b"line\n")
                visitor.close()
            check(reading.read(30) == b"line\n" * 6, "six visitors")
            os.close(holder)
    for child in waiting:
        child.terminate()
        ended(child, "a pipe that waits")
    shutil.rmtree(folder)


def few_descriptors():
    """Too few descriptors are an error with its name, never a crash."""
    with tempfile.TemporaryDirectory() as folder:
        commands = [["-", "null:"], ["file:/etc/hostname"], ["listen+ws://127.0.0.1:0", "echo:"], ["exec:date"], ["ws://127.0.0.1:1"],
                    ["sse+http://localhost:1"], ["-", "listen+sse+http://127.0.0.1:0"], [f"listen+unix:{folder}/s", "null:"],
                    ["--linger", "0.1", "file:/etc/hostname", "null:"], ["listen+tcp://127.0.0.1:0", "exec:cat"]]
        for count in range(3, 25):
            for words in commands:
                child = start(*words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count)))
                if words[0].startswith("listen") or "listen" in words[-1]:
                    line = child.stderr.readline()
                    if b"listening" in line:
                        child.terminate()
                    told = line + child.communicate(timeout=LIMIT)[1]
                else:
                    told = child.communicate(timeout=LIMIT)[1]
                # Before the tool begins, the system's loader wants a descriptor.
                if child.returncode == 127 and b"shared librar" in told:
                    continue
                check(0 <= child.returncode < 128 or child.returncode == 143, f"{count} descriptors, {words}: {child.returncode}, {told}")
                if child.returncode not in [0, 5] and child.returncode != 143:
                    check(b"EMFILE" in told, f"{count} descriptors, {words}: {child.returncode}, {told}")
    # A server that runs out of them says so once, and goes on when there are some.
    child = start("listen+tcp://127.0.0.1:0", "echo:", stdin=subprocess.DEVNULL,
                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30)))
    port = int(child.stderr.readline().decode().rsplit(":", 1)[1])
    visitors = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    check(b"EMFILE" in child.stderr.readline(), "nothing was said of visitors that wait")
    for visitor in visitors[:30]:
        visitor.close()
    visitors[39].sendall(b"back\n")
    visitors[39].settimeout(20)
    check(visitors[39].recv(10) == b"back\n", "who has waited")
    child.terminate()
    told = ended(child, "a server with few descriptors")
    check(told.count(b"EMFILE") == 0, f"said again and again: {told}")


def visitors_that_only_look():
    """A listener of one connection goes on to the first that can be used."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{folder}/k.pem", "-out", f"{folder}/c.pem",
                        "-days", "1", "-subj", "/CN=localhost"], check=True, capture_output=True)
        child = start("--cert", f"{folder}/c.pem", "--key", f"{folder}/k.pem", "listen+tls://127.0.0.1:0", "-", stdin=subprocess.PIPE,
                      stdout=subprocess.PIPE)
        port = int(child.stderr.readline().decode().rsplit(":", 1)[1])
        # One says nothing, one goes at once, one speaks something else.
        silent = socket.create_connection(("127.0.0.1", port))
        socket.create_connection(("127.0.0.1", port)).close()
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            plain.settimeout(10)
            with contextlib.suppress(OSError):
                while plain.recv(1000):
                    pass
        client = start("--insecure", f"tls://127.0.0.1:{port}", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        client.stdin.write(b"hello\n")
        client.stdin.flush()
        check(child.stdout.readline() == b"hello\n", "what the one connection says")
        child.stdin.write(b"back\n")
        child.stdin.close()
        check(client.stdout.readline() == b"back\n", "what the one connection is told")
        client.stdin.close()
        check(client.wait(10) == 0 and child.wait(10) == 0, f"the ends: {client.returncode}, {child.returncode}")
        silent.close()
        # No one came: a signal ends it.
        child = start("--cert", f"{folder}/c.pem", "--key", f"{folder}/k.pem", "listen+tls://127.0.0.1:0", "-", stdin=subprocess.PIPE,
                      stdout=subprocess.PIPE)
        port = int(child.stderr.readline().decode().rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)):
            time.sleep(0.3)
            child.terminate()
            ended(child, "a listener while somebody says nothing")


def hang_up():
    """SIGHUP ends in order; who is started to ignore it goes on."""
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/s"
        child = start(f"listen+unix:{path}", "null:", stdin=subprocess.DEVNULL)
        child.stderr.readline()
        check(os.path.exists(path), "no socket")
        child.send_signal(signal.SIGHUP)
        ended(child, "a listener that is hung up on")
        check(not os.path.exists(path), "the socket's file stays")
        child = start(f"listen+unix:{path}", "null:", stdin=subprocess.DEVNULL, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        child.stderr.readline()
        child.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        check(child.poll() is None, "SIGHUP was not ignored")
        child.terminate()
        ended(child, "a listener under nohup")
    listener = socket.create_server(("127.0.0.1", 0))
    with server("-v", "listen+ws://127.0.0.1:0", "exec:cat; echo the end >&2") as url:
        client = start(url, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        client.stdin.write(b"x\n")
        client.stdin.flush()
        check(client.stdout.readline() == b"x\n", "no echo")
        client.send_signal(signal.SIGHUP)
        ended(client, "a client that is hung up on")
    listener.close()


def unix_paths():
    """Of servers that start at one Unix path at once, one has it, and what a dead one has left there is replaced."""
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/s"
        for attempt in range(15):
            with socket.socket(socket.AF_UNIX) as stale:
                stale.bind(path)
            servers = [start(f"listen+unix:{path}", "echo:", stdin=subprocess.DEVNULL) for _ in range(6)]
            lines = [child.stderr.readline() for child in servers]
            listening = [child for child, line in zip(servers, lines) if b"listening" in line]
            refused = [line for line in lines if b"EADDRINUSE" in line]
            check(len(listening) == 1 and len(refused) == 5, f"attempt {attempt}: {lines}")
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.sendall(b"x")
                client.settimeout(10)
                check(client.recv(1) == b"x", "the one that listens")
            for child in servers:
                child.terminate()
                child.communicate(timeout=15)
            check(not os.path.exists(path), "the socket's file stays")


try:
    globals()[name]()
finally:
    for child in children:
        if child.poll() is None:
            child.kill()
