"""Converts the Autobahn test suite from Python 2 to Python 3: convert.py SUITE PACKAGES

SUITE is the folder `autobahntestsuite` of the unpacked release; PACKAGES is where autobahn is installed, and where the converted
package is written. First every literal with characters beyond ASCII gets the escapes of the bytes that Python 2 saw; then the
standard fixers of 2to3 run; then the edits below, each of which must apply exactly as often as it says.
"""

import ast
import re
import shutil
import sys
from pathlib import Path

from fissix import refactor

HERE = Path(__file__).resolve().parent
IMPORT = "from autobahntestsuite import python2\n"


def fail(message):
    sys.exit(f"convert: {message}")


def read(path):
    return path.read_bytes().decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def edit(path, *edits):
    """Replaces in a file: (how often, a literal or pattern, what by)."""
    text = read(path)
    for count, old, new in edits:
        pattern = old if isinstance(old, re.Pattern) else re.compile(re.escape(old))
        text, found = pattern.subn(new if isinstance(old, re.Pattern) else lambda _: new, text)
        if found != count:
            fail(f"{path}: {pattern.pattern!r} applied {found} times instead of {count}")
    path.write_text(text, encoding="utf-8", newline="\n")


def escape_bytes(text, path):
    """Characters beyond ASCII in literals, as Python 2 read them: as the bytes of their UTF-8."""

    def escape(line):
        if line.isascii():
            return line
        if line.split("#")[0].isascii():
            return line.encode("ascii", "backslashreplace").decode()
        if re.search(r"\b[uUrR]+[\"']", line):
            fail(f"{path}: not ASCII in a literal that has no bytes: {line!r}")
        return "".join(c if c.isascii() else "".join(f"\\x{byte:02x}" for byte in c.encode()) for c in line)

    return "\n".join(map(escape, text.split("\n")))


def copy(suite, package):
    shutil.rmtree(package, ignore_errors=True)
    (package / "case").mkdir(parents=True)
    names = ["_version.py", "caseset.py", "fuzzing.py", "report.py"]
    names += sorted(f"case/{path.name}" for path in (suite / "case").glob("*.py"))
    for name in names:
        text = escape_bytes(read(suite / name), name)
        if name == "report.py":
            # Its style sheets and scripts are needed, the rest of it is for another report.
            text = text[: text.index("from zope.interface import implementer")]
            text = text.replace("import jinja2\n", "").replace('           "HtmlReport")', "           )")
        (package / name).write_text(text, encoding="utf-8", newline="\n")
    shutil.copytree(suite / "testdata", package / "testdata")
    shutil.copyfile(HERE / "python2.py", package / "python2.py")
    (package / "__init__.py").write_text("from ._version import __version__\nversion = __version__\n")
    return names


def edit_cases(cases):
    for path in cases.glob("*.py"):
        if path.name == "__init__.py":
            continue
        text = read(path)
        text = text.replace("binascii.b2a_hex(", "python2.hexlify(").replace("binascii.hexlify(", "python2.hexlify(")
        text = text.replace("(object, Case, )", "(Case, )")
        if "python2." in text:
            text = re.sub(r"^(import |from )", lambda match: IMPORT + match.group(1), text, count=1, flags=re.M)
        path.write_text(text, encoding="utf-8", newline="\n")
    edit(
        cases / "case.py",
        (1, "import pickle\n", IMPORT),
        (1, "return pickle.dumps(obj1) == pickle.dumps(obj2)", "return python2.equal(obj1, obj2)"),
    )
    edit(cases / "case6_x_x.py", (1, "v.validate(vss[:i])", "v.validate(python2.to_bytes(vss[:i]))"))
    edit(cases / "case10_1_1.py", (1, "len(self.payload) / self", "len(self.payload) // self"))
    edit(
        cases / "case12_x_x.py",
        (3, 'pkg_resources.resource_filename("autobahntestsuite", ', "python2.data_file("),
        (1, "import copy, os, pkg_resources, hashlib, binascii", "import copy, os, hashlib"),
    )
    # Not one of the 517, but imported with them.
    edit(
        cases / "case9_9_1.py",
        (1, "from zope.interface import implements\n", "from zope.interface import implementer\n"),
        (1, "class FrameProducer:", "@implementer(interfaces.IPushProducer)\nclass FrameProducer:"),
        (1, re.compile(r"^ *implements\(interfaces\.IPushProducer\)\n", re.M), ""),
    )
    with open(cases / "__init__.py", "a", encoding="utf-8") as file:
        file.write(
            f"\n\n{IMPORT}for case in Cases:\n"
            "   case.DESCRIPTION = python2.to_text(case.DESCRIPTION)\n"
            "   case.EXPECTATION = python2.to_text(case.EXPECTATION)\n"
        )


def edit_fuzzer(fuzzer):
    edit(
        fuzzer,
        (1, "import os, json, binascii, time, textwrap, pkg_resources\n", f"import os, json, time, textwrap\n{IMPORT}"),
        # TLS is not tested with it, and would need pyOpenSSL.
        (1, "from twisted.internet import reactor, ssl\n", "from twisted.internet import reactor\n"),
        (1, "self.contextFactory = ssl.ClientContextFactory()", "self.contextFactory = None"),
        (1, "def binLogData(data, maxlen = 64):\n", "def binLogData(data, maxlen = 64):\n   data = python2.to_bytes(data)\n"),
        (
            1,
            "def asciiLogData(data, maxlen = 64, replace = False):\n",
            "def asciiLogData(data, maxlen = 64, replace = False):\n   data = python2.to_bytes(data)\n",
        ),
        (1, "dd = data[:maxlen] + ellipses", "dd = data[:maxlen] + ellipses.encode()"),
        (1, "'replace' if replace else 'strict'", "'replace' if replace else 'surrogatepass'"),
        (5, "binascii.b2a_hex(", "python2.hexlify("),
        (1, "p = ''.join(payload)", "p = b''.join(payload)"),
        (1, "class FuzzingProtocol:", "class FuzzingProtocol(python2.Payloads):"),
        (1, "self.factory.logCase(caseResult)", "self.factory.logCase(python2.for_json(caseResult))"),
        (1, "ll.encode('utf8')", "ll"),
        (1, re.compile(r'f\.write\(\((.*)\)\.encode\("utf-8"\)\)$', re.M), r"f.write(\1)"),
        (4, "report_filename), 'w')", "report_filename), 'w', encoding='utf-8', errors='backslashreplace')"),
        # On the loopback interface, and telling the port that the system chose.
        (1, "listenWS(factory, sslContext)", "spec['listening'](listenWS(factory, sslContext, interface = '127.0.0.1'))"),
        (1, re.compile(r'pkg_resources\.resource_filename\("autobahntestsuite",\s*'), "python2.data_file("),
    )


def check_for_rests(package):
    """Idioms of Python 2 that neither the fixers nor the edits have seen to."""
    names = {"has_key", "iteritems", "itervalues", "xrange", "unichr", "basestring", "unicode", "binascii", "pkg_resources"}
    names |= {"implements", "pickle", "cmp", "reduce", "raw_input", "__metaclass__"}
    never_called = {"encode", "test_encode", "test_utf8", "test_utf8_incremental"}
    for path in package.rglob("*.py"):
        if path.name == "python2.py":
            continue
        tree = ast.parse(read(path))
        if path.name == "case6_x_x.py":
            tree.body = [node for node in tree.body if getattr(node, "name", None) not in never_called]
        for node in ast.walk(tree):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) if name in names:
                    fail(f"{path}:{node.lineno}: {name} is left")
                case ast.BinOp(op=ast.Div()):
                    fail(f"{path}:{node.lineno}: a division is left")
                case _:
                    pass


def main():
    suite, packages = Path(sys.argv[1]), Path(sys.argv[2])
    package = packages / "autobahntestsuite"
    names = copy(suite, package)
    tool = refactor.RefactoringTool(refactor.get_fixers_from_package("fissix.fixes"))
    for name in names:
        tool.refactor_file(str(package / name), write=True)
    if tool.errors:
        fail(f"2to3: {tool.errors!r}")
    edit_cases(package / "case")
    edit_fuzzer(package / "fuzzing.py")
    check_for_rests(package)
    # In autobahn itself: a division that was one of integers, and a reason with surrogates, which raised nothing.
    edit(
        packages / "autobahn" / "websocket" / "protocol.py",
        (1, "range(payload_len / len(payload))", "range(payload_len // len(payload))"),
        (1, "reasonRaw.decode('utf8')", "reasonRaw.decode('utf8', 'surrogatepass')"),
    )


main()
