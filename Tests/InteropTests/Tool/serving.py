"""What the tool serves to many: serving.py NAME TOOL. Exits 1 and says why when something differs."""
import base64
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from toolkit import LIMIT, Line, Server, WebSocket, check, get, name, run, tool, within

ANY = "listen+ws://127.0.0.1:0"


def rooms():
    """All in a room hear what one says, whatever it is that listens; other rooms do not."""
    with Server(ANY, "room:") as server:
        members = [WebSocket(server.port) for _ in range(5)]
        time.sleep(0.2)
        for index, member in enumerate(members):
            member.send(f"from {index}")
            for other in members:
                check(other.receive() == f"from {index}", "a message to all")
        members[0].close()
        members[1].socket.close()
        members[2].send("left")
        for other in members[2:]:
            check(other.receive() == "left", "those who stay")
        members[2].send(b"\0\1", opcode=2)
        check([member.receive() for member in members[2:]] == [b"\0\1"] * 3, "binary messages stay so")
    for listener in ["listen+tcp://127.0.0.1:0", "listen+unix:@sluice-rooms"]:
        with Server(listener, "room:") as server:
            place = server.port or "\0sluice-rooms"
            members = [Line(place) for _ in range(3)]
            time.sleep(0.2)
            # Lines stay whole, however they come.
            members[0].send(b"half ")
            members[1].send(b"other\r\n")
            for member in members:
                check(member.receive() == b"other\n", "a line to all")
            members[0].send(b"line\xff\n")
            for member in members:
                check(member.receive() == b"half line\xff\n", "a line in two parts")
            members[0].socket.shutdown(socket.SHUT_WR)
            check(members[0].receive() == b"", "whose input has ended leaves")
            members[1].send(b"still\n")
            check(members[2].receive() == b"still\n", "the others go on")
            server.stop()
            check(members[1].receive() == b"still\n" and members[1].receive() == b"", "the end of the room")
    with Server(ANY + "/rooms/{r}", "room:{r}") as server:
        blue = [WebSocket(server.port, "/rooms/blue"), WebSocket(server.port, "/rooms/%62lue")]
        red = WebSocket(server.port, "/rooms/red")
        check(WebSocket(server.port, "/rooms").status == 404, "a path without the segment")
        time.sleep(0.2)
        blue[0].send("blue")
        red.send("red")
        check([socket.receive() for socket in blue] == ["blue"] * 2 and red.receive() == "red", "rooms by name")
        server.stop()
        check(red.receive() == 1001, "1001 at the end")


def slow():
    """One that reads nothing holds the others as long as it may, or not at all."""
    for policy, survives in [("disconnect", False), ("wait:0.3", False), ("drop", True)]:
        with Server("--when-slow", policy, ANY, "room:") as server:
            deaf, sender, other = WebSocket(server.port), WebSocket(server.port), WebSocket(server.port)
            # Small buffers: it is slow soon.
            deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            time.sleep(0.2)
            # One after the other: whoever reads is never slow, however busy the machine is.
            for index in range(400):
                text = f"{index}" + "x" * 20000
                sender.send(text)
                for member in (sender, other):
                    check(member.receive() == text, f"{policy}: message {index} of who reads")
            deaf.socket.settimeout(10)
            got = 0
            last = None
            try:
                while got < 400 and (frame := deaf.frame()) and frame[1] is not None:
                    got += 1
                    last = frame[1]
                    if survives and got > 3:
                        break
            except (ConnectionResetError, TypeError):
                got = -1
            check(survives or got < 400, f"{policy}: the deaf one heard all: {got}")


def shared():
    """One command, one standard input and output, one connection for all."""
    with tempfile.TemporaryDirectory() as folder:
        command = f"exec:echo started >>{folder}/starts; while read line; do echo \"<$line>\"; done"
        for listener in [ANY, "listen+tcp://127.0.0.1:0"]:
            with Server(listener, "shared:" + command) as server:
                kind = WebSocket if listener == ANY else lambda port: Line(port)
                members = [kind(server.port) for _ in range(3)]
                time.sleep(0.2)
                for index, member in enumerate(members):
                    text = f"{index}" if listener == ANY else f"{index}\n".encode()
                    member.send(text)
                    expected = f"<{index}>" if listener == ANY else f"<{index}>\n".encode()
                    for other in members:
                        check((got := other.receive()) == expected, f"{listener}: {got}, not {expected}")
        with open(folder + "/starts") as file:
            check(file.read() == "started\n" * 2, "one command for all")
    # The command's end ends all, with its status.
    with Server(ANY, "shared:exec:read line; echo bye; exit 3", status=7) as server:
        members = [WebSocket(server.port) for _ in range(2)]
        time.sleep(0.2)
        members[0].send("x")
        for member in members:
            check(member.receive() == "bye" and member.receive() == 1000, "the last words, and a Close")
            member.close()
        server.process.wait(LIMIT)
    with Server(ANY, "shared:-", stdin=subprocess.PIPE) as server:
        members = [WebSocket(server.port) for _ in range(2)]
        time.sleep(0.2)
        server.process.stdin.write(b"to all\n")
        server.process.stdin.flush()
        check([member.receive() for member in members] == ["to all"] * 2, "standard input goes to all")
        members[0].send("one")
        check(server.process.stdout.readline() == b"one\n", "to standard output")
        members[1].send("two")
        check(server.process.stdout.readline() == b"two\n", "to standard output")
        server.process.stdin.close()
        check([member.receive() for member in members] == [1000] * 2, "its end is the end of all")
        for member in members:
            member.close()
        check(server.process.wait(LIMIT) == 0, "the end of the tool")
    # Without an input it listens only.
    with Server(ANY, "shared:-") as server:
        member = WebSocket(server.port)
        member.send("heard")
        check(server.process.stdout.readline() == b"heard\n", "without standard input")
    with Server(ANY, "echo:") as behind, Server(ANY, "shared:" + behind.url) as server:
        members = [WebSocket(server.port) for _ in range(2)]
        time.sleep(0.2)
        members[1].send("through one")
        check([member.receive() for member in members] == ["through one"] * 2, "a WebSocket for all")
    for wrong in [["shared:echo:", b"can't be shared"], ["shared:room:", b"can't be shared"]]:
        check(wrong[1] in run(ANY, wrong[0], status=64).stderr, f"{wrong}")
    check(b"listening endpoint" in run("-", "room:", status=64).stderr, "a room without a listener")
    check(b"comes second" in run("room:", status=64).stderr, "a room as SOURCE")


def routes():
    """Several endpoints, files and a health check at one port."""
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(folder + "/public")
        with open(folder + "/public/index.html", "w") as file:
            file.write("<p>hello")
        with open(folder + "/secret", "w") as file:
            file.write("secret")
        os.symlink("../secret", folder + "/public/link")
        with open(folder + "/public/.hidden", "w") as file:
            file.write("hidden")
        with Server("--route", "/echo=echo:", "--route", "/sh/{word}=exec:echo $ROUTE_WORD $PATH_INFO; cat", "--route",
                    "/rooms/{r}=room:{r}", "--files", "/=" + folder + "/public", "--health", "/health", "--response-header",
                    "X-Answer: 7", ANY) as server:
            echo = WebSocket(server.port, "/echo")
            echo.send("hi")
            check(echo.receive() == "hi" and b"X-Answer: 7" in echo.head, f"an echo: {echo.head}")
            command = WebSocket(server.port, "/sh/a%2Fb%3Bid")
            check(command.receive() == "a/b;id /sh/a/b;id", "a command with a variable")
            members = [WebSocket(server.port, "/rooms/x") for _ in range(2)]
            time.sleep(0.2)
            members[0].send("hello")
            check([member.receive() for member in members] == ["hello"] * 2, "a room")
            status, head, body = get(server.port, "/")
            check((status, body) == (200, b"<p>hello") and b"X-Answer: 7" in head, f"a file: {status} {head}")
            check(get(server.port, "/health")[::2] == (200, b"ok\n"), "a health check")
            for path in ["/link", "/.hidden", "/../secret", "/%2e%2e/secret", "/nothing", "/..%2fsecret"]:
                check(get(server.port, path)[0] in (400, 404), f"{path}: {get(server.port, path)}")
            check(WebSocket(server.port, "/other").status == 404, "a path without a route")
            server.stop()
            check(echo.receive() == 1001, "1001 at the end")
        # A TARGET is for all other paths; credentials are asked for everywhere but for a health check.
        with Server("--route", "/a=null:", "--files", "/files=" + folder + "/public", "--health", "/health", "--basic-auth", "ann:x", ANY,
                    "echo:") as server:
            ann = f"Authorization: Basic {base64.b64encode(b'ann:x').decode()}\r\n"
            check(WebSocket(server.port, "/b").status == 401 and get(server.port, "/files/")[0] == 401, "credentials")
            check(get(server.port, "/files/", ann)[0] == 200 and get(server.port, "/health")[0] == 200, "with them")
            echo = WebSocket(server.port, "/b/c", ann)
            echo.send("other")
            check(echo.receive() == "other", "another path")
    for words, told in [(["--route", "echo=echo:", ANY], b"/PATH=ENDPOINT"), (["--route", "/x=", ANY], b"nothing stands"),
                        (["--route", "/x=bogus:", ANY], b"bogus"), (["--route", "/x=-", ANY], b"shared:-"),
                        (["--route", "/{a}=room:{b}", ANY], b"{b}"), (["--route", "/{a}=ws://{a}:80", ANY], b"host"),
                        (["--route", "/x=echo:", "listen+tcp://127.0.0.1:0", "echo:"], b"--route does not apply"),
                        (["--health", "x", ANY, "echo:"], b"--health")]:
        check(told in run(*words, status=64).stderr, f"{words}: {run(*words, status=64).stderr}")


def passed_paths():
    """A WebSocket in front of another asks for what it was asked for, if it is told to."""
    with Server(ANY, "exec:echo $REQUEST_URI") as behind:
        base = behind.url.rstrip("/")
        for target, asked, expected in [(base, "/a/b?c=d", "/a/b?c=d"), (base + "/v1", "/a%20b", "/v1/a%20b"), (base + "/v1/", "/", "/v1/")]:
            with Server("--pass-path", ANY, target) as front:
                check((got := WebSocket(front.port, asked).receive()) == expected, f"{target} asked for {asked}: {got}")
        with Server(ANY, base + "/fixed") as front:
            check(WebSocket(front.port, "/other").receive() == "/fixed", "not asked to")
        with Server("--route", "/v/{name}=" + base + "/x/{name}?q={name}", ANY) as front:
            check((got := WebSocket(front.port, "/v/a%2Fb%26c").receive()) == "/x/a%2Fb&c?q=a%2Fb%26c", f"by name: {got}")


def limits():
    """How many are served, whom, and for how long in silence."""
    for listener, kind in [(ANY, WebSocket), ("listen+tcp://127.0.0.1:0", Line)]:
        def refused(server, source=None):
            try:
                client = kind(server.port, source=source)
                return client.status in (403, 429, 503) if kind is WebSocket else client.receive() == b""
            except ConnectionResetError:
                # It may come before the connection is seen to be there.
                return kind is Line

        def works(client):
            client.send("x" if kind is WebSocket else b"x\n")
            return client.receive() in ("x", b"x\n")

        def serves(server):
            try:
                client = kind(server.port)
                return (kind is Line or client.status == 101) and works(client)
            except OSError:
                return False

        with Server("--max-connections", "2", listener, "echo:") as server:
            first, second = kind(server.port), kind(server.port)
            check(works(first) and works(second) and refused(server), f"{listener}: a third of two")
            first.close()
            within("a place is free again", lambda: serves(server))
        with Server("--max-connections-per-address", "1", listener, "echo:") as server:
            first = kind(server.port)
            check(works(first) and refused(server), f"{listener}: a second of one address")
            check(works(kind(server.port, source="127.0.0.2")), f"{listener}: another address")
        with Server("--allow", "127.0.0.2/31", listener, "echo:") as server:
            check(refused(server) and works(kind(server.port, source="127.0.0.3")), f"{listener}: --allow")
        with Server("--idle-timeout", "0.5", listener, "echo:") as server:
            start = time.monotonic()
            client = kind(server.port)
            check(works(client), "works")
            time.sleep(0.3)
            check(works(client) and client.receive() in (1001, b""), f"{listener}: an idle client")
            check(time.monotonic() - start > 0.7, f"{listener}: cut too soon")
            client.socket.close()


def greetings():
    """What is said on each connection, and how long a silence may be."""
    for listener in [ANY, "listen+tcp://127.0.0.1:0"]:
        with Server(listener, "exec:read a; read b; echo $a $b; exit 0") as server:
            done = run("--say", "one", "--say", "two", "--on-end", "defer", server.url) if listener == ANY else run(
                "--say", "one", "--say", "two", server.url)
            check(done.stdout == b"one two\n", f"what is said first: {done.stdout}")
        # It is lost each time, and told anew.
        with Server(listener, "exec:read a; echo got $a; kill -9 $$" if listener == ANY else "exec:read a; echo got $a") as server:
            client = subprocess.Popen(
                [tool, "--reconnect", "--max-reconnect-delay", "0.05", "--no-input", "--say", "hello", server.url],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            for _ in range(3):
                check((got := client.stdout.readline()) == b"got hello\n", f"{listener}: said again: {got}")
            client.kill()
            client.wait()
    with Server(ANY, "exec:echo a; sleep 0.3; echo b; sleep 60", "--terminate-after", "0", "--kill-after", "0") as server:
        start = time.monotonic()
        done = run("--quiet-after", "1", "--no-input", server.url)
        check(done.stdout == b"a\nb\n" and 1.2 < time.monotonic() - start < 20, f"quiet: {done.stdout}")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run("--quiet-after", "0.3", f"tcp://127.0.0.1:{silent.getsockname()[1]}")


def is_refused(place):
    """Whether a connection ends before anything was said; it may be reset before its client knows that it was made."""
    try:
        client = Line(place)
    except ConnectionResetError:
        return True
    try:
        return client.receive() == b""
    finally:
        client.close()


looked_at = []


def scraped(server):
    """What a server's metrics say, by name and labels. What Prometheus would refuse ends the script."""
    url = re.search(rb"metrics at http://127\.0\.0\.1:(\d+)/metrics", server.said)
    check(url, f"no metrics: {server.said}")
    status, head, body = get(int(url[1]), "/metrics")
    check(status == 200 and b"text/plain; version=0.0.4" in head, f"{status} {head}")
    # Where there is Prometheus' own tool, it has a look at some.
    if shutil.which("promtool") and server not in looked_at and len(looked_at) < 3:
        looked_at.append(server)
        done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, timeout=LIMIT)
        check(done.returncode == 0, f"promtool: {done.stdout} {done.stderr}")
    values, kinds = {}, {}
    for line in body.decode().splitlines():
        if line.startswith("# "):
            word, family, rest = line[2:].split(" ", 2)
            check(word in ("HELP", "TYPE") and rest, line)
            if word == "TYPE":
                check(family not in kinds, f"twice: {line}")
                kinds[family] = rest
            continue
        found = re.fullmatch(r'([a-z_]+)(\{[a-z_]+="[^"\\\n]*"\})? (\S+)', line)
        check(found and found[1] in kinds and (kinds[found[1]] != "counter" or found[1].endswith("_total")), line)
        values[found[1].removeprefix("sluice_") + (found[2] or "").replace('"', "")] = float(found[3])
    return values


def metrics():
    """What each kind of server has done is counted."""
    with tempfile.TemporaryDirectory() as folder:
        for source, target in [("listen+ws://127.0.0.1:0", "echo:"), ("listen+ws://127.0.0.1:0", "exec:cat"), ("listen+ws://127.0.0.1:0/x", "room:"), ("listen+tcp://127.0.0.1:0", "echo:"),
                               ("listen+tcp://127.0.0.1:0", "room:"), ("listen+tcp://127.0.0.1:0", "exec:cat"), (f"listen+unix:{folder}/s", "exec:cat"), ("listen+ws://127.0.0.1:0/x", "shared:exec:cat")]:
            with Server("--metrics", "127.0.0.1:0", "--max-connections", "2", source, target) as server:
                is_socket, is_shared = source.startswith("listen+ws"), target in ("room:", "shared:exec:cat")
                clients = []
                # Each is served when it hears what it says; what the second says, the first hears too where they share something.
                for number in range(2):
                    clients.append(WebSocket(server.port, "/x" if source.endswith("/x") else "/") if is_socket else Line(server.port or folder + "/s"))
                    clients[number].send("hello" if is_socket else b"hello\n")
                    check(clients[number].receive() in ("hello", b"hello\n"), f"{source} {target}")
                if is_shared:
                    check(clients[0].receive() in ("hello", b"hello\n"), f"{source} {target}")
                heard = 3 if is_shared else 2
                # A stream in a room is counted without line ends on the way in, and with them on the way out.
                expected = {"connections_open": 2, "connections_accepted_total": 2, "received_bytes_total": 2 * (5 if is_socket or is_shared else 6), "sent_bytes_total": heard * (5 if is_socket else 6)}
                if is_socket or is_shared:
                    expected |= {"received_messages_total": 2, "sent_messages_total": heard}

                def holds():
                    values = scraped(server)
                    return all(values[key] == value for key, value in expected.items())
                for _ in range(100):
                    if holds():
                        break
                    time.sleep(0.02)
                values = scraped(server)
                check(holds(), f"{source} {target}: {[(key, values[key], value) for key, value in expected.items() if values[key] != value]}")
                check(values["build_info{version=" + run("--version").stdout.decode().strip() + "}"] == 1 and abs(values["process_start_time_seconds"] - time.time()) < 60, f"{values}")
                if is_socket:
                    third = WebSocket(server.port, "/x")
                    check(third.status == 503, "one too many")
                    third.socket.close()
                else:
                    check(is_refused(server.port or folder + "/s"), "one too many")
                within(f"{source} {target}: the refusal", lambda: scraped(server).get("connections_refused_total{status=503}") == 1)
                for client in clients:
                    client.close()
                within(f"{source} {target}: their ends", lambda: scraped(server)["connections_open"] == 0)
                if is_socket:
                    check(scraped(server)["websocket_closes_total{code=1000}"] == 2, f"closes: {scraped(server)}")
        # Routes, files and events.
        with open(folder + "/f", "w") as file:
            file.write("12345")
        with Server("--metrics", "127.0.0.1:0", "--route", "/echo=echo:", "--files", f"/={folder}", "--health", "/health", "listen+ws://127.0.0.1:0") as server:
            check(get(server.port, "/f")[2] == b"12345" and get(server.port, "/none")[0] == 404 and get(server.port, "/health")[0] == 200, "files")
            client = WebSocket(server.port, "/echo")
            client.send("abc")
            client.receive()
            values = scraped(server)
            check((values["http_responses_total{status=200}"], values["received_messages_total"], values["connections_accepted_total"]) == (2, 1, 4), f"routes: {values}")
            client.close()
        with subprocess.Popen([tool, "--metrics", "127.0.0.1:0", "-", "listen+sse+http://127.0.0.1:0"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            class Events:
                said = process.stderr.readline()
                port = int(process.stderr.readline().decode().rsplit(":", 1)[1].strip("/\n"))
            with socket.create_connection(("127.0.0.1", Events.port)) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                client.settimeout(LIMIT)
                got = client.recv(65536)
                within("a listener", lambda: scraped(Events)["connections_open"] == 1)
                process.stdin.write(b"one\ntwo\n")
                process.stdin.flush()
                while b"two" not in got:
                    got += client.recv(65536)
                check(scraped(Events)["sent_messages_total"] == 2, f"events: {scraped(Events)}")
                process.stdin.close()
        # What fails, by its kind.
        with Server("--metrics", "127.0.0.1:0", "listen+tcp://127.0.0.1:0", "exec:exit 3") as server:
            Line(server.port).receive()
            within("a failure", lambda: scraped(server).get("connection_errors_total{kind=io}") == 1)
        # Datagrams that there is no place for.
        with Server("--metrics", "127.0.0.1:0", "--max-connections", "1", "listen+udp://127.0.0.1:0", "echo:") as server:
            peers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
            peers[0].sendto(b"abc", ("127.0.0.1", server.port))
            peers[0].recv(100)
            peers[1].sendto(b"x", ("127.0.0.1", server.port))
            within("what was dropped", lambda: scraped(server)["dropped_messages_total"] == 1)
            values = scraped(server)
            check((values["received_bytes_total"], values["sent_messages_total"], values["connections_open"]) == (3, 1, 1), f"datagrams: {values}")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            check(b"EADDRINUSE" in run("--metrics", "127.0.0.1:%d" % taken.getsockname()[1], "listen+tcp://127.0.0.1:0", "echo:", status=7).stderr, "a port that is taken")
    for words, told in [(["--metrics", "127.0.0.1", "listen+tcp://127.0.0.1:0", "echo:"], b"--metrics must be HOST:PORT"), (["--metrics", "127.0.0.1:0", "-", "tcp://127.0.0.1:1"], b"--metrics does not apply")]:
        check(told in (done := run(*words, status=64)).stderr, f"{words}: {done.stderr}")


def loops():
    """Connections on several loops share rooms, commands and topics as those on one do; each kind of listener ends in order."""
    with Server("listen+tcp://127.0.0.1:0", "echo:") as echo, tempfile.TemporaryDirectory() as folder:
        for source, target in [(ANY, "echo:"), (ANY, "room:"), (ANY, "shared:exec:cat"), (ANY, f"topic+sqlite:{folder}/t/x".replace("/t/", "/t.db/")), (ANY, "topic+memory:x"), (ANY, f"tcp://127.0.0.1:{echo.port}"), (ANY, "exec:cat"),
                               ("listen+tcp://127.0.0.1:0", "echo:"), ("listen+tcp://127.0.0.1:0", "room:"), ("listen+tcp://127.0.0.1:0", "shared:exec:cat"), ("listen+tcp://127.0.0.1:0", f"tcp://127.0.0.1:{echo.port}"),
                               ("listen+tcp://127.0.0.1:0", "exec:cat")]:
            with Server("--loops", "3", "--metrics", "127.0.0.1:0", "--max-connections", "12", source, target) as server:
                names = {open(f"/proc/{server.process.pid}/task/{task}/comm").read().strip() for task in os.listdir(f"/proc/{server.process.pid}/task")}
                check({f"sluice-loop-{number}" for number in range(3)} <= names, f"{source} {target}: threads {names}")
                is_socket, is_shared = source == ANY, target.startswith(("room:", "shared:", "topic"))

                def word(text):
                    return text if is_socket else text.encode() + b"\n"

                def until(client, text):
                    while (got := client.receive()) != word(text):
                        check(got, f"{source} {target}: no {text}")
                members = []
                # Each is there when it hears itself.
                for number in range(12):
                    members.append(WebSocket(server.port) if is_socket else Line(server.port))
                    members[number].send(word(f"in {number}"))
                    until(members[number], f"in {number}")
                if is_shared:
                    for number, member in enumerate(members):
                        member.send(word(f"hello {number}"))
                    heard = []
                    for member in members:
                        words = []
                        while len(words) < 12:
                            got = member.receive()
                            check(got, f"{source} {target}: an end")
                            if (text := got if is_socket else got.decode().strip()).startswith("hello"):
                                words.append(text)
                        heard.append(words)
                    check(all(sorted(words) == sorted(f"hello {number}" for number in range(12)) for words in heard), f"{source} {target}: {heard[0]}")
                    # What all share has one order; in a room, only that of each speaker is kept.
                    if not target.startswith("room:"):
                        check(all(words == heard[0] for words in heard), f"{source} {target}: different orders")
                else:
                    for number, member in enumerate(members):
                        member.send(word(f"hello {number}"))
                    for number, member in enumerate(members):
                        until(member, f"hello {number}")
                values = scraped(server)
                check((values["connections_open"], values["connections_accepted_total"]) == (12, 12), f"{source} {target}: {values}")
                # The limit is one for all loops.
                if is_socket:
                    extra = WebSocket(server.port)
                    check(extra.status == 503, "one too many")
                    extra.socket.close()
                else:
                    check(is_refused(server.port), "one too many")
                for member in members[:6]:
                    member.close()
                within(f"{source} {target}: the ends of half", lambda: scraped(server)["connections_open"] in (6, 7))
    with subprocess.Popen([tool, "--loops", "2", "-", "listen+sse+http://127.0.0.1:0"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        port = int(process.stderr.readline().decode().rsplit(":", 1)[1].strip("/\n"))
        with contextlib.ExitStack() as stack:
            readers = [stack.enter_context(socket.create_connection(("127.0.0.1", port), LIMIT)) for _ in range(8)]
            for reader in readers:
                reader.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                check(b"200" in reader.recv(65536), "an event stream")
            time.sleep(0.3)
            process.stdin.write(b"one\ntwo\n")
            process.stdin.close()
            for reader in readers:
                got = b""
                while chunk := reader.recv(65536):
                    got += chunk
                check(got.find(b"data: one") < got.find(b"data: two") and b"data: two" in got, f"events: {got}")
        check(process.wait(LIMIT) == 0, f"its end: {process.returncode}")
    for words, told in [(["--loops", "0", ANY, "echo:"], b"--loops must be 1"), (["--loops", "2", ANY], b"'-', which takes one connection"), (["--loops", "2", "listen+unix:/x/s", "echo:"], b"--loops does not apply")]:
        check(told in (done := run(*words, status=64)).stderr, f"{words}: {done.stderr}")


globals()[name]()
