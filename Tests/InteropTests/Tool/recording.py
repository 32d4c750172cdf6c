"""What the tool writes down of what passes, and plays back: recording.py NAME TOOL. Exits 1 and says why when something differs."""
import base64
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time

from toolkit import LIMIT, Line, Server, WebSocket, check, name, run, tool, within

ANY = "listen+ws://127.0.0.1:0"
ANY_TCP = "listen+tcp://127.0.0.1:0"


def lines(path):
    """A recording without its times, whose header and order of times is checked."""
    with open(path) as file:
        header, *events = [json.loads(line) for line in file]
    check(header["recording"] == 1 and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", header["started"]), f"the header: {header}")
    times = [event["time"] for event in events]
    check(times == sorted(times) and all(0 <= at < 100 for at in times), f"times: {times}")
    return events


def given(events, side, connection=1):
    """What came from a side, as bytes, and how it ended."""
    events = [event for event in events if event["connection"] == connection and event.get("from") == side]
    data = [event["data"].encode() if "data" in event else base64.b64decode(event["base64"]) for event in events if "size" in event]
    check([len(piece) for piece in data] == [event["size"] for event in events if "size" in event], f"sizes of {events}")
    return [event["kind"] for event in events if "size" in event], data, events[-1]["kind"]


def wrote(path, *events):
    with open(path, "w") as file:
        file.write('{"recording":1}\n')
        for at, side, kind, data in events:
            file.write(json.dumps({"time": at, "from": side, "kind": kind, **({"data": data} if data is not None else {})}) + "\n")


def record():
    """Both directions of everything, complete, and in a log."""
    with tempfile.TemporaryDirectory() as folder:
        path, log = folder + "/r", folder + "/log"
        with Server(ANY, "echo:") as server:
            run("--record", path, "--log", log, "-", server.url, data='a"\\\té\u0001\n\nb\n'.encode())
            expected = ["a\"\\\té\u0001".encode(), b"", b"b"]
            events = lines(path)
            check(events[0]["kind"] == "open", f"it begins with {events[0]}")
            for side in ("source", "target"):
                check((got := given(events, side)) == (["text"] * 3, expected, "end"), f"{side}: {got}")
            with open(log) as file:
                logged = file.read().splitlines()
            check(re.fullmatch(r"\d{4}-\S+Z 1 open", logged[0]), f"log: {logged[0]}")
            check(re.search(r'Z 1 source text 7 "a\\"\\\\\\té\\u0001"$', logged[1]), f"log: {logged[1]}")
            check(sum(" target " in line for line in logged) == 4, f"log: {logged}")
            # Binary, in pieces that are no UTF-8, and a message that is longer than a piece of a line.
            large = bytes(range(256)) * 2000
            run("--binary", "--length-prefixed", "--record", path, "-", server.url, data=len(large).to_bytes(4, "big") + large)
            for side in ("source", "target"):
                check(given(lines(path), side) == (["binary"], [large], "end"), f"a large message from the {side}")
            text = ("é\"\n" * 100_000).encode()
            run("--null", "--record", path, "-", server.url, data=text + b"\0")
            check(given(lines(path), "target") == (["text"], [text], "end"), "a large text")
            # Without a framing: messages stay messages in the recording.
            with open(folder + "/out", "wb") as out:
                subprocess.run([tool, "--binary", "--record", path, "-", server.url], input=large, stdout=out, check=True, timeout=LIMIT)
            kinds, data, end = given(lines(path), "target")
            check(set(kinds) == {"binary"} and b"".join(data) == large and end == "end", f"bytes through a WebSocket: {kinds}")
            with open(folder + "/out", "rb") as out:
                check(out.read() == large, "what passed")
        with Server("--record", path, ANY_TCP, "exec:tr a-z A-Z") as server:
            first, second = Line(server.port), Line(server.port)
            first.send(b"one\n")
            second.send(b"two\xff\n")
            for line, expected in ((first, b"ONE\n"), (second, b"TWO\xff\n")):
                line.socket.shutdown(socket.SHUT_WR)
                check((got := line.receive()) == expected and line.receive() == b"", f"an answer: {got}")
        events = lines(path)
        check({event["connection"] for event in events} == {1, 2}, "two connections")
        for connection in (1, 2):
            source, target = given(events, "source", connection), given(events, "target", connection)
            check(set(source[0]) == {"bytes"} and source[2] == target[2] == "end", f"{source} {target}")
            check(b"".join(target[1]) == b"".join(source[1]).upper() != b"", f"{source} {target}")
        with Server("--record", path, ANY, "echo:") as server:
            client = WebSocket(server.port)
            client.send("x")
            check(client.receive() == "x", "an echo that is recorded")
            client.close()
        check(all(given(lines(path), side)[:2] == (["text"], [b"x"]) for side in ("source", "target")), "both sides of an echo")
        done = run("--log", "-", "--log-hex", "-", "-", data=b"0123456789abcdefXY\n\xff")
        told = done.stderr.decode()
        check("  00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|\n" in told, f"hexadecimal: {told}")
        check("  00000010  58 59 0a ff " + " " * 37 + " |XY..|\n" in told, f"hexadecimal: {told}")
        check(done.stdout == b"0123456789abcdefXY\n\xff", "what passed")


def replay():
    """What was recorded comes again: as a server's target, as a source, at its speed, faster, and step by step."""
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/r"
        # A session with a command, as a server would have it, and played to another client.
        with Server(ANY, "exec:read a; echo got $a; sleep 0.5; read b; echo got $b; printf 'x\\0y\\n'") as server:
            done = run("--record", path, "-", server.url, data=b"one\ntwo\n")
        with Server(ANY, "replay:" + path) as server:
            start = time.monotonic()
            check((got := run("--no-input", server.url).stdout) == done.stdout == b"got one\ngot two\nx\0y\n", f"played: {got}")
            took = time.monotonic() - start
            check(took > 0.4, "at its speed")
        with Server("--speed", "max", ANY_TCP, "replay:" + path) as server:
            start = time.monotonic()
            check(run("--no-input", server.url).stdout == done.stdout, "messages to a stream of bytes")
            check(time.monotonic() - start < took - 0.2, f"as fast as it goes: {time.monotonic() - start:.2f} s, and {took:.2f} s at its speed")
        with Server("--speed", "step", ANY, "replay:" + path) as server:
            client = WebSocket(server.port)
            # Both were sent before an answer came.
            client.send("one")
            client.socket.settimeout(0.3)
            try:
                check(False, f"before its step: {client.receive()}")
            except TimeoutError:
                pass
            client.socket.settimeout(LIMIT)
            client.send("two")
            check([client.receive() for _ in range(3)] == ["got one", "got two", "x\0y"], "step by step")
            client.close()
        # What the client said, to another server.
        with Server(ANY, "exec:cat >" + folder + "/said") as server:
            run("--speed", "2", "replay:" + path, server.url)
        with open(folder + "/said", "rb") as file:
            check((got := file.read()) == b"one\ntwo\n", f"played as SOURCE: {got}")
        check(run("--play", "target", "--speed", "max", "replay:" + path).stdout == done.stdout, "to standard output")
        check(run("--speed", "max", "--null", "replay:" + path, "-").stdout == b"one\0two\0", "with another framing")
        # Bytes, made by hand: without times, connections and ends.
        with open(path, "w") as file:
            file.write('{"from":"target","kind":"bytes","data":"a\\u00e9\\ud83d\\ude00","more":[{"x":"]"},1,null]}\n'
                       '{"from":"source","kind":"bytes","data":"12345"}\n\n'
                       '{"from":"target","kind":"bytes","base64":"/wA="}\n'
                       '{"from":"target","connection":2,"kind":"text","data":"other"}\n')
        with Server("--speed", "step", ANY_TCP, "replay:" + path) as server:
            line = Line(server.port)
            check(line.socket.recv(100) == "aé😀".encode(), "before the first step")
            line.send(b"12")
            line.send(b"345")
            check(line.socket.recv(100) == b"\xff\0", "behind as many bytes")
            line.close()
            # It ends before it has said as much.
            short = Line(server.port)
            short.send(b"1234")
            short.socket.shutdown(socket.SHUT_WR)
            short.receive()
            within("the missing answer is told", lambda: b"after 4 bytes, before the 5 bytes" in server.said)
        check(run("--play-connection", "2", "--play", "target", "replay:" + path).stdout == b"other\n", "another connection")
        # As bytes to a WebSocket, in lines.
        wrote(path, (0, "target", "bytes", "a\nb"), (0, "target", "bytes", "c\n"), (0, "target", "end", None))
        with Server(ANY, "replay:" + path) as server:
            client = WebSocket(server.port)
            check([client.receive(), client.receive()] == ["a", "bc"], "lines of bytes")
            client.close()
        # A failure is played too, and a signal ends what still waits.
        wrote(path, (0, "source", "text", "x"), (0.1, "source", "error", None))
        with Server(ANY, "null:") as server:
            done = run("replay:" + path, server.url, status=4)
            check(b"as recorded: an error" in done.stderr, f"{done.stderr}")
        wrote(path, (0, "source", "text", "x"), (1000, "source", "text", "y"))
        player = subprocess.Popen([tool, "replay:" + path], stdout=subprocess.PIPE)
        check(player.stdout.readline() == b"x\n", "at once")
        player.terminate()
        check(player.wait(LIMIT) == 0, "the end of one that waits")


def rooms():
    """What each says in a room, and what a shared endpoint gives."""
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/r"
        with Server("--record", path, ANY, "room:") as server:
            members = [WebSocket(server.port) for _ in range(2)]
            time.sleep(0.2)
            for number, member in enumerate(members):
                member.send(f"of {number}")
                check([each.receive() for each in members] == [f"of {number}"] * 2, "what all hear")
            for member in members:
                member.close()
        events = lines(path)
        check(sorted(given(events, "source", connection)[1][0] for connection in (1, 2)) == [b"of 0", b"of 1"], f"a room: {events}")
        check(not any(event.get("from") == "target" for event in events), f"nothing else: {events}")
        with Server("--record", path, ANY_TCP, "shared:exec:while read x; do echo got $x; done") as server:
            line = Line(server.port)
            time.sleep(0.2)
            line.send(b"one\n")
            check(line.receive() == b"got one\n", "an answer")
        events = lines(path)
        check(given(events, "target", 1)[1] == [b"got one"], f"what is shared: {events}")
        check(given(events, "source", 2)[1] == [b"one"], f"what one said: {events}")
        with Server("--speed", "max", ANY, "replay:" + path) as server:
            check(WebSocket(server.port).receive() == "got one", "it is played")


def torn():
    """What can't be written, and what can't be read, is told."""
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/r"
        # A disk that is full ends what passes: nothing passes that is not recorded.
        done = run("--record", "/dev/full", "-", "-", data=b"x\n" * 100, status=7)
        check(b"/dev/full" in done.stderr and b"ENOSPC" in done.stderr, f"a full disk: {done.stderr}")
        check(b"ENOENT" in run("--record", folder + "/none/r", "-", "-", status=7).stderr, "a folder that is not there")
        # A file that is slow slows what passes.
        os.mkfifo(folder + "/fifo")
        piped = subprocess.Popen(
            [tool, "--record", folder + "/fifo", "-", "file:/dev/null"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        with open(folder + "/fifo", "rb") as reader:
            os.set_blocking(piped.stdin.fileno(), False)
            taken = 0
            deadline = time.monotonic() + 1.5
            while time.monotonic() < deadline:
                try:
                    taken += os.write(piped.stdin.fileno(), b"x" * 65536)
                except BlockingIOError:
                    time.sleep(0.02)
            check(taken < 4 << 20, f"{taken} bytes were taken while nobody read the recording")
            piped.stdin.close()
            events = [json.loads(line) for line in reader]
        check(sum(event.get("size", 0) for event in events) == taken and events[-1]["kind"] == "end", "all of it is there")
        check(piped.wait(LIMIT) == 0, "its end")
        # A connection that fails is recorded up to there, and says so.
        with socket.create_server(("127.0.0.1", 0)) as listener:
            def cut():
                connection, _ = listener.accept()
                connection.sendall(b"before\n")
                time.sleep(0.3)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.close()

            threading.Thread(target=cut, daemon=True).start()
            run("--no-input", "--record", path, f"tcp://127.0.0.1:{listener.getsockname()[1]}", status=4)
            check((got := given(lines(path), "source")) == (["bytes"], [b"before\n"], "error"), f"up to the failure: {got}")
        # A recording that was cut is played as far as it goes, and that is told.
        wrote(path, (0, "source", "text", "one"), (0, "source", "text", "two"))
        with open(path, "r+") as file:
            whole = file.read()
            file.truncate(len(whole) - 5)
        done = run("replay:" + path)
        check(done.stdout == b"one\n" and b"torn here" in done.stderr, f"a torn line: {done}")
        for content, told in [('{"recording":1}\n{"from":"source"}\n{}\n', b":2: no \"kind\""), ("", b"nothing was recorded"),
                              ("hello\nworld\n", b":1: not an object"), ('{"recording":9}\n', b":1: version"),
                              ('{"recording":1}\n{"kind":"text","data":"x"}\n{}\n', b"no \"from\""),
                              ('{"recording":1}\n{"kind":"text","from":"me","data":"x"}\n{}\n', b"not 'me'"),
                              ('{"recording":1}\n{"kind":"text","from":"source"}\n{}\n', b"neither"),
                              ('{"recording":1}\n{"kind":"text","from":"source","base64":"/w=="}\n{}\n', b"not UTF-8"),
                              ('{"recording":1}\n{"kind":"bytes","from":"source","base64":"!"}\n{}\n', b"Base64"),
                              ('{"recording":1}\n{"kind":"x","from":"source","time":1}\n{}\n', b"unknown kind"),
                              ('{"recording":1}\n{"kind":"end","from":"source","time":1e300}\n{}\n', b"time"),
                              ('{"recording":1}\n{"kind":"end","from":"source","connection":1e300}\n{}\n', b"connection"),
                              ('{"recording":1}\n{"kind":"end","from":"\\ud800"}\n{}\n', b"not an object"),
                              ('{"recording":1}\n{"a":' + "[" * 100000 + "\n{}\n", b"not an object")]:
            with open(path, "w") as file:
                file.write(content)
            done = run("replay:" + path, status=7)
            check(told in done.stderr, f"{content[:80]}: {done.stderr}")
        check(b"ENOENT" in run("replay:" + folder + "/none", status=7).stderr, "no file")
        # What would be ignored, or destroy what is read, is refused.
        for words, told in [(["--record", path, "replay:" + path, "-"], b"can't write the file of replay:"),
                            (["--record", path, "--log", path, "-", "-"], b"same file"),
                            (["--record", "-", "-", "-"], b"--record needs a file"), (["--log-hex", "-", "-"], b"--log-hex needs"),
                            (["--record", path, ANY, "topic+memory:x"], b"--record does not apply"),
                            (["--speed", "2", "-", "-"], b"--speed does not apply"), (["--speed", "0", "replay:x"], b"--speed"),
                            (["--play", "client", "replay:x"], b"--play"), (["--play-connection", "0", "replay:x"], b"--play-connection"),
                            (["replay:", "-"], b"a path is missing")]:
            check(told in (done := run(*words, status=64)).stderr, f"{words}: {done.stderr}")


globals()[name]()
