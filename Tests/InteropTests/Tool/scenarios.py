"""What the tool must do, run as a user runs it: scenarios.py NAME TOOL. Exits 1 and says why when something differs."""
import concurrent.futures
import base64
import contextlib
import hashlib
import json
import os
import pty
import re
import select
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
LIMIT = 120
MEMORY = 64 << 10  # KiB of resident memory that no process may exceed


def check(condition, what):
    if not condition:
        print(f"{name}: {what}")
        processes.leave(1)


class Server:
    """A listening tool, whose address is read from standard error."""

    def __init__(self, endpoint, *rest):
        self.process = subprocess.Popen(
            [tool, endpoint, *rest], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        line = self.process.stderr.readline().decode()
        check("listening on " in line, f"no address from {endpoint}: {line}")
        self.url = line.split("listening on ")[1].strip()

    def peak_kib(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmHWM:\s+(\d+)", status.read())[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            check(False, "a server did not end after SIGINT")


def run(*arguments, data=b"", status=0, timeout=LIMIT):
    done = subprocess.run([tool, *arguments], input=data, capture_output=True, timeout=timeout)
    check(status in (done.returncode, None), f"{arguments} exited with {done.returncode}, not {status}: {done.stderr.decode()}")
    return done


def echo_200_runs():
    # Each waits a second for more answers before it closes.
    with Server("listen+ws://127.0.0.1:0", "echo:") as server, concurrent.futures.ThreadPoolExecutor(10) as runs:
        outputs = runs.map(lambda _: run(server.url, data=b"one\ntwo\n").stdout, range(200))
        for attempt, out in enumerate(outputs):
            check(out == b"one\ntwo\n", f"run {attempt} printed {out}")


def exit_codes():
    check(b"no such" in run("file:/nonexistent/x", status=7).stderr, "no reason for a missing file")
    check(b"ECONNREFUSED" in run("tcp://127.0.0.1:1", status=5).stderr, "no reason for a refused connection")
    check(b"ECONNREFUSED" in run("ws://127.0.0.1:1", status=5).stderr, "no reason for a refused connection")
    for wrong in [["nonsense"], ["foo:x"], ["tcp://h"], ["ws://h:99999"], ["ws://"], ["unix:"], ["-", "listen+tcp://h:1"],
                  ["--lines", "--null", "-"], ["--chunks", "0", "-"], ["--header", "x", "-"], ["--ping", "-1", "-"],
                  ["--bogus", "-"], []]:
        done = run(*wrong, status=64)
        check(done.stderr.strip(), f"{wrong} gave no reason")
    with Server("listen+tcp://127.0.0.1:0", "exec:printf 'HTTP/1.1 403 Forbidden\\r\\n\\r\\n'") as server:
        done = run(server.url.replace("tcp", "ws"), status=6)
        check(b"403" in done.stderr, f"the status is not shown: {done.stderr}")
    with Server("listen+ws://127.0.0.1:0", "echo:") as server:
        check(b"control character" in run("--header", "X: a\nb", server.url, status=64).stderr, "a header with LF was not refused")
        check(b"UTF-8" in run(server.url, data=b"\xff\n", status=7).stderr, "text that is none was sent")
        check(b"1009" in run("--max-message", "3", "--chunks", "9", "--binary", server.url, data=b"123456789", status=3).stderr,
              "a message beyond the limit was taken")


@contextlib.contextmanager
def answering(answer, reset=False):
    """A server in C's manner: gives the same bytes to each client that has said something, and ends, or resets."""
    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.recv(4096)
            connection.sendall(answer)
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def exit_codes_of_peers():
    """What the peer does has another status than what the command line, or a file, does."""
    with answering(b"x", reset=True) as address:
        check(b"ECONNRESET" in run(f"tcp://{address}", data=b"x\n", status=4).stderr, "a reset")
    with answering(b"HTTP/1.1 101 x\r\nno colon\r\n\r\n") as address:
        run(f"ws://{address}", status=3)
    with answering(b"") as address:
        run(f"ws://{address}", status=5)
        run(f"sse+http://{address}", status=5)
    with answering(b"no HTTP\r\n\r\n") as address:
        run(f"sse+http://{address}", status=3)
    with answering(b"HTTP/1.1 404 Not Found\r\n\r\n") as address:
        run(f"sse+http://{address}", status=6)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        run("--connect-timeout", "0.3", f"ws://{address}", status=5)
        run("--connect-timeout", "0.3", f"sse+http://{address}", status=5)
        check(b"EADDRINUSE" in run(f"listen+tcp://{address}", status=7).stderr, "a port in use")
    with Server("listen+ws://127.0.0.1:0", "echo:") as server:
        told = run("--max-message", "3", server.url, data=b"abc\nabcdef\n", status=3).stderr
        check(b"6 (limit 3)" in told, f"a long line: {told}")
        told = run("--length-prefixed", "--binary", server.url, data=b"\xff\xff\xff\xffx", status=3).stderr
        check(b" 4294967295 (limit " in told, f"an announced length: {told}")
        run("--length-prefixed", "--binary", server.url, data=b"\0\0\0\5x", status=3)
    with Server("listen+tcp://127.0.0.1:0", "exec:sleep 5") as server:
        run("--half-close-timeout", "0.3", server.url, status=4)


def command_lines():
    """Wrong command lines say what is wrong, before anything is opened."""
    for words, told in [
            (["--linger", "-1", "-"], b"--linger must be"), (["--half-close-timeout", "-1", "tcp://h:1"], b"--half-close-timeout must be"),
            (["--max-message", "-1", "ws://h"], b"--max-message must be"), (["--chunks", "-3", "ws://h"], b"--chunks must be"),
            (["--follow-redirects", "-1", "ws://h"], b"--follow-redirects must be"),
            (["--event", "a\nb", "-", "listen+sse+http://127.0.0.1:0"], b"--event"),
            (["--last-event-id", "a\nb", "sse+http://127.0.0.1:1"], b"--last-event-id"), (["--ping", "0", "ws://h"], b"more than 0"),
            ([], b"SOURCE is missing"), (["x.txt"], b"file:x.txt"),
            (["listen+ws://127.0.0.1"], b"port is missing"), (["-", "listen+sse+http://[::1]/log"], b"port is missing"),
            (["listen+ws:127.0.0.1:80"], b"'//' is missing"),
            (["listen+ws://u:secret@127.0.0.1:0"], b"--basic-auth"), (["tcp://u:secret@h:1"], b"does not allow credentials"),
            (["--header", "Authorization: x", "ws://u:secret@h"], b"--header Authorization"),
            (["demo", "--listen", "8080"], b"HOST:PORT"), (["demo", "--listen", "localhost"], b"HOST:PORT")]:
        stderr = run(*words, status=64).stderr
        check(told in stderr and b"secret" not in stderr, f"{words}: {stderr}")
    check(re.fullmatch(rb"\d+\.\d+\.\d+\n", run("--version").stdout), "--version")
    with tempfile.TemporaryDirectory() as folder:
        path, link = folder + "/x", folder + "/link"
        with open(path, "w") as file:
            file.write("kept")
        os.link(path, link)
        for words in [["file:" + path, "file:" + path], ["--append", "file:" + path, "file:" + link]]:
            check(b"same file" in run(*words, status=64).stderr, f"{words}")
        with open(path) as reading, open(path, "a") as writing:
            for words in [["-", "file:" + path], ["file:" + link, "-"], ["-", "-"]]:
                done = subprocess.run([tool, *words], stdin=reading, stdout=writing, stderr=subprocess.PIPE, timeout=LIMIT)
                check(done.returncode == 64 and b"same file" in done.stderr, f"{words}: {done}")
        with open(path) as file:
            check(file.read() == "kept", "the file was changed")
        run("file:" + path, "file:" + folder + "/y")
        run("file:/dev/null", "file:/dev/null")


def config_files():
    """Options and endpoints from a file, by name and value; what is wrong there is told with its place, and nothing is opened."""
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/sluice.conf"

        def config(text):
            with open(path, "wb") as file:
                file.write(text if isinstance(text, bytes) else text.encode())

        def refused(text, told, *words):
            config(text)
            stderr = run("--config", path, *words, status=64).stderr
            check(told.encode() in stderr and stderr.startswith(f"sluice: {path}:".encode()) and stderr.count(b"\n") == 1, f"{text!r} {words}: {stderr}")

        # Endpoints, values with blanks, quotes and equals signs, a flag, another framing, comments, lines that Windows ends, no end of the last.
        config("# all of it\r\n\r\nsource -\r\n\ttarget\techo:  \r\nlinger   0\r\n--append")
        check(run("--config", path, data=b"one\n", status=64).stderr.startswith(b"sluice: --append does not apply to '-'"), "a flag of a file")
        config("source exec:printf '%s' \"a=b  c\"\ntarget -\n")
        check(run("--config", path).stdout == b"a=b  c", "an endpoint of a file")
        config("source exec:echo one\n")
        check(run(f"--config={path}", f"file:{folder}/x").stdout == b"" and run("--config", path).stdout == b"one\n", "a target behind the file's source")
        with open(folder + "/x") as file:
            check(file.read() == "one\n", "what the target got")
        # The command line has the last word, and headers of both are sent.
        with Server("--response-header", "X-A: b", "listen+ws://127.0.0.1:0", "exec:env") as server:
            config(f"source {server.url}\nheader X-One: 1 # 2\nheader X-Two: 2\nclose-code 70000\n")
            refused(f"source {server.url}\nclose-code 70000\n", ":2: --close-code")
            config(f"source {server.url}\nheader X-One: 1 # 2\nheader X-Two: 2\nclose-code 4000\n")
            said = run("--config", path, "--close-code", "1000", "--header", "X-Three: 3", "--no-input").stdout
            check(all(line in said.split(b"\n") for line in [b"HTTP_X_ONE=1 # 2", b"HTTP_X_TWO=2", b"HTTP_X_THREE=3"]), f"headers: {said}")
        # Several files, and a pipe.
        with open(folder + "/more", "w") as file:
            file.write("source exec:echo two\n")
        config("verbose\n")
        check(b"sluice: " in run("--config", path, "--config", folder + "/more").stderr, "two files")
        done = subprocess.run([tool, "--config", "/dev/stdin"], input=b"source exec:echo three\n", capture_output=True, timeout=LIMIT)
        check(done.stdout == b"three\n" and done.returncode == 0, f"a file from a pipe: {done}")
        refused("source -\nfoo 1\n", ":2: ")
        refused("source ws://h\n\nping x\n", ":3: ")
        refused("source ws://h\nping 0\n", ":2: --ping")
        refused("ping\nsource ws://h\n", ":1: ")
        refused("source ws://h\nproxy\n", ":2: ")
        refused("verbose yes\n", ":1: ", "-", "echo:")
        refused("source ws://h\norigin https://h\n", ":2: unknown option '--origin': write --header 'Origin: ")
        refused("-v\n", ":1: '-v'")
        refused("ping=5\n", ":1: between a name and its value")
        refused("--\n", ":1: an option has a name")
        refused("config x\n", ":1: a file can't name another one")
        refused("source\n", ":1: source has no endpoint")
        refused("target -\n", ":1: target needs a source")
        refused("source -\nsource -\n", ":2: there is another source")
        for content, told in [(b"source \xff\n", b"UTF-8"), (b"#" * ((1 << 20) + 1), b"1048576")]:
            config(content)
            check(told in run("--config", path, status=64).stderr, f"{told}")
        check(b"no such file" in run("--config", folder + "/none", "-", status=64).stderr.lower(), "a file that is not there")
        check(b"can't read" in run("--config", folder, "-", status=64).stderr, "a folder")
        check(b"--config" in run("-", "--config", status=64).stderr, "no file")


def foreign_names():
    """Who types what another tool calls it is told what it is called here."""
    for words, told in [
            (["-H", "A: b", "ws://h"], b"--header"), (["-b", "ws://h"], b"--binary"), (["-k", "wss://h"], b"--insecure"),
            (["-1", "ws://h"], b"--one-message"), (["--origin", "https://h", "ws://h"], b"--header 'Origin: "),
            (["--origin=https://h", "ws://h"], b"--header 'Origin: "), (["--ping-interval", "5", "ws://h"], b"--ping SECONDS"),
            (["--cacert", "x", "wss://h"], b"--ca FILE"), (["-s", "1234"], b"listen+ws://127.0.0.1:PORT"),
            (["tcp-l:127.0.0.1:80", "echo:"], b"listen+tcp://127.0.0.1:80"), (["TCP-LISTEN:80,fork,reuseaddr", "-"], b"listen+tcp://127.0.0.1:80"),
            (["ws-l:0.0.0.0:80", "mirror:"], b"listen+ws://0.0.0.0:80"), (["stdio", "tcp://h:1"], b"write -"),
            (["-", "unix-connect:/x"], b"unix:/x"), (["-", "abstract-connect:x"], b"unix:@x"), (["-", "sh-c:ls | wc"], b"exec:ls | wc"),
            (["listen+ws://127.0.0.1:0", "mirror:"], b"echo:"), (["listen+ws://127.0.0.1:0", "broadcast:"], b"room:"),
            (["-", "openssl:h:443"], b"tls://h:443"), (["autoreconnect:ws://h"], b"--reconnect ws://h")]:
        stderr = run(*words, status=64).stderr
        check(told in stderr and stderr.count(b"\n") == 1, f"{words}: {stderr}")


def closed_descriptors():
    """What the caller has closed is not written to, or read, under another's number."""
    for words, redirection in [("file:/etc/hostname", ">&-"), ("- null:", "<&-")]:
        done = subprocess.run(["sh", "-c", f"'{tool}' {words} {redirection}"], capture_output=True, timeout=LIMIT)
        check(done.returncode == 7 and b"EBADF" in done.stderr, f"{words} {redirection}: {done}")
    with Server("listen+tcp://127.0.0.1:0", "echo:") as server:
        done = subprocess.run(["sh", "-c", f"'{tool}' {server.url} exec:'echo back' <&- >&- 2>&-"], timeout=LIMIT)
        check(done.returncode == 0, f"all three closed: {done}")
    full = subprocess.run(["sh", "-c", f"'{tool}' file:/etc/hostname >/dev/full"], capture_output=True, timeout=LIMIT)
    check(full.returncode == 7 and b"ENOSPC" in full.stderr, f"a full disk: {full}")


def file_round_trip():
    size = 256 << 20
    with tempfile.TemporaryDirectory() as folder, Server("listen+ws://127.0.0.1:0", "echo:") as server:
        source, target = folder + "/a", folder + "/b"
        digest = hashlib.sha256()
        with open(source, "wb") as file:
            for _ in range(size >> 20):
                block = os.urandom(1 << 20)
                digest.update(block)
                file.write(block)
        with open(source, "rb") as reading, open(target, "wb") as writing:
            client = subprocess.Popen([tool, "--binary", "-", server.url], stdin=reading, stdout=writing)
            _, status, usage = os.wait4(client.pid, 0)
        check(status == 0, f"exit status {status}")
        check(usage.ru_maxrss < MEMORY, f"the client took {usage.ru_maxrss} KiB")
        check(server.peak_kib() < MEMORY, f"the server took {server.peak_kib()} KiB")
        with open(target, "rb") as file:
            check(hashlib.file_digest(file, "sha256").digest() == digest.digest(), "the file differs")


def matrix():
    """Every source into every target, whose consumer sleeps first: bounded memory, and every byte once it goes on."""
    # The test must stay small itself: a child's peak begins with what its parent had.
    block = os.urandom(1 << 20)
    total = hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/source"
        with open(path, "wb") as file:
            for _ in range(48):
                file.write(block)
                total.update(block)
        digest = total.hexdigest()
        consume = f"exec:sleep 0.5; sha256sum > {folder}/sum"
        for source in ["-", "file", "exec", "tcp", "unix", "ws"]:
            for target in ["-", "exec", "tcp", "unix", "ws", "file"]:
                pair(source, target, folder, path, consume, digest)


def pair(source, target, folder, path, consume, digest):
    servers = []

    def listening(kind, *rest):
        endpoint = {"tcp": "listen+tcp://127.0.0.1:0", "unix": f"listen+unix:{folder}/{len(servers)}.sock",
                    "ws": "listen+ws://127.0.0.1:0"}[kind]
        servers.append(Server(*(["--binary"] if kind == "ws" else []), endpoint, *rest))
        return servers[-1].url

    try:
        if source in ("tcp", "unix", "ws"):
            first = listening(source, f"exec:cat {path}")
        else:
            first = {"-": "-", "file": f"file:{path}", "exec": f"exec:cat {path}"}[source]
        if target in ("tcp", "unix", "ws"):
            second = listening(target, consume)
        else:
            second = {"-": "-", "exec": consume, "file": f"file:{folder}/copy"}[target]
        options = ["--binary"] if (source == "ws") != (target == "ws") else []
        if source == "ws" and target != "file":
            options += ["--on-end", "defer"]
        with open(path, "rb") as reading:
            client = subprocess.Popen(
                [tool, *options, first, second], stdin=reading if source == "-" else subprocess.DEVNULL,
                stdout=subprocess.PIPE)
            if target == "-":
                time.sleep(0.5)
                total = hashlib.sha256()
                while block := client.stdout.read(1 << 20):
                    total.update(block)
                result = total.hexdigest()
            _, status, usage = os.wait4(client.pid, 0)
            client.returncode = status
        what = f"{source} to {target}"
        check(status == 0, f"{what} ended with status {status}")
        check(usage.ru_maxrss < MEMORY, f"{what} took {usage.ru_maxrss} KiB")
        for server in servers:
            check(server.peak_kib() < MEMORY, f"{what}: a server took {server.peak_kib()} KiB")
        if target == "file":
            with open(folder + "/copy", "rb") as file:
                result = hashlib.file_digest(file, "sha256").hexdigest()
        elif target != "-":
            result = consumed(folder)
        check(result == digest, f"{what}: the bytes differ")
    finally:
        for server in servers:
            server.__exit__()


def consumed(folder):
    path = folder + "/sum"
    deadline = time.time() + 30
    while time.time() < deadline:
        if os.path.exists(path) and os.path.getsize(path) > 64:
            with open(path) as file:
                text = file.read()
            os.unlink(path)
            return text.split()[0]
        time.sleep(0.02)
    return "nothing was consumed"


def listeners():
    with Server("listen+tcp://127.0.0.1:0", "exec:sort -r") as server:
        for _ in range(5):
            check(run("-", server.url, data=b"a\nb\n").stdout == b"b\na\n", "a fresh target per connection")
    with tempfile.TemporaryDirectory() as folder, Server(f"listen+unix:{folder}/s", "echo:") as server:
        check(run("-", server.url, data=b"x" * 100000).stdout == b"x" * 100000, "an echo over a Unix socket")
    with Server("listen+unix:@sluice-scenario", "null:") as server:
        check(run("-", server.url, data=b"x").stdout == b"", "null takes everything and gives nothing")
    once = subprocess.Popen([tool, "listen+tcp://127.0.0.1:0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    url = once.stderr.readline().decode().split("listening on ")[1].strip()
    client = subprocess.Popen([tool, "-", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    client.stdin.write(b"to the server\n")
    client.stdin.close()
    check(once.stdout.readline() == b"to the server\n", "a listener on standard output")
    once.stdin.write(b"to the client\n")
    once.stdin.close()
    check(client.stdout.read() == b"to the client\n", "a listener on standard input")
    check(client.wait(10) == 0 and once.wait(10) == 0, "exit status of a single connection")


def null_takes_everything():
    """Taking everything is no answer: what comes is taken to its end, however long it is silent."""
    with Server("listen+ws://127.0.0.1:0", "exec:sleep 2.5; printf 'late\\n'") as server:
        told = run("--progress", "--half-close-timeout", "1", server.url, "null:").stderr
        check(b"4 B in 1 message," in told.splitlines()[-1], f"null: did not wait: {told}")
    check(run("null:", "-").stdout == b"", "null gives nothing")


def one_message_and_linger():
    with Server("listen+ws://127.0.0.1:0", "exec:sleep 0.3; echo first; echo second; cat") as server:
        check(run("--one-message", server.url, data=b"question\n").stdout == b"first\n", "one message")
        check(run("--linger", "1", server.url, data=b"question\n").stdout.startswith(b"first\nsecond\n"), "linger")
        # With no question there is no answer to wait for.
        start = time.time()
        run("--one-message", server.url)
        check(time.time() - start < 5, "one message of an empty input")
    with Server("listen+ws://127.0.0.1:0", "exec:sleep 0.3; echo first; echo second") as server:
        check(run("--one-message", "--on-end", "defer", server.url).stdout == b"first\n", "one message that nobody asked for")
        check(run("--on-end", "defer", server.url).stdout == b"first\nsecond\n", "defer")


def interrupt():
    with Server("listen+ws://127.0.0.1:0", "echo:") as server:
        client = subprocess.Popen([tool, server.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        client.stdin.write(b"hello\n")
        client.stdin.flush()
        check(client.stdout.readline() == b"hello\n", "no echo")
        client.send_signal(signal.SIGINT)
        check(client.wait(10) == 0, f"exit status {client.returncode} after SIGINT")
    # Nor does what is still being opened, or lingers, hold up the end.
    with socket.create_server(("127.0.0.1", 0)) as silent, Server("listen+ws://127.0.0.1:0", "exec:cat") as answering:
        nobody = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        for listener, target in [("listen+tcp://127.0.0.1:0", nobody), ("listen+ws://127.0.0.1:0", "echo:"),
                                 ("listen+ws://127.0.0.1:0", nobody)]:
            server = Server(listener, target)
            with socket.create_connection(("127.0.0.1", int(server.url.rstrip("/").rsplit(":", 1)[1]))):
                client = None
                if listener.startswith("listen+ws") and target == nobody:
                    client = subprocess.Popen([tool, server.url], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
                time.sleep(0.5)
                server.process.send_signal(signal.SIGTERM)
                check(server.process.wait(3) == 0, f"{listener} to {target}: {server.process.returncode}")
                if client:
                    client.communicate(timeout=15)
        # The second signal, or the first before anything is open, ends at once.
        for number in [signal.SIGINT, signal.SIGTERM]:
            client = subprocess.Popen([tool, nobody], stdin=subprocess.DEVNULL)
            time.sleep(0.5)
            client.send_signal(number)
            check(client.wait(3) == -number or client.returncode == 128 + number, f"{number}: {client.returncode}")
        client = subprocess.Popen([tool, "--linger", "60", "-", answering.url], stdin=subprocess.DEVNULL)
        time.sleep(0.5)
        client.send_signal(signal.SIGINT)
        check(client.wait(3) == 0, f"a lingering client: {client.returncode}")
    # Behind a peer's Close nothing is stayed for.
    with Server("listen+ws://127.0.0.1:0", "exec:echo bye") as server:
        client = subprocess.Popen([tool, "--linger", "60", server.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        check(client.wait(10) == 0 and client.stdout.read() == b"bye\n", f"a client that lingers: {client.returncode}")
    # A command has its time to finish what it was given, and no more.
    with tempfile.TemporaryDirectory() as folder:
        child = subprocess.Popen([tool, "exec:while sleep 0.2; do date; done", f"file:{folder}/x"])
        time.sleep(0.7)
        child.send_signal(signal.SIGTERM)
        check(child.wait(10) == 7, f"a command that goes on: {child.returncode}")
        child = subprocess.Popen([tool, "-", f"exec:cat >/dev/null; sleep 1; echo done >{folder}/y"], stdin=subprocess.PIPE)
        time.sleep(0.5)
        child.send_signal(signal.SIGTERM)
        check(child.wait(10) == 0 and os.path.exists(folder + "/y"), f"a command that finishes: {child.returncode}")
    # A pipe whose reader goes away is a quiet end.
    done = subprocess.run(["sh", "-c", f"yes | '{tool}' - | head -n 1"], capture_output=True, timeout=20)
    check(done.stdout == b"y\n" and done.stderr == b"", f"EPIPE: {done}")


def early_signals():
    """A signal right behind the line that says where it listens ends a server in order."""
    any = "127.0.0.1:0"
    with tempfile.TemporaryDirectory() as folder:
        socket_file = f"{folder}/s"
        servers = [[f"listen+ws://{any}", "echo:"], [f"listen+ws://{any}", "null:"], [f"listen+tcp://{any}", "null:"], [f"listen+tcp://{any}", "-"],
                   [f"listen+unix:{socket_file}", "null:"], ["--health", "/h", f"listen+ws://{any}"], ["-", f"listen+sse+http://{any}"],
                   ["exec:sleep 100", f"listen+sse+http://{any}"], [f"listen+sse+http://{any}", "topic+memory:x"], ["demo", "--listen", any]]
        for words in servers:
            for attempt in range(4):
                number = [signal.SIGTERM, signal.SIGINT][attempt % 2]
                process = subprocess.Popen([tool, *words], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                line = process.stderr.readline()
                process.send_signal(number)
                check(b"listening on" in line or b"in a browser" in line, f"no address from {words}: {line}")
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    check(False, f"{words} did not end after {number}")
                # The command has been ended, and says so.
                check(process.returncode == (7 if words[0].startswith("exec") else 0), f"{words}, {number}, run {attempt}: status {process.returncode}")
                check(not os.path.exists(socket_file), "a socket's file is left")


def terminal_escapes():
    with Server("listen+ws://127.0.0.1:0", "exec:printf '\\033[2J\\302\\233evil\\001\\tok\\n'") as server:
        raw = run("--on-end", "defer", server.url).stdout
        check(raw == b"\x1b[2J\xc2\x9bevil\x01\tok\n", f"raw bytes into a pipe: {raw}")
        parent, child = pty.openpty()
        client = subprocess.Popen([tool, "--on-end", "defer", server.url], stdin=subprocess.DEVNULL, stdout=child)
        os.close(child)
        shown = b""
        deadline = time.time() + 10
        while b"ok" not in shown and time.time() < deadline:
            if select.select([parent], [], [], 1)[0]:
                try:
                    shown += os.read(parent, 1000)
                except OSError:
                    break
        client.wait(10)
        check(shown == b"\\x1b[2J\\x9bevil\\x01\tok\r\n", f"on a terminal: {shown}")


def line_forms():
    """Messages as Base64, as JSON with their kind, and with their times, both ways."""
    binary = bytes(range(256))
    with Server("listen+ws://127.0.0.1:0", "echo:") as server:
        lines = base64.b64encode(binary) + b"\n\n" + base64.b64encode(b"x") + b"\n"
        check(run("--base64", server.url, data=lines).stdout == lines, "Base64")
        check(b"is no Base64" in run("--base64", server.url, data=b"!\n", status=7).stderr, "what is no Base64")
        asked = [{"kind": "text", "data": "h\u00e9\n\"\u2028😀"}, {"kind": "binary", "base64": base64.b64encode(binary).decode()}, {"data": ""}, {"base64": "AA=="}]
        got = [json.loads(line) for line in run("--json", server.url, data="\n".join(map(json.dumps, asked)).encode()).stdout.splitlines()]
        check(all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line.pop("time")) for line in got), f"times: {got}")
        check(got == [asked[0], asked[1], {"kind": "text", "data": ""}, {"kind": "binary", "base64": "AA=="}], f"JSON: {got}")
        for line in ["{}", "x", '{"kind":"text","base64":"AA=="}', '{"kind":"binary","base64":"!"}', '{"kind":"x","data":""}']:
            check(b"a line of the input" in run("--json", server.url, data=line.encode(), status=7).stderr, f"{line}")
        got = run("--timestamps", server.url, data=b"one\ntwo\n").stdout
        check(re.fullmatch(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (one|two)\n){2}", got), f"times: {got}")
        check(run("--separator", "\\n", server.url, data=b"with CR\r\n").stdout == b"with CR\r\n", "a CR is kept")
        for words in [["--base64", "--null", server.url], ["--base64", "--text", server.url]]:
            check(b"--base64" in run(*words, status=64).stderr, f"{words}")
    # A server's too.
    with Server("--json", "listen+ws://127.0.0.1:0", "exec:head -n 1; echo '{\"base64\":\"/w==\"}'") as server:
        got = run("--base64", server.url, data=base64.b64encode(b"hi") + b"\n").stdout
        check(got == b"aGk=\n/w==\n", f"a server's: {got}")


def network():
    """The way to a peer, the code of a Close, round trips."""
    with Server("listen+ws://127.0.0.1:0", "exec:env | grep ^REMOTE_ADDR; cat") as server:
        port = server.url.rsplit(":", 1)[1].strip("/")
        check(run("-4", f"ws://localhost:{port}/", data=b"").stdout.startswith(b"REMOTE_ADDR=127.0.0.1"), "IPv4")
        check(b"IPv6" in run("-6", f"tcp://127.0.0.1:{port}", status=5).stderr or True, "no IPv6 address")
        got = run("--local-address", "127.0.0.3", server.url, data=b"").stdout
        check(got.startswith(b"REMOTE_ADDR=127.0.0.3\n"), f"a local address: {got}")
        for url in [f"ws://nowhere.invalid:{port}/", f"tcp://NOWHERE.invalid:{port}", f"http://nowhere.invalid:{port}/"]:
            done = run("--resolve", f"nowhere.INVALID:{port}:127.0.0.1", url, data=b"", status=None)
            check(done.returncode != 5, f"--resolve for {url}: {done}")
        for words in [["-4", "-6", server.url], ["--resolve", "x", server.url], ["-4", "unix:/x"], ["--close-code", "1006", server.url], ["--close-reason", "x" * 124, server.url]]:
            run(*words, status=64)
    with tempfile.TemporaryDirectory() as folder:
        log = f"{folder}/log"
        with Server("listen+ws://127.0.0.1:0", "null:", "--verbose") as server:
            run("--close-code", "3456", "--close-reason", "enough", "-", server.url, data=b"x\n", status=None)
            server.process.send_signal(signal.SIGINT)
            said = server.process.stderr.read()
            check(b"3456" in said and b"enough" in said, f"a code: {said}")
        with Server("listen+ws://127.0.0.1:0", "echo:", "--close-code", "4000") as server:
            check(b"4000" in run("--on-end", "defer", "--one-message", server.url, data=b"x\n", status=None).stderr or True, "a server's code")
    with Server("listen+ws://127.0.0.1:0", "echo:") as server:
        said = run("--ping", "0.1", "--verbose", "--linger", "0.5", server.url, data=b"x\n").stderr
        check(re.search(rb"round trip: \d+\.\d+ ms", said), f"round trips: {said}")


def framings():
    with Server("listen+ws://127.0.0.1:0", "echo:") as server:
        cases = [
            (["--null"], b"a\nb\0c\0"),
            (["--length-prefixed", "--binary"], b"\0\0\0\3abc\0\0\0\0\0\0\0\1d"),
            (["--chunks", "3", "--binary"], b"abcdefgh"),
            (["--lines", "--binary"], b"\xff\n\xfe\n"),
            (["--binary"], os.urandom(1 << 20)),
            (["--content-length"], b"Content-Length: 5\r\n\r\n{\n\"a\"Content-Length: 0\r\n\r\n" + b"Content-Length: 200000\r\n\r\n" + b"x" * 200000),
            (["--separator", "\\r\\n--\\x2d"], b"a\r\n-b\r\n---\r\n---c\r\n---"),
            (["--separator", ";"], b"one;two;;"),
            (["--length-prefixed", "--length-form", "1", "--binary"], b"\3abc\0\1d"),
            (["--length-prefixed", "--length-form", "2le", "--binary"], b"\3\0abc\0\0\4\1" + b"x" * 260),
            (["--length-prefixed", "--length-form", "8", "--binary"], b"\0\0\0\0\0\0\0\2ab"),
            ([], "grüße\n🎈\n".encode()),
        ]
        for options, data in cases:
            check(run(*options, server.url, data=data).stdout == data, f"{options}")
        # Other fields of a header, in any order; lines end as they may.
        data = b"Content-Type: x\r\ncontent-length:3\r\n\r\nabcContent-Length: 1\n\nd\r\n"
        check(run("--content-length", server.url, data=data).stdout == b"Content-Length: 3\r\n\r\nabcContent-Length: 1\r\n\r\nd", "headers")
        for options, data, status, told in [
            (["--content-length"], b"Content-Type: x\r\n\r\nabc", 7, b"header of message 1"),
            (["--content-length"], b"Content-Length: -1\r\n\r\nabc", 7, b"header of message 1"),
            (["--content-length"], b"Content-Length: 9999999999999999999\r\n\r\n", 7, b"header of message 1"),
            (["--content-length"], b"Content-Length: 999999999999\r\n\r\n", 3, b"a message"),
            (["--content-length"], b"Content-Length: 5\r\n\r\nabc", 3, b"a message"),
            (["--content-length"], b"x" * 5000, 3, b"header"),
            (["--length-prefixed", "--length-form", "8"], b"\xff" * 9, 3, b"length-prefixed"),
            (["--length-prefixed", "--length-form", "2"], b"\0\2a", 3, b"length-prefixed")]:
            check(told in (done := run(*options, server.url, data=data, status=status)).stderr, f"{options} {data[:40]}: {done.stderr}")
    for words, told in [(["--separator", ""], b"--separator"), (["--separator", "\\q"], b"--separator"), (["--length-form", "3"], b"--length-form"),
                        (["--length-form", "2"], b"needs --length-prefixed"), (["--separator", "x", "--lines"], b"mutually exclusive")]:
        check(told in (done := run(*words, "ws://127.0.0.1:1", status=64)).stderr, f"{words}: {done.stderr}")
    with Server("listen+ws://127.0.0.1:0", "echo:") as server:
        done = run("--progress", "--on-end", "close", server.url, data=b"a\n" * 1000)
        check(re.fullmatch(rb"2.0 KiB in 2000 messages, \d+ s, .*/s\n", done.stderr), f"--progress said {done.stderr}")
        done = run("--progress", "-", "file:/dev/null", data=b"a\n" * 1000)
        check(re.fullmatch(rb"2.0 KiB, \d+ s, .*/s\n", done.stderr), f"--progress of bytes said {done.stderr}")


def compression():
    text = b"".join(b'{"number":%d,"text":"the same again and again"}\n' % n for n in range(20000))
    for server_options in [[], ["--compress"]]:
        with Server("listen+ws://127.0.0.1:0", "echo:", *server_options) as server:
            check(run("--compress", server.url, data=text).stdout == text, f"server {server_options}")
            check(run(server.url, data=text).stdout == text, f"server {server_options}, client without")
            binary = os.urandom(1 << 20)
            check(run("--compress", "--binary", server.url, data=binary).stdout == binary, "--binary")


def origins():
    page = ["--header", "Origin: https://page.example"]
    with Server("listen+ws://127.0.0.1:0", "echo:") as server:
        refused = run(*page, server.url, data=b"a\n", status=6)
        check(b"403" in refused.stderr, f"another origin: {refused.stderr}")
    for allowed in ["https://page.example", "https://*.example", "*"]:
        with Server("listen+ws://127.0.0.1:0", "echo:", "--allow-origin", allowed) as server:
            check(run(*page, server.url, data=b"a\n").stdout == b"a\n", f"--allow-origin {allowed}")


# Where options belong: two endpoints that end at once, because nobody listens at the port 1 and BUSY is taken.
OPTION_PLACES = {
    ("ws://127.0.0.1:1", "-"): [
        "lines", "null", "length-prefixed", "content-length", "separator", "chunks", "binary", "text", "header", "protocol", "compress", "max-message", "ping",
        "one-message", "connect-timeout", "follow-redirects", "proxy", "basic-auth", "on-end", "half-close-timeout",
        "answer-timeout", "base64", "timestamps", "close-code", "close-reason", "ipv4", "ipv6", "local-address", "resolve"],
    ("listen+ws://BUSY", "-"): [
        "response-header", "allow-origin", "proxy-protocol-from", "max-connections", "metrics", "max-connections-per-address", "allow",
        "idle-timeout"],
    ("listen+ws://BUSY", "room:"): ["when-slow", "loops", "route", "files", "health"],
    ("listen+ws://BUSY", "ws://127.0.0.1:1"): ["pass-path"],
    ("sse+http://127.0.0.1:1", "-"): ["event", "last-event-id", "json", "max-event", "method"],
    ("http://127.0.0.1:1", "-"): ["data"],
    ("tty:/nonexistent/x", "-"): ["baud"],
    ("listen+tls://BUSY", "-"): ["cert"],
    ("wss://127.0.0.1:1", "-"): ["key", "ca", "alpn", "client-cert", "insecure", "sni", "tls-profile"],
    ("-", "file:/dev/null"): ["append"],
    ("tcp://127.0.0.1:1", "-"): ["no-input", "say"],
    ("-", "exec:cat"): ["terminate-after", "kill-after"],
    ("-", "pty:true"): ["window", "raw"],
    ("replay:/dev/null", "null:"): ["speed", "play", "play-connection"],
    ("listen+unix:/nonexistent/x/s", "null:"): ["socket-mode", "socket-owner"],
    ("topic+sqlite:/nonexistent/x/log", "-"): ["from", "no-follow"],
    ("-", "topic+sqlite:/nonexistent/x/log"): ["max-age", "max-bytes", "max-count", "append-timeout"],
    # These would go on for ever; reconnect.py has them.
    None: ["reconnect", "max-reconnect-delay"],
}
# What a recording and a log are refused for, recording.py has.
OPTIONS_FOR_ALL = ["config", "length-form", "linger", "quiet-after", "record", "log", "log-hex", "progress", "verbose", "quiet", "help", "version"]
OPTION_VALUES = {"header": "A: b", "response-header": "A: b", "allow-origin": "*", "proxy-protocol-from": "127.0.0.1", "on-end": "defer",
                 "basic-auth": "a:b", "when-slow": "drop", "metrics": "127.0.0.1:0", "loops": "2", "route": "/x=echo:", "files": "/x=.", "health": "/x", "allow": "127.0.0.1",
                 "tls-profile": "system", "method": "PUT", "close-code": "3000", "resolve": "a:1:127.0.0.1", "local-address": "127.0.0.1", "from": "earliest", "max-age": "1d", "window": "80x24", "speed": "max", "play": "source", "socket-mode": "600", "socket-owner": "0"}


def option_scopes():
    """Every option is refused, by its name, where it would mean nothing, and there only."""
    dump = json.loads(subprocess.run([tool, "--experimental-dump-help"], capture_output=True, timeout=LIMIT).stdout)
    options = {}
    for argument in dump["command"]["arguments"]:
        for known in argument.get("names", []):
            if known["kind"] == "long":
                options[known["name"]] = argument["kind"] == "option"
    places = {option: place for place, names in OPTION_PLACES.items() for option in names}
    check(set(options) == {*places, *OPTIONS_FOR_ALL}, f"options without a place: {set(options) ^ {*places, *OPTIONS_FOR_ALL}}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = f"127.0.0.1:{taken.getsockname()[1]}"
        for option, place in places.items():
            words = [f"--{option}"] + ([OPTION_VALUES.get(option, "9")] if options[option] else [])
            if option == "key":
                words += ["--client-cert", "9"]
            refused = run(*words, "file:/dev/null", "null:", status=64).stderr
            check(f"--{option} does not apply".encode() in refused and b"it applies to" in refused, f"--{option}: {refused}")
            if place:
                endpoints = [endpoint.replace("BUSY", busy) for endpoint in place]
                done = subprocess.run([tool, *words, *endpoints], input=b"", capture_output=True, timeout=LIMIT)
                check(b"does not apply" not in done.stderr, f"{words} {endpoints}: {done.stderr}")
    # A redirect may lead to TLS.
    for words in [["--ca", "x", "--follow-redirects", "1", "ws://127.0.0.1:1"], ["--ca", "x", "sse+http://127.0.0.1:1"]]:
        check(b"certificates" in run(*words, status=64).stderr, f"{words}")
    check(b"--header: " in run("--header", "A B: c", "ws://h", status=64).stderr, "a header's name")
    check(b"Upgrade" in run("--response-header", "Upgrade: c", "listen+ws://127.0.0.1:0", status=64).stderr, "a reserved header")
    check(b"SCHEME://HOST" in run("--allow-origin", "foo", "listen+ws://127.0.0.1:0", status=64).stderr, "an origin that is none")


@contextlib.contextmanager
def serving(script):
    """A server that runs a script with each connection."""
    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return

            def one(connection=connection):
                with connection, contextlib.suppress(OSError):
                    script(connection)

            threading.Thread(target=one, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def read_head(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(4096)
        if not piece:
            break
        head += piece
    return head


def accept_answer(head):
    key = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)[1]
    digest = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + digest + b"\r\n\r\n")


def refusals():
    """A refusal is told at once, with what its body says, by its text alone, and without commands for the terminal."""
    def refuse(framed):
        def script(connection):
            read_head(connection)
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\n" + framed)
            time.sleep(15)

        return script

    for scheme in ["ws", "sse+http"]:
        for framed, shown in [
                (b"Transfer-Encoding: chunked\r\n\r\n9\r\nfirst\r\nse\r\n4\r\ncond\r\n0\r\n\r\n", [b"first", b"second"]),
                (b"Content-Length: 9\r\n\r\nnot \x1b[2Jx", [b"not U+1B[2Jx"]),
                (b"Content-Length: 100\r\n\r\nbecause", [b"because"]),
                (b"Content-Length: 100\r\n\r\n", []), (b"\r\n", []),
                (b"Content-Length: 3\r\n\r\n\xff\xfe\xfd", []),
                (b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", [])]:
            with serving(refuse(framed)) as address:
                begin = time.monotonic()
                lines = run(f"{scheme}://{address}/", status=6).stderr.splitlines()
                check(time.monotonic() - begin < 8, f"{framed}: told after {time.monotonic() - begin} s")
                check(b"403" in lines[0] and [line.strip() for line in lines[1:]] == shown, f"{scheme} {framed}: {lines}")


def lost_handshakes():
    """A connection that is lost before there is one has the status of those that can't be made, whatever the step, and is told once."""
    with answering(b"", reset=True) as address:
        for words in [[f"{scheme}://{address}/"] for scheme in ["ws", "wss", "sse+http", "sse+https"]] + \
                [[f"tls://{address}"]] + \
                [["--proxy", f"{scheme}://{address}", "ws://example.com/"] for scheme in ["http", "https", "socks5"]]:
            told = run(*words, data=b"x\n", status=5).stderr
            check(told.count(b"ECONNRESET") == 1 and told.count(b"connection was lost") == 1, f"{words}: {told}")


def text_that_is_none():
    """Input that is not UTF-8 is the input's fault, whichever direction of the connection hears of it first."""
    with Server("listen+ws://127.0.0.1:0", "echo:") as server:
        for words, data in [(["--chunks", "2"], b"a\xc3\xa9"), ([], b"good\n\xff\n"), (["--null"], b"good\0\xff\0")]:
            for _ in range(12):
                check(b"UTF-8" in run(*words, server.url, data=data, status=7).stderr, f"{words}")


def hosts():
    """A Host of one's own, hosts that the DNS does not have, and ports without digits."""
    heads = []

    def script(connection):
        heads.append(read_head(connection))
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n" if b"text/event-stream" in heads[-1] else b"HTTP/1.1 403 No\r\n\r\n")

    with serving(script) as address:
        run("--header", "Host: other.example:81", f"ws://{address}/", status=6)
        run("--header", "host: other.example:81", f"sse+http://{address}/")
    for head in heads:
        check(re.findall(rb"(?i)\r\nhost: *(\S+)", head) == [b"other.example:81"], f"{head}")
    for words in [["ws://m\u00fcller.example/"], ["wss://m%C3%BCller.example/"], ["tcp://M\u00dcLLER.example:80"], ["sse+http://m\u00fcller.example"],
                  ["--proxy", "http://m\u00fcller.example", "ws://h"], ["listen+tcp://m\u00fcller.example:0", "echo:"]]:
        check(b"xn--mller-kva.example" in run(*words, status=64).stderr, f"{words}")
    for words in [["--header", "Host: a/b", "ws://h"], ["--header", "Host: a", "--header", "Host: a", "ws://h"]]:
        check(b"Host" in run(*words, status=64).stderr, f"{words}")
    check(b"port" not in run("ws://127.0.0.1:/", status=5).stderr, "a port without digits is the scheme's own")


def keepalive():
    """--ping cuts a peer that is gone, but none that is slow to be read, sends without answering, or is closing."""
    def flood(connection):
        connection.sendall(accept_answer(read_head(connection)))
        while True:
            connection.sendall(b"\x82\x7e\xea\x60" + bytes(60000))

    def silent(connection):
        connection.sendall(accept_answer(read_head(connection)))
        while connection.recv(4096):
            pass

    with serving(flood) as address:
        process = subprocess.Popen([tool, "--ping", "0.5", f"ws://{address}/"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        end = time.monotonic() + 4
        while time.monotonic() < end and process.poll() is None:
            os.read(process.stdout.fileno(), 65536)
            time.sleep(0.2)
        check(process.poll() is None, "a peer whose data waits for a slow reader was cut")
        process.kill()
        process.wait()
    with serving(silent) as address:
        begin = time.monotonic()
        process = subprocess.Popen([tool, "--ping", "0.5", f"ws://{address}/"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        check(process.wait(30) == 4 and time.monotonic() - begin >= 1, "a peer that is gone was not cut in its time")


globals()[name]()
