"""Commands in terminals of their own, and the terminal of the user: terminals.py NAME TOOL. Exits 1 and says why when something differs."""
import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import tempfile
import termios
import time

from browser import Browser
from toolkit import LIMIT, Line, Server, WebSocket, check, name, run, tool, within
from userterminal import Terminal

ANY = "listen+ws://127.0.0.1:0"
ANY_TCP = "listen+tcp://127.0.0.1:0"


def shown(command, *options, data=b"", status=0, **rest):
    return run(*options, "-", "pty:" + command, data=data, status=status, **rest).stdout


def commands():
    """A command finds a terminal, is typed to, and its exit status is the tool's."""
    got = shown("test -t 0 && test -t 1 && test -t 2 && tty && stty size && tty </dev/tty; echo $TERM", env={"PATH": os.environ["PATH"]})
    check(re.fullmatch(rb"/dev/pts/\d+\r\n24 80\r\n/dev/(tty|pts/\d+)\r\nxterm-256color\r\n", got), f"a terminal: {got}")
    check(shown("stty size", "--window", "120x50") == b"50 120\r\n", "a window")
    check(shown("echo $TERM", env={**os.environ, "TERM": "vt100"}) == b"vt100\r\n", "TERM as it is")
    check((got := shown("read x; echo got $x", data=b"hello\n")) == b"hello\r\ngot hello\r\n", f"echo: {got}")
    # The end of the input is typed, behind a line that is not ended too.
    check((got := shown("stty -echo; cat; echo end", data=b"")) == b"end\r\n", f"an end: {got}")
    for data, expected in [(b"a\nb", b"a\r\nbend\r\n"), (b"a\n", b"a\r\nend\r\n")]:
        got = shown("stty -echo; echo ready; sleep 0.2; cat; echo end", data=data)
        check(got.split(b"ready\r\n")[1] == expected, f"an end behind {data}: {got}")
    # More than the terminal holds at once is typed at its pace.
    text = b"".join(b"%06d\n" % number for number in range(20000))
    large = subprocess.Popen([tool, "-", "pty:stty -echo raw; echo ready; head -c 140000 | md5sum"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    # What is typed before that is edited, and shown.
    check(large.stdout.readline() == b"ready\n", "a raw terminal")
    digest = large.communicate(text, timeout=LIMIT)[0].split()[0]
    check(digest == subprocess.run(["md5sum"], input=text, capture_output=True).stdout.split()[0], f"a large input: {digest}")
    check(len(shown("stty -opost; head -c 3000000 /dev/zero")) == 3_000_000, "a large output")
    shown("exit 3", status=3)
    shown("kill -9 $$", status=137)
    shown("no-such-command 2>/dev/null", status=127)
    check(shown("echo error >&2") == b"error\r\n", "standard error")
    # A shell has job control: it does not say that it has none.
    got = shown("sh -i", data=b"set -o | grep monitor\nexit 5\n", status=5)
    check(re.search(rb"monitor\s+on", got) and b"job control" not in got, f"job control: {got}")
    for words, told in [(["--window", "80", "-", "pty:x"], b"--window"), (["--window", "0x24", "-", "pty:x"], b"--window"),
                        (["--window", "99999x24", "-", "pty:x"], b"--window"), (["--window", "80x24", "-", "exec:x"], b"--window does not apply"),
                        (["--raw", "ws://127.0.0.1:1", "null:"], b"--raw does not apply"), (["-", "pty:"], b"a command is missing")]:
        check(told in (done := run(*words, status=64)).stderr, f"{words}: {done.stderr}")


def background():
    """A terminal ends with its command, behind all that this has written, whatever still has it open."""
    for command, status, expected in [("setsid sleep 5 & echo started", 0, b"started\r\n"), ("setsid sleep 5 & echo started; exit 3", 3, b"started\r\n"),
                                      ("setsid sleep 5 & stty -opost; head -c 3000000 /dev/zero", 0, b"\0" * 3_000_000)]:
        start = time.monotonic()
        got = shown(command, status=status)
        check(got == expected, f"{command}: {len(got)} bytes, {got[:100]}")
        check(time.monotonic() - start < 4, f"{command} took {time.monotonic() - start:.1f} s")
    # One that writes all the time; what comes of it behind the end of the command is not awaited.
    start = time.monotonic()
    got = shown("setsid timeout 5 yes & sleep 0.3; echo x; exit 4", status=4)
    check(b"x\r\n" in got and time.monotonic() - start < 4, f"a noisy job: {got[-100:]}, {time.monotonic() - start:.1f} s")
    # A slow reader gets all.
    slow = subprocess.Popen([tool, "-", "pty:setsid sleep 5 & stty -opost; head -c 400000 /dev/zero; echo end"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    got = b""
    while chunk := os.read(slow.stdout.fileno(), 4096):
        got += chunk
        time.sleep(0.005)
    check(got == b"\0" * 400_000 + b"end\n" and slow.wait(LIMIT) == 0, f"a slow reader: {len(got)} bytes")
    # A shell's job is of its session, and ends with it.
    with tempfile.TemporaryDirectory() as folder:
        shown(f"bash -i", data=f"sleep 1000 & echo $! >{folder}/id\nexit\n".encode())
        with open(folder + "/id") as file:
            job = int(file.read())
        within("the end of a job", lambda: not os.path.exists(f"/proc/{job}"))


def served():
    """A terminal for each connection, which ends with it, or one for all."""
    with Server("--binary", ANY, "pty:echo $$; exec sleep 1000") as server:
        client = WebSocket(server.port)
        process = int(client.receive())
        check(os.path.exists(f"/proc/{process}"), "it runs")
        client.socket.close()
        # A hang-up, not the two seconds of --terminate-after and what follows.
        start = time.monotonic()
        within("its end with the connection", lambda: not os.path.exists(f"/proc/{process}"))
        check(time.monotonic() - start < 2, "at once")
    with Server(ANY_TCP, "pty:trap 'echo interrupted; exit' INT; echo ready; while :; do sleep 0.05; done") as server:
        line = Line(server.port)
        check(line.receive() == b"ready\r\n", "ready")
        line.send(b"\x03")
        check((got := line.receive()) == b"^Cinterrupted\r\n", f"Control-C: {got}")
        check(line.receive() == b"", "its end is the connection's")
    with Server("--binary", ANY, "shared:pty:stty -echo; while read x; do echo \"<$x>\"; done") as server:
        members = [WebSocket(server.port) for _ in range(2)]
        time.sleep(0.2)
        members[0].send(b"one\n", opcode=2)
        check([member.receive() for member in members] == [b"<one>\r\n"] * 2, "one for all")
        for member in members:
            member.close()
    before = len(os.listdir("/dev/pts"))
    with Server(ANY_TCP, "pty:cat") as server:
        for _ in range(30):
            line = Line(server.port)
            line.send(b"x\n")
            check(line.receive() == b"x\r\n" and line.receive() == b"x\r\n", "an echo, and the answer")
            line.close()
        within("no terminal is left", lambda: len(os.listdir("/dev/pts")) <= before)


def own():
    """The user's terminal is passed through: keys, control characters, its size and its changes; and put back in the end."""
    terminal = Terminal("-", "pty:stty size; while read x; do printf '\\033[1m%s\\033[0m\\n' \"<$x>\"; done; exit 7")
    terminal.expect(b"33 111\r\n")
    terminal.type(b"hello\r")
    # One echo: the command's terminal's.
    check((got := terminal.expect(b"\x1b[1m<hello>\x1b[0m\r\n")) == b"hello\r\n", f"an echo, once: {got}")
    terminal.type(b"x\x7fy\r")
    terminal.expect(b"<y>")
    terminal.expect(b"\r\n")
    terminal.type(b"\x04")
    terminal.end(7)
    terminal = Terminal("-", "pty:trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.05; done")
    terminal.expect(b"ready\r\n")
    terminal.resize(20, 60)
    terminal.expect(b"20 60\r\n")
    terminal.end(3)
    # SOURCE and TARGET the other way round, and a signal.
    terminal = Terminal("pty:cat")
    terminal.type(b"x\r")
    terminal.expect(b"x\r\nx\r\n")
    terminal.process.send_signal(signal.SIGTERM)
    terminal.end(0 if terminal.process.wait(LIMIT) == 0 else terminal.process.returncode)
    # What others send is shown, unless it is asked for that it is obeyed.
    with Server("--binary", ANY, "pty:stty -echo; printf '\\033[1mbold\\n'; head -c 1 | od -c; cat") as server:
        terminal = Terminal("--binary", "--no-input", server.url)
        terminal.expect(b"\\x1b[1mbold")
        terminal.process.send_signal(signal.SIGINT)
        terminal.end(0)
        terminal = Terminal("--binary", "--raw", "-", server.url)
        terminal.expect(b"\x1b[1mbold\r\n")
        # Control-C is for the other end: it ends what runs there.
        terminal.type(b"\x03")
        terminal.end(4)


def far():
    """A terminal at the other end of a WebSocket: its window is the user's, and a user may say how much it takes."""
    with Server(ANY, "pty:PS1='$ ' exec sh") as server:
        user = Terminal("--raw", "-", server.url)
        user.expect(b"$ ")
        user.type(b"stty size\r")
        user.expect(b"33 111\r\n")
        user.resize(20, 70)
        user.type(b"trap 'stty size' WINCH; sleep 0.3; stty size\r")
        user.expect(b"20 70\r\n")
        user.type(b"exit 0\r")
        user.end(0)
        # Without the subprotocol, as before: what is text is typed.
        plain = WebSocket(server.port)
        check(b"websocket-protocol" not in plain.head.lower(), f"a subprotocol that was not asked for: {plain.head}")
        plain.send("echo window 1x1")
        while not re.fullmatch(r"(\$ )?window 1x1", line := plain.receive() or "the end"):
            check(line != "the end", "what was said as text is not typed")
        plain.close()
        client = WebSocket(server.port, headers="Sec-WebSocket-Protocol: sluice-terminal\r\n")
        check(b"sluice-terminal" in client.head, f"the subprotocol: {client.head}")
        for text in ["window 0x0", "window", "window 70000x1", "credit -5", "credit x", "something else", "window 90x30", "credit 1000"]:
            client.send(text)
        client.send(b"stty size; yes | head -c 3000000; echo do''ne\r", opcode=2)
        expect_output(client, b"30 90\r\n")
        # More than the credit by what is read at once, and then nothing.
        seen = drained(client)
        check(1000 < seen < 200_000, f"{seen} bytes with a credit of 1,000")
        client.send("credit 100000")
        more = drained(client)
        check(90_000 < more < 400_000, f"{more} bytes with a credit of 100,000 more")
        # A key goes through although nothing comes.
        client.send(b"\x03", opcode=2)
        client.send("credit 10000000")
        client.send(b"echo sta''tus $?\r", opcode=2)
        expect_output(client, b"status 1")
        client.close()
        # What is pasted does not keep the credit from coming, which stands behind it.
        client = WebSocket(server.port, headers="Sec-WebSocket-Protocol: sluice-terminal\r\n")
        client.send("credit 1000")
        client.send(b"cat\r", opcode=2)
        for _ in range(3000):
            client.send(b"a line that comes back\r", opcode=2)
        client.send("credit 100000000")
        client.send(b"\x04echo the la''st\r", opcode=2)
        expect_output(client, b"the last\r\n")
        client.close()


def page():
    """The terminal on the demo's page: a shell, its window, keys, colours, its end; a flood waits for the page, and nobody gets it without the key."""
    demo = subprocess.Popen([tool, "demo", "--listen", "127.0.0.1:0", "--terminal", "PS1='ready: ' exec sh"], stderr=subprocess.PIPE, text=True)
    url = re.search(r"open (http://127\.0\.0\.1:(\d+)/)(\?key=\w{20,})", demo.stderr.readline())
    check(url, "no address with a key")
    for query in ["", "?key=", "?key=wrong"]:
        stranger = WebSocket(int(url[2]), "/terminal" + query, headers="Sec-WebSocket-Protocol: sluice-terminal\r\n")
        check(stranger.receive() == 1008, f"a stranger with '{query}'")
        stranger.close()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Browser(folder, url[1] + url[3]) as browser:
        def typed(text):
            browser.evaluate(f"demo.terminal.type({json.dumps(text)})")

        def shows(pattern):
            browser.wait(f"/{pattern}/m.test(demo.terminal.screen.text)")
        browser.wait("demo.terminal.connection.isOpen")
        shows("^ready:")
        typed("echo $((6*7))ab; stty size\r")
        shows("^42ab$")
        browser.wait("new RegExp('^24 ' + demo.terminal.screen.columns + '$', 'm').test(demo.terminal.screen.text)")
        # The whole screen, a place on it, a colour, and another screen for a while.
        typed(r"printf '\033[2J\033[3;5H\033[31mred\033[0m\n\033[?1049hother\033[?1049l'" + "\r")
        browser.wait("demo.terminal.screen.lines[2].slice(4, 7).map(({ text, style }) => text + (style.color ? '!' : '')).join('') === 'r!e!d!'")
        shows("^ready:$")
        check(not browser.evaluate("demo.terminal.screen.text.includes('other') || demo.terminal.screen.other"), "the other screen stays")
        browser.evaluate("document.getElementById('terminal').focus()")
        for key in ["e", "c", "h", "o", " ", "k", "x", "Backspace", "e", "y", "s", "Enter"]:
            browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, **({"text": key} if len(key) == 1 else {}))
            browser.call("Input.dispatchKeyEvent", type="keyUp", key=key)
        shows("^keys$")
        # What is written without an end waits for what is drawn, and for Control-C.
        typed("clear; yes flood\r")
        browser.wait("demo.terminal.received > 2e6")
        check(browser.evaluate("demo.terminal.received - demo.terminal.drawn") < 2_000_000, "more came than was asked for")
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="c", modifiers=2)
        typed("echo over: $?\r")
        shows("^over: 130$")
        typed("exit\r")
        shows("ended; press Enter")
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="Enter")
        browser.wait("demo.terminal.connection.isOpen && demo.terminal.screen.text.startsWith('ready:')")
    demo.terminate()
    check(demo.wait(LIMIT) in (0, 143), f"the demo ended with {demo.returncode}")


def expect_output(client, text):
    seen = b""
    while text not in seen:
        frame = client.frame()
        check(frame and frame[0] == 2, f"{text} was not shown, but {frame}: {seen[-300:]}")
        seen += frame[1]


def drained(client):
    """Bytes until nothing comes for a while."""
    count = len(client.rest)
    client.rest = b""
    client.socket.settimeout(1)
    with contextlib.suppress(TimeoutError):
        while True:
            count += len(client.socket.recv(65536))
    client.socket.settimeout(LIMIT)
    return count


def serial():
    """A serial line: bytes as they are, both ways, at a speed; alone and for all."""
    ours, theirs = pty.openpty()
    path = os.ttyname(theirs)
    tool_side = subprocess.Popen([tool, "--baud", "19200", "-", "tty:" + path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    every = bytes(range(256))
    tool_side.stdin.write(every)
    tool_side.stdin.flush()
    got = b""
    while len(got) < 256:
        check(select.select([ours], [], [], 20)[0], f"only {got}")
        got += os.read(ours, 1000)
    check(got == every, f"what is sent: {got}")
    check(termios.tcgetattr(theirs)[4:6] == [termios.B19200] * 2, "a speed")
    os.write(ours, every)
    check(tool_side.stdout.read(256) == every, "what is received")
    tool_side.send_signal(signal.SIGTERM)
    check(tool_side.wait(10) == 0, f"a signal: {tool_side.returncode}")
    with Server(ANY, "shared:tty:" + path) as server:
        members = [WebSocket(server.port) for _ in range(2)]
        time.sleep(0.2)
        os.write(ours, b"21.5 C\n")
        check([member.receive() for member in members] == ["21.5 C"] * 2, "a sensor's line, for all")
        members[0].send("reset")
        check(os.read(ours, 100) == b"reset\n", "what one says")
    os.close(ours)
    os.close(theirs)
    for words, told in [(["tty:/nonexistent"], b"ENOENT"), (["tty:/dev/null"], b"ENOTTY"), (["tty:/etc/hostname"], b"ENOTTY")]:
        check(told in (done := run(*words, status=7)).stderr, f"{words}: {done.stderr}")
    for words in [["--baud", "0", "tty:/x"], ["--baud", "9600", "null:"], ["tty:"]]:
        run(*words, status=64)


globals()[name]()
