"""The terminal of a user, as scripts of scenarios have it: a tool that was started in it, what is typed, what is shown."""
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time

import processes
from toolkit import LIMIT, check, tool


class Terminal:
    """A tool in a terminal, as a user has it."""

    def __init__(self, *words, rows=33, columns=111):
        self.ours, self.theirs = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.theirs)

        def prepare():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        self.process = subprocess.Popen([tool, *words], stdin=self.theirs, stdout=self.theirs, stderr=self.theirs, preexec_fn=prepare)
        self.shown = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, data):
        os.write(self.ours, data)

    def expect(self, text):
        """Waits until something is shown, and forgets it."""
        deadline = time.monotonic() + 20
        while text not in self.shown:
            check(time.monotonic() < deadline, f"{text} is not shown, but {self.shown}")
            if select.select([self.ours], [], [], 0.1)[0]:
                self.shown += os.read(self.ours, 65536)
        before, self.shown = self.shown.split(text, 1)
        return before

    def end(self, status):
        check(self.process.wait(LIMIT) == status, f"it ended with {self.process.returncode}, not {status}: {self.shown}")
        check(termios.tcgetattr(self.theirs) == self.before, "the terminal is not as it was")
        os.close(self.ours)
        os.close(self.theirs)
