"""What the tool must do with event streams, run as a user runs it: events.py NAME TOOL. Exits 1 and says why when something differs."""
import contextlib
import http.server
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib

import processes

name, tool = sys.argv[1:3]
LIMIT = 120
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def check(condition, what):
    if not condition:
        print(f"{name}: {what}")
        processes.leave(1)


def run(*arguments, data=b"", status=0, timeout=LIMIT):
    done = subprocess.run([tool, *arguments], input=data, capture_output=True, timeout=timeout)
    check(done.returncode == status, f"{arguments} exited with {done.returncode}, not {status}: {done.stderr.decode()}")
    return done


@contextlib.contextmanager
def peer(*answers):
    """Answers each connection with the next of some literal answers, the last again and again; gives its URL, and the requests that came."""
    listener = socket.create_server(("127.0.0.1", 0))
    requests = []

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                request = connection.recv(65536)
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                requests.append(request)
                with contextlib.suppress(OSError):
                    connection.sendall(answers[min(len(requests), len(answers)) - 1])

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"sse+http://127.0.0.1:{listener.getsockname()[1]}/", requests
    finally:
        listener.close()


class Broadcast:
    """A tool that gives lines to all who listen."""

    def __init__(self, *options):
        self.process = subprocess.Popen(
            [tool, *options, "-", "listen+sse+http://127.0.0.1:0/log"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        line = self.process.stderr.readline().decode()
        found = re.search(r"listening on sse\+(http://127\.0\.0\.1:(\d+)/log)", line)
        check(found, f"no address: {line}")
        self.url, self.port = "sse+" + found[1], int(found[2])

    def say(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def connect(self, request=b"GET /log HTTP/1.1\r\nHost: a\r\n\r\n"):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT)
        connection.sendall(request)
        return connection

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def read_until(connection, text):
    got = b""
    while text not in got:
        part = connection.recv(65536)
        if not part:
            break
        got += part
    return got


def finite():
    """Without --reconnect a stream is read once, and its end is the end; a cut one is told."""
    body = b"data: 1\n\ndata: 2\n\n"
    for answer in (HEAD + b"\r\n" + body, HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body):
        with peer(answer) as (url, requests):
            check(run(url).stdout == b"1\n2\n", "the events of a finite stream")
            time.sleep(0.3)
            check(len(requests) == 1, f"{len(requests)} requests")
    with peer(HEAD + b"Content-Length: 99\r\n\r\n" + body) as (url, requests):
        check(run(url, status=4).stdout == b"1\n2\n", "the events of a stream that is cut")
    with peer(HEAD + b"\r\nretry: 1\n" + body, b"HTTP/1.1 204 No Content\r\n\r\n") as (url, requests):
        check(run("--reconnect", url).stdout == b"1\n2\n" and len(requests) == 2, "coming back, and a server that has no more")
    with peer(b"HTTP/1.1 204 No Content\r\n\r\n") as (url, requests):
        check(run(url).stdout == b"", "no events at all")


def python_server():
    """Python's own http.server, whose bodies end with the connection, compressed in segments of their own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            coder = zlib.compressobj(6, zlib.DEFLATED, 31)
            for number in range(5):
                self.wfile.write(coder.compress(b"data: %d\n\n" % number) + coder.flush(zlib.Z_SYNC_FLUSH))
                time.sleep(0.05)
            self.wfile.write(coder.flush())

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    check(run(f"sse+http://127.0.0.1:{server.server_port}/").stdout == b"0\n1\n2\n3\n4\n", "the events of http.server")
    server.shutdown()


def types():
    """--event message is every event without a type too."""
    body = HEAD + b"\r\ndata: plain\n\nevent: message\ndata: named\n\nevent: other\ndata: third\n\n"
    for options, right in (
        ([], b"plain\nnamed\nthird\n"), (["--event", "message"], b"plain\nnamed\n"), (["--event", "other"], b"third\n"),
        (["--event", "none"], b"")):
        with peer(body) as (url, _):
            check(run(*options, url).stdout == right, f"the events of {options}")


def long_lines():
    """One line may have all of an event's bytes; --max-event is their limit, on both sides."""
    text = b"x" * 3_000_000
    with peer(HEAD + b"\r\ndata: " + text + b"\n\ndata: after\n\n") as (url, _):
        check(run(url).stdout == text + b"\nafter\n", "a line of 3,000,000 bytes")
        check(run("--max-event", "3000000", url).stdout == text + b"\nafter\n", "a limit to the byte")
        done = run("--max-event", "2999999", url, status=3)
        check(done.stdout == b"" and b"limit 2999999" in done.stderr, f"the limit's message: {done.stderr}")
    big = b"y" * (20 << 20)
    with peer(HEAD + b"\r\ndata: " + big + b"\n\n") as (url, _):
        run(url, status=3)
        check(run("--max-event", str(32 << 20), url).stdout == big + b"\n", "20 MiB, as was asked for")
    with Broadcast() as server:
        client = subprocess.Popen([tool, server.url], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        time.sleep(0.5)
        server.say(text + b"\nafter\n")
        check(client.stdout.readline() == text + b"\n" and client.stdout.readline() == b"after\n", "from tool to tool")
        client.kill()
    done = subprocess.run(
        [tool, "--max-event", "10", "-", "listen+sse+http://127.0.0.1:0"], input=b"longer than that\n", capture_output=True, timeout=LIMIT)
    check(done.returncode == 3 and b"limit 10" in done.stderr, f"a line beyond the limit: {done}")


def post():
    """--data asks with a body, of the command line or of a file; the header fields are the user's."""
    answer = HEAD + b"\r\ndata: yes\n\n"
    with peer(answer) as (url, requests), tempfile.NamedTemporaryFile() as file:
        check(run("--data", '{"q":1}', "--header", "Content-Type: application/json", url).stdout == b"yes\n", "the answer")
        check(requests[-1].startswith(b"POST / HTTP/1.1\r\n") and requests[-1].endswith(b'Content-Length: 7\r\n\r\n{"q":1}'), requests[-1])
        check(b"\r\nContent-Type: application/json\r\n" in requests[-1], requests[-1])
        file.write(b"of a file\n")
        file.flush()
        run("--data", "@" + file.name, "--header", "Accept: application/json, text/event-stream", url)
        check(requests[-1].endswith(b"\r\n\r\nof a file\n"), requests[-1])
        check(requests[-1].count(b"Accept: ") == 1 and b"Accept: application/json, text/event-stream\r\n" in requests[-1], requests[-1])
        run("--data", "@/nonexistent", url, status=7)


def nginx():
    """Behind a real nginx with proxy_pass and nothing else, an event arrives at once."""
    if not shutil.which("nginx"):
        check(False, "nginx is not installed: scripts/install")
    with Broadcast() as server, tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(f"{folder}/nginx.conf", "w") as file:
            file.write(
                f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/log; events {{}} http {{ access_log off; {temporary} "
                f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{server.port}; }} }} }}")
        process = subprocess.Popen(["nginx", "-c", f"{folder}/nginx.conf", "-p", folder], stderr=subprocess.DEVNULL)
        try:
            for _ in range(200):
                with contextlib.suppress(OSError):
                    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
                    break
                time.sleep(0.05)
            connection.sendall(b"GET /log HTTP/1.1\r\nHost: a\r\n\r\n")
            head = read_until(connection, b"\r\n\r\n")
            check(b" 200 " in head, f"the head through nginx: {head}")
            for number in range(3):
                server.say(b"line %d\n" % number)
                check(b"data: line %d\n\n" % number in read_until(connection, b"line %d\n\n" % number), f"line {number} through nginx")
        finally:
            process.kill()
            process.wait()


def pages():
    """--allow-origin: a page reads the stream and why it was refused, and its preflight is answered."""
    with Broadcast("--allow-origin", "https://app.example", "--basic-auth", "u:p") as server:
        for method, credentials, status in (("GET", "", 401), ("OPTIONS", "", 204), ("GET", "Authorization: Basic dTpw\r\n", 200)):
            connection = server.connect(
                f"{method} /log HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\n{credentials}"
                "Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: authorization\r\n\r\n".encode())
            head = read_until(connection, b"\r\n\r\n").decode()
            check(head.startswith(f"HTTP/1.1 {status} "), f"{method}: {head}")
            check("Access-Control-Allow-Origin: https://app.example\r\n" in head, f"{method}: {head}")
            check(("Access-Control-Allow-Headers: authorization\r\n" in head) == (status == 204), f"{method}: {head}")
            connection.close()


def ends():
    """What was accepted arrives, however the broadcast ends: at the end of its input, by a signal; at a client that takes its time, or has ended its half."""
    lines = b"".join(b"line %07d %s\n" % (number, b"x" * 1000) for number in range(5000))
    for way in ("input", "SIGTERM", "half"):
        with Broadcast() as server:
            connection = server.connect()
            head = read_until(connection, b"retry: 5000\n\n")
            check(b"X-Accel-Buffering: no\r\n" in head and b"\r\nDate: " in head, head)

            def write():
                # The tool reads no more when it ends.
                with contextlib.suppress(OSError):
                    server.say(lines)
                    if way == "input":
                        server.process.stdin.close()

            threading.Thread(target=write, daemon=True).start()
            time.sleep(1)
            if way == "SIGTERM":
                server.process.send_signal(signal.SIGTERM)
            if way == "half":
                connection.shutdown(socket.SHUT_WR)
            time.sleep(1)
            got = b""
            while True:
                part = connection.recv(100_000)
                if not part:
                    break
                got += part
                time.sleep(0.002)
            check(got.endswith(b"\r\n0\r\n\r\n"), f"{way}: the stream has no end: {got[-50:]}")
            numbers = [int(found) for found in re.findall(rb"data: line (\d+)", got)]
            check(numbers == list(range(len(numbers))) and len(numbers) > 100, f"{way}: {len(numbers)} events")
            if way == "input":
                check(len(numbers) == 5000, f"{len(numbers)} of 5000 events arrived")
                check(server.process.wait(20) == 0, "it did not end well")
            if way == "SIGTERM":
                check(server.process.wait(20) == 0, "it did not end well")


def costs():
    """An event through the tool costs little more than a line over TCP: each stage is polled, none is a task's hop."""
    count = 200_000
    body = b"".join(b"data: %d\n\n" % number for number in range(count))
    plain = b"".join(b"%d\n" % number for number in range(count))

    def measure(answer):
        best = LIMIT
        for _ in range(3):
            with peer(answer) as (url, _):
                start = time.monotonic()
                check(run(url).stdout == plain, "the events")
                best = min(best, time.monotonic() - start)
        return best

    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (b"data: %d\n\n" % number for number in range(count))) + b"0\r\n\r\n"
    for answer in (HEAD + b"\r\n" + body, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks):
        seconds = measure(answer)
        # A hop for each event takes 7 seconds and more.
        check(seconds < 3, f"{count} events took {seconds:.2f} s")
    with Broadcast() as server:
        client = subprocess.Popen([tool, server.url], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        time.sleep(0.5)
        start = time.monotonic()
        threading.Thread(target=lambda: server.say(plain), daemon=True).start()
        got = 0
        while got < len(plain):
            got += len(client.stdout.read1(1 << 20))
        seconds = time.monotonic() - start
        client.kill()
        check(seconds < 3, f"{count} events from tool to tool took {seconds:.2f} s")


{
    "finite": finite, "python_server": python_server, "types": types, "long_lines": long_lines, "post": post, "nginx": nginx, "pages": pages,
    "ends": ends, "costs": costs,
}[name]()
