#!/usr/bin/env python3
"""Whether topics keep their promises while everything around them fails: topic_faults.py TOOL [--engines sqlite,redis,volatile,nats,redis-cluster,nats-cluster] [--seeds 1] [--first 1] [--seconds 20]

For each engine and seed: writers number their lines, readers follow by the tool and as event streams of two servers, from the beginning on and wherever they were, while by
the seed's choice the engine is killed or stands still, connections to it are cut at any byte, servers, readers and writers are killed, and the log is trimmed. Then
- each reader has a run of the log without a gap and without repetition, or was told of a loss exactly where there is one;
- a position has one message, whoever read it;
- each writer's lines are there in order and once, and all that a writer has been told to be stored is there, if nothing was trimmed and the engine keeps what it is given;
- no loss is told that there was none for: none without a trim or an engine that forgets ("volatile" is a Redis without persistence; of a Redis cluster, what a replica
  had not got when its primary died is lost; a NATS cluster of three loses nothing while two live).
Some runs are told by their seed to have 30 readers more, who come back all at once, again and again; each has one that is some hundred times slower than the writers.
Exits 1 at the first violation, and says the seed.
"""
import argparse
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import processes  # noqa: E402
from engines import Cluster, Nats, NatsCluster, Redis, RedisCluster  # noqa: E402

LIMIT = 30


class Violation(Exception):
    pass


class Relay:
    """Stands between the tool and its engine, and cuts what passes it, behind any byte."""

    def __init__(self, port):
        self.target, self.listener = port, socket.create_server(("127.0.0.1", 0))
        self.port, self.pairs, self.lock = self.listener.getsockname()[1], set(), threading.Lock()
        # Bytes that still pass before the next cut; None: all.
        self.budget = None
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
                    server.settimeout(None)
                except OSError:
                    client.close()
                    continue
                pair = (client, server)
                with self.lock:
                    self.pairs.add(pair)
                for source, sink in (pair, pair[::-1]):
                    threading.Thread(target=self.copy, args=(source, sink, pair), daemon=True).start()

    def copy(self, source, sink, pair):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                with self.lock:
                    if self.budget is not None and self.budget < len(data):
                        part, self.budget = data[:self.budget], None
                        sink.sendall(part)
                        self.end_all()
                        return
                    if self.budget is not None:
                        self.budget -= len(data)
                sink.sendall(data)
        with self.lock:
            self.end(pair)

    def end(self, pair):
        self.pairs.discard(pair)
        for one in pair:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def end_all(self):
        for pair in list(self.pairs):
            self.end(pair)

    def cut(self, behind):
        with self.lock:
            if behind == 0:
                self.end_all()
            self.budget = behind or None

    def close(self):
        self.listener.close()
        with self.lock:
            self.end_all()


class Record:
    """What one reader has read, checked as it comes."""

    def __init__(self, world, name):
        self.world, self.name, self.last, self.epoch, self.count, self.losses = world, name, None, None, 0, 0
        self.lines = {}
        self.is_done = threading.Event()

    def lose(self):
        """It was told of a loss: what follows need not be what comes next."""
        self.world.check(self.world.may_lose, f"{self.name} was told of a loss behind {self.epoch}.{self.last}, and there was none")
        self.losses += 1
        self.last, self.epoch, self.lines = None, None, {}

    def add(self, position, text):
        epoch, number = position.rsplit(".", 1)
        number = int(number)
        self.world.see(self.name, position, text)
        # Numbers are without a gap in one life of the log; the next one's are greater, and what is first there is so for all.
        self.world.check(
            self.last is None or (number == self.last + 1 if epoch == self.epoch else number > self.last),
            f"{self.name} has {position} behind {self.epoch}.{self.last}")
        if self.last is not None:
            self.world.follow(self.name, self.position, position)
        self.last, self.epoch = number, epoch
        self.count += 1
        writer, line = text.split(" ")
        before = self.lines.get(writer)
        # Without a beginning that was lost or trimmed, a writer's first line is its first.
        self.world.check(
            int(line) == before + 1 if before is not None else int(line) == 0 or self.losses or self.world.may_lose,
            f"{self.name} has '{text}' behind {before}")
        self.lines[writer] = int(line)
        if writer == "end":
            self.is_done.set()

    @property
    def position(self):
        return f"{self.epoch}.{self.last}" if self.last is not None else None


class World:
    """One run."""

    def __init__(self, tool, kind, seed, seconds):
        self.tool, self.kind, self.random, self.seconds = tool, kind, random.Random(f"{kind}{seed}"), seconds
        self.folder = tempfile.mkdtemp()
        self.engine = {
            "redis": lambda: Redis(durable=True), "volatile": Redis, "nats": Nats, "redis-cluster": RedisCluster, "nats-cluster": NatsCluster}.get(
            kind, lambda: None)()
        self.relay = None
        if isinstance(self.engine, Cluster):
            # Servers of a cluster say themselves where they are: nothing stands in between.
            self.url = self.engine.topic("log")
        elif self.engine:
            self.relay = Relay(self.engine.port)
            self.url = self.engine.url.replace(str(self.engine.port), str(self.relay.port)) + "/log"
        else:
            self.url = f"topic+sqlite:{self.folder}/app.db/log"
        self.next, self.returning, self.connections = {}, [], {}
        # Up to a tenth of a second for a message: the rest is read when the writers have ended, at the other pace.
        self.slow_pace = self.random.choice([0.0005, 0.1])
        self.lock, self.seen, self.failure, self.ending, self.may_lose = threading.Lock(), {}, None, False, False
        self.processes, self.written, self.stored, self.faults, self.is_closed = {}, {}, {}, [], False

    def check(self, condition, what):
        if not condition:
            self.failure = self.failure or what
            raise Violation(what)

    def see(self, who, position, text):
        with self.lock:
            before = self.seen.setdefault(position, text)
        self.check(before == text, f"{who} has '{text}' at {position}, where '{before}' was")

    def follow(self, who, position, following):
        with self.lock:
            before = self.next.setdefault(position, following)
        # What a primary had given to some readers, and its replica had not got, is lost for them; for others the log goes on with another life.
        lives = {place.rsplit(".", 1)[0] for place in (before, following)} - {position.rsplit(".", 1)[0]}
        is_fork = isinstance(self.engine, Cluster) and self.engine.loses and lives
        self.check(before == following or is_fork, f"{who} has {following} behind {position}, where {before} was")

    def start(self, name, *arguments, **streams):
        process = subprocess.Popen([self.tool, *arguments], stderr=subprocess.PIPE, **streams)
        self.processes[name] = process
        # Threads go on for a moment.
        if self.is_closed:
            process.kill()
        return process

    def thread(self, body, *arguments):
        def run():
            with contextlib.suppress(Violation):
                try:
                    body(*arguments)
                except Violation:
                    raise
                except Exception as error:  # noqa: BLE001
                    self.failure = self.failure or f"{body.__name__}{arguments}: {error!r}"
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    # Those who write.

    def write(self, name):
        """One writer after another, each with a name of its own."""
        turn = 0
        while not self.ending:
            turn += 1
            who = f"{name}{turn}"
            process = self.start(name, "--append-timeout", "60", "-", self.url, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            count = 0
            with contextlib.suppress(OSError):
                for count in range(1, 1 + self.random.randrange(200, 2000)):
                    process.stdin.write(b"%s %d\n" % (who.encode(), count - 1))
                    if count % 16 == 0:
                        process.stdin.flush()
                        time.sleep(0.01)
                    if self.ending:
                        break
            self.written[who] = count
            self.finish(process, who, count)

    def finish(self, process, who, count):
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            status = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            self.check(False, f"writer {who} does not end")
        if status == 0:
            self.stored[who] = count
        else:
            # Of its first connection, nothing was written yet.
            if status == 5:
                self.written[who] = 0
            self.check(status in (5, -signal.SIGKILL), f"writer {who} has ended with {status}: {process.stderr.read().decode()}")

    # Those who read.

    def rest(self, pace):
        time.sleep(min(pace, 0.0005) if self.ending else pace)

    def read_by_tool(self, record, pace):
        while not record.is_done.is_set():
            start = record.position or "earliest"
            process = self.start(record.name, "--from", start, "--json", self.url, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            for line in process.stdout:
                if line.endswith(b"\n"):
                    message = json.loads(line)
                    record.add(message["position"], message["data"])
                if pace:
                    self.rest(pace)
                if record.is_done.is_set():
                    process.kill()
            status, said = process.wait(LIMIT), process.stderr.read().decode()
            if status == 4 and "the log is whole from" in said:
                record.lose()
            elif status != -signal.SIGKILL:
                # The engine may have been away, or not have the topic yet.
                self.check(status in (4, 5, 7), f"{record.name} has ended with {status}: {said}")
                time.sleep(0.05)

    def serve(self, name):
        """A server of event streams, made anew when it was killed."""
        while not self.ending_of_servers:
            process = self.start(
                name, "--from", "earliest", f"listen+sse+http://127.0.0.1:{self.ports.get(name, 0)}/log", self.url,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            line = process.stderr.readline().decode()
            found = re.search(r"listening on .*?:(\d+)/+log", line)
            if found:
                self.ports[name] = int(found[1])
                for _ in process.stderr:
                    pass
            else:
                time.sleep(0.05)
            process.wait()

    def read_events(self, record, pace):
        names = ["server1", "server2"]
        while not record.is_done.is_set():
            name = self.random.choice(names)
            with contextlib.suppress(OSError, ValueError):
                with socket.create_connection(("127.0.0.1", self.ports.get(name, 1)), timeout=3) as connection:
                    if pace:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    last = f"Last-Event-ID: {record.position}\r\n" if record.position else ""
                    self.connections[record.name] = connection
                    connection.sendall(f"GET /log HTTP/1.0\r\nHost: a\r\n{last}\r\n".encode())
                    self.take_events(record, connection.makefile("rb"), pace)
            time.sleep(0.02)

    def take_events(self, record, lines, pace):
        event = {}
        for line in lines:
            line = line.decode()
            if not line.endswith("\n"):
                return
            line = line.rstrip("\r\n")
            if not line:
                if event.get("event") == "position-lost":
                    record.lose()
                elif "data" in event:
                    record.add(event["id"], event["data"])
                event = {}
                if pace:
                    self.rest(pace)
                if record.is_done.is_set():
                    return
            elif ": " in line:
                field, value = line.split(": ", 1)
                event[field] = value

    # What happens to them.

    def fail_once(self):
        choices = ["kill server1", "kill server2", "kill reader", "kill writerA", "trim"]
        if isinstance(self.engine, Cluster):
            choices += ["kill node", "kill node", "stop node"]
        elif self.engine:
            choices += ["kill engine", "stop engine", "cut", "cut", "cut"]
        if self.returning:
            choices.append("return")
        what = self.random.choice(choices)
        self.faults.append(what)
        if what == "kill engine":
            if self.kind == "volatile":
                self.may_lose = True
            self.engine.kill()
            time.sleep(self.random.uniform(0, 0.5))
            self.engine.start()
        elif what == "stop engine":
            self.engine.process.send_signal(signal.SIGSTOP)
            time.sleep(self.random.choice([0.2, 1, 7]) if self.seconds > 10 else 0.2)
            self.engine.process.send_signal(signal.SIGCONT)
        elif what == "kill node":
            self.may_lose = self.may_lose or self.engine.loses
            number = self.random.randrange(self.engine.size)
            self.engine.kill_node(number)
            # Shorter than a fail-over takes, and longer.
            time.sleep(self.random.choice([0.1, 1, 4]) if self.seconds > 10 else 0.5)
            self.engine.start_node(number)
            # The next one may be the only other one that has everything.
            time.sleep(2)
        elif what == "stop node":
            self.may_lose = self.may_lose or self.engine.loses
            process = self.random.choice(list(self.engine.processes.values()))
            process.send_signal(signal.SIGSTOP)
            time.sleep(self.random.choice([0.2, 2, 7]) if self.seconds > 10 else 0.2)
            process.send_signal(signal.SIGCONT)
            time.sleep(2)
        elif what == "return":
            for record in self.returning:
                process = self.connections.pop(record.name, None)
                if process:
                    with contextlib.suppress(OSError):
                        process.shutdown(socket.SHUT_RDWR)
        elif what == "cut":
            self.relay.cut(self.random.choice([0, self.random.randrange(1, 300), self.random.randrange(1, 30_000)]))
        elif what == "trim":
            self.may_lose = True
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run([self.tool, "topics", "trim", "--max-count", str(self.random.randrange(1, 2000)), self.url], capture_output=True, timeout=20)
        else:
            process = self.processes.get(what.split(" ")[1])
            if process:
                process.kill()

    def run(self):
        self.ports, self.ending_of_servers = {}, False
        subprocess.run([self.tool, "--append-timeout", "20", "-", self.url], input=b"begin 0\n", check=True, timeout=LIMIT)
        self.stored["begin"] = self.written["begin"] = 1
        records = [Record(self, name) for name in ("reader", "slow reader", "events1", "events2", "slow events")]
        if self.random.random() < 0.3:
            self.returning = [Record(self, f"returning events{number}") for number in range(30)]
            records += self.returning
        writers = [self.thread(self.write, name) for name in ("writerA", "writerB")]
        servers = [self.thread(self.serve, name) for name in ("server1", "server2")]
        readers = [
            self.thread(self.read_events if "events" in record.name else self.read_by_tool, record, self.slow_pace if "slow" in record.name else 0)
            for record in records]
        end = time.monotonic() + self.seconds
        while time.monotonic() < end and not self.failure:
            time.sleep(self.random.uniform(0.1, 1))
            self.fail_once()
        if self.relay:
            with self.relay.lock:
                self.relay.budget = None
        self.ending = True
        for writer in writers:
            writer.join(LIMIT)
            self.check(not writer.is_alive(), "a writer goes on")
        if not self.failure:
            subprocess.run([self.tool, "--append-timeout", "20", "-", self.url], input=b"end 0\n", check=True, timeout=LIMIT)
            self.stored["end"] = self.written["end"] = 1
            for record, reader in zip(records, readers):
                # However slow it is, it comes nearer to the end.
                seen = -1
                while reader.is_alive() and not self.failure and seen != record.count:
                    seen = record.count
                    reader.join(LIMIT)
                if reader.is_alive() and not self.failure:
                    self.failure = f"{record.name} does not come to the end: it is at {record.position}"
        self.ending_of_servers = True
        if self.failure:
            raise Violation(self.failure)
        self.judge()
        return records

    def judge(self):
        """What is there in the end."""
        done = subprocess.run([self.tool, "--from", "earliest", "--no-follow", "--json", self.url], capture_output=True, timeout=LIMIT, check=True)
        record, found = Record(self, "the log"), {}
        for line in done.stdout.splitlines():
            message = json.loads(line)
            record.add(message["position"], message["data"])
            writer, number = message["data"].split(" ")
            found.setdefault(writer, []).append(int(number))
        for writer, numbers in found.items():
            self.check(writer in self.written and numbers[-1] < self.written[writer], f"the log has line {numbers[-1]} of {writer}, which has not written it")
        if not self.may_lose:
            for writer, count in self.stored.items():
                self.check(len(found.get(writer, [])) == count, f"{writer} was told that {count} lines are stored, and {len(found.get(writer, []))} are there")

    def close(self):
        self.is_closed = self.ending = self.ending_of_servers = True
        for process in list(self.processes.values()):
            process.kill()
        if self.relay:
            self.relay.close()
        if self.engine:
            for process in self.engine.processes.values() if isinstance(self.engine, Cluster) else [self.engine.process]:
                process.send_signal(signal.SIGCONT)
            self.engine.__exit__()
        subprocess.run(["rm", "-r", self.folder])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tool")
    parser.add_argument("--engines", default="sqlite,redis,volatile,nats,redis-cluster,nats-cluster")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    for seed in range(options.first, options.first + options.seeds):
        for kind in options.engines.split(","):
            world = World(options.tool, kind, seed, options.seconds)
            try:
                records = world.run()
            except Violation as violation:
                print(f"{kind}, seed {seed}: {violation}; faults: {', '.join(world.faults)}")
                # Threads may wait for what has failed.
                world.close()
                processes.leave(1)
            finally:
                world.close()
            counts = ", ".join(f"{record.count}" for record in records[:5])
            print(f"{kind}, seed {seed}: {len(world.faults)} faults, messages read: {counts}; {sum(record.losses for record in records)} losses told", flush=True)


if __name__ == "__main__":
    main()
