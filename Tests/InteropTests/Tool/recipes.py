"""The manual's recipes against the programs that they are for: recipes.py NAME TOOL. Exits 1 and says why when something differs."""
import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import processes
from toolkit import LIMIT, Server, WebSocket, check, name, run, tool, within

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


globals()[name]()
