"""Runs the Autobahn test suite against Sluice's server and client, and judges it; `scripts/autobahn` calls it."""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What is not right or wrong in RFC 6455: what comes after a Close, and codes that are reserved for the future.
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}
# Sections 12 and 13 go up to 1000 messages of 128 KiB, in 7 minutes; these say as much of what is right.
QUICK = ["[1-9].*", "10.*", *(f"1[23].*.{size}" for size in (1, 2, 3, 4, 5, 6, 11))]
# Most cases wait for timers: a few side by side, each a process of its own.
SHARDS = 4
AGENT = "sluice"


class Failure(Exception):
    pass


class Suite:
    def __init__(self, directory, peer, time_limit):
        self.python = str(directory / "venv" / "bin" / "python")
        self.reports = directory / "reports"
        self.peer = peer
        self.time_limit = time_limit

    def command(self, *arguments):
        return [self.python, str(HERE / "suite.py"), *map(str, arguments)]

    def cases(self):
        return subprocess.run(self.command("cases"), check=True, capture_output=True, text=True).stdout.split()

    def run(self, command, **more):
        try:
            return subprocess.run(command, timeout=self.time_limit, text=True, **more)
        except subprocess.TimeoutExpired:
            return None  # Cases that did not run are told below.

    def server(self, shards):
        """Their client tests our server."""
        with Process([self.peer, "server"]) as server:
            url = f"ws://127.0.0.1:{server.line()}"

            def test(shard):
                directory, cases = shard
                self.run(self.command("client", url, AGENT, directory), input=" ".join(cases) + "\n")

            each(test, shards)
            if server.process.poll() is not None:
                raise Failure(f"the server ended with {server.process.returncode}")

    def client(self, shards):
        """Their server tests our client."""

        def test(shard):
            directory, cases = shard
            with Process(self.command("server", directory)) as suite:
                suite.write(" ".join(cases) + "\n")
                client = self.run([self.peer, "client", f"ws://127.0.0.1:{suite.line()}", AGENT])
                if client and client.returncode != 0:
                    print(f"the client ended with {client.returncode}")
                suite.finish()

        each(test, shards)

    def test(self, side, cases):
        """Runs the cases of one side. Returns what is wrong."""
        reports = self.reports / side
        shutil.rmtree(reports, ignore_errors=True)
        shards = [(reports / str(index), cases[index::SHARDS]) for index in range(SHARDS)]
        shards = [shard for shard in shards if shard[1]]
        began = time.monotonic()
        getattr(self, side)(shards)
        results = {}
        for directory, _ in shards:
            index = directory / "index.json"
            if index.exists():
                results |= json.loads(index.read_text(encoding="utf-8")).get(AGENT, {})
        wrong = list(judge(cases, results))
        informational = sum(result["behavior"] == "INFORMATIONAL" for result in results.values())
        print(
            f"Autobahn, {side}: {len(cases) - len(wrong)} of {len(cases)} cases right, {informational} of them informational,"
            f" in {time.monotonic() - began:.0f} s; reports in {reports}"
        )
        for line in wrong:
            print(f"  {line}")
        sys.stdout.flush()
        return wrong


class Process:
    """A program that ends, or is ended, with the block."""

    def __init__(self, command):
        self.command = command

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def line(self):
        return self.process.stdout.readline().strip()

    def write(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def finish(self):
        """Ends its input, and waits for its end."""
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            print("the suite did not end")


def each(work, shards):
    with ThreadPoolExecutor(len(shards)) as threads:
        list(threads.map(work, shards))


def judge(cases, results):
    for number in cases:
        result = results.get(number)
        if result is None:
            yield f"{number}: did not run"
            continue
        allowed = {"OK", "INFORMATIONAL"} if number in INFORMATIONAL else {"OK"}
        if not {result["behavior"], result["behaviorClose"]} <= allowed:
            yield f"{number}: {result['behavior']}, closing {result['behaviorClose']} with {result['remoteCloseCode']}"


def select(cases, patterns):
    selected = []
    for pattern in patterns:
        # `*` is any number of digits and dots, as in the suite's own patterns, but these end where they end.
        expression = re.compile(pattern.replace(".", r"\.").replace("*", r"[\d.]*"))
        matches = [case for case in cases if expression.fullmatch(case)]
        if not matches:
            raise Failure(f"no case is {pattern}")
        selected += matches
    return [case for case in cases if case in set(selected)]


def main():
    parser = argparse.ArgumentParser(prog="scripts/autobahn", description=__doc__)
    parser.add_argument("directory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("peer", help=argparse.SUPPRESS)
    parser.add_argument("side", nargs="*", default=["server", "client"], help="server, client: which is tested; both")
    parser.add_argument("--all", action="store_true", help="the large cases of compression too (minutes)")
    parser.add_argument("--cases", nargs="+", metavar="PATTERN", help="these cases only, such as 6.4.* 7.1.6")
    parser.add_argument("--time-limit", type=float, default=1200, metavar="SECONDS", help="for each side; 1200")
    options = parser.parse_args()
    if not set(options.side) <= {"server", "client"}:
        parser.error("the sides are server and client")
    suite = Suite(options.directory, options.peer, options.time_limit)
    try:
        cases = suite.cases()
        if options.cases:
            cases = select(cases, options.cases)
        elif not options.all:
            cases = select(cases, QUICK)
        wrong = [line for side in options.side for line in suite.test(side, cases)]
    except Failure as failure:
        sys.exit(f"autobahn: {failure}")
    sys.exit(1 if wrong else 0)


main()
