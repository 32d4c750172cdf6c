"""Changes the sources in small ways, one at a time, and tells which changes no unit test notices.

mutate.py ROOT BUILD [--module NAME ...] [--tests NAME ...] [--sample N] [--seed S] [--matching PATTERN] [--list]

Of all that can be changed, a sample is planted in one copy of the sources, which is built once: a variable of the environment chooses the change that
is at work in a run. Each suite is run once without any, to see which changes it comes by; a change is then run against these suites only. Kinds:

- comparison: < for <=, > for >=, == for !=, && for ||, and the other way round
- constant: one more (one less for hexadecimal ones)
- statement: a call or an assignment is left out
- branch: the condition of an if or guard is turned round

Prints each change that survives, and those that no test comes by. Exits 1 if one survived that Tests/Mutation/survivors.txt does not give a reason for.
"""
import argparse
import collections
import os
import random
import re
import shutil
import subprocess
import sys
import time

MODULES = ["SluiceStreams", "SluiceHTTP", "SluiceWebSocketProtocol", "SluiceTLS"]
# Only when they are named.
FURTHER = ["SluiceZlib", "SluiceWebSocket", "SluiceEventSource", "SluiceIO", "SluiceClient", "SluiceServer"]
# Unit tests of these modules, and of those that stand on them.
TESTS = [
    "SluiceStreamsTests", "SluiceHTTPTests", "SluiceZlibTests", "SluiceWebSocketProtocolTests", "SluiceTLSTests", "SluiceWebSocketTests",
    "SluiceEventSourceTests", "SluiceServerTests", "SluiceClientTests",
]
SWAPS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "&&": "||", "||": "&&"}
COMPARISON = re.compile(r" (<=|>=|<|>|==|!=|&&|\|\|) ")
CONSTANT = re.compile(r"(?<![\w.$#\"])(0x[0-9A-Fa-f_]+|\d[\d_]*)(?![\w.]|\.\d)")
CALL = re.compile(r"^ +(try |await |try await |unsafe )*[A-Za-z_][\w.?!]*\(.*\)$")
ASSIGNMENT = re.compile(r"^ +(unsafe )?[A-Za-z_][\w.?!]*(\[[^\]]*\])?(\.\w+)* ([+\-|&^]|&[+\-])?= .*$")
CONDITION = re.compile(r"^( *(?:\} else )?if |^ *guard )(.*?)( \{| else \{)(.*)$")
# Not for tests to see: what a release leaves out, what only counts, what is written for people.
NO_STATEMENT = re.compile(r"^ +(assert|precondition|Reached\.|super\.|self\.init|logger\b|let |var |return|case |throw )|\bassert")
NO_LINE = re.compile(r"^\s*(//|@|#|import |case [^:]*$|func |init|package func|public func|precondition|assert|fatalError|Reached\.)")


class Change:
    def __init__(self, path, line, kind, before, after):
        self.path, self.line, self.kind, self.before, self.after = path, line, kind, before, after

    @property
    def module(self):
        return self.path.split("/")[1]

    @property
    def key(self):
        """What stays the same when lines are added elsewhere."""
        return f"{self.path}: {self.kind}: {self.before.strip()} -> {self.after.strip()}"


def masked(line):
    """The line with what stands in strings and comments blotted out."""
    out, quoted, index = [], False, 0
    while index < len(line):
        char = line[index]
        if quoted and char == "\\":
            out.append("__")
            index += 2
            continue
        if char == '"':
            quoted = not quoted
            out.append('"')
        elif not quoted and line.startswith("//", index):
            break
        else:
            out.append("_" if quoted else char)
        index += 1
    return "".join(out).ljust(len(line))[:len(line)]


OPEN, CLOSE = "([{", ")]}"
LEFT_ENDS = re.compile(r"(?:^|.*?)(?: && | \|\| | \? | : | = |, |; |: |\b(?:if|guard|while|return|where|else|in|try|await|unsafe|case) )$")
RIGHT_ENDS = re.compile(r" && | \|\| | \? | : |, | else\b|;| in ")


def operands(text, start, end, logical):
    """The beginning of the left operand and the end of the right one of an operator at text[start:end]; nil if they go beyond the line."""
    depth, left = 0, start
    while left > 0:
        char = text[left - 1]
        if char in CLOSE:
            depth += 1
        elif char in OPEN:
            if depth == 0:
                break
            depth -= 1
        elif depth == 0:
            before = text[:left]
            found = LEFT_ENDS.match(before)
            if found and not (logical and before.endswith(("== ", "< "))):
                break
        left -= 1
    if not text[left:start].strip():
        return None
    while text[left] == " ":
        left += 1
    if left == len(text) - len(text.lstrip()) and re.match(r"[.+\-*/?:&|<>=)\]}]", text[left:]):
        return None
    in_condition = re.match(r" *(\} else )?(if|guard|while|for) ", text)
    depth, right = 0, end
    while right < len(text):
        char = text[right]
        if char in OPEN:
            if char == "{" and depth == 0 and in_condition:
                break
            depth += 1
        elif char in CLOSE:
            if depth == 0:
                break
            depth -= 1
        elif depth == 0 and RIGHT_ENDS.match(text, right):
            break
        right += 1
    if depth:
        return None
    right = len(text[:right].rstrip())
    return (left, right) if text[end:right].strip() else None


def is_continued(lines, index):
    following = lines[index + 1] if index + 1 < len(lines) else ""
    return bool(re.match(r"\s*([.+\-*/?:&|<>=]|else\b)", following)) or masked(lines[index]).rstrip().endswith((",", "(", "[", "{", "=", "in"))


def is_in_function(lines, index):
    """Whether a line stands in a function's body, and not in an initialiser's."""
    indentation = len(lines[index]) - len(lines[index].lstrip())
    for above in range(index - 1, -1, -1):
        line = lines[above]
        if not line.strip() or line.lstrip().startswith("//"):
            continue
        own = len(line) - len(line.lstrip())
        if own < indentation:
            if re.search(r"\binit[?!]?[(<]", line):
                return False
            if re.search(r"\bfunc\b|\bvar\b.*\{$|\bdeinit\b|\bdidSet\b", line):
                return True
            if re.search(r"\b(struct|class|enum|extension|protocol)\b", line):
                return False
            indentation = own
    return False


def changes_of(path, lines):
    is_off = is_text = False
    for index, line in enumerate(lines):
        if line.count('"""') == 1:
            is_text = not is_text
            continue
        if line.startswith("#if") and "FUZZER" not in line:
            is_off = "SIMULATION" in line or "os(" in line or "canImport" in line
        if line.startswith("#endif"):
            is_off = False
        if is_off or is_text or NO_LINE.match(line):
            continue
        text = masked(line)
        pattern_end = text.find(":") if text.lstrip().startswith("case ") else -1
        for found in COMPARISON.finditer(text):
            operator = found[1]
            if found.start() < pattern_end or is_continued(lines, index):
                continue
            ends = operands(text, found.start() , found.end(), operator in ("&&", "||"))
            if not ends:
                continue
            (left, right), (start, end) = ends, found.span()
            whole = line[left:right]
            other = line[left:start] + f" {SWAPS[operator]} " + line[end:right]
            yield Change(path, index, "comparison", whole, other), line[:left] + "(Mutant.on(%d) ? " + other + " : " + whole + ")" + line[right:]
        for found in CONSTANT.finditer(text):
            if found.start() < pattern_end or re.search(r"<[^<>=&|]*$", text[:found.start()]) and ">" in text[found.end():]:
                continue
            if re.search(r"\b(let|var) \w+: (Static)?String\b|@", text):
                continue
            number = int(found[1].replace("_", ""), 0)
            other = str(number - 1 if found[1].startswith("0x") and number > 0 else number + 1)
            changed = line[:found.start()] + other + line[found.end():]
            yield Change(path, index, "constant", line, changed), (
                line[:found.start()] + "(Mutant.on(%d) ? " + other + " : " + found[1] + ")" + line[found.end():])
        bare = text.rstrip()
        if (CALL.match(bare) or ASSIGNMENT.match(bare)) and not NO_STATEMENT.search(bare) and not is_continued(lines, index):
            if bare.count("(") == bare.count(")") and bare.count("{") == bare.count("}") and is_in_function(lines, index):
                indentation = line[:len(line) - len(line.lstrip())]
                yield Change(path, index, "statement", line, indentation), indentation + "if !Mutant.on(%d) { " + line.strip() + " }"
        found = CONDITION.match(text)
        if found and not re.search(r"\b(let|var|case|try|await)\b|, |#", found[2]) and found[2].count("{") == found[2].count("}"):
            (start, end) = found.span(2)
            yield Change(path, index, "branch", line, line[:start] + "!(" + line[start:end] + ")" + line[end:]), (
                line[:start] + "(" + line[start:end] + ") != Mutant.on(%d)" + line[end:])


def read(path):
    with open(path) as file:
        return file.read().split("\n")


def all_changes(root, modules, matching):
    for module in modules:
        for folder, _, names in sorted(os.walk(os.path.join(root, "Sources", module))):
            for name in sorted(names):
                if name.endswith(".swift"):
                    path = os.path.relpath(os.path.join(folder, name), root)
                    for change, planted in changes_of(path, read(os.path.join(root, path))):
                        if not matching or re.search(matching, change.before):
                            yield change, planted


class Package:
    """A copy of the sources with some changes planted."""

    def __init__(self, root, build):
        self.root, self.build, self.folder = root, build, os.path.join(build, "package")

    def prepare(self, changed):
        """Copies what has changed, but for the files that changes are planted in: what keeps its time is not compiled again."""
        os.makedirs(self.folder, exist_ok=True)
        wanted = {"Sources/SluiceStreams/Mutant.swift"}
        files = ["Package.resolved"]
        for part in ("Sources", "Tests", "Examples"):
            for folder, _, names in os.walk(os.path.join(self.root, part)):
                files += [os.path.relpath(os.path.join(folder, name), self.root) for name in names]
        for path in files:
            wanted.add(path)
            if path not in changed and os.path.isfile(os.path.join(self.root, path)):
                copy(os.path.join(self.root, path), os.path.join(self.folder, path))
        copy(os.path.join(self.root, "Tests/Mutation/Mutant.swift"), os.path.join(self.folder, "Sources/SluiceStreams/Mutant.swift"))
        for part in ("Sources", "Tests"):
            for folder, _, names in os.walk(os.path.join(self.folder, part)):
                for name in names:
                    path = os.path.join(folder, name)
                    if os.path.relpath(path, self.folder) not in wanted:
                        os.remove(path)
        kept = ", ".join(f'"{name}"' for name in TESTS)
        with open(os.path.join(self.root, "Package.swift")) as file:
            manifest = file.read()
        write(os.path.join(self.folder, "Package.swift"), manifest + (
            f"\nlet kept: Set<String> = [{kept}]\n"
            "package.targets.removeAll { ($0.type == .test || $0.type == .executable) && !kept.contains($0.name) }\n"
            "package.products.removeAll { !($0 is Product.Library) }\n"))

    def plant(self, changes):
        files = collections.defaultdict(list)
        for number, (change, planted) in changes.items():
            files[change.path].append((change.line, planted.replace("%d", str(number), 1) if planted else None))
        for path, plants in files.items():
            lines = read(os.path.join(self.root, path))
            for line, text in plants:
                lines[line] = text
            if not path.startswith("Sources/SluiceStreams/") and not lines[0].startswith("#"):
                lines[0] = "import SluiceStreams; " + lines[0]
            write(os.path.join(self.folder, path), "\n".join(lines))
        return files

    def unplant(self, path):
        write(os.path.join(self.folder, path), "\n".join(read(os.path.join(self.root, path))))

    def compile(self):
        result = subprocess.run(
            ["swift", "build", "--package-path", self.folder, "--scratch-path", os.path.join(self.build, "build"), "--build-tests"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with open(os.path.join(self.build, "build.log"), "w") as file:
            file.write(result.stdout)
        return result.returncode == 0, result.stdout


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.exists(path):
        with open(path) as file:
            if file.read() == text:
                return
    with open(path, "w") as file:
        file.write(text)


def copy(source, target):
    if os.path.exists(target):
        with open(source, "rb") as one, open(target, "rb") as other:
            if one.read() == other.read():
                return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy2(source, target)


def plant_what_compiles(package, changes):
    """Builds, and takes out what does not compile, until all does."""
    for _ in range(12):
        planted = package.plant(changes)
        good, log = package.compile()
        if good:
            return
        errors = set(re.findall(r"/package/(Sources/[^:]+):(\d+):\d+: error:", log))
        if not errors:
            sys.exit("mutate: the build failed:\n" + "\n".join(log.splitlines()[-20:]))
        for path, line in errors:
            near = [number for number, (change, _) in changes.items() if change.path == path and abs(change.line + 1 - int(line)) <= 2]
            # Told of at another place: whatever stands there is the cause.
            for number in near or [number for number, (change, _) in changes.items() if change.path == path]:
                del changes[number]
        for path in planted:
            if not any(change.path == path for change, _ in changes.values()):
                package.unplant(path)
    sys.exit("mutate: it does not compile")


class Runner:
    def __init__(self, package, count):
        self.binary = os.path.join(package.build, "build/debug/sluicePackageTests.xctest")
        self.folder, self.file, self.count = package.folder, os.path.join(package.build, "reached"), count

    def run(self, suites, limit, **environment):
        filters = [argument for suite in suites for argument in ("--filter", "^" + re.escape(suite) + r"[/(]")]
        process = subprocess.Popen(
            [self.binary, "--testing-library", "swift-testing", "--no-parallel", *filters], cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, text=True, errors="replace",
            env={**os.environ, "SWIFT_BACKTRACE": "enable=no", **environment})
        try:
            output, _ = process.communicate(timeout=limit)
            return process.returncode == 0, output
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.communicate()
            return False, "too long"

    def suites(self):
        out = subprocess.run(
            [self.binary, "--testing-library", "swift-testing", "--list-tests"], cwd=self.folder, stdout=subprocess.PIPE, text=True).stdout
        names = [re.match(r"(\w+\.\w+)", line.strip()) for line in out.splitlines()]
        return sorted({name[1] for name in names if name})

    def reach(self, suite):
        with open(self.file, "wb") as file:
            file.write(bytes(self.count))
        start = time.monotonic()
        good, output = self.run([suite], 120, SLUICE_MUTANTS_REACHED=self.file)
        with open(self.file, "rb") as file:
            marks = file.read()
        return good, time.monotonic() - start, {number for number, mark in enumerate(marks) if mark}, output


def excused(root):
    path = os.path.join(root, "Tests/Mutation/survivors.txt")
    with open(path) as file:
        return {line.rstrip("\n") for line in file if line.strip() and not line.startswith("#")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("build")
    parser.add_argument("--module", action="append", choices=MODULES + FURTHER)
    parser.add_argument("--tests", action="append", choices=TESTS, help="only these modules' tests: what they don't come by is not told")
    parser.add_argument("--sample", type=int, default=150)
    parser.add_argument("--seed", default="sluice")
    parser.add_argument("--matching", help="only lines that have this regular expression")
    parser.add_argument("--list", action="store_true", help="only what can be changed")
    options = parser.parse_args()
    found = list(all_changes(options.root, options.module or MODULES, options.matching))
    if options.list:
        for change, _ in found:
            print(f"{change.path}:{change.line + 1}: {change.kind}: {change.before.strip()} -> {change.after.strip()}")
        print(f"{len(found)} changes")
        return 0
    # One on a line at most.
    random.Random(options.seed).shuffle(found)
    chosen, lines = {}, set()
    for change, planted in found:
        if len(chosen) < options.sample and (change.path, change.line) not in lines:
            lines.add((change.path, change.line))
            chosen[len(chosen)] = (change, planted)
    package = Package(options.root, options.build)
    package.prepare({change.path for change, _ in chosen.values()})
    count = len(chosen)
    plant_what_compiles(package, chosen)
    print(f"{len(chosen)} changes of {len(found)} that can be made ({count - len(chosen)} others did not compile)", flush=True)
    return judge(options, Runner(package, count), chosen)


def judge(options, runner, chosen):
    times, reached = {}, collections.defaultdict(list)
    for suite in runner.suites():
        if options.tests and suite.split(".")[0] not in options.tests:
            continue
        good, seconds, numbers, output = runner.reach(suite)
        if not good:
            print(f"left out, as it fails without any change: {suite}", flush=True)
            continue
        times[suite] = seconds
        for number in numbers:
            reached[number].append(suite)
    print(f"{len(times)} suites, {sum(times.values()):.0f} s", flush=True)
    reasons = excused(options.root)
    start, results = time.monotonic(), collections.Counter()
    unexcused = 0
    for number, (change, _) in sorted(chosen.items()):
        suites = sorted(reached[number], key=lambda suite: times[suite])
        if options.tests and not suites:
            continue
        outcome = "survived" if suites else "not reached"
        # The quick ones in one process; the others by themselves, until one notices.
        quick = [suite for suite in suites if times[suite] < 2]
        for group in ([quick] if quick else []) + [[suite] for suite in suites if times[suite] >= 2]:
            if not runner.run(group, 20 + 4 * sum(times[suite] for suite in group), SLUICE_MUTANT=str(number))[0]:
                outcome = "noticed"
                break
        results[change.kind, outcome] += 1
        if outcome != "noticed":
            is_known = change.key in reasons
            unexcused += not is_known
            print(f"{outcome}{' (known)' if is_known else ''}: {change.path}:{change.line + 1}: {change.kind}\n    {change.before.strip()}\n    {change.after.strip()}",
                  flush=True)
    for kind in ("comparison", "constant", "statement", "branch"):
        print(f"{kind}: " + ", ".join(f"{results[kind, outcome]} {outcome}" for outcome in ("noticed", "survived", "not reached")))
    print(f"{sum(n for (_, o), n in results.items() if o == 'noticed')} of {sum(results.values())} noticed, in {time.monotonic() - start:.0f} s")
    return 1 if unexcused else 0


sys.exit(main())
