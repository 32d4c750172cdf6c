"""What the tool must do with topics, run as a user runs it, with real files and real servers of Redis and NATS: topics.py NAME TOOL. Exits 1 and says why when
something differs. NAME is that of a scenario, or NAME@nats for one that is to hold on NATS as it does on Redis."""
import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

import processes
from engines import Nats, NatsCluster, Redis, RedisCluster, free_port

name, tool = sys.argv[1:3]
name, _, engine_name = name.partition("@")
LIMIT = 60


def check(condition, what):
    if not condition:
        print(f"{name}: {what}")
        processes.leave(1)


def run(*arguments, data=b"", status=0, limit=LIMIT, **more):
    done = subprocess.run([tool, *arguments], input=data, capture_output=True, timeout=limit, **more)
    check(status in (done.returncode, None), f"{arguments} exited with {done.returncode}, not {status}: {done.stderr.decode()}")
    return done


def read(url, *options, **more):
    """What there is of a topic, as lines of JSON."""
    done = run("--no-follow", "--json", *(options or ("--from", "earliest")), url, **more)
    return [json.loads(line) for line in done.stdout.splitlines()]


def texts(messages):
    return [message["data"] for message in messages]


# What a scenario of several machines runs on.
SharedEngine = Nats if engine_name == "nats" else Redis


def certificates(folder):
    """An authority in ca.pem, and what it has signed: server.pem for this machine, client.pem; and other-ca.pem, which has signed nothing."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for authority in ("ca", "other-ca"):
        openssl("req", "-x509", *key, "-keyout", f"{authority}.key", "-out", f"{authority}.pem", "-subj", f"/CN={authority}", "-days", "2")
    with open(f"{folder}/extensions", "w") as file:
        file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for owner in ("server", "client"):
        openssl("req", *key, "-keyout", f"{owner}.key", "-out", f"{owner}.csr", "-subj", f"/CN={owner}")
        openssl("x509", "-req", "-in", f"{owner}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{owner}.pem", "-days", "2",
                "-extfile", "extensions")


class NatsKey:
    """A key pair as NATS has them (nkeys): Ed25519, its texts in Base32 behind a letter for its kind and before a checksum."""

    def __init__(self, kind, folder):
        self.path, self.kind = f"{folder}/{kind}{time.monotonic_ns()}", ord(kind) - ord("A") << 3
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", self.path], check=True)

        def raw(*more):
            der = subprocess.run(["openssl", "pkey", "-in", self.path, "-outform", "DER", *more], capture_output=True, check=True).stdout
            return der[-32:]

        self.public = self.encode(bytes([self.kind]) + raw("-pubout"))
        seed = ord("S") - ord("A") << 3
        self.seed = self.encode(bytes([seed | self.kind >> 5, (self.kind & 31) << 3]) + raw())

    @staticmethod
    def encode(data):
        checksum = 0
        for byte in data:
            checksum ^= byte << 8
            for _ in range(8):
                checksum = (checksum << 1 ^ (0x1021 if checksum & 0x8000 else 0)) & 0xFFFF
        return base64.b32encode(data + checksum.to_bytes(2, "little")).decode().rstrip("=")

    def token(self, subject, claims):
        """A JWT of this key about another one."""
        def part(data):
            return base64.urlsafe_b64encode(data).rstrip(b"=")

        body = {"jti": f"{time.monotonic_ns()}", "iat": int(time.time()), "iss": self.public, "name": "test", "sub": subject.public, "nats": {**claims, "version": 2}}
        text = part(b'{"typ":"JWT","alg":"ed25519-nkey"}') + b"." + part(json.dumps(body).encode())
        with open(self.path + ".text", "wb") as file:
            file.write(text)
        signature = subprocess.run(
            ["openssl", "pkeyutl", "-sign", "-inkey", self.path, "-rawin", "-in", self.path + ".text"], capture_output=True, check=True).stdout
        return (text + b"." + part(signature)).decode()


class Server:
    """A listening tool, whose address is read from standard error."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([tool, *arguments], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        line = self.process.stderr.readline().decode()
        found = re.search(r"listening on ((?:sse\+http|ws)://127\.0\.0\.1:(\d+)\S*)", line)
        check(found, f"no address from {arguments}: {line}")
        self.url, self.port = found[1], int(found[2])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def answer(port, path, *fields):
    """The head of what a server answers to a request for a WebSocket."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        head = [f"GET {path} HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *fields]
        connection.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
        got = b""
        while b"\r\n\r\n" not in got:
            part = connection.recv(4096)
            if not part:
                break
            got += part
        return got.decode()


def snapshot(folder, *names):
    return [hashlib.sha256(open(f"{folder}/{file}", "rb").read()).hexdigest() for file in names]


def file():
    """A durable log in a file, and back."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"topic+sqlite:{folder}/app.db/log"
        run("-", url, data=b"one\ntwo\nthree\n")
        check(run("--from", "earliest", "--no-follow", url).stdout == b"one\ntwo\nthree\n", "the log")
        messages = read(url)
        check(texts(messages) == ["one", "two", "three"], messages)
        check(set(messages[0]) == {"position", "time", "event", "data"} and messages[0]["event"] == "message", messages[0])
        stamp = time.strftime("%Y-%m-%dT%H:%M", time.gmtime())
        check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", messages[0]["time"]), messages[0])
        check(messages[0]["time"][:13] == stamp[:13] or stamp.endswith(":00"), f"{messages[0]} at {stamp}")
        check(texts(read(url, "--from", "last:2")) == ["two", "three"], "the last two")
        check(texts(read(url, "--from", messages[0]["position"])) == ["two", "three"], "behind the first")
        check(read(url, "--from", "now") == [] and read(url, "--from", messages[2]["position"]) == [], "behind the newest")
        run("--event", "tick", "--null", "-", url, data=b"line\nline\0")
        check(read(url, "--from", "earliest", "--event", "tick")[0]["data"] == "line\nline", "one type")
        check(texts(read(url, "--from", "earliest", "--event", "message")) == ["one", "two", "three"], "those without a type")
        check(run("--null", "--from", "last:1", "--no-follow", url).stdout == b"line\nline\0", "framing")
        run("--binary", "--chunks", "4", "-", url, data=b"\x00\xff\x00\xffab")
        check(run("--binary", "--from", "last:2", "--no-follow", url).stdout == b"\x00\xff\x00\xffab", "binary")
        check(read(url, "--from", "last:1")[0]["data"] == "YWI=" and read(url, "--from", "last:1")[0]["binary"] is True, "binary as JSON")
        check(run("--from", "last:2", "--one-message", "--binary", url).stdout == b"\x00\xff\x00\xff", "one message")
        # From one topic to another one, as messages.
        run("--from", "earliest", "--no-follow", url, f"topic+sqlite:{folder}/app.db/copy")
        check(texts(read(f"topic+sqlite:{folder}/app.db/copy"))[:3] == ["one", "two", "three"], "a copy")
        # A reader that waits gets what comes.
        reader = subprocess.Popen([tool, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        time.sleep(1)
        run("-", url, data=b"live\n")
        check(reader.stdout.readline() == b"live\n", "a reader that waits")
        reader.send_signal(signal.SIGTERM)
        check(reader.wait(20) == 0, "a reader that was ended")
        big = b"x" * (1 << 20)
        run("-", url, data=big + b"\n")
        run("-", url, data=big + b"y\n", status=3)
        run("--max-message", str(2 << 20), "-", url, data=big + b"y\n")


def reading():
    """Who only reads makes nothing and changes nothing."""
    with tempfile.TemporaryDirectory() as folder:
        missing = run(f"topic+sqlite:{folder}/mistyped.db/log", status=7)
        check(b"No such file" in missing.stderr and os.listdir(folder) == [], f"{missing.stderr} {os.listdir(folder)}")
        run("listen+sse+http://127.0.0.1:0/feed", f"topic+sqlite:{folder}/mistyped.db/log", status=7)
        check(os.listdir(folder) == [], "a server made a file")
        run("-", f"topic+sqlite:{folder}/app.db/log", data=b"one\n")
        os.remove(f"{folder}/app.db-life")
        before = snapshot(folder, "app.db")
        url = f"topic+sqlite:{folder}/app.db/other"
        check(read(url) == [] and texts(read(f"topic+sqlite:{folder}/app.db/log")) == ["one"], "reading")
        reader = subprocess.Popen([tool, url], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        time.sleep(1)
        check(snapshot(folder, "app.db") == before and not os.path.exists(f"{folder}/app.db-life"), "reading has changed the file")
        with Nats() as server:
            waiting = subprocess.Popen([tool, f"{server.url}/mistyped"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            check(read(f"{server.url}/mistyped") == [], "a topic that is not there")
            time.sleep(1)
            check(server.topics() == set(), f"reading has made {server.topics()}")
            run("-", f"{server.url}/mistyped", data=b"first\nsecond\n")
            check(waiting.stdout.readline() == b"first\n" and waiting.stdout.readline() == b"second\n", "the first message of a stream")
            waiting.kill()
        # The first message of a topic that nobody had written is no loss.
        run("-", url, data=b"first\nsecond\n")
        check(reader.stdout.readline() == b"first\n" and reader.stdout.readline() == b"second\n", "the first message")
        reader.kill()
        for text in (b"no database at all, but long enough to be one", b""):
            with open(f"{folder}/other", "wb") as other:
                other.write(text)
            check(b"no file of topics" in run(f"topic+sqlite:{folder}/other/log", status=7).stderr, f"another file: {text}")
        with contextlib.closing(sqlite3.connect(f"{folder}/theirs.db")) as theirs:
            theirs.execute("CREATE TABLE t(x)")
            theirs.commit()
        for arguments in ([f"topic+sqlite:{folder}/theirs.db/log"], ["-", f"topic+sqlite:{folder}/theirs.db/log"]):
            check(b"another program" in run(*arguments, status=7).stderr, f"another program's file: {arguments}")


def redis():
    """The same on a server, by its ports and its Unix socket; with a password, and without a server."""
    with Redis("--requirepass", "secret") as server:
        url, login = f"{server.url}/feed", f"topic+redis://:secret@127.0.0.1:{server.port}"
        check(b"NOAUTH" in run(url, status=6).stderr, "no password")
        check(b"WRONGPASS" in run(url, status=6, env={**os.environ, "REDISCLI_AUTH": "other"}).stderr, "a wrong password")
        run("-", f"{login}/feed", data=b"one\ntwo\n")
        check(texts(read(url, env={**os.environ, "REDISCLI_AUTH": "secret"})) == ["one", "two"], "REDISCLI_AUTH")
        check(read(f"{login}/3/feed") == [], "another database")
        run("-", f"{login}/3/feed", data=b"three\n")
        socket_url = f"topic+redis+unix:{server.socket}/feed"
        environment = {**os.environ, "REDISCLI_AUTH": "secret"}
        check(texts(read(socket_url + "?db=3", env=environment)) == ["three"], "a Unix socket, and a database")
        check(texts(read(socket_url.replace(":/", ":///"), env=environment)) == ["one", "two"], "a Unix socket as a URL")
        run("--from", "zzzzzzzzzzzz.5", f"{login}/feed", status=4)
    check(b"ECONNREFUSED" in run(f"{server.url}/feed", status=5).stderr, "no server")
    check(b"ECONNREFUSED" in run("-", f"{server.url}/feed", data=b"x\n", status=5).stderr, "no server")
    run(f"topic+redis+unix:{server.folder}/none/feed", status=5)


def nats():
    """A token, users and credentials files, in the URL and in the environment; what is wrong is said; what streams are made like."""
    with Nats('authorization { token: "secret" }') as server:
        url, login = f"{server.url}/feed", f"topic+nats://secret@127.0.0.1:{server.port}/feed"
        check(b"uthoriz" in run(url, status=6).stderr, "no token")
        check(b"uthoriz" in run(url, status=6, env={**os.environ, "NATS_TOKEN": "other"}).stderr, "a wrong token")
        run("-", login, data=b"one\ntwo\n")
        check(texts(read(url, env={**os.environ, "NATS_TOKEN": "secret"})) == ["one", "two"], "NATS_TOKEN")
        # What the URL says goes before.
        check(texts(read(login, env={**os.environ, "NATS_TOKEN": "other", "NATS_CREDS": "/none"})) == ["one", "two"], "a token in the URL")
        check(texts(read(f"{login}?prefix=other&replicas=1&storage=memory")) == [], "another prefix")
        run("-", f"{login}?replicas=3", data=b"three\n")
        check(b"replicas" in run("-", f"{login}2?replicas=3", data=b"x\n", status=7).stderr, "more replicas than servers")
    with Nats('authorization { users = [ { user: ann, password: "p@w" } ] }') as server:
        url = f"{server.url}/feed"
        run("-", f"topic+nats://ann:p%40w@127.0.0.1:{server.port},127.0.0.1:{free_port()}/feed", data=b"one\n")
        check(texts(read(url, env={**os.environ, "NATS_USER": "ann", "NATS_PASSWORD": "p@w"})) == ["one"], "NATS_USER")
        run(f"topic+nats://ann:other@127.0.0.1:{server.port}/feed", status=6)
    with tempfile.TemporaryDirectory() as folder:
        operator, system, account, user, other = (NatsKey(kind, folder) for kind in "OAAUU")
        unlimited = {"limits": {**{name: -1 for name in (
            "subs", "data", "payload", "imports", "exports", "conn", "leaf", "mem_storage", "disk_storage", "streams", "consumer")}, "wildcards": True}, "type": "account"}
        accounts = f"{system.public}: {operator.token(system, {'type': 'account', 'limits': {**unlimited['limits'], 'mem_storage': 0, 'disk_storage': 0}})}\n" \
            f"{account.public}: {operator.token(account, unlimited)}"
        for who in (user, other):
            token = account.token(who, {"type": "user", "subs": -1, "data": -1, "payload": -1})
            # The second one has a seed that is not its own.
            with open(f"{folder}/{'good' if who is user else 'bad'}.creds", "w") as file:
                file.write(f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
                           f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n")
        with Nats(f"operator: {operator.token(operator, {'type': 'operator'})}\nsystem_account: {system.public}\nresolver: MEMORY\n"
                  f"resolver_preload: {{\n{accounts}\n}}") as server:
            url = f"{server.url}/feed"
            run("-", f"{url}?credentials={folder}/good.creds", data=b"one\n")
            check(texts(read(url, env={**os.environ, "NATS_CREDS": f"{folder}/good.creds"})) == ["one"], "NATS_CREDS")
            check(b"uthoriz" in run(url, status=6).stderr, "no credentials")
            check(b"uthoriz" in run(f"{url}?credentials={folder}/bad.creds", status=6).stderr, "another's credentials")
            check(b"No such file" in run(f"{url}?credentials={folder}/none.creds", status=6).stderr, "no file of credentials")
            listed = run("topics", "list", f"{server.url}?credentials={folder}/good.creds").stdout.decode()
            check("feed " in listed, f"topics: {listed}")


def secure():
    """TLS: the server's certificate is checked, and ours is shown."""
    with tempfile.TemporaryDirectory() as folder:
        certificates(folder)
        cert, key, ca = (f"{folder}/{file}" for file in ("server.pem", "server.key", "ca.pem"))

        def redis_over_tls(*more):
            server = Redis("--tls-port", "0", "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca, *more)
            # A port of its own beside the plain one, once that is known to be free.
            subprocess.run(["redis-cli", "-p", str(server.port), "config", "set", "tls-port", str(tls_port)], check=True, capture_output=True)
            return server, f"topic+rediss://127.0.0.1:{tls_port}"

        def nats_over_tls(clients):
            server = Nats(f'tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{ca}", verify: {clients} }}')
            return server, server.url.replace("+nats", "+tls+nats")

        for clients in (False, True):
            tls_port = free_port()
            for server, place in (redis_over_tls("--tls-auth-clients", "yes" if clients else "no"), nats_over_tls("true" if clients else "false")):
                with server:
                    url, ours = place + "/feed", ["--client-cert", f"{folder}/client.pem", "--key", f"{folder}/client.key"] if clients else []
                    run("--ca", ca, *ours, "-", url, data=b"one\ntwo\n")
                    check(texts(read(url, "--from", "earliest", "--ca", ca, *ours)) == ["one", "two"], f"{place}: what was stored")
                    for arguments in [[], ["--ca", f"{folder}/other-ca.pem"]] + ([["--ca", ca]] if clients else []):
                        done = run(*arguments, url, status=None)
                        # That we show none, a server says in its own words.
                        check(done.returncode == 5 or ca in arguments and done.returncode == 6, f"{place} with {arguments}: {done}")
                    if clients:
                        continue
                    check("feed " in run("topics", "list", "--ca", ca, place).stdout.decode(), f"topics of {place}")
                    # The name is checked too.
                    run("--ca", ca, "--no-follow", "--from", "earliest", url.replace("127.0.0.1", "localhost"))
                    if place.startswith("topic+rediss"):
                        run("--ca", ca, "--sni", "other", url, status=5)
                        check(texts(read(url, "--from", "earliest", "--insecure")) == ["one", "two"], "--insecure")


def clusters():
    """Servers of a cluster: a chat of two servers of ours goes on while one of the engine's is away for longer than a fail-over takes."""
    for cluster in (RedisCluster(), NatsCluster()):
        with cluster:
            url = cluster.topic("room")
            run("-", url, data=b"first\n")
            check(texts(read(url, "--from", "earliest")) == ["first"], "what was stored")
            reader = subprocess.Popen([tool, "--from", "earliest", url], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            check(reader.stdout.readline() == b"first\n", "a reader")
            for number in range(3):
                cluster.kill_node(number)
                run("--append-timeout", "40", "-", url, data=b"%d\n" % number, limit=60)
                cluster.start_node(number)
                time.sleep(3)
            for number in range(3):
                check(reader.stdout.readline() == b"%d\n" % number, f"{cluster.scheme}: what came while server {number} was away")
            reader.kill()
            # A cluster that chooses a leader just now may have no answer.
            listing = ["topics", "list", url.replace("/room", "")]
            check(any(b"room" in run(*listing, status=None).stdout for _ in range(5)), "the list of topics")


def limits():
    """--max-count, --max-bytes and --max-age, each alone; what was trimmed is said to be lost."""
    lines = b"".join(b"%06d\n" % number for number in range(1000))
    with tempfile.TemporaryDirectory() as folder, SharedEngine() as server:
        for place in (*([f"topic+sqlite:{folder}/app.db/"] if SharedEngine is Redis else []), f"{server.url}/"):
            url = place + "count"
            run("-", url, data=b"first\n")
            first = read(url)[0]["position"]
            run("--max-count", "10", "-", url, data=lines)
            check(texts(read(url)) == [f"{number:06}" for number in range(990, 1000)], "10 messages")
            lost = run("--from", first, "--no-follow", url, status=4)
            check(b"lost" in lost.stderr and lost.stdout == b"", lost)
            run("--max-bytes", "1K", "-", place + "bytes", data=lines)
            # Servers trim what was appended together as a whole.
            kept = len(read(place + "bytes"))
            check(0 < kept <= 1024 // 6 and (kept == 1024 // 6 or "sqlite" not in place), f"1 KiB: {kept} messages")
            run("-", place + "age", data=lines)
            time.sleep(1.2)
            run("--max-age", "1s", "-", place + "age", data=b"new\n")
            check(texts(read(place + "age")) == ["new"], "1 second")


def outage():
    """The server dies and comes back while a log is shipped: each line is there once, in order; and a reader goes on. One that stays away is an error in time."""
    with SharedEngine(durable=True) as server:
        url = f"{server.url}/log"
        run("-", url, data=b"begin\n")
        reader = subprocess.Popen([tool, "--from", "earliest", url], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        writer = subprocess.Popen([tool, "--append-timeout", "30", "-", url], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        check(reader.stdout.readline() == b"begin\n", "the reader")

        def write():
            for number in range(3000):
                writer.stdin.write(b"%d\n" % number)
                if number % 10 == 0:
                    writer.stdin.flush()
                    time.sleep(0.01)
            writer.stdin.close()

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        for _ in range(2):
            time.sleep(0.8)
            server.kill()
            time.sleep(0.3)
            server.start()
        thread.join(LIMIT)
        check(writer.wait(LIMIT) == 0, f"the writer: {writer.stderr.read()}")
        check(texts(read(url))[1:] == [str(number) for number in range(3000)], "what is stored")
        got = [reader.stdout.readline() for _ in range(3000)]
        check(got == [b"%d\n" % number for number in range(3000)], "what was read")
        reader.send_signal(signal.SIGINT)
        check(reader.wait(20) == 0, "the reader's end")
        check(b"trying again" in reader.stderr.read(), "nothing was said of the outage")
        writer = subprocess.Popen([tool, "--append-timeout", "1", "-", url], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        writer.stdin.write(b"before\n")
        writer.stdin.flush()
        # On a busy machine it takes a while to be there.
        for _ in range(50):
            if texts(read(url, "--from", "last:1")) == ["before"]:
                break
            time.sleep(0.1)
        server.kill()
        writer.stdin.write(b"lost\n")
        writer.stdin.close()
        status, said = writer.wait(20), writer.stderr.read()
        check(status == 4 and b"not confirmed" in said, f"an engine that stays away: {status}, {said}")


class Reader:
    """Reads an event stream as a browser does: it comes back, to the other server if need be, and says what it saw last."""

    def __init__(self, ports, first):
        self.ports, self.last, self.seen, self.connections = ports, first, [], 0

    def run(self, count):
        turn = 0
        while len(self.seen) < count:
            with contextlib.suppress(OSError):
                self.read(self.ports[turn % len(self.ports)], count)
            turn += 1
            time.sleep(0.01)

    def read(self, port, count):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            self.connections += 1
            connection.sendall(f"GET /feed HTTP/1.0\r\nHost: a\r\nLast-Event-ID: {self.last}\r\n\r\n".encode())
            data, got = [], connection.makefile("rb")
            for line in got:
                line = line.decode().rstrip("\r\n")
                if line.startswith("id: "):
                    identity = line[4:]
                elif line.startswith("data: "):
                    data.append(line[6:])
                elif not line and data:
                    # An event counts when it is whole.
                    self.seen.append("\n".join(data))
                    self.last, data = identity, []
                    if len(self.seen) == count:
                        return


def feeds():
    """Two servers of one feed: one is killed, its readers go on at the other by Last-Event-ID, and nothing is missed or repeated."""
    count, readers = 3000, 20
    with SharedEngine() as server, tempfile.TemporaryDirectory() as folder:
        url = f"{server.url}/feed"
        run("-", url, data=b"before\n")
        first = read(url)[0]["position"]
        one, other = (Server("listen+sse+http://127.0.0.1:0/feed", url) for _ in range(2))
        check(one.url == f"sse+http://127.0.0.1:{one.port}/feed", f"the address: {one.url}")
        clients = [Reader([one.port, other.port] if number % 2 == 0 else [other.port, one.port], first) for number in range(readers)]
        threads = [threading.Thread(target=client.run, args=(count,), daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        writer = subprocess.Popen([tool, "-", url], stdin=subprocess.PIPE)
        for number in range(count):
            writer.stdin.write(b"%d\n" % number)
            if number % 10 == 0:
                writer.stdin.flush()
                time.sleep(0.005)
            if number == count // 2:
                one.process.kill()
        writer.stdin.close()
        check(writer.wait(LIMIT) == 0, "the writer")
        for thread in threads:
            thread.join(LIMIT)
        expected = [str(number) for number in range(count)]
        for client in clients:
            check(client.seen == expected, f"a reader has {len(client.seen)} of {count}: {client.seen[:3]} … {client.seen[-3:]}")
        check(sum(client.connections > 1 for client in clients) == readers // 2, "who has come back")
        # By curl, as a person looks: the position before the first event, and one that is lost.
        curl = ["curl", "-sN", "--max-time", "1", f"http://127.0.0.1:{other.port}/feed"]
        newest = read(url, "--from", "last:1")[0]["position"]
        check(f"id: {newest}\n\n" in subprocess.run(curl, capture_output=True).stdout.decode(), "the position before the first event")
        run("--max-count", "5", "-", url, data=b"after\n")
        got = subprocess.run([*curl, "-H", f"Last-Event-ID: {first}"], capture_output=True).stdout.decode()
        lost = re.search(r'event: position-lost\ndata: (\{.*\})\n', got)
        check(lost and json.loads(lost[1])["asked"] == first, f"a lost position: {got}")
        check(re.findall(r"data: (\d+|after)\n", got) == [str(number) for number in range(count - 4, count)] + ["after"], got)
        one.__exit__()
        other.__exit__()
        if SharedEngine is not Redis:
            return
        # In a file, the same.
        log = f"topic+sqlite:{folder}/app.db/feed"
        run("-", log, data=b"one\ntwo\n")
        with Server("listen+sse+http://127.0.0.1:0/feed", log) as server_of_file:
            first = read(log)[0]["position"]
            got = subprocess.run(
                ["curl", "-sN", "--max-time", "1", f"http://127.0.0.1:{server_of_file.port}/feed?lastEventId={first}"], capture_output=True)
            check(re.findall(rb"data: (\w+)\n", got.stdout) == [b"two"], got.stdout)


def rooms():
    """A chat over two servers, and what a visitor may name: a room, and no other topic."""
    with SharedEngine() as server:
        topic, secret = f"{server.url}/rooms.{{room}}", f"{server.url}/secret"
        run("-", secret, data=b"not yours\n")
        # An old NATS must not be asked by two to make one stream; reading makes it.
        read(f"{server.url}/rooms.lobby")
        with Server("--from", "last:50", "listen+ws://127.0.0.1:0/rooms/{room}", topic) as one, \
                Server("--from", "last:50", "listen+ws://127.0.0.1:0/rooms/{room}", topic) as other:
            def client(port, room):
                return subprocess.Popen([tool, f"ws://127.0.0.1:{port}/rooms/{room}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

            people = [client(one.port, "lobby"), client(other.port, "lobby"), client(other.port, "%6cobby")]
            elsewhere = client(one.port, "hall")
            time.sleep(1)
            for number, person in enumerate(people):
                person.stdin.write(b"hello from %d\n" % number)
                person.stdin.flush()
            heard = [[person.stdout.readline() for _ in people] for person in people]
            check(heard[0] == heard[1] == heard[2] and sorted(heard[0]) == [b"hello from %d\n" % number for number in range(3)], f"{heard}")
            elsewhere.stdin.write(b"anybody\n")
            elsewhere.stdin.flush()
            check(elsewhere.stdout.readline() == b"anybody\n", "another room")
            late = client(one.port, "lobby")
            check([late.stdout.readline() for _ in people] == heard[0], "who comes later")
            check(texts(read(f"{server.url}/rooms.lobby")) == [line.decode().strip() for line in heard[0]], "the room's log")
            for process in (*people, elsewhere, late):
                process.kill()
                process.wait()
            # A server at whose routes there are topics: for WebSockets, with positions, and for event streams.
            with Server("--from", "last:50", "--json", "--route", f"/chat/{{r}}={topic.replace('room', 'r', 2).replace('rs.', 'rooms.')}", "--route", "/echo=echo:",
                        "listen+ws://127.0.0.1:0") as third:
                member = subprocess.Popen([tool, f"ws://127.0.0.1:{third.port}/chat/lobby"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                before = json.loads(member.stdout.readline())
                told = [json.loads(member.stdout.readline()) for _ in people]
                check(set(before) == {"position"} and told == read(f"{server.url}/rooms.lobby"), f"positions: {before} {told}")
                member.kill()
                again = subprocess.Popen([tool, f"ws://127.0.0.1:{third.port}/chat/lobby?lastEventId={told[0]['position']}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                check([json.loads(again.stdout.readline()) for _ in range(3)] == [{"position": told[0]["position"]}, *told[1:]], "behind a position")
                again.kill()
                curl = ["curl", "-sN", "--max-time", "1", "-H", f"Last-Event-ID: {told[0]['position']}", f"http://127.0.0.1:{third.port}/chat/lobby"]
                got = subprocess.run(curl, capture_output=True).stdout
                check(re.findall(rb"data: (.*)\n", got) == [line.strip() for line in heard[0][1:]], f"an event stream at a route: {got}")
                check(run(f"ws://127.0.0.1:{third.port}/echo", data=b"me\n").stdout == b"me\n", "another route")
                for path in ("/chat/a.b", "/chat/", "/chat", "/chat/..%2fsecret", "/"):
                    check(answer(third.port, path).startswith("HTTP/1.1 404 "), path)
                    code = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--path-as-is", f"http://127.0.0.1:{third.port}{path}"], capture_output=True)
                    check(code.stdout == b"404", f"events at {path}: {code}")
            # A position from elsewhere, and one that is lost.
            position = read(f"{server.url}/rooms.lobby")[1]["position"]
            back = client(other.port, f"lobby?lastEventId={position}")
            check(back.stdout.readline() == heard[0][2], "who comes back")
            back.kill()
            gone = run(f"ws://127.0.0.1:{one.port}/rooms/lobby?lastEventId=zzzzzzzzzzzz.7", status=4)
            check(re.search(rb"4410.*\w+\.\d+", gone.stderr), f"a lost position: {gone.stderr}")
            for room in ("", ".", "..", "a.b", "a:b", "..%2fsecret", "%2e%2e", "x%2fy", "a/b", "a%00", "%ff", "%", "%zz", "*", "%7broom%7d", "{room}",
                         "x" * 65, "a%20b", "lobby%0d%0aX: y", "l%C3%B6bby", "lobby/"):
                head = answer(one.port, f"/rooms/{room}")
                check(head.startswith(("HTTP/1.1 404 ", "HTTP/1.1 400 ")), f"'{room}': {head}")
            for path in ("/", "/secret", "/rooms", "//rooms/lobby", "/rooms/lobby/x"):
                check(answer(one.port, path).startswith("HTTP/1.1 404 "), path)
            # Spelled otherwise, it is the same path.
            for path in ("/rooms/lobby", "/rooms/x/../lobby", "/r%6foms/lobby", "/rooms/" + "x" * 64):
                check(answer(one.port, path).startswith("HTTP/1.1 101 "), path)
            check(answer(one.port, "/rooms/lobby", "Origin: https://evil.example").startswith("HTTP/1.1 403 "), "another page's origin")
            too_long = run("--answer-timeout", "20", f"ws://127.0.0.1:{one.port}/rooms/long", data=b"x" * (1 << 20) + b"y\n", status=4)
            check(b"1009" in too_long.stderr, f"a message that is too long: {too_long.stderr}")
        named = server.topics()
        check(named <= {"secret", "rooms.lobby", "rooms.hall", "rooms.long", "rooms." + "x" * 64}, f"the topics: {named}")
    # In one process, without anything else.
    with Server("listen+ws://127.0.0.1:0/{room}", "topic+memory:{room}") as alone:
        check(run(f"ws://127.0.0.1:{alone.port}/a", data=b"me\n").stdout == b"me\n", "in memory")
    # What stands at two routes is one topic.
    with Server("--from", "earliest", "--route", "/a=topic+memory:x", "--route", "/{b}=topic+memory:{b}", "listen+ws://127.0.0.1:0") as alone:
        run(f"ws://127.0.0.1:{alone.port}/a", data=b"me\n")
        check(run(f"ws://127.0.0.1:{alone.port}/x").stdout == b"me\n", "the same topic")


def signals():
    """What was taken is stored before the tool ends by a signal; a server closes its clients as one that goes away, and leaves."""
    with SharedEngine() as server:
        url = f"{server.url}/log"
        for which in (signal.SIGTERM, signal.SIGINT):
            writer = subprocess.Popen([tool, "-", url], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
            writer.stdin.write(b"".join(b"%d\n" % number for number in range(2000)))
            writer.stdin.flush()
            time.sleep(1)
            writer.send_signal(which)
            check(writer.wait(20) == 0, f"{which}: {writer.stderr.read()}")
            check(texts(read(url, "--from", "last:2000")) == [str(number) for number in range(2000)], f"{which}: what is stored")
        with Server("listen+ws://127.0.0.1:0/", url) as one, Server("listen+sse+http://127.0.0.1:0/", url) as other:
            socket_client = subprocess.Popen([tool, f"ws://127.0.0.1:{one.port}/"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            events_client = subprocess.Popen([tool, other.url], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            time.sleep(1)
            run("-", url, data=b"for all\n")
            check(socket_client.stdout.readline() == b"for all\n" and events_client.stdout.readline() == b"for all\n", "the clients")
            one.process.send_signal(signal.SIGTERM)
            other.process.send_signal(signal.SIGINT)
            check(one.process.wait(20) == 0 and other.process.wait(20) == 0, "the servers' ends")
            check(socket_client.wait(20) == 0 and events_client.wait(20) == 0, "the clients' ends")


def care():
    """sluice topics: list, info and trim, for people and for programs; nothing is made by them."""
    with tempfile.TemporaryDirectory() as folder, SharedEngine() as server:
        places = [f"topic+sqlite:{folder}/app.db", server.url, f"{server.url}/2", f"topic+redis+unix:{server.socket}"] if SharedEngine is Redis else [server.url]
        for place in places:
            if "unix" in place:
                subprocess.run(["redis-cli", "-p", str(server.port), "flushall"], capture_output=True)
            log, feed = place + "/log", place + "/feed.a"
            run("-", log, data=b"one\ntwo\nthree\nfour\n")
            run("--event", "tick", "-", feed, data=b"x\n")
            # Read by somebody, and written by nobody.
            if place.startswith(server.url):
                read(place + "/nobody")
            lines = run("topics", "list", place).stdout.decode().splitlines()
            check([line.split()[:3] for line in lines] == [["NAME", "MESSAGES", "BYTES"], ["feed.a", "1", "5"], ["log", "4", "15"]], f"{place}: {lines}")
            listed = [json.loads(line) for line in run("topics", "list", "--json", place).stdout.splitlines()]
            messages = read(log)
            info = json.loads(run("topics", "info", "--json", log).stdout)
            check(info == listed[1] and info["topic"] == "log" and info["messages"] == 4 and info["bytes"] == 15, f"{place}: {info} {listed}")
            check((info["oldest"], info["newest"], info["position"]) == (messages[0]["time"], messages[3]["time"], messages[3]["position"]), info)
            check(texts(read(log, "--from", info["earliest"])) == ["one", "two", "three", "four"], "before the oldest")
            said = run("topics", "info", log).stdout.decode()
            check(re.search(r"^messages +4$", said, re.M) and re.search(r"^behind the newest +" + re.escape(info["position"]) + "$", said, re.M), said)
            check(run("topics", "trim", "--max-count", "2", log).stdout == b"2 messages were trimmed, 2 are left\n", "a trim")
            check(texts(read(log)) == ["three", "four"], "what is left")
            check(run("topics", "trim", "--max-bytes", "1", log).stdout == b"1 messages were trimmed, 1 are left\n", "the newest stays")
            run("--from", messages[0]["position"], "--no-follow", log, status=4)
            check(run("topics", "trim", "--max-age", "1h", log).stdout == b"0 messages were trimmed, 1 are left\n", "an hour")
            # On Redis, what was appended together counts until all of it is trimmed.
            check(json.loads(run("topics", "info", "--json", log).stdout)["bytes"] == 4 or "redis" in place, "the bytes of what is left")
            for command in (["info"], ["trim", "--max-count", "1"]):
                check(b"no messages" in run("topics", *command, place + "/none", status=7).stderr, f"{command} of a topic that is not there")
            run("topics", "trim", log, status=64)
        for command in (["list", f"topic+sqlite:{folder}/none"], ["info", f"topic+sqlite:{folder}/none/log"], ["trim", "--max-count", "1", f"topic+sqlite:{folder}/none/log"]):
            run("topics", *command, status=7)
        check(sorted(os.listdir(folder))[:1] in ([], ["app.db"]) and not os.path.exists(f"{folder}/none"), os.listdir(folder))
        run("topics", "list", server.url.replace(str(server.port), str(free_port())), status=5)
        run("topics", status=0)
        run("topics", "frob", status=64)


def command_lines():
    """What is wrong is said before anything is opened."""
    for arguments, words in (
        (["topic+redis://cache"], "name is missing"), (["topic+redis://cache/"], "name is missing"), (["topic+sqlite:app.db"], "name is missing"),
        (["topic+sqlite:/feed"], "file is missing"), (["topic+redis://cache/x/feed"], "database"), (["topic+redis://cache/feed?x"], "query"),
        (["topic+redis://ca che/feed"], "space"), (["topic+redis:cache/feed"], "//"), (["topic+redis://cache/fe*d"], "not a topic's name"),
        (["topic+redis://cache/" + "x" * 201], "not a topic's name"), (["topic+kafka://broker/feed"], "unknown scheme"),
        (["topic+nats://broker"], "name is missing"), (["topic+nats:broker/feed"], "//"), (["topic+nats://a,b c/feed"], "space"), (["topic+nats://a/b/feed"], "path"),
        (["topic+nats://a,/feed"], "host"), (["topic+nats://a/feed?replicas=6"], "replicas"), (["topic+nats://a/feed?x=y"], "one of"), (["topic+nats://a/feed?x"], "NAME=VALUE"),
        (["--insecure", "topic+tls+nats://a/feed"], "--insecure"), (["--sni", "x", "topic+tls+nats://a/feed"], "--sni"), (["--ca", "x", "topic+nats://a/feed"], "--ca"),
        (["topic+redis://cache/{x}"], "{"), (["topic+redis://cache/{x"], "braces"), (["topic+redis://cache/{}"], "braces"),
        (["topic+memory:feed"], "listen+ws:"), (["-", "topic+memory:feed"], "listen+ws:"),
        (["listen+ws://127.0.0.1:0/{a}", "topic+redis://cache/{b}"], "{b}"), (["listen+ws://127.0.0.1:0/a?b", "topic+memory:feed"], "query"),
        (["listen+sse+http://127.0.0.1:0/{a}", "topic+redis://cache/{b}"], "{b}"), (["topic+redis://cache/{b}", "listen+sse+http://127.0.0.1:0/{a}"], "{b}"),
        (["--route", "/{a}=topic+memory:{b}", "listen+ws://127.0.0.1:0"], "{b}"), (["--event", "position-lost", "-", "topic+redis://cache/feed"], "another type"),
        (["--lines", "--route", "/a=topic+memory:a", "listen+ws://127.0.0.1:0"], "--lines"),
        (["listen+sse+http://127.0.0.1:0", "-"], "second"), (["--from", "last:0", "topic+redis://cache/feed"], "--from"),
        (["--from", "yesterday", "topic+redis://cache/feed"], "--from"), (["--from", "now", "-", "topic+redis://cache/feed"], "--from"),
        (["--no-follow", "-", "topic+redis://cache/feed"], "--no-follow"), (["--max-age", "7d", "topic+redis://cache/feed"], "--max-age"),
        (["--max-age", "x", "-", "topic+redis://cache/feed"], "--max-age"), (["--max-bytes", "-1", "-", "topic+redis://cache/feed"], "--max-bytes"),
        (["--max-count", "0", "-", "topic+redis://cache/feed"], "--max-count"), (["--append-timeout", "0", "-", "topic+redis://cache/feed"], "timeout"),
        (["--json", "-", "topic+redis://cache/feed"], "--json"), (["--json", "--null", "topic+redis://cache/feed"], "--null"),
        (["--compress", "topic+redis://cache/feed"], "--compress"), (["--reconnect", "topic+redis://cache/feed"], "--reconnect"),
        (["--insecure", "topic+redis://cache/feed"], "--insecure"), (["--last-event-id", "a.1", "topic+redis://cache/feed"], "--from"),
        (["--lines", "listen+ws://127.0.0.1:0", "topic+memory:feed"], "--lines"),
        (["--event", "x", "listen+sse+http://127.0.0.1:0", "topic+redis://cache/feed"], "--event"),
    ):
        said = run(*arguments, status=64).stderr.decode()
        check(words in said, f"{arguments}: {said}")


{
    "file": file, "reading": reading, "redis": redis, "nats": nats, "secure": secure, "clusters": clusters, "limits": limits, "outage": outage, "feeds": feeds, "rooms": rooms, "signals": signals,
    "care": care, "command_lines": command_lines,
}[name]()
