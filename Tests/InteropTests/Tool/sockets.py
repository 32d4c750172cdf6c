"""Sockets that the tool is given, and who may use those that it makes: sockets.py NAME TOOL. Exits 1 and says why when something differs."""
import grp
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile

from toolkit import LIMIT, Line, Server, WebSocket, check, clients, name, run, tool, within


def listening(unix=None):
    if unix:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(unix)
        listener.listen()
        return listener
    return socket.create_server(("127.0.0.1", 0))


def passing(sockets):
    """Runs in the child: the sockets become descriptors 3 and so on, as systemd has them."""
    def prepare():
        # Out of the way first.
        copies = [os.dup2(each.fileno(), 100 + index) for index, each in enumerate(sockets)]
        for index, copy in enumerate(copies):
            os.dup2(copy, 3 + index, inheritable=True)
            os.close(copy)
    return prepare


def started(words, sockets, environment=None, **rest):
    """Has these sockets and no others, whatever this process has inherited."""
    process = subprocess.Popen(
        words, env={**os.environ, **(environment or {})}, preexec_fn=passing(sockets), pass_fds=range(3, 3 + len(sockets)),
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **rest)
    return process


def served(process, expected):
    line = process.stderr.readline().decode()
    check(expected in line, f"{expected} is not in {line}")


def end(process):
    process.terminate()
    for client in clients:
        client.close()
    clients.clear()
    process.communicate(timeout=LIMIT)
    check(process.returncode == 0, f"it ended with {process.returncode}")


def given():
    """A socket that listens already, by its number or systemd's name, in every scheme."""
    script = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", tool]
    with tempfile.TemporaryDirectory() as folder:
        with listening() as tcp, listening(folder + "/s") as unix:
            port = tcp.getsockname()[1]
            # By number, without systemd's variables.
            process = started([tool, "listen+ws+fd:3/echo", "echo:"], [tcp])
            served(process, f"listening on ws://127.0.0.1:{port}/echo")
            client = WebSocket(port, "/echo")
            client.send("hi")
            check(client.receive() == "hi" and WebSocket(port, "/other").status == 404, "a WebSocket of a given socket")
            end(process)
            # By name. A command that is run knows nothing of the sockets, and has none of them.
            process = started(
                script + ["listen+fd:second", "exec:env | grep -c LISTEN_; ls -l /proc/self/fd | grep -c socket:"], [tcp, unix],
                {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "first:second"})
            served(process, f"listening on unix:{folder}/s")
            line = Line(folder + "/s")
            line.socket.shutdown(socket.SHUT_WR)
            check((line.receive(), line.receive()) == (b"0\n", b"0\n"), "what a command finds")
            end(process)
            check(os.path.exists(folder + "/s"), "the file of a given socket stays")
            process = started(script + ["--route", "/echo=echo:", "--health", "/health", "listen+ws+fd:"], [unix], {"LISTEN_FDS": "1"})
            served(process, f"listening on ws+unix:{folder}/s")
            check(run("-", f"ws+unix:{folder}/s:/echo", data=b"x\n").stdout == b"x\n", "routes on a Unix socket, the only one")
            end(process)
            process = started(script + ["listen+fd:first", "echo:"], [tcp, unix], {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "first:second"})
            served(process, f"listening on tcp://127.0.0.1:{port}")
            line = Line(port)
            line.send(b"x\n")
            check(line.receive() == b"x\n", "TCP of a given socket")
            end(process)
            with open(folder + "/in", "wb") as file:
                file.write(b"one\n")
            process = started(
                [tool, "--linger", "5", f"exec:sleep 0.5; cat {folder}/in", "listen+sse+http+fd:3/feed"], [tcp])
            served(process, f"listening on sse+http://127.0.0.1:{port}/feed")
            check(run("--quiet-after", "2", f"sse+http://127.0.0.1:{port}/feed").stdout == b"one\n", "events")
            end(process)
            # Nobody is lost when a server comes back on the same socket.
            waiting = Line(port)
            waiting.send(b"early\n")
            process = started([tool, "listen+fd:3", "echo:"], [tcp])
            check(waiting.receive() == b"early\n", "who came before the server")
            end(process)
            for words, sockets, environment, told in [
                (["listen+fd:web", "echo:"], [tcp], {}, "LISTEN_FDS is not set"),
                (["listen+fd:web", "echo:"], [tcp], {"LISTEN_FDS": "1", "LISTEN_PID": "1"}, "are for process 1"),
                (["listen+fd:77", "echo:"], [tcp], {}, "descriptor 77 is not open"),
                (["listen+fd:2", "echo:"], [tcp], {}, "descriptor 2 is not a socket"),
                (["listen+fd:3/x", "echo:"], [tcp], {}, "has no path"),
                (["listen+tcp+fd:3", "echo:"], [tcp], {}, "write listen+fd:3"),
                (["-", "listen+fd:3"], [tcp], {}, "comes first"),
                (["--socket-mode", "0660", "listen+fd:3", "echo:"], [unix], {}, "--socket-mode does not apply"),
                (["--allow", "127.0.0.1", "listen+fd:3", "echo:"], [unix], {}, "its clients have no addresses")]:
                process = started([tool, *words], sockets, environment)
                process.wait(LIMIT)
                said = process.stderr.read().decode()
                check(process.returncode == 64 and told in said, f"{words}: {process.returncode} {said}")
            for environment, target, told in [({"LISTEN_FDS": "1"}, "web", "no socket is called 'web': there are unknown"),
                                              ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:a"}, "a", "2 sockets are meant")]:
                process = started(script + ["listen+fd:" + target, "echo:"], [tcp, unix], environment)
                said = process.communicate(timeout=LIMIT)[1].decode()
                check(process.returncode == 64 and told in said, f"{target}: {said}")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, socket.socket() as nothing:
                for wrong, code in [(datagrams, "EPROTOTYPE"), (nothing, "EINVAL")]:
                    process = started([tool, "listen+fd:3", "echo:"], [wrong])
                    said = process.communicate(timeout=LIMIT)[1].decode()
                    check(process.returncode == 7 and code in said, f"{code}: {process.returncode} {said}")
        activate = shutil.which("systemd-socket-activate")
        if activate:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            process = subprocess.Popen(
                [activate, "-l", f"127.0.0.1:{port}", "--fdname=web", tool, "listen+ws+fd:web", "echo:"], stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL)
            within("systemd listens", lambda: not socket.socket().connect_ex(("127.0.0.1", port)))
            client = WebSocket(port)
            client.send("by systemd")
            check(client.receive() == "by systemd", "activation by systemd")
            client.close()
            end(process)


def inetd():
    """One connection that was accepted by another is served alone, as a WebSocket, in TLS, or as it is."""
    def connection(words, error=None):
        with listening() as listener:
            client = socket.create_connection(listener.getsockname(), timeout=LIMIT)
            accepted, _ = listener.accept()
            with accepted:
                # As inetd has it: the connection is standard error too.
                process = subprocess.Popen([tool, *words], stdin=accepted, stdout=accepted, stderr=accepted if error is None else error)
            return client, process

    for words in (["listen+ws+fd:0/echo", "echo:"], ["--health", "/health", "--route", "/echo=echo:", "listen+ws+fd:0"]):
        client, process = connection(words)
        client.sendall(b"GET /echo HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                       b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x82\0\0\0\0hi\x88\x82\0\0\0\0\x03\xe8")
        said = b""
        while chunk := client.recv(4096):
            said += chunk
        check(said.startswith(b"HTTP/1.1 101") and said.endswith(b"\r\n\r\n\x81\x02hi\x88\x02\x03\xe8"), f"{words}: {said}")
        check(process.wait(LIMIT) == 0, f"{words}: {process.returncode}")
    client, process = connection(["listen+fd:0", "exec:echo $REMOTE_ADDR; cat"])
    client.sendall(b"x")
    client.shutdown(socket.SHUT_WR)
    said = b""
    while chunk := client.recv(4096):
        said += chunk
    check(said == b"127.0.0.1\nx" and process.wait(LIMIT) == 0, f"a command: {said}")
    # Accept=yes of systemd: as descriptor 3. Another process's end of it is not ours.
    ours, theirs = socket.socketpair()
    process = started([tool, "listen+fd:3", "echo:"], [theirs])
    theirs.close()
    ours.sendall(b"pair")
    check(ours.recv(10) == b"pair", "a pair of sockets")
    ours.close()
    check(process.wait(LIMIT) == 0, "its end")
    # One that says nothing is ended by a signal.
    client, process = connection(["-v", "listen+fd:0", "echo:"], subprocess.PIPE)
    served(process, "serving a connection")
    process.terminate()
    check(client.recv(1) == b"" and process.wait(LIMIT) == 0, "a signal")
    check(b"'-' is the connection itself" in connection(["listen+fd:0"], subprocess.PIPE)[1].communicate(timeout=LIMIT)[1], "'-' with it")


def access():
    """The file of a Unix socket has the mode and the group that it was given, before anybody can connect."""
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/s"
        for words, umask, expected in [([], 0o22, 0o755), (["--socket-mode", "0660"], 0o77, 0o660), (["--socket-mode", "777"], 0o77, 0o777),
                                       (["--socket-mode", "0"], 0, 0), (["--socket-mode", "0600"], 0, 0o600)]:
            with Server(*words, "listen+unix:" + path, "echo:", preexec_fn=lambda: os.umask(umask)):
                check((mode := stat.S_IMODE(os.lstat(path).st_mode)) == expected, f"{words}: {mode:o}, not {expected:o}")
            check(not os.path.exists(path), "its file goes")
        groups = [each for each in os.getgroups() if each != os.getegid()] or ([12] if os.geteuid() == 0 else [])
        for group in groups[:1]:
            try:
                texts = [str(group), grp.getgrgid(group).gr_name]
            except KeyError:
                texts = [str(group)]
            for text in texts:
                with Server("--socket-mode", "0660", "--socket-owner", ":" + text, "listen+unix:" + path, "echo:"):
                    status = os.lstat(path)
                    check((status.st_gid, stat.S_IMODE(status.st_mode)) == (group, 0o660), f"{text}: {status}")
                    line = Line(path)
                    line.send(b"x\n")
                    check(line.receive() == b"x\n", "it is served")
        if os.geteuid() == 0:
            with Server("--socket-owner", "nobody:12", "listen+unix:" + path, "echo:"):
                check((os.lstat(path).st_uid, os.lstat(path).st_gid) == (65534, 12), "an owner by name")
        # Never wider than asked for, from the first moment on: watched by one who looks all the time.
        watcher = subprocess.Popen(
            [sys.executable, "-c",
             "import os,sys\nseen=set()\nprint(flush=True)\nwhile os.getppid()==int(sys.argv[2]):\n try: seen.add(os.lstat(sys.argv[1]).st_mode & 0o777)\n"
             " except FileNotFoundError: pass\n if os.path.exists(sys.argv[1]+'.end'): break\nprint(*seen)", path, str(os.getpid())],
            stdout=subprocess.PIPE, text=True)
        watcher.stdout.readline()
        for _ in range(20):
            with Server("--socket-mode", "0600", "listen+unix:" + path, "echo:", preexec_fn=lambda: os.umask(0)):
                pass
        open(path + ".end", "w").close()
        seen = watcher.communicate(timeout=LIMIT)[0].split()
        check(set(seen) <= {str(0o600)}, f"modes that were seen: {seen}")
        for words, told in [(["--socket-mode", "888", "listen+unix:" + path, "echo:"], b"--socket-mode"),
                            (["--socket-mode", "7777", "listen+unix:" + path, "echo:"], b"--socket-mode"),
                            (["--socket-owner", "no such user", "listen+unix:" + path, "echo:"], b"no user 'no such user'"),
                            (["--socket-owner", ":no such group", "listen+unix:" + path, "echo:"], b"no group"),
                            (["--socket-owner", ":", "listen+unix:" + path, "echo:"], b"--socket-owner must be"),
                            (["--socket-mode", "0600", "listen+tcp://127.0.0.1:0", "echo:"], b"does not apply")]:
            check(told in (done := run(*words, status=64)).stderr, f"{words}: {done.stderr}")
        check(b"abstract" in run("--socket-mode", "0600", "listen+unix:@sluice-mode", "echo:", status=7).stderr, "an abstract one")
        if os.geteuid() != 0:
            check(b"EPERM" in run("--socket-owner", "root", "listen+unix:" + path, "echo:", status=7).stderr, "another's")
        check(not os.path.exists(path), "a file of one that was refused")


globals()[name]()
