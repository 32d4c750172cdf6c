"""What the tool does with requests, against literal answers and a real nginx: exchanges.py NAME TOOL. Exits 1 and says why when something differs."""
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import processes
from toolkit import LIMIT, Server, WebSocket, check, name, run, tool, within

OK = b"HTTP/1.1 200 OK\r\n"


class Peer:
    """Answers each connection with the next of some literal answers, the last again and again; has the requests, with bodies that end."""

    def __init__(self, *answers, pieces=None, early=False, unix=None, waits=0):
        if unix:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(unix)
            self.listener.listen()
            self.url = f"http+unix:{unix}"
        else:
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.answers, self.pieces, self.early, self.waits = answers, pieces, early, waits
        self.requests = []
        self.before_body = None
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection, contextlib.suppress(OSError):
                    self.answer(connection)

    def answer(self, connection):
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(65536)
        head, _, body = request.partition(b"\r\n\r\n")
        if not self.early:
            if b"Transfer-Encoding: chunked" in head:
                # One that is cut off may end with a reset.
                with contextlib.suppress(ConnectionResetError):
                    while not body.endswith(b"0\r\n\r\n") and (chunk := connection.recv(65536)):
                        body += chunk
            elif b"Content-Length: " in head:
                if self.before_body:
                    self.before_body()
                with contextlib.suppress(ConnectionResetError):
                    while len(body) < int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]) and (chunk := connection.recv(1 << 20)):
                        body += chunk
        self.requests.append((head, body))
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        time.sleep(self.waits)
        for start in range(0, len(answer), self.pieces or len(answer) or 1):
            connection.sendall(answer[start:start + (self.pieces or len(answer))])
            if self.pieces:
                time.sleep(0.0005)
        if self.early:
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


@contextlib.contextmanager
def before_bodies(peer, action):
    """The peer does something before it reads a body of a length: what the system holds of it, some megabytes, is sent by then."""
    peer.before_body = action
    yield
    peer.before_body = None


def dechunked(body):
    data = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if int(size, 16) == 0:
            check(body == b"\r\n", f"behind the last chunk: {body}")
            return data
        data, body = data + body[:int(size, 16)], body[int(size, 16) + 2:]


def responses():
    """Bodies of a length, in chunks and to the end of the connection, cut anywhere; what is cut off is no success."""
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\nA;x=y\r\n-twenty-ab\r\n0\r\nX: y\r\n\r\n"
    for pieces in (None, 1, 7):
        for answer, expected in [(OK + b"Content-Length: 5\r\n\r\nhello", b"hello"), (chunked, b"one-twenty-ab"), (OK + b"\r\nto the end", b"to the end"),
                                 (OK + b"Content-Length: 0\r\n\r\n", b""), (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
                                 (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi", b"hi")]:
            with Peer(answer, pieces=pieces) as peer:
                got = run(peer.url + "/a?b=c").stdout
                check(got == expected, f"{answer} in pieces of {pieces}: {got}")
                head = peer.requests[0][0]
                check(head.startswith(b"GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:") and b"\r\nAccept: */*" in head and b"Content-Length" not in head, head)
    for answer, status, told in [(OK + b"Content-Length: 5\r\n\r\nhel", 4, b"before the response body was complete"), (chunked[:-20], 4, b"body was complete"),
                                 (OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 3, b"chunk length"), (b"no HTTP\r\n\r\n", 3, b"malformed"),
                                 (b"HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\nnothing here", 6, b"status 404\n  nothing here"),
                                 (b"HTTP/1.1 304 Not Modified\r\n\r\n", 6, b"304"), (OK + b"Transfer-Encoding: rot13\r\n\r\n", 3, b"unsupported encoding"), (b"", 5, b"ended")]:
        with Peer(answer) as peer:
            told_really = run(peer.url, status=status).stderr
            check(told in told_really, f"{answer}: {told_really}")
    with Peer(OK + b"Content-Length: 5\r\nX-A: b\r\n\r\n") as peer:
        done = run("--method", "HEAD", "--verbose", peer.url)
        check(done.stdout == b"" and b"status 200" in done.stderr and b"X-A: b" in done.stderr, f"HEAD: {done}")
    # A large one, at the pace of a slow reader, is not held.
    size = 300 << 20
    with Peer(OK + b"Content-Length: %d\r\n\r\n" % size + bytes(size)) as peer:
        process = subprocess.Popen([tool, peer.url], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        time.sleep(1)
        with open(f"/proc/{process.pid}/status") as status:
            memory = [int(line.split()[1]) for line in status if line.startswith("VmHWM")][0]
        check(memory < 96 << 10, f"it holds {memory} KiB")
        digest, count = hashlib.sha256(), 0
        while chunk := process.stdout.read(1 << 20):
            digest.update(chunk)
            count += len(chunk)
        check(process.wait(LIMIT) == 0 and count == size, f"a large body: {count} bytes")


def requests():
    """Bodies that are held, with redirects, and bodies that are written; their heads."""
    answer = OK + b"Content-Length: 4\r\n\r\nyes\n"
    with Peer(answer) as peer, tempfile.TemporaryDirectory() as folder:
        check(run("--data", '{"q":1}', "--header", "Content-Type: application/json", peer.url).stdout == b"yes\n", "an answer")
        head, body = peer.requests[-1]
        check(head.startswith(b"POST / HTTP/1.1") and b"\r\nContent-Type: application/json" in head and body == b'{"q":1}', f"{head} {body}")
        run("--data", "@-", "--method", "PUT", peer.url, data=b"of standard input")
        check(peer.requests[-1][0].startswith(b"PUT ") and peer.requests[-1][1] == b"of standard input", peer.requests[-1])
        run("--basic-auth", "me:secret", peer.url)
        check(b"Authorization: Basic bWU6c2VjcmV0" in peer.requests[-1][0], peer.requests[-1])
        with open(folder + "/f", "wb") as file:
            file.write(os.urandom(1 << 20))
        done = run("--method", "PUT", f"file:{folder}/f", peer.url + "/f")
        head, body = peer.requests[-1]
        with open(folder + "/f", "rb") as file:
            check(head.startswith(b"PUT /f HTTP/1.1") and b"\r\nContent-Length: %d\r\n" % (1 << 20) in head + b"\r\n" and body == file.read(), f"an upload: {head}")
            check(b"Transfer-Encoding" not in head, f"an upload: {head}")
            # Of standard input, what is left of it.
            file.seek(1000)
            subprocess.run([tool, "-", peer.url], stdin=file, stdout=subprocess.DEVNULL, timeout=LIMIT, check=True)
            file.seek(1000)
            check(peer.requests[-1][1] == file.read(), "a file as standard input")
        # What says nothing of its length, or too little: in chunks.
        open(folder + "/empty", "w").close()
        for source in (f"file:{folder}/empty", "file:/proc/self/status"):
            run(source, peer.url)
            check(b"Transfer-Encoding: chunked" in peer.requests[-1][0], f"{source}: {peer.requests[-1]}")
        # A file that becomes another while it is sent is never sent as if it were whole.
        for change, told in (("ab", b"more than 30000000 bytes"), ("r+b", b"but was 30000000 bytes long")):
            with open(folder + "/changing", "wb") as file:
                file.write(bytes(30_000_000))
            count = len(peer.requests)
            changed = threading.Event()

            def change_it():
                with open(folder + "/changing", change) as file:
                    file.write(b"x") if change == "ab" else file.truncate(20_000_000)
                changed.set()
            with before_bodies(peer, change_it):
                done = run(f"file:{folder}/changing", peer.url, status=7)
            check(changed.is_set() and told in done.stderr, f"{change}: {done.stderr}")
            within("its connection", lambda: len(peer.requests) > count)
            check(len(peer.requests[-1][1]) < 30_000_000, f"{change}: {len(peer.requests[-1][1])} bytes, as if they were all")
        check(done.stdout == b"", "what comes back to a file is dropped")
        # It comes as it is written, and the response comes back.
        process = subprocess.Popen([tool, "-", peer.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for word in (b"one\n", b"two\n"):
            process.stdin.write(word)
            process.stdin.flush()
            time.sleep(0.2)
        check(process.communicate(timeout=LIMIT)[0] == b"yes\n" and process.returncode == 0, "the response of an upload")
        head, body = peer.requests[-1]
        check(head.startswith(b"POST / ") and dechunked(body) == b"one\ntwo\n", f"{head} {body}")
        # Messages become its body, and its response messages.
        with Server("listen+ws://127.0.0.1:0", peer.url) as server:
            client = WebSocket(server.port)
            client.send("hello")
            client.socket.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
            within("a request for a WebSocket", lambda: peer.requests[-1][1] == b"6\r\nhello\n\r\n0\r\n\r\n")
        # What was cut off is not ended as if it were whole.
        count = len(peer.requests)
        process = subprocess.Popen([tool, "exec:echo part; sleep 0.3; exit 3", peer.url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        check(process.wait(LIMIT) == 7, f"a source that fails: {process.returncode}")
        within("its connection", lambda: len(peer.requests) > count)
        check(not peer.requests[-1][1].endswith(b"0\r\n\r\n"), peer.requests[-1])
    def moved(status, location):
        return b"HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, location)
    for status, method, body in [(302, b"GET", b""), (303, b"GET", b""), (307, b"POST", b"x"), (308, b"POST", b"x")]:
        with Peer(moved(status, b"/there"), answer) as peer:
            check(run("--data", "x", peer.url).stdout == b"yes\n", f"{status}")
            head, got = peer.requests[1]
            check(head.startswith(method + b" /there ") and got == body, f"{status}: {head} {got}")
    with Peer(moved(302, b"/again")) as peer:
        check(b"too many redirects (limit 2)" in run("--follow-redirects", "2", peer.url, status=6).stderr and len(peer.requests) == 3, "a circle")
    with Peer(moved(302, b"/")) as peer:
        check(b"status 302" in run("--follow-redirects", "0", peer.url, status=6).stderr, "none that is followed")
        check(b"status 302" in run("-", peer.url, data=b"x", status=6).stderr, "none behind a body that is written")
    with Peer(answer) as other, Peer(moved(307, other.url.encode() + b"/x")) as peer:
        run("--header", "Authorization: secret", "--header", "X-Y: z", "--data", "x", peer.url)
        check(b"secret" in peer.requests[0][0] and b"secret" not in other.requests[0][0] and b"X-Y: z" in other.requests[0][0], "secrets of one origin")
    # A refusal ends an upload that would go on.
    with Peer(b"HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\n\r\ntoo much", early=True) as peer:
        process = subprocess.Popen([tool, "exec:yes", peer.url], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        told = process.communicate(timeout=LIMIT)[1]
        check(process.returncode == 6 and b"status 413\n  too much" in told, f"{process.returncode}: {told}")
    # However long a response takes.
    with Peer(answer, waits=1) as peer:
        check(run("--connect-timeout", "0.3", peer.url).stdout == b"yes\n", "a slow response")
    with tempfile.TemporaryDirectory() as folder, Peer(answer, unix=folder + "/s") as peer:
        check(run(peer.url + ":/v1/events").stdout == b"yes\n", "a Unix socket")
        check(peer.requests[0][0].startswith(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n"), peer.requests[0])
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = subprocess.Popen([tool, f"http://127.0.0.1:{silent.getsockname()[1]}"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        check(process.wait(10) in (143, 0, -signal.SIGTERM), f"a signal: {process.returncode}")
    for words, told in [(["http:x"], b"'//' is missing"), (["http://"], b"host"), (["--data", "x", "-", "http://h"], b"--data does not apply"), (["--method", "A B", "http://h"], b"--method"),
                        (["--reconnect", "http://h"], b"--reconnect does not apply"), (["--post", "x", "http://h"], b"--post"), (["listen+http://127.0.0.1:0"], b"listen+ws://"),
                        (["--header", "Content-Length: 1", "http://h"], b"Content-Length"), (["-d", "x", "http://h"], b"--data"), (["-X", "PUT", "http://h"], b"--method")]:
        check(told in (done := run(*words, status=64)).stderr, f"{words}: {done.stderr}")


def nginx():
    """A real server: downloads, and uploads by PUT, which it makes files of."""
    if not shutil.which("nginx"):
        check(False, "nginx is not installed: scripts/install")
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        os.mkdir(folder + "/www")
        os.chmod(folder, 0o755)
        os.chmod(folder + "/www", 0o777)
        temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(f"{folder}/nginx.conf", "w") as file:
            file.write(
                f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/log; events {{}} http {{ access_log off; {temporary} client_max_body_size 100m; "
                f"server {{ listen 127.0.0.1:{port}; root {folder}/www; location / {{ }} location /echo {{ return 200 $request_method; }} }} }}")
        large = os.urandom(30 << 20)
        with open(f"{folder}/www/large", "wb") as file:
            file.write(large)
        server = subprocess.Popen(["nginx", "-c", f"{folder}/nginx.conf", "-p", folder], stderr=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{port}"
        with contextlib.suppress(OSError):
            within("nginx listens", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        check(run(url + "/large").stdout == large, "a download")
        run(url + "/large", f"file:{folder}/copy")
        with open(folder + "/copy", "rb") as file:
            check(file.read() == large, "a download into a file")
        check(b"status 404" in run(url + "/none", status=6).stderr, "no such file")
        check(run("--method", "DELETE", "--data", "", url + "/echo").stdout == b"DELETE", "a method")
        check(run("-", url + "/echo", data=b"x" * 100_000).stdout == b"POST", "an upload")
        server.kill()


globals()[name]()
