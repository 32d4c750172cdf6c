"""Datagrams, UDP and Unix, as messages: datagrams.py NAME TOOL. Exits 1 and says why when something differs."""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
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


globals()[name]()
