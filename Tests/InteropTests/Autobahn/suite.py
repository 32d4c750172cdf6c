"""Runs the converted suite; in the venv that `install` made. `run.py` calls it, and judges what it writes.

suite.py cases                          prints the numbers of all cases
suite.py client URL AGENT DIRECTORY     tests a server with the cases on standard input, and writes its report
suite.py server DIRECTORY               serves them, prints its port, and writes the report when standard input ends
suite.py check                          checks the parts of the conversion that verdicts rest upon
"""

import codecs
import os
import random
import sys
import warnings

warnings.simplefilter("ignore")

CASES = 517


def specification(directory, **more):
    """What the suite calls a spec. It prints what it does: to a file."""
    cases = sys.stdin.readline().split()
    os.makedirs(directory, exist_ok=True)
    told = os.fdopen(os.dup(1), "w", buffering=1)
    sys.stdout = open(os.path.join(directory, "suite.log"), "w", encoding="utf-8", buffering=1)
    from twisted.python import log

    def observe(event):
        if event.get("isError"):
            failure = event.get("failure")
            print(failure.getTraceback() if failure else event.get("message"))

    log.startLoggingWithObserver(observe, setStdout=False)
    from autobahntestsuite import caseset

    # Its own selection takes patterns whose ends are open: 12.1.1 is also 12.1.10.
    caseset.CaseSet.parseSpecCases = lambda _, spec: spec["cases"]
    return told, {"outdir": directory, "cases": cases, "exclude-cases": [], "exclude-agent-cases": {}, **more}


def client(url, agent, directory):
    _, spec = specification(directory, servers=[{"agent": agent, "url": url}])
    from autobahntestsuite import fuzzing
    from twisted.internet import reactor

    fuzzing.startClient(spec)
    reactor.run()


def server(directory):
    told, spec = specification(directory, url="ws://127.0.0.1:0")
    from autobahntestsuite import fuzzing
    from twisted.internet import reactor, stdio
    from twisted.internet.protocol import Protocol

    factories = []
    spec["listening"] = lambda port: (factories.append(port.factory), print(port.getHost().port, file=told))

    class Input(Protocol):
        def connectionLost(self, reason):
            for factory in factories:
                factory.createReports()
            reactor.stop()

    fuzzing.startServer(spec, None)
    stdio.StandardIO(Input())
    reactor.run()


def cases():
    from autobahntestsuite import case, caseset

    numbers = caseset.CaseSet(case.CaseSetname, case.CaseBasename, case.Cases, case.CaseCategories, case.CaseSubCategories)
    assert len(numbers.CasesById) == CASES
    return sorted(numbers.CasesById, key=lambda number: [int(part) for part in number.split(".")])


def check():
    from autobahn.websocket.utf8validator import Utf8Validator
    from autobahn.websocket.xormasker import createXorMasker
    from autobahntestsuite import case, python2

    assert len(cases()) == CASES
    chance = random.Random(7)
    pool = [b"\xce\xba", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf0\x9f\x98\x80", b"\xc0\xaf", b"a", b"\xff", b"\xe2\x82"]
    for _ in range(4000):
        data = b"".join(chance.choice(pool) for _ in range(chance.randint(0, 12)))
        validator, decoder = Utf8Validator(), codecs.getincrementaldecoder("utf-8")("strict")
        position, valid, complete = 0, True, True
        while position < len(data) and valid:
            end = position + chance.randint(1, 5)
            valid, complete = validator.validate(data[position:end])[:2]
            try:
                decoder.decode(data[position:end])
            except UnicodeDecodeError:
                assert not valid, data
            position = end
        try:
            data.decode("utf-8")
            assert valid and complete, data
        except UnicodeDecodeError:
            assert not (valid and complete), data
    for _ in range(500):
        mask, data = chance.randbytes(4), chance.randbytes(chance.randint(0, 700))
        masker, masked, position = createXorMasker(mask, len(data)), b"", 0
        while position < len(data):
            end = position + chance.randint(1, 90)
            masked += masker.process(data[position:end])
            position = end
        assert masked == bytes(byte ^ mask[index & 3] for index, byte in enumerate(data))
    # The cases of UTF-8 say themselves whether their payload is valid.
    judged = [each for each in case.Cases if hasattr(each, "isValid")]
    assert len(judged) == 132
    for each in judged:
        try:
            python2.to_bytes(each.PAYLOAD).decode("utf-8")
            assert each.isValid, each
        except UnicodeDecodeError:
            assert not each.isValid, each
    equal = python2.equal
    assert equal([("message", "\xfe*", True)], [("message", b"\xfe*", True)])
    assert not equal([("message", "\xfe*", True)], [("message", b"\xfe*", False)])
    assert not equal([("message", "\xfe*", True)], [("message", b"\xc3\xbe*", True)])
    assert not equal([], [("pong", b"")]) and not equal([("pong", "a")], [("ping", b"a")])


match sys.argv[1:]:
    case ["cases"]:
        print(*cases())
    case ["client", url, agent, directory]:
        client(url, agent, directory)
    case ["server", directory]:
        server(directory)
    case ["check"]:
        check()
    case _:
        sys.exit(__doc__)
