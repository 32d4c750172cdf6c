"""Datagrams, UDP and Unix, as messages: datagrams.py NAME TOOL. Exits 1 and says why when something differs."""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import processes
from toolkit import LIMIT, Server, WebSocket, check, name, run, tool, within

ANY_UDP = "listen+udp://127.0.0.1:0"


def bound(family=socket.AF_INET, address=("127.0.0.1", 0)):
    peer = socket.socket(family, socket.SOCK_DGRAM)
    peer.bind(address)
    peer.settimeout(LIMIT)
    return peer


def client():
    """Each message is a datagram, and each datagram a message; it ends when nothing comes any more."""
    with bound() as peer:
        url = f"udp://127.0.0.1:{peer.getsockname()[1]}"
        process = subprocess.Popen([tool, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.stdin.write(b"one\ntwo\n\n")
        process.stdin.flush()
        got = [peer.recvfrom(1000) for _ in range(3)]
        check([data for data, _ in got] == [b"one", b"two", b""], f"datagrams: {got}")
        for data in (b"answer", b"", b"x" * 60_000):
            peer.sendto(data, got[0][1])
        check([process.stdout.readline() for _ in range(3)] == [b"answer\n", b"\n", b"x" * 60_000 + b"\n"], "answers")
        process.stdin.close()
        start = time.monotonic()
        check(process.wait(LIMIT) == 0 and 0.5 < time.monotonic() - start < 10, f"its end: {process.returncode} after {time.monotonic() - start:.1f} s")
        # Framings, and what is too long for a datagram.
        run("--binary", "--length-prefixed", "--answer-timeout", "0.1", url, data=b"\0\0\0\3a\nb\0\0\0\0")
        check([peer.recv(1000) for _ in range(2)] == [b"a\nb", b""], "another framing")
        check(b"EMSGSIZE" in run(url, data=b"x" * 70_000 + b"\n", status=7).stderr, "one that is too long")
        got = run("--local-address", "127.0.0.5", "--answer-timeout", "0.1", url, data=b"x\n")
        check(peer.recvfrom(100)[1][0] == "127.0.0.5", "a local address")
        # A message of a WebSocket is one too.
        with Server("listen+ws://127.0.0.1:0", url) as server:
            one = WebSocket(server.port)
            one.send("hello")
            data, address = peer.recvfrom(1000)
            check(data == b"hello", f"of a WebSocket: {data}")
            peer.sendto("é".encode(), address)
            peer.sendto(b"\xff", address)
            check([one.receive() for _ in range(2)] == ["é", b"\xff"], "text where it is, and binary")
            one.close()
        process = subprocess.Popen([tool, url], stdin=subprocess.PIPE)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        check(process.wait(10) == 0, f"a signal: {process.returncode}")
        nobody = url
    check(b"ECONNREFUSED" in run(nobody, data=b"x\n", status=5).stderr, "nobody receives")
    for words in [["udp://127.0.0.1"], ["udp:1"], ["--say", "x", nobody], ["--reconnect", nobody], ["unix-dgram:"], ["-4", "-6", nobody], ["--proxy", "none", nobody]]:
        run(*words, status=64)


def server():
    """Whoever sends is connected to a target of its own, until it is silent."""
    with Server("--idle-timeout", "1", ANY_UDP, "exec:echo $REMOTE_ADDR; sed -u s/^/got-/") as serving:
        peers = [bound() for _ in range(3)]
        for number, peer in enumerate(peers):
            peer.sendto(b"%d" % number, ("127.0.0.1", serving.port))
        for number, peer in enumerate(peers):
            check([peer.recv(100), peer.recv(100)] == [b"127.0.0.1", b"got-%d" % number], f"peer {number}")
        peers[0].sendto(b"again", ("127.0.0.1", serving.port))
        check(peers[0].recv(100) == b"got-again", "the same target")
        time.sleep(2.5)
        peers[0].sendto(b"later", ("127.0.0.1", serving.port))
        check([peers[0].recv(100), peers[0].recv(100)] == [b"127.0.0.1", b"got-later"], "a new one, behind a silence")
        # One that has gone ends nothing for the others.
        peers[1].sendto(b"x", ("127.0.0.1", serving.port))
        peers[1].close()
        time.sleep(0.3)
        peers[2].sendto(b"still", ("127.0.0.1", serving.port))
        within("an answer", lambda: peers[2].recv(100) == b"got-still")
    with Server(ANY_UDP, "echo:") as serving, bound() as peer:
        for size in (0, 1, 1472, 65_507):
            data = os.urandom(size)
            peer.sendto(data, ("127.0.0.1", serving.port))
            check(peer.recv(70_000) == data, f"{size} bytes")
    # The other programs.
    check(shutil.which("socat"), "socat is not installed: scripts/install")
    with Server(ANY_UDP, "echo:") as serving:
        done = subprocess.run(["socat", "-t1", "-", f"UDP:127.0.0.1:{serving.port}"], input=b"hello", capture_output=True, timeout=LIMIT)
        check(done.stdout == b"hello", f"socat: {done}")
        check(run(f"udp://127.0.0.1:{serving.port}", data=b"a\nb\n").stdout == b"a\nb\n", "one of ours with another")
    # What served a connection ends with it.
    with bound() as peer, Server("listen+ws://127.0.0.1:0", f"udp://127.0.0.1:{peer.getsockname()[1]}") as serving:
        def descriptors():
            return len(os.listdir(f"/proc/{serving.process.pid}/fd"))
        before = descriptors()
        for number in range(20):
            run("--answer-timeout", "0.1", "-", serving.url, data=b"%d\n" % number)
            check(peer.recv(100) == b"%d" % number, "what a visitor said")
        within("the sockets of connections that have ended are closed", lambda: descriptors() <= before + 2)
    # As many as may be; what others send is dropped until one has gone.
    with Server("--max-connections", "2", "--idle-timeout", "1", ANY_UDP, "echo:") as serving, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(3)]
        for peer in peers:
            peer.connect(("127.0.0.1", serving.port))
            peer.settimeout(0.3)
        for peer in peers[:2]:
            peer.send(b"first")
            check(peer.recv(100) == b"first", "one of those that may be")
        peers[2].send(b"too many")
        try:
            check(False, f"one too many got {peers[2].recv(100)}")
        except TimeoutError:
            pass

        def has_place():
            peers[2].send(b"later")
            try:
                return peers[2].recv(100) == b"later"
            except TimeoutError:
                return False
        within("a place is free", has_place)
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/s"
        with bound(socket.AF_UNIX, path) as peer:
            process = subprocess.Popen([tool, f"unix-dgram:{path}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            process.stdin.write(b"log line\n")
            process.stdin.flush()
            data, address = peer.recvfrom(1000)
            check(data == b"log line" and address, f"a Unix datagram: {data} of {address}")
            peer.sendto(b"answer", address)
            check(process.stdout.readline() == b"answer\n", "an answer")
            # More than its queue holds is sent at its reader's pace.
            process.stdin.write(b"".join(b"%d\n" % number for number in range(2000)))
            process.stdin.close()
            check([peer.recv(100) for _ in range(2000)] == [b"%d" % number for number in range(2000)], "as fast as it is read")
            check(process.wait(LIMIT) == 0, f"its end: {process.returncode}")
        check(b"ECONNREFUSED" in run(f"unix-dgram:{path}", data=b"x\n", status=5).stderr, "nobody receives")
    for words in [[ANY_UDP, "room:"], ["--max-connections-per-address", "1", ANY_UDP, "echo:"], ["--allow", "127.0.0.1", ANY_UDP, "echo:"], ["-", ANY_UDP], ["listen+udp://127.0.0.1", "echo:"]]:
        run(*words, status=64)
    for words in [["listen+unix-dgram:", "echo:"], ["listen+unix-dgram:/x/s", "room:"], ["-", "listen+unix-dgram:/x/s"]]:
        run(*words, status=64)


def unix_server():
    """Whoever sends to a Unix socket has a target of its own, if it has a name; all others have one together, which can't answer."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = folder + "/s"
        # A file that was left over is replaced, and what is no socket stays.
        bound(socket.AF_UNIX, path).close()
        with Server("--idle-timeout", "2", "--socket-mode", "0620", f"listen+unix-dgram:{path}", "exec:sed -u s/^/got-/") as serving:
            check(serving.url == f"unix-dgram:{path}" and os.stat(path).st_mode & 0o777 == 0o620, f"{serving.url} {os.stat(path).st_mode:o}")
            peers = [stack.enter_context(bound(socket.AF_UNIX, f"{folder}/{number}")) for number in range(3)]
            for number, peer in enumerate(peers):
                peer.sendto(b"%d" % number, path)
            for number, peer in enumerate(peers):
                check(peer.recv(100) == b"got-%d" % number, f"peer {number}")
            check(run("--answer-timeout", "0.3", f"unix-dgram:{path}", data=b"a\nb\n").stdout == b"got-a\ngot-b\n", "one of ours")
            done = subprocess.run(["socat", "-t1", "-", f"UNIX-CLIENT:{path},type=2,bind={folder}/socat"], input=b"hello", capture_output=True, timeout=LIMIT)
            check(done.stdout == b"got-hello", f"socat: {done}")
            # One that reads nothing holds only its own target, and that for no longer than it counts as there.
            for number in range(3000):
                peers[0].sendto(b"%d" % number, path)
            peers[1].sendto(b"still", path)
            check(peers[1].recv(100) == b"got-still", "beside one that reads nothing")
            # One whose file has gone.
            peers[2].sendto(b"x", path)
            os.unlink(f"{folder}/2")
            peers[2].close()
            peers[1].sendto(b"again", path)
            check(peers[1].recv(100) == b"got-again", "beside one that has gone")
        check(not os.path.exists(path), "its file goes with it")
        log = folder + "/log"
        with Server(f"listen+unix-dgram:{path}", f"file:{log}") as serving:
            nobody = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
            for number, peer in enumerate(nobody):
                peer.sendto(b"line %d" % number, path)
            large = os.urandom(100_000).hex().encode()[:200_000]
            nobody[0].sendto(large, path)
            within("what was heard of those without a name", lambda: os.path.exists(log) and open(log, "rb").read() == b"line 0\nline 1\n" + large + b"\n")
        with Server("listen+unix-dgram:@sluice-%d" % os.getpid(), "echo:") as serving:
            check(run("--answer-timeout", "0.3", serving.url, data=b"x\n").stdout == b"x\n", "an abstract one")
        # An answer to nobody is dropped.
        with Server(f"listen+unix-dgram:{path}", "echo:") as serving:
            for number in range(100):
                nobody[0].sendto(b"x", path)
            check(run("--answer-timeout", "0.3", f"unix-dgram:{path}", data=b"y\n").stdout == b"y\n", "beside those that can't be answered")
            check(b"EADDRINUSE" in run(f"listen+unix-dgram:{path}", "echo:", status=7).stderr, "in use")
        open(path, "w").close()
        check(b"EADDRINUSE" in run(f"listen+unix-dgram:{path}", "echo:", status=7).stderr and os.path.isfile(path), "what is no socket")


def packets(peer, path):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(LIMIT)
    if peer == "client":
        connection.connect(path)
    else:
        connection.bind(path)
        connection.listen()
    return connection


def seqpacket():
    """Connections that keep messages, empty ones too, and whose directions have ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/s"
        with packets("server", path) as listener:
            process = subprocess.Popen([tool, "unix-seqpacket:" + path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            peer = listener.accept()[0]
            peer.settimeout(LIMIT)
            process.stdin.write(b"one\n\ntwo\n")
            process.stdin.flush()
            check([peer.recv(100) for _ in range(3)] == [b"one", b"", b"two"], "what was sent")
            for data in (b"answer", b"", b"x" * 100_000):
                peer.send(data)
            check([process.stdout.readline() for _ in range(3)] == [b"answer\n", b"\n", b"x" * 100_000 + b"\n"], "answers")
            # The end of the input is one, and what comes afterwards still arrives.
            process.stdin.close()
            check(peer.recv(100) == b"" and peer.recv(100) == b"", "the end of the input")
            peer.send(b"last")
            peer.close()
            check(process.stdout.read() == b"last\n" and process.wait(10) == 0, f"its end: {process.returncode}")
            # At the pace of a slow reader.
            process = subprocess.Popen([tool, "-", "unix-seqpacket:" + path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            peer = listener.accept()[0]
            lines = [b"%d" % number for number in range(20_000)]
            writer = threading.Thread(target=lambda: process.communicate(b"\n".join(lines)))
            writer.start()
            time.sleep(0.2)
            check([peer.recv(100) for _ in lines] == lines and peer.recv(100) == b"", "as fast as it is read")
            peer.close()
            writer.join()
            check(process.returncode == 0, f"its end: {process.returncode}")
            # A peer that is gone.
            process = subprocess.Popen([tool, "exec:yes", "unix-seqpacket:" + path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            peer = listener.accept()[0]
            peer.recv(10)
            peer.close()
            check(process.wait(10) in (0, 4), f"a peer that has gone: {process.returncode} {process.stderr.read()}")
        check(b"ECONNREFUSED" in run("unix-seqpacket:" + path, data=b"x", status=5).stderr, "nobody listens")
        with bound(socket.AF_UNIX, folder + "/d"):
            check(b"EPROTOTYPE" in run(f"unix-seqpacket:{folder}/d", status=5).stderr, "another kind of socket")
        with Server("--max-connections", "2", "--socket-mode", "0600", "listen+unix-seqpacket:" + path, "exec:sed -u s/^/got-/") as serving:
            check(serving.url == "unix-seqpacket:" + path and os.stat(path).st_mode & 0o777 == 0o600, serving.url)
            one, two = packets("client", path), packets("client", path)
            for number, client in enumerate((one, two)):
                client.send(b"%d" % number)
            check([one.recv(100), two.recv(100)] == [b"got-0", b"got-1"], "targets of their own")
            with packets("client", path) as third:
                check(third.recv(100) == b"", "one too many")
            one.send(b"")
            check(one.recv(100) == b"got-", "an empty one")
            one.send(b"last")
            one.shutdown(socket.SHUT_WR)
            check([one.recv(100), one.recv(100)] == [b"got-last", b""], "the end behind what was said")
            one.close()
            def has_place():
                with packets("client", path) as client, contextlib.suppress(OSError):
                    client.send(b"x")
                    return client.recv(100) == b"got-x"
            within("a place is free", has_place)
            two.close()
        check(not os.path.exists(path), "its file goes with it")
        with Server("--idle-timeout", "0.5", "listen+unix-seqpacket:" + path, "echo:") as serving:
            done = subprocess.run(["socat", "-t1", "-", f"UNIX-CLIENT:{path},type=5"], input=b"hello", capture_output=True, timeout=LIMIT)
            check(done.stdout == b"hello", f"socat: {done}")
            check(run("unix-seqpacket:" + path, data=b"a\n\nb\n").stdout == b"a\n\nb\n", "one of ours with another")
            with packets("client", path) as idle:
                check(idle.recv(100) == b"", "one that says nothing")
            # A message of a WebSocket is one.
            with Server("listen+ws://127.0.0.1:0", "unix-seqpacket:" + path) as front:
                client = WebSocket(front.port)
                client.send("hello")
                client.send(b"\xff", opcode=2)
                check([client.receive(), client.receive()] == ["hello", b"\xff"], "behind a WebSocket")
                client.close()
    for words in [["unix-seqpacket:"], ["--say", "x", "unix-seqpacket:/x/s"], ["--reconnect", "unix-seqpacket:/x/s"], ["listen+unix-seqpacket:/x/s", "room:"], ["--allow", "127.0.0.1", "listen+unix-seqpacket:/x/s", "echo:"],
                  ["--allow", "127.0.0.1", "listen+unix:/x/s", "echo:"]]:
        run(*words, status=64)


globals()[name]()
