"""Runs a server, a relay that passes connections on badly, and clients that come and go through it, and watches what they hold.

soak.py PROGRAM [--minutes M] [--connections N] [--seed S]

Fails if an echo was lost or altered, if more connections of a client failed than the relay has spoilt of its, if something is left open when all clients have gone, or if the
memory of a process has grown: between the second fifth of the time from when all have come and the last one, by more than a twentieth and 4 MiB.
Kernel slab is the whole system's: it is printed, and judged in the same way, unless --ignore-slab says that others are at work.
"""
import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile
import threading
import time


class Part:
    """One of the processes, and the last line of figures that it has printed."""

    def __init__(self, name, program, *arguments):
        self.name, self.line, self.ports, self.violations, self.is_done = name, "", None, [], False
        # By a client's address: what its connections failed with; how many of them were spoilt.
        self.failures, self.spoilt = collections.defaultdict(list), collections.Counter()
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "SWIFT_BACKTRACE": "enable=no"})
        self.ready = threading.Event()
        self.listening = threading.Thread(target=self.listen, daemon=True)
        self.listening.start()

    def listen(self):
        for line in self.process.stdout:
            if line.startswith("ports "):
                self.ports = line.split()[1:]
                self.ready.set()
            elif line.startswith("VIOLATION "):
                self.violations.append(line.strip())
            elif line.startswith("FAILURE "):
                _, address, kind = line.strip().split(" ", 2)
                self.failures[address].append(kind)
            elif line.startswith("SPOILT "):
                _, address, count = line.split()
                self.spoilt[address] += int(count)
            elif line.startswith("clients done"):
                self.is_done = True
            else:
                self.line = line.strip()
        self.ready.set()

    def figure(self, name):
        found = re.search(rf"\b{name} (\d+)", self.line)
        return int(found[1]) if found else 0

    @property
    def memory(self):
        """Bytes that are its own."""
        try:
            with open(f"/proc/{self.process.pid}/smaps_rollup") as file:
                return sum(int(line.split()[1]) for line in file if line.startswith("Private_")) * 1024
        except OSError:
            return 0

    @property
    def descriptors(self):
        try:
            return len(os.listdir(f"/proc/{self.process.pid}/fd"))
        except OSError:
            return 0


def slab():
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Slab:"))


def mib(count):
    return f"{count / 2**20:.1f}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--ignore-slab", action="store_true")
    options = parser.parse_args()
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with tempfile.TemporaryDirectory(prefix="sluice-soak-") as folder:
        certificates = os.path.join(folder, "certificates")
        subprocess.run([os.path.join(root, "Sources/SluiceTestSupport/Certificates/make"), certificates], check=True)
        return soak(options, certificates)


def soak(options, certificates):
    server = Part("server", options.program, "server", certificates)
    server.ready.wait(20)
    relay = Part("relay", options.program, "relay", *server.ports, "--seed", options.seed)
    relay.ready.wait(20)
    clients = Part(
        "clients", options.program, "clients", *relay.ports, certificates, "--connections", str(options.connections), "--seconds",
        str(int(options.minutes * 60)), "--seed", options.seed)
    parts = [server, relay, clients]
    start, samples = time.monotonic(), []
    print("  s   open  opened  messages  failed/spoilt  MiB of server, relay, clients; kernel slab", flush=True)
    while not clients.is_done and all(part.process.poll() is None for part in parts):
        time.sleep(10)
        seconds = time.monotonic() - start
        samples.append((seconds, clients.figure("open"), [part.memory for part in parts] + [slab()]))
        memory = samples[-1][2]
        print(
            f"{seconds:5.0f} {clients.figure('open'):5} {clients.figure('opened'):7} {clients.figure('messages'):9} "
            f"{clients.figure('failed'):6}/{relay.figure('fatal'):<6} {'  '.join(mib(count) for count in memory)}", flush=True)
        if seconds > options.minutes * 60 + 300:
            break
    problems = list(clients.violations)
    if not clients.is_done:
        problems.append("the clients did not come to their end: " + ", ".join(f"{part.name} {part.process.poll()}" for part in parts))
    # What was forgotten ends when both sides have noticed.
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (relay.figure("open") or server.figure("open")):
        time.sleep(1)
    for part in (relay, server):
        if part.figure("open"):
            problems.append(f"{part.name} still has connections: {part.line}")
        elif part.descriptors > 40:
            problems.append(f"{part.name} still has {part.descriptors} descriptors")
    problems += growth(samples, options)
    for part in parts:
        print(part.line)
        part.process.stdin.close()
    for part in parts[:2]:
        try:
            if part.process.wait(30) != 0:
                problems.append(f"{part.name} ended with status {part.process.returncode}")
        except subprocess.TimeoutExpired:
            problems.append(f"{part.name} did not end")
            part.process.kill()
        part.listening.join(10)
    innocent = [
        f"{address}: {len(kinds)} failed, {relay.spoilt[address]} spoilt: {'; '.join(kinds)}"
        for address, kinds in sorted(clients.failures.items()) if len(kinds) > relay.spoilt[address]]
    print(f"{sum(map(len, clients.failures.values()))} connections failed; the relay has spoilt {sum(relay.spoilt.values())}")
    if innocent:
        problems.append(f"connections of {len(innocent)} clients failed that nobody had spoilt:\n  " + "\n  ".join(innocent[:20]))
    for problem in problems:
        print(f"FAILED: {problem}")
    return 1 if problems else 0


def growth(samples, options):
    """What has grown since all had come. The first fifth from then on does not count, in which memory that is kept is used once."""
    end = options.minutes * 60
    start = next((seconds for seconds, count, _ in samples if count >= options.connections * 0.9), 0)

    def during(first, last):
        return [memory for seconds, _, memory in samples if first < (seconds - start) / (end - start) <= last]

    early, late = (during(0.2, 0.4), during(0.8, 1)) if start < end else ([], [])
    problems = []
    if not early or not late:
        return problems
    for index, name in enumerate(["server", "relay", "clients", "kernel slab"]):
        before, after = (sum(memory[index] for memory in part) / len(part) for part in (early, late))
        print(f"{name}: {mib(before)} MiB, then {mib(after)} MiB")
        if after - before > max(before / 20, 4 << 20) and not (index == 3 and options.ignore_slab):
            problems.append(f"{name} has grown from {mib(before)} to {mib(after)} MiB")
    return problems


sys.exit(main())
