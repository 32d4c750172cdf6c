"""Scenarios of the tool in TLS and through proxies, against other programs: secure.py NAME TOOL FOLDER PYTHON

FOLDER holds the certificates that Sources/SluiceTestSupport/Certificates/make makes; PYTHON has `websockets`."""

import base64
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import processes

name, tool, certificates, python = sys.argv[1:5]
LIMIT = 60
CLEAN = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}


def check(condition, what):
    if not condition:
        print(f"{name}: {what}")
        processes.leave(1)


def file(of):
    return os.path.join(certificates, of)


running = []
CA = ["--ca", file("root.pem")]
SERVER = ["--cert", file("good.pem"), "--key", file("good.key")]


def run(*arguments, data=b"", status=0, environment={}):
    done = subprocess.run(
        [tool, *arguments], input=data, capture_output=True, timeout=LIMIT, env={**CLEAN, **environment})
    check(status in (done.returncode, None), f"{arguments} exited with {done.returncode}, not {status}: {done.stderr.decode()}")
    return done


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def sluice(*arguments):
    process = subprocess.Popen([tool, *arguments], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=CLEAN)
    running.append(process)
    try:
        line = process.stderr.readline().decode()
        check("listening on " in line, f"no address from {arguments}: {line}")
        yield line.split("listening on ")[1].strip()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(15)


@contextlib.contextmanager
def program(port, *arguments, **options):
    """Another program, once it listens."""
    log = tempfile.TemporaryFile()
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=CLEAN, **options)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None:
                break
            time.sleep(0.05)
        else:
            check(False, f"{arguments[0]} does not listen")
        if process.poll() is not None:
            log.seek(0)
            check(False, f"{arguments[0]} ended: {log.read().decode()}")
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def port_of(url):
    return int(url.rsplit(":", 1)[1].split("/")[0])


def echo_through(url, *arguments, **options):
    text = b"one\ntwo\n" + b"x" * 100_000 + b"\n"
    check(run(*arguments, url, data=text, **options).stdout == text, f"an echo at {url} with {arguments}")


def tls_streams():
    """openssl s_client and s_server, with bytes as they are."""
    with sluice(*SERVER, "listen+tls://127.0.0.1:0", "echo:") as url:
        for version in ["-tls1_2", "-tls1_3"]:
            command = (f"(echo hello; sleep 0.5) | openssl s_client -connect 127.0.0.1:{port_of(url)} -quiet -no_ign_eof "
                       f"-CAfile '{file('root.pem')}' -verify_return_error -verify_ip 127.0.0.1 {version}")
            done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=LIMIT)
            check(b"hello" in done.stdout, f"s_client {version}: {done.stderr.decode()}")
        old = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port_of(url)}", "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"],
            input=b"", capture_output=True, timeout=LIMIT)
        check(b"alert protocol version" in old.stderr or b"Cipher is (NONE)" in old.stdout, "TLS 1.1 was spoken")
        refused = run(url.replace("tcp", "tls"), data=b"x\n", status=5)
        check(b"not trusted" in refused.stderr, refused.stderr.decode())
        run("--insecure", url, data=b"x\n")
    port = free_port()
    with program(port, "openssl", "s_server", "-accept", str(port), "-cert", file("good.pem"), "-key", file("good.key"),
                 "-rev", "-quiet"):
        done = run(*CA, "--linger", "0.5", f"tls://127.0.0.1:{port}", data=b"abc\n")
        check(done.stdout == b"cba\n", f"s_server: {done.stdout} {done.stderr.decode()}")
        wrong = run(*CA, "--sni", "other.example", f"tls://127.0.0.1:{port}", data=b"abc\n", status=5)
        check(b"www.example.com" in wrong.stderr and b"other.example" in wrong.stderr, wrong.stderr.decode())


def failures_in_tls():
    """Files that can't be used are said by name and reason; a connection that is cut is no refusal."""
    for words in [["--cert", "/nonexistent/c"], ["--cert", file("good.pem"), "--key", "/nonexistent/k"]]:
        told = run(*words, "listen+tls://127.0.0.1:0", status=64).stderr
        check(b"/nonexistent/" in told and b"No such file" in told, told.decode())
    told = run("--ca", "/nonexistent/ca", "wss://127.0.0.1:1", status=64).stderr
    check(b"/nonexistent/ca" in told and b"No such file" in told, told.decode())
    run("--alpn", "x" * 300, "tls://127.0.0.1:1", status=64)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file("good.pem"), file("good.key"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve():
            connection, _ = listener.accept()
            with context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(100)
                secured.sendall(b"half")
                with socket.socket(fileno=secured.detach()) as bare:
                    bare.shutdown(socket.SHUT_WR)
                    while bare.recv(4096):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        cut = run(*CA, f"tls://127.0.0.1:{listener.getsockname()[1]}", data=b"x\n", status=4)
        check(cut.stdout == b"half" and b"close_notify" in cut.stderr, f"{cut}")


def environment_proxies():
    """The environment's proxies are for what begins as HTTP; --proxy is for all."""
    nobody = {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1", "all_proxy": "http://127.0.0.1:1"}
    with sluice("listen+tcp://127.0.0.1:0", "echo:") as plain, sluice(*SERVER, "listen+tls://127.0.0.1:0", "echo:") as secure, \
            sluice("listen+ws://127.0.0.1:0", "echo:") as web:
        echo_through(plain, environment=nobody)
        echo_through(secure, *CA, environment=nobody)
        run(web, environment=nobody, status=5)
        run("--proxy", "http://127.0.0.1:1", plain, status=5)


def interrupted_handshakes():
    """A client that never says a word in TLS does not hold up the end."""
    for scheme in ["tls", "wss"]:
        with sluice(*SERVER, f"listen+{scheme}://127.0.0.1:0", "echo:") as url:
            with socket.create_connection(("127.0.0.1", port_of(url))):
                time.sleep(0.5)
                process = running[-1]
                process.send_signal(signal.SIGINT)
                check(process.wait(3) == 0, f"{scheme}: {process.returncode}")


def key_updates_and_renegotiation():
    """A peer that changes its keys again and again costs nothing that grows; renegotiation and TLS 1.0 are refused."""
    with sluice(*SERVER, "listen+tls://127.0.0.1:0", "echo:") as url:
        address = f"127.0.0.1:{port_of(url)}"
        server = int(subprocess.run(
            ["pgrep", "-f", "-n", "listen[+]tls"], capture_output=True, check=True, text=True).stdout)
        client = subprocess.Popen(
            ["openssl", "s_client", "-connect", address, "-tls1_3", "-CAfile", file("root.pem")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output = b""

        def collect():
            nonlocal output
            while chunk := client.stdout.read1():
                output += chunk

        reading = threading.Thread(target=collect, daemon=True)
        reading.start()

        def until(text):
            for _ in range(400):
                if text in output:
                    return True
                time.sleep(0.02)
            return False

        # Whatever is read at once is one command.
        check(until(b"Verify return code"), "s_client does not connect")
        client.stdin.write(b"before\n")
        client.stdin.flush()
        check(until(b"before\n"), "no echo before the updates")
        resident = memory_of(server)
        for _ in range(1000):
            client.stdin.write(b"K\n")
            client.stdin.flush()
            time.sleep(0.002)
        client.stdin.write(b"behind\n")
        client.stdin.flush()
        check(until(b"behind\n"), "no echo behind the updates")
        check(output.count(b"KEYUPDATE") > 500, f"only {output.count(b'KEYUPDATE')} key updates")
        check(memory_of(server) - resident < 4 << 20, "memory grows with key updates")
        client.stdin.close()
        client.wait(LIMIT)
        reading.join()

        renegotiating = subprocess.run(
            ["sh", "-c", f"(sleep 0.3; echo R; sleep 0.3; echo hello; sleep 0.3) | openssl s_client -connect {address} -tls1_2"],
            capture_output=True, timeout=LIMIT)
        told = renegotiating.stdout + renegotiating.stderr
        check(b"RENEGOTIATING" in told, "s_client did not renegotiate")
        check(b"no renegotiation" in told, f"renegotiation: {told.decode()}")
        still = subprocess.run(
            ["sh", "-c", f"(echo still; sleep 0.3) | openssl s_client -connect {address} -quiet -no_ign_eof"],
            capture_output=True, timeout=LIMIT)
        check(b"still" in still.stdout, "the server is gone")

    port = free_port()
    with program(
            port, "openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", file("good.pem"), "-key", file("good.key"),
            "-tls1", "-cipher", "DEFAULT@SECLEVEL=0", "-quiet"):
        refused = run(*CA, f"tls://127.0.0.1:{port}", status=5).stderr.decode()
        check("version" in refused.lower() or "protocol" in refused.lower(), f"TLS 1.0: {refused}")


def memory_of(process):
    with open(f"/proc/{process}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def alpn_and_key_log():
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "keys")
        with sluice(*SERVER, "--alpn", "chat", "listen+tls://127.0.0.1:0", "echo:") as url:
            run(*CA, "--alpn", "chat", url, data=b"a\n", environment={"SSLKEYLOGFILE": log})
            check("CLIENT_TRAFFIC_SECRET_0" in open(log).read(), "no keys were logged")
            check(os.stat(log).st_mode & 0o077 == 0, "others can read the keys")
            run(*CA, "--alpn", "other", url, data=b"a\n", status=5)


def client_certificates():
    with sluice(*SERVER, *CA, "listen+wss://127.0.0.1:0", "echo:") as url:
        check(run(*CA, url, data=b"a\n", status=5) is not None, "a client without a certificate was served")
        echo_through(url, *CA, "--client-cert", file("client.pem"), "--key", file("client.key"))


def web_sockets():
    """curl, Node's ws and Python's websockets as clients and servers in TLS."""
    environment = {**CLEAN, "NODE_PATH": "/usr/share/nodejs", "NODE_EXTRA_CA_CERTS": file("root.pem")}
    with sluice(*SERVER, "listen+wss://127.0.0.1:0/chat", "echo:") as url:
        key = base64.b64encode(os.urandom(16)).decode()
        answer = subprocess.run(
            ["curl", "-sS", "-i", "--http1.1", "--max-time", "2", "--cacert", file("root.pem"), "-H", "Upgrade: websocket", "-H",
             "Connection: Upgrade", "-H", f"Sec-WebSocket-Key: {key}", "-H", "Sec-WebSocket-Version: 13",
             url.replace("wss:", "https:")], capture_output=True, timeout=LIMIT).stdout
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        check(b"101 Switching" in answer and accept in answer, f"curl: {answer}")
        node = subprocess.run(
            ["node", "-e", """
              const WebSocket = require('ws'); const ws = new WebSocket(process.argv[1]);
              ws.on('open', () => ws.send('hello')); ws.on('error', (e) => { console.error(e); process.exit(1) });
              ws.on('message', (m) => { console.log(String(m)); ws.close(1000) }); ws.on('close', (c) => console.log(c));
            """, url], capture_output=True, timeout=LIMIT, env=environment)
        check(node.stdout == b"hello\n1000\n", f"ws: {node.stdout} {node.stderr.decode()}")
        program_text = """
import asyncio, ssl, sys, websockets
async def main():
    context = ssl.create_default_context(cafile=sys.argv[2])
    async with websockets.connect(sys.argv[1], ssl=context) as ws:
        for size in [0, 1, 70_000, 1_000_000]:
            await ws.send(b"x" * size)
            assert await ws.recv() == b"x" * size
asyncio.run(main())
"""
        done = subprocess.run([python, "-c", program_text, url, file("root.pem")], capture_output=True, timeout=LIMIT, env=CLEAN)
        check(done.returncode == 0, f"websockets: {done.stderr.decode()}")
    port = free_port()
    server = """
const fs = require('fs'); const https = require('https'); const { Server } = require('ws');
const server = https.createServer({ cert: fs.readFileSync(process.argv[1]), key: fs.readFileSync(process.argv[2]) });
new Server({ server }).on('connection', (ws) => ws.on('message', (m, binary) => ws.send(m, { binary })));
server.listen(Number(process.argv[3]), '127.0.0.1');
"""
    with program(port, "env", "NODE_PATH=/usr/share/nodejs", "node", "-e", server, file("good.pem"), file("good.key"), str(port)):
        echo_through(f"wss://127.0.0.1:{port}", *CA)
    server = """
import asyncio, ssl, sys, websockets
async def echo(ws):
    async for message in ws: await ws.send(message)
async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain(sys.argv[1], sys.argv[2])
    async with websockets.serve(echo, "127.0.0.1", int(sys.argv[3]), ssl=context): await asyncio.Future()
asyncio.run(main())
"""
    port = free_port()
    with program(port, python, "-c", server, file("good.pem"), file("good.key"), str(port)):
        # It answers a Close before what its handler would still send.
        echo_through(f"wss://127.0.0.1:{port}", *CA, "--linger", "1")


class Recorder:
    """Stands before a proxy and keeps what a client says to it."""

    def __init__(self, port):
        self.seen = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.target = port
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            for source, sink, keep in [(client, server, True), (server, client, False)]:
                threading.Thread(target=self.copy, args=(source, sink, keep), daemon=True).start()

    def copy(self, source, sink, keep):
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                if keep:
                    self.seen += chunk
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)


def http_proxies():
    """tinyproxy, and squid with a password, TLS in front of it, and the environment's words."""
    origin_header = ["--header", "Authorization: Bearer origin-secret", "--header", "X-Mine: origin-only"]
    with tempfile.TemporaryDirectory() as folder, sluice("listen+ws://127.0.0.1:0", "echo:") as plain, \
            sluice(*SERVER, "listen+wss://127.0.0.1:0", "echo:") as secure:
        port = free_port()
        configuration = os.path.join(folder, "tinyproxy.conf")
        with open(configuration, "w") as text:
            text.write(f"Port {port}\nListen 127.0.0.1\nTimeout 60\nBasicAuth ann proxy-secret\nLogLevel Error\n")
        with program(port, "tinyproxy", "-d", "-c", configuration):
            recorder = Recorder(port)
            proxy = f"http://ann:proxy-secret@127.0.0.1:{recorder.port}"
            echo_through(plain, "--proxy", proxy, *origin_header)
            recorder.seen = b""
            echo_through(secure, "--proxy", proxy, *origin_header, *CA)
            head = recorder.seen.split(b"\r\n\r\n")[0]
            check(head.startswith(b"CONNECT ") and base64.b64encode(b"ann:proxy-secret") in head, f"CONNECT: {head}")
            check(b"origin" not in recorder.seen, "the proxy saw what is the origin's")
            for variable in ["https_proxy", "HTTPS_PROXY", "all_proxy"]:
                recorder.seen = b""
                echo_through(secure, *CA, environment={variable: proxy})
                check(recorder.seen, f"{variable} was not used")
            recorder.seen = b""
            echo_through(secure, *CA, environment={"https_proxy": proxy, "no_proxy": "example.com, 127.0.0.0/8"})
            echo_through(secure, *CA, "--proxy", "none", environment={"https_proxy": proxy})
            check(not recorder.seen, "no_proxy was not heeded")
            refused = run("--proxy", f"http://ann:wrong@127.0.0.1:{port}", plain, data=b"a\n", status=5)
            check(re.search(rb"status 40[17]", refused.stderr) and b"wrong" not in refused.stderr, refused.stderr.decode())
        squid_proxies(folder, plain, secure)


def squid_proxies(folder, plain, secure):
    port, tls_port = free_port(), free_port()
    passwords = os.path.join(folder, "passwords")
    hashed = subprocess.run(["openssl", "passwd", "-apr1", "squid-secret"], capture_output=True, text=True).stdout.strip()
    with open(passwords, "w") as text:
        text.write(f"ann:{hashed}\n")
    configuration = os.path.join(folder, "squid.conf")
    with open(configuration, "w") as text:
        text.write(f"""
http_port 127.0.0.1:{port}
https_port 127.0.0.1:{tls_port} tls-cert={file("good.pem")} tls-key={file("good.key")}
auth_param basic program /usr/lib/squid/basic_ncsa_auth {passwords}
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
cache deny all
access_log none
cache_log {folder}/cache.log
pid_filename {folder}/squid.pid
coredump_dir {folder}
cache_effective_user {"proxy" if os.getuid() == 0 else os.environ.get("USER", "nobody")}
shutdown_lifetime 1 seconds
""")
    os.chmod(folder, 0o777)
    os.chmod(passwords, 0o644)
    os.chmod(certificates, 0o755)
    os.chmod(file("good.key"), 0o644)
    with program(port, "squid", "-N", "-f", configuration):
        for scheme, at in [("http", port), ("https", tls_port)]:
            if scheme == "https":
                # The proxy's certificate is verified with the proxy's own trust, which is the system's here.
                refused = run("--proxy", f"https://ann:squid-secret@127.0.0.1:{at}", plain, data=b"a\n", status=5)
                check(b"TLS to the proxy" in refused.stderr, refused.stderr.decode())
                proxy_trust = {"SSL_CERT_FILE": file("root.pem")}
            else:
                proxy_trust = {}
            proxy = f"{scheme}://ann:squid-secret@127.0.0.1:{at}"
            echo_through(plain, "--proxy", proxy, environment=proxy_trust)
            echo_through(secure, "--proxy", proxy, *CA, environment=proxy_trust)
            refused = run("--proxy", f"{scheme}://127.0.0.1:{at}", plain, data=b"a\n", status=5, environment=proxy_trust)
            check(b"407" in refused.stderr, refused.stderr.decode())


def socks_proxies():
    with sluice("listen+ws://127.0.0.1:0", "echo:") as plain, sluice(*SERVER, "listen+wss://127.0.0.1:0", "echo:") as secure:
        port = free_port()
        with program(port, "microsocks", "-i", "127.0.0.1", "-p", str(port)):
            echo_through(plain, "--proxy", f"socks5://127.0.0.1:{port}")
            echo_through(secure, "--proxy", f"socks5h://127.0.0.1:{port}", *CA)
            echo_through(plain.replace("127.0.0.1", "localhost"), "--proxy", f"socks5://127.0.0.1:{port}")
            refused = run("--proxy", f"socks5://127.0.0.1:{port}", f"ws://127.0.0.1:{free_port()}", data=b"a\n", status=5)
            check(b"SOCKS5" in refused.stderr, refused.stderr.decode())
        port = free_port()
        with program(port, "microsocks", "-i", "127.0.0.1", "-p", str(port), "-u", "ann", "-P", "socks-secret"):
            echo_through(secure, "--proxy", f"socks5://ann:socks-secret@127.0.0.1:{port}", *CA)
            for credentials in ["", "ann:wrong@"]:
                refused = run("--proxy", f"socks5://{credentials}127.0.0.1:{port}", plain, data=b"a\n", status=5)
                check(b"SOCKS5" in refused.stderr and b"wrong\n" not in refused.stderr, refused.stderr.decode())


def reverse_proxy():
    """nginx with TLS in front of a plain server, and stunnel likewise."""
    with tempfile.TemporaryDirectory() as folder, sluice(
            "--allow-origin", "*", "listen+ws://127.0.0.1:0", "echo:") as plain:
        port = free_port()
        configuration = os.path.join(folder, "nginx.conf")
        with open(configuration, "w") as text:
            text.write(f"""
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {file("good.pem")}; ssl_certificate_key {file("good.key")};
    location / {{
      proxy_pass http://127.0.0.1:{port_of(plain)}; proxy_http_version 1.1; proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
    }}
  }}
}}""")
        with program(port, "nginx", "-c", configuration):
            echo_through(f"wss://127.0.0.1:{port}", *CA)
            echo_through(f"wss://127.0.0.1:{port}", "--compress", *CA)
        port = free_port()
        configuration = os.path.join(folder, "stunnel.conf")
        with open(configuration, "w") as text:
            text.write(f"""foreground = yes
pid =
[sluice]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{port_of(plain)}
cert = {file("good.pem")}
key = {file("good.key")}
""")
        with program(port, "stunnel", configuration):
            echo_through(f"wss://127.0.0.1:{port}", *CA)


def load_balancer():
    """haproxy, with either version of the PROXY protocol, in front of every kind of listener."""
    trusted = ["--proxy-protocol-from", "127.0.0.0/8"]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(sluice(*trusted, *options, f"listen+{scheme}://127.0.0.1:0", "echo:"))
            for scheme, options in [("ws", []), ("wss", SERVER), ("tcp", []), ("tls", SERVER)]]
        for version in ["send-proxy", "send-proxy-v2"]:
            ports = {url: free_port() for url in servers}
            configuration = os.path.join(folder, "haproxy.cfg")
            with open(configuration, "w") as text:
                text.write("defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n")
                for number, (url, port) in enumerate(ports.items()):
                    text.write(f"listen l{number}\n bind 127.0.0.1:{port}\n server s 127.0.0.1:{port_of(url)} {version}\n")
            with program(ports[servers[-1]], "haproxy", "-db", "-f", configuration):
                for url, port in ports.items():
                    echo_through(f"{url.split(':')[0]}://127.0.0.1:{port}", *(CA if url[:3] in ("wss", "tls") else []))
        for url in servers:
            trust = CA if url[:3] in ("wss", "tls") else []
            refused = subprocess.run([tool, *trust, url], input=b"a\n", capture_output=True, timeout=LIMIT, env=CLEAN)
            check(refused.returncode in (4, 5) and refused.stderr, f"{url}: a connection without the header was served")
            check(refused.stdout == b"", f"{url}: a connection without the header had an answer")
    # The header says where a connection comes from, and only who is named is believed.
    header = b"PROXY TCP4 203.0.113.7 127.0.0.1 4000 80\r\n"
    for network, expected in [("127.0.0.1", b"hello\n"), ("203.0.113.0/24", header + b"hello\n")]:
        process = subprocess.Popen(
            [tool, "-v", "--proxy-protocol-from", network, "listen+tcp://127.0.0.1:0", "echo:"],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=CLEAN)
        port = port_of(process.stderr.readline().decode().strip())
        with socket.create_connection(("127.0.0.1", port), LIMIT) as client:
            client.sendall(header + b"hello\n")
            client.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        check(answer == expected, f"from {network}: {answer}")
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=15)[1]
        check((b"203.0.113.7" in told) == (network == "127.0.0.1"), f"from {network}: {told.decode()}")
    for wrong in [["-"], ["tcp://127.0.0.1:1"], ["listen+unix:/tmp/x", "echo:"]]:
        check(b"--proxy-protocol-from" in run(*trusted, *wrong, status=64).stderr, f"{wrong} gave no reason")


def event_streams():
    """curl as a client, Node's faye-websocket as a server, and the tool with itself, in TLS too."""
    lines = b"".join(b"line %d\n" % number for number in range(200))
    for scheme, server_options, client_options in [("http", [], []), ("https", SERVER, CA)]:
        port = free_port()
        url = f"{scheme}://127.0.0.1:{port}/log"
        source = subprocess.Popen(
            [tool, "--event", "log", *server_options, "-", f"listen+sse+{url}"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=CLEAN)
        check(b"listening on" in source.stderr.readline(), "the broadcast does not listen")
        curl = subprocess.Popen(
            ["curl", "-sSN", "--max-time", "20", "--cacert", file("root.pem"), url], stdout=subprocess.PIPE)
        listener = subprocess.Popen([tool, "--json", *client_options, f"sse+{url}"], stdout=subprocess.PIPE, env=CLEAN)
        others = subprocess.Popen(
            [tool, "--event", "other", *client_options, f"sse+{url}"], stdout=subprocess.PIPE, env=CLEAN)
        time.sleep(1)
        source.stdin.write(lines)
        source.stdin.flush()
        seen = [listener.stdout.readline() for _ in range(200)]
        check(seen[7] == b'{"event":"log","data":"line 7","id":null}\n', f"--json: {seen[7]}")
        check(seen[199].count(b"line 199") == 1, f"the last event: {seen[199]}")
        source.stdin.close()
        text = curl.stdout.read()
        check(text.count(b"event: log\ndata: line ") == 200 and text.startswith(b"retry: 5000\n\n"), f"curl: {text[:200]}")
        for process in [listener, others, curl]:
            process.terminate()
        check(others.stdout.read() == b"", "--event let others through")
        check(source.wait(20) == 0, "the broadcast did not end well")
        listener.wait(10), others.wait(10), curl.wait(10)
    port = free_port()
    faye = """
const http = require('http'); const { EventSource } = require('faye-websocket');
http.createServer((request, response) => {
  const source = new EventSource(request, response, { retry: 0.05 });
  const start = Number(source.lastEventId || 0);
  for (let n = start + 1; n <= start + 3; n++) source.send('event ' + n + '\\nsecond line', { event: 'tick', id: n });
  setTimeout(() => source.close(), 50);
}).listen(Number(process.argv[1]), '127.0.0.1');
"""
    with program(port, "env", "NODE_PATH=/usr/share/nodejs", "node", "-e", faye, str(port)):
        client = subprocess.Popen([tool, "-q", "--reconnect", "--json", f"sse+http://127.0.0.1:{port}/"], stdout=subprocess.PIPE, env=CLEAN)
        seen = [client.stdout.readline().decode() for _ in range(9)]
        client.terminate()
        client.wait(10)
        wanted = [f'{{"event":"tick","data":"event {n}\\nsecond line","id":"{n}"}}\n' for n in range(1, 10)]
        check(seen == wanted, f"faye: {seen}")


def credentials():
    with sluice("--basic-auth", "ann:secret", "listen+ws://127.0.0.1:0", "echo:") as url:
        refused = run(url, data=b"a\n", status=6)
        check(b"401" in refused.stderr, refused.stderr.decode())
        for wrong in ["ann:wrong", "ann:secre", "ann:secrets", "bob:secret"]:
            run("--basic-auth", wrong, url, data=b"a\n", status=6)
        echo_through(url, "--basic-auth", "ann:secret")
        echo_through(url, environment={"SLUICE_BASIC_AUTH": "ann:secret"})
        echo_through(url.replace("ws://", "ws://ann:secret@"))
    # What stands in one endpoint's URL goes before what the environment says of all.
    with sluice("--basic-auth", "ann:secret", "listen+ws://127.0.0.1:0", "echo:") as url:
        echo_through(url.replace("ws://", "ws://ann:secret@"), environment={"SLUICE_BASIC_AUTH": "bob:other"})
    for words, told in [
            (["--basic-auth", "a:b", "ws://c:d@127.0.0.1:1"], b"--basic-auth"),
            (["--basic-auth", "a:b", "--header", "authorization: Bearer x", "ws://127.0.0.1:1"], b"--header Authorization"),
            (["--basic-auth", "a:b", "listen+tcp://127.0.0.1:0", "echo:"], b"--basic-auth"),
            (["--basic-auth", "nocolon", "ws://127.0.0.1:1"], b"USER:PASSWORD")]:
        check(told in run(*words, status=64).stderr, f"{words}")
    refused = run("listen+tcp://127.0.0.1:0", "echo:", environment={"SLUICE_BASIC_AUTH": "a:b"}, status=64)
    check(b"SLUICE_BASIC_AUTH" in refused.stderr, refused.stderr.decode())
    run("file:/dev/null", "null:", environment={"SLUICE_BASIC_AUTH": "a:b"})
    # Where nobody can be asked they are sent, and that is said.
    told = run("--basic-auth", "a:b", "listen+tcp://nonexistent.invalid:0", "ws://127.0.0.1:1", status=5).stderr
    check(b"requires no credentials" in told, told.decode())


def event_stream_access():
    """Whoever has no credentials, and whoever's page is of another origin, does not read the events."""
    with broadcast("--basic-auth", "ann:secret", "--response-header", "X-Mine: yes", "--allow-origin", "https://page.example",
                   "--allow-origin", "https://*.wild.example") as url:
        check(answer_of(url)[0].startswith("HTTP/1.1 401"), "an anonymous client was served")
        check(answer_of(url, "-u", "ann:wrong")[0].startswith("HTTP/1.1 401"), "a wrong password was taken")
        status, *fields = answer_of(url, "-u", "ann:secret", "-H", "Origin: https://a.wild.example")
        check(status.startswith("HTTP/1.1 200") and "x-mine: yes" in fields, f"{status} {fields}")
        check("access-control-allow-origin: https://a.wild.example" in fields and "vary: origin" in fields, f"{fields}")
        stranger = answer_of(url, "-u", "ann:secret", "-H", "Origin: https://evil.example")
        check(not any("access-control" in field for field in stranger) and "vary: origin" in stranger, f"{stranger}")
        client = subprocess.Popen(
            [tool, "--one-message", "--basic-auth", "ann:secret", f"sse+{url}"], stdout=subprocess.PIPE, env=CLEAN)
        check(client.communicate(timeout=LIMIT)[0] == b"hello\n" and client.returncode == 0, f"one event: {client.returncode}")
        check(b"401" in run(f"sse+{url}", status=6).stderr, "the tool was served without credentials")
    with broadcast() as url:
        fields = answer_of(url, "-H", "Origin: https://page.example")
        check(fields[0].startswith("HTTP/1.1 200") and not any("access-control" in field for field in fields), f"{fields}")
    with broadcast("--allow-origin", "*") as url:
        check("access-control-allow-origin: *" in answer_of(url, "-H", "Origin: https://page.example"), "any origin")
    # Many lines at once reach a client that takes its time, and one that takes nothing does not hold it for ever.
    source = subprocess.Popen(
        [tool, "exec:sleep 1; seq 300000", "listen+sse+http://127.0.0.1:0/log"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=CLEAN)
    url = source.stderr.readline().decode().split("sse+")[1].strip()
    with socket.create_connection(("127.0.0.1", port_of(url))) as stalled:
        stalled.sendall(b"GET /log HTTP/1.1\r\nHost: x\r\n\r\n")
        curl = subprocess.run(["curl", "-sSN", "--max-time", "40", url], capture_output=True, timeout=LIMIT, env=CLEAN)
        numbers = re.findall(rb"data: (\d+)\n\n", curl.stdout)
        check(numbers == [b"%d" % number for number in range(1, 300001)], f"{len(numbers)} of 300000 lines: {curl.stderr}")
        check(source.wait(20) == 0, "a source with a stalled client")
    quiet = subprocess.run([tool, "-q", "-", "listen+sse+http://127.0.0.1:0"], input=b"", capture_output=True, timeout=LIMIT, env=CLEAN)
    check(quiet.returncode == 0 and quiet.stderr == b"", f"-q: {quiet}")


def headers_for_whom():
    """What a client is told to send is never given to the clients of a listening endpoint."""
    seen = []

    def serve(listener):
        connection, _ = listener.accept()
        with connection:
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(4096)
            seen.append(request)
            accept = base64.b64encode(hashlib.sha1(
                re.search(rb"(?i)sec-websocket-key: *(\S+)", request)[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            connection.sendall(b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept
                               + b"\r\n\r\n\x88\x02\x03\xe8")
            connection.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        with sluice("--header", "Authorization: Bearer upstream-secret", "--response-header", "X-Answer: 7", "listen+ws://127.0.0.1:0",
                    f"ws://127.0.0.1:{listener.getsockname()[1]}") as url:
            key = base64.b64encode(os.urandom(16)).decode()
            answer = "\n".join(answer_of(
                url.replace("ws:", "http:"), "-H", "Upgrade: websocket", "-H", "Connection: Upgrade", "-H", f"Sec-WebSocket-Key: {key}",
                "-H", "Sec-WebSocket-Version: 13"))
            check("x-answer: 7" in answer and "upstream-secret" not in answer, answer)
    check(seen and b"upstream-secret" in seen[0] and b"X-Answer" not in seen[0], f"{seen}")


@contextlib.contextmanager
def broadcast(*arguments):
    """A broadcast of "hello", again and again."""
    source = subprocess.Popen(
        [tool, *arguments, "exec:while sleep 0.2; do echo hello; done", "listen+sse+http://127.0.0.1:0/log"],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=CLEAN)
    try:
        line = source.stderr.readline().decode()
        check("listening on sse+" in line, f"no address: {line}")
        yield line.split("sse+")[1].strip()
    finally:
        source.send_signal(signal.SIGINT)
        source.wait(15)


def answer_of(url, *arguments):
    """Status and fields of an answer, in lower case but for the status."""
    done = subprocess.run(
        ["curl", "-sS", "-i", "-N", "--http1.1", "--max-time", "2", *arguments, url], capture_output=True, timeout=LIMIT, env=CLEAN)
    status, *fields = done.stdout.decode(errors="replace").split("\r\n\r\n")[0].split("\r\n")
    return [status, *(field.lower() for field in fields)]


def tls_profile():
    """sslyze, which knows Mozilla's profiles: the intermediate one by default, and by option what the system allows."""
    sslyze = os.path.join(os.path.dirname(python), "sslyze")
    scans = ["--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3", "--elliptic_curves", "--reneg", "--compression",
             "--fallback", "--heartbleed", "--openssl_ccs", "--robot", "--certinfo", "--certinfo_ca_file", file("root.pem"),
             "--mozilla_config", "intermediate"]

    def scan(url):
        done = subprocess.run([sslyze, *scans, f"127.0.0.1:{port_of(url)}"], capture_output=True, timeout=LIMIT * 3, text=True, env=CLEAN)
        curves = re.search(r"Supported curves: *(.*)", done.stdout)
        return done.stdout, set(curves[1].split(", ")) if curves else done.stderr

    for identity in ["good", "rsa"]:
        own = ["--cert", file(identity + ".pem"), "--key", file(identity + ".key")]
        for scheme in ["tls", "wss", "sse+https"]:
            endpoints = [f"listen+{scheme}://127.0.0.1:0"]
            endpoints = ["-", *endpoints] if scheme == "sse+https" else [*endpoints, "echo:"]
            if scheme == "sse+https":
                # Standard input that stays open.
                process = subprocess.Popen([tool, *own, *endpoints], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=CLEAN)
                url = process.stderr.readline().decode().split("listening on ")[1].strip()
                told, curves = scan(url)
                process.kill()
                process.wait()
            else:
                with sluice(*own, *endpoints) as url:
                    told, curves = scan(url)
            check("OK - Compliant" in told, f"{identity} {scheme}: {told[-3000:]}")
            check(curves == {"X25519", "secp256r1", "secp384r1"}, f"{identity} {scheme}: {curves}")
            check("_CBC_" not in told and "TLS_RSA_" not in told, f"{identity} {scheme}: {told[-3000:]}")
    with sluice("--tls-profile", "system", "--cert", file("rsa.pem"), "--key", file("rsa.key"), "listen+tls://127.0.0.1:0", "echo:") as url:
        told, curves = scan(url)
        check("FAILED - Not compliant" in told and "_CBC_" in told and "secp521r1" in curves, f"system: {told[-3000:]}")


@contextlib.contextmanager
def event_server():
    """An origin of two events; gives its port and the heads of its requests."""
    heads = []

    def one(connection):
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4096)
            heads.append(head)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\ndata: one\n\n")
            time.sleep(0.5)
            connection.sendall(b"data: two\n\n")

    def serve():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1], heads
        listener.shutdown(socket.SHUT_RDWR)


def proxies_as_packaged():
    """Proxies that allow tunnels to port 443 only, as tinyproxy's and squid's packaged configurations do: requests of http: pass, tunnels don't."""
    with tempfile.TemporaryDirectory() as folder, event_server() as (origin, heads), sluice("listen+ws://127.0.0.1:0", "echo:") as plain:
        os.chmod(folder, 0o777)
        port = free_port()
        tinyproxy = os.path.join(folder, "tinyproxy.conf")
        with open(tinyproxy, "w") as text:
            text.write(f"Port {port}\nListen 127.0.0.1\nTimeout 60\nLogLevel Error\nAllow 127.0.0.1\nViaProxyName \"t\"\n"
                       "ConnectPort 443\nConnectPort 563\nBasicAuth ann proxy-secret\n")
        with open("/etc/squid/squid.conf") as packaged:
            rules = [line for line in packaged.read().splitlines() if not re.match(r"(http_port|coredump_dir|include) ", line)]
        squid_port = free_port()
        squid = os.path.join(folder, "squid.conf")
        with open(squid, "w") as text:
            text.write("\n".join(rules) + f"""
http_port 127.0.0.1:{squid_port}
access_log none
cache_log {folder}/cache.log
pid_filename {folder}/squid.pid
coredump_dir {folder}
cache_effective_user {"proxy" if os.getuid() == 0 else os.environ.get("USER", "nobody")}
shutdown_lifetime 1 seconds
""")
        for words, at, credentials in [(["tinyproxy", "-d", "-c", tinyproxy], port, "ann:proxy-secret@"), (["squid", "-N", "-f", squid], squid_port, "")]:
            with program(at, *words):
                proxy = f"http://{credentials}127.0.0.1:{at}"
                for how in [{"environment": {"http_proxy": proxy}}, {}]:
                    del heads[:]
                    arguments = [] if how else ["--proxy", proxy]
                    done = run(*arguments, "--header", "X-Mine: 7", f"sse+http://127.0.0.1:{origin}/feed?x", **how)
                    check(done.stdout == b"one\ntwo\n", f"{words[0]}: {done}")
                    check(len(heads) == 1 and heads[0].startswith(b"GET /feed?x HTTP/1.") and b"X-Mine: 7" in heads[0]
                          and b"proxy-authorization" not in heads[0].lower() and b"via: " in heads[0].lower(), f"{words[0]}: {heads}")
                refused = run("--proxy", proxy, plain, data=b"a\n", status=5)
                check(b"status 403" in refused.stderr, f"{words[0]}: {refused}")
                check(len(refused.stderr.splitlines()) > 1, f"{words[0]} says why: {refused}")
                if credentials:
                    wrong = run("--proxy", f"http://ann:wrong@127.0.0.1:{at}", f"sse+http://127.0.0.1:{origin}/", status=None)
                    check(wrong.returncode in (5, 6) and b"wrong" not in wrong.stderr, f"{wrong}")


globals()[name]()
