"""The manual's recipes against the programs that they are for: recipes.py NAME TOOL. Exits 1 and says why when something differs."""
import contextlib
import getpass
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import processes
from browser import Browser
from toolkit import LIMIT, Server, WebSocket, check, get, name, run, tool, within
from userterminal import Terminal

ANY = "listen+ws://127.0.0.1:0"


def needed(*programs):
    for program in programs:
        check(shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"), f"{program} is not installed: scripts/install")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def listens(port):
    def does():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False
    within(f"something listens at {port}", does)


def ssh():
    """ssh through a WebSocket: bytes both ways, of any size, and exit statuses."""
    needed("sshd", "ssh", "ssh-keygen")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o700)
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{key}"], check=True)
        shutil.copy(f"{folder}/user.pub", f"{folder}/authorized")
        port = free_port()
        with open(f"{folder}/config", "w") as file:
            file.write(f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
                       f"PidFile none\nPermitRootLogin prohibit-password\n")
        if os.getuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        with open(f"{folder}/log", "w") as log:
            subprocess.Popen([shutil.which("sshd", path="/usr/sbin"), "-D", "-e", "-f", f"{folder}/config"], stderr=log)
        listens(port)
        with Server("--binary", ANY, f"tcp://127.0.0.1:{port}") as server:
            def remote(command, data=b""):
                return subprocess.run(
                    ["ssh", "-F", "none", "-i", f"{folder}/user", "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder}/known", "-o", "BatchMode=yes",
                     "-o", f"ProxyCommand={tool} --binary - {server.url}", f"{getpass.getuser()}@there", command], input=data, capture_output=True, timeout=LIMIT)
            done = remote("cat; exit 3", b"hello")
            with open(f"{folder}/log") as log:
                check(done.stdout == b"hello" and done.returncode == 3, f"ssh: {done}\n{log.read()}")
            data = os.urandom(20 << 20)
            check(remote("cat", data).stdout == data, "20 MiB there and back")


def mqtt():
    """MQTT: a client of TCP at a broker's WebSockets, and a client of WebSockets at a broker's TCP port."""
    needed("mosquitto", "mosquitto_pub", "mosquitto_sub")
    with tempfile.TemporaryDirectory() as folder:
        plain, sockets = free_port(), free_port()
        with open(f"{folder}/conf", "w") as file:
            file.write(f"allow_anonymous true\nlistener {plain} 127.0.0.1\nlistener {sockets} 127.0.0.1\nprotocol websockets\n")
        subprocess.Popen([shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin"), "-c", f"{folder}/conf"], stderr=subprocess.DEVNULL)
        for port in (plain, sockets):
            listens(port)
        # TCP in front of its WebSockets; and that behind WebSockets in front of TCP.
        with Server("--binary", "--protocol", "mqtt", "listen+tcp://127.0.0.1:0", f"ws://127.0.0.1:{sockets}/mqtt") as front, \
                Server("--binary", "--protocol", "mqtt", ANY, f"tcp://127.0.0.1:{plain}") as gateway, \
                Server("--binary", "--protocol", "mqtt", "listen+tcp://127.0.0.1:0", gateway.url) as chain:
            for port in (front.port, chain.port):
                with tempfile.TemporaryFile() as out:
                    subscriber = subprocess.Popen(["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-t", "x/#", "-C", "2", "-v"], stdout=out)
                    time.sleep(0.7)
                    for text in ("one", "two " * 5000):
                        subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-t", "x/y", "-m", text], check=True, timeout=LIMIT)
                    check(subscriber.wait(LIMIT) == 0, "a subscriber")
                    out.seek(0)
                    got = out.read().decode()
                    check(got == "x/y one\nx/y " + "two " * 5000 + "\n", f"what was published: {got[:100]}")


def language_server():
    """A language server for a page: each message of the protocol is one of the WebSocket."""
    needed("clangd")
    with tempfile.TemporaryDirectory() as folder, Server("--content-length", ANY, "exec:clangd --log=error 2>/dev/null") as server:
        client = WebSocket(server.port)

        def ask(method, identifier=None, **parameters):
            message = {"jsonrpc": "2.0", "method": method, "params": parameters}
            client.send(json.dumps(message if identifier is None else {**message, "id": identifier}))

        def answer(identifier):
            while True:
                message = json.loads(client.receive())
                if message.get("id") == identifier:
                    return message["result"]
        ask("initialize", 1, processId=None, rootUri=None, capabilities={})
        check("capabilities" in answer(1), "initialize")
        ask("initialized")
        text = "int number(int x) { return x; }\nint main() { return number(1); }\n"
        uri = f"file://{folder}/x.c"
        ask("textDocument/didOpen", textDocument={"uri": uri, "languageId": "c", "version": 1, "text": text})
        ask("textDocument/definition", 2, textDocument={"uri": uri}, position={"line": 1, "character": 21})
        found = answer(2)
        check(found and found[0]["range"]["start"] == {"line": 0, "character": 4}, f"a definition: {found}")
        ask("shutdown", 3)
        answer(3)
        ask("exit")


def language_model():
    """A question that is posted, whose answer is an event stream; a log that is followed; a session that is recorded, and played to a client."""
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/server.py", "w") as file:
            file.write('''
import http.server, json, sys, time
class Model(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for word in asked["messages"][-1]["content"].split():
            self.wfile.write(b"data: " + json.dumps({"choices": [{"delta": {"content": word}}]}).encode() + b"\\n\\n")
            self.wfile.flush()
            time.sleep(0.05)
        self.wfile.write(b"data: [DONE]\\n\\n")
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
print(server.server_port, flush=True)
server.serve_forever()
''')
        model = subprocess.Popen([sys.executable, folder + "/server.py"], stdout=subprocess.PIPE)
        url = f"http://127.0.0.1:{int(model.stdout.readline())}/v1/chat/completions"
        with open(folder + "/ask.json", "w") as file:
            json.dump({"stream": True, "messages": [{"role": "user", "content": "say these words"}]}, file)
        words = ["--data", f"@{folder}/ask.json", "--header", "Content-Type: application/json", "--header", "Authorization: Bearer x"]
        got = run(*words, "sse+" + url).stdout.decode().splitlines()
        check([json.loads(line)["choices"][0]["delta"]["content"] for line in got[:-1]] == ["say", "these", "words"] and got[-1] == "[DONE]", f"an answer: {got}")
        # The same as bytes.
        check(run(*words, url).stdout.decode() == "".join(f"data: {line}\n\n" for line in got), "the response itself")


class Screen:
    """An Xtigervnc with a picture of tiles, and nothing in the file system but what is in a folder."""
    WIDTH, HEIGHT, TILE = 640, 480, 16
    COLORS = [0x000000, 0xff0000, 0x00ff00, 0x0000ff, 0xffff00, 0xff00ff, 0x00ffff, 0xffffff]

    def __init__(self, folder):
        self.port = free_port()
        given, taken = os.pipe()
        self.log = open(f"{folder}/screen", "w+")
        self.process = subprocess.Popen(
            ["Xtigervnc", "-displayfd", str(taken), "-rfbport", str(self.port), "-localhost", "-SecurityTypes", "None", "-nolock", "-nolisten", "unix", "-noreset",
             "-geometry", f"{self.WIDTH}x{self.HEIGHT}", "-depth", "24"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, pass_fds=[taken], env={**os.environ, "HOME": folder})
        os.close(taken)
        with open(given) as file:
            display = file.readline().strip()
        check(display, f"Xtigervnc has no display: {self.said()}")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT)
        self.socket.connect(f"\0/tmp/.X11-unix/X{display}")
        self.socket.sendall(struct.pack("<BxHHHHxx", ord("l"), 11, 0, 0, 0))
        head = self.take(8)
        rest = self.take(struct.unpack("<H", head[6:8])[0] * 4)
        check(head[0] == 1, f"the display refuses: {rest}")
        first, vendor, formats = struct.unpack("<4xI8xH3xB", rest[:22])
        self.root = struct.unpack_from("<I", rest, 32 + (vendor + 3) // 4 * 4 + 8 * formats)[0]
        tiles = [(column, row) for row in range(self.HEIGHT // self.TILE) for column in range(self.WIDTH // self.TILE)]
        self.tiles = [random.randrange(8) for _ in tiles]
        for number, color in enumerate(self.COLORS):
            rectangles = b"".join(struct.pack("<hhHH", column * self.TILE, row * self.TILE, self.TILE, self.TILE)
                                  for (column, row), tile in zip(tiles, self.tiles) if tile == number)
            # CreateGC with a foreground, PolyFillRectangle.
            self.socket.sendall(struct.pack("<BxHIIII", 55, 5, first + number, self.root, 4, color)
                                + struct.pack("<BxHII", 70, 3 + len(rectangles) // 4, self.root, first + number) + rectangles)
        self.pointer()

    def take(self, count):
        taken = b""
        while len(taken) < count:
            taken += (chunk := self.socket.recv(count - len(taken)))
            check(chunk, f"the display is gone: {self.said()}")
        return taken

    def pointer(self):
        """QueryPointer: where it is, once everything before has been done."""
        self.socket.sendall(struct.pack("<BxHI", 38, 2, self.root))
        return struct.unpack("<16xhh12x", self.take(32))

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.process.terminate()
        self.process.wait(LIMIT)
        self.log.close()


def vnc():
    """VNC in a browser, by noVNC, whose files come from the same server; and a viewer of TCP through WebSockets."""
    needed("Xtigervnc", "vncsnapshot", "chromium")
    check(os.path.exists("/usr/share/novnc/vnc.html"), "novnc is not installed: scripts/install")
    with tempfile.TemporaryDirectory() as folder, Screen(folder) as screen, \
            Server("--binary", "--protocol", "binary", "--route", f"/websockify=tcp://127.0.0.1:{screen.port}", "--files", "/=/usr/share/novnc", ANY) as server, \
            Server("--binary", "listen+tcp://127.0.0.1:0", server.url + "websockify") as plain, \
            Server("--binary", "--protocol", "binary", "listen+tcp://127.0.0.1:0", server.url + "websockify") as offering:
        def snapshot(port):
            # Without encodings of its choice, it asks for the cursor's too, and waits for a picture behind that.
            subprocess.run(["vncsnapshot", "-quiet", "-encodings", "raw", "-nojpeg", f"127.0.0.1:{port - 5900}", f"{folder}/{port}"],
                           check=True, timeout=LIMIT, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": folder})
            with open(f"{folder}/{port}", "rb") as file:
                return file.read()
        direct = snapshot(screen.port)
        check(len(direct) > 10_000, f"a snapshot of {len(direct)} bytes")
        # The second as noVNC before 1.2, which asked for the subprotocol "binary".
        for port in (plain.port, offering.port):
            check(snapshot(port) == direct, "a snapshot through WebSockets is another")
        with Browser(folder, server.url.replace("ws:", "http:") + "vnc.html?autoconnect=1&resize=off") as browser:
            browser.wait("document.documentElement.classList.contains('noVNC_connected')")
            half = screen.TILE // 2
            browser.wait(f"""(() => {{
                const canvas = document.querySelector('#noVNC_container canvas'), context = canvas.getContext('2d'), tiles = []
                for (let y = {half}; y < canvas.height; y += {screen.TILE})
                    for (let x = {half}; x < canvas.width; x += {screen.TILE}) {{
                        const [red, green, blue] = context.getImageData(x, y, 1, 1).data
                        tiles.push({json.dumps(screen.COLORS)}.indexOf(red << 16 | green << 8 | blue))
                    }}
                return tiles.join()
            }})()""", ",".join(map(str, screen.tiles)))
            # The other direction: a pointer.
            place = browser.evaluate("(({left, top}) => ({left, top}))(document.querySelector('#noVNC_container canvas').getBoundingClientRect())")
            browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=place["left"] + 123, y=place["top"] + 45)
            within("the pointer is where the page has it", lambda: max(abs(screen.pointer()[0] - 123), abs(screen.pointer()[1] - 45)) <= 1)
        check("Client requests security type None(1)" in screen.said(), f"the screen's log: {screen.said()}")


def terminal():
    """A shell in a terminal at the other end of a WebSocket."""
    needed("bash")
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/inputrc", "w") as file:
            file.write("set enable-bracketed-paste off\n")
        environment = {**os.environ, "HOME": folder, "INPUTRC": folder + "/inputrc", "PS1": "$ "}
        with Server("--binary", ANY, "pty:bash --norc", env=environment) as server, \
                Server("--binary", "--window", "132x50", ANY, "pty:bash --norc", env=environment) as wide:
            # The window is the user's, unless the two do not speak of it.
            for at, options, size in ((server, [], b"33 111"), (wide, [], b"33 111"), (server, ["--protocol", "x"], b"24 80"), (wide, ["--protocol", "x"], b"50 132")):
                shell = Terminal("--binary", "--raw", *options, "-", at.url)

                def typed(text):
                    """Typed at the prompt; and its echo."""
                    shell.expect(b"$ ")
                    shell.type(text + b"\r")
                    shell.expect(text + b"\r\n")

                typed(b"expr 6 \\* 7")
                shell.expect(b"42\r\n")
                typed(b"stty size")
                shell.expect(size + b"\r\n")
                # Control-C is the other end's, and so is what edits a line.
                typed(b"sh -c 'echo u\"\"p; exec sleep 1000'")
                shell.expect(b"up\r\n")
                shell.type(b"\x03")
                shell.expect(b"$ ")
                shell.type(b"echo onx\x7fe $$\r")
                shell.expect(b"\r\none ")
                process = int(shell.expect(b"\r\n"))
                shell.expect(b"$ ")
                shell.type(b"exit\r")
                shell.end(0)
                check(not os.path.exists(f"/proc/{process}"), "the shell has ended")


def log():
    """A log that is followed: a line is an event, for each reader; one that comes back after the server has been away."""
    needed("curl", "tail")
    with tempfile.TemporaryDirectory() as folder:
        url = f"http://127.0.0.1:{free_port()}/log"
        measured = free_port()
        metrics = ["--metrics", f"127.0.0.1:{measured}"]
        path = folder + "/app.log"

        def append(*lines):
            with open(path, "a") as file:
                file.write("".join(line + "\n" for line in lines))

        def reader(*words):
            return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

        def read(process, *expected):
            for line in expected:
                got = process.stdout.readline().decode()
                check(got == line + "\n", f"{got} came, not {line}")

        def follow(*target):
            tail = subprocess.Popen(["tail", "-n", "0", "-F", path], stdout=subprocess.PIPE)
            # It is at the end of the file.
            within("tail waits", lambda: "inotify" in subprocess.run(["ls", "-l", f"/proc/{tail.pid}/fd"], capture_output=True, text=True).stdout)
            return tail, target and Server(*metrics, "-", *target, stdin=tail.stdout, status=-9)

        def connected(server, count):
            within(f"{count} readers", lambda: f"\nsluice_connections_open {count}\n".encode() in get(measured, "/metrics")[2])
        append("before")
        tail, server = follow("listen+sse+" + url)
        with server:
            curl = reader("curl", "-sN", url)
            back = reader(tool, "--reconnect", "--max-reconnect-delay", "0.2", "sse+" + url)
            connected(server, 2)
            append("one", "two")
            read(curl, "retry: 5000", "", "data: one", "", "data: two", "")
            read(back, "one", "two")
            server.process.kill()
        check(curl.wait(LIMIT) in (18, 56), f"curl ended with {curl.returncode}")
        tail.kill()
        append("nobody hears this")
        tail, server = follow("listen+sse+" + url)
        with server:
            connected(server, 1)
            append("three")
            read(back, "three")
            back.send_signal(signal.SIGINT)
            check(back.wait(LIMIT) == 0, f"a reader ended with {back.returncode}")
            server.process.kill()
        tail.kill()
        # With a topic between them, nothing is missed.
        topic = f"topic+sqlite:{folder}/app.db/log"
        tail, _ = follow()
        writer = subprocess.Popen([tool, "-", topic], stdin=tail.stdout)
        append("four")
        within("a topic", lambda: subprocess.run([tool, "topics", "info", topic], capture_output=True).returncode == 0)
        with Server("--from", "earliest", "listen+sse+" + url, topic, status=-9) as server:
            back = reader(tool, "--reconnect", "--max-reconnect-delay", "0.2", "sse+" + url)
            read(back, "four")
            append("five")
            read(back, "five")
            server.process.kill()
        append("six", "seven")
        with Server("--from", "earliest", "listen+sse+" + url, topic):
            read(back, "six", "seven")
            append("eight")
            read(back, "eight")
            back.send_signal(signal.SIGINT)
            check(back.wait(LIMIT) == 0, f"a reader ended with {back.returncode}")
        tail.kill()
        check(writer.wait(LIMIT) == 0, "the writer")


globals()[name]()
