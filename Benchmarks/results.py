"""Keeps Benchmarks/RESULTS.md: each benchmark rewrites its own section, and names date, machine and versions there."""

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"


# What each section measures, by the beginning of its name: everything in it is stale when one of these changes.
STREAMS = ["Sources/SluiceStreams", "Sources/SluiceIO"]
WEB_SOCKETS = [*STREAMS, "Sources/SluiceHTTP", "Sources/SluiceServer", "Sources/SluiceWebSocket", "Sources/SluiceWebSocketProtocol", "Sources/SluiceZlib"]
MEASURED = {
    "echo": WEB_SOCKETS,
    "tls": [*WEB_SOCKETS, "Sources/SluiceTLS"],
    "events": [*STREAMS, "Sources/SluiceHTTP", "Sources/SluiceServer", "Sources/SluiceEventSource", "Sources/SluiceZlib"],
    "tool": ["Sources"],
    "topics": [*STREAMS, "Sources/SluiceTopics", "Sources/SluiceTopicsRedis"],
}


def measured(name):
    """The folders that a section's figures depend on; all where nobody has said."""
    return next((folders for begin, folders in MEASURED.items() if name.startswith(begin)), ["Sources"])


def first_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None


def machine():
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return f"{model[1].strip() if model else platform.machine()}, {os.cpu_count()} cores, Linux {'.'.join(platform.release().split('.')[:2])}"


def versions(peers=()):
    """Sluice's commit, the compiler's version and those of the peers."""
    root = RESULTS.parent.parent
    commit = first_line("git", "-C", str(root), "rev-parse", "--short", "HEAD") or "unknown"
    if first_line("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"):
        commit += " with changes"
    swift = re.search(r"Swift version \S+", first_line("swift", "--version") or "")
    return ", ".join([f"Sluice {commit}", swift[0] if swift else "Swift unknown", *peers])


def table(columns, rows):
    """Markdown; the first two columns are names, the others figures."""
    lines = [columns, ["---"] * 2 + ["---:"] * (len(columns) - 2), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def record(name, title, how, text, peers=()):
    """Replaces the section `name`, or adds it at the end."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    today = datetime.date.today().isoformat()
    section = f"{begin}\n## {title}\n\n`{how}`, {today}. {machine()}. {versions(peers)}.\n\n{text}\n{end}"
    before = RESULTS.read_text() if RESULTS.exists() else "# Results\n"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(before):
        after = pattern.sub(lambda _: section, before)
    else:
        after = before.rstrip("\n") + "\n\n" + section + "\n"
    RESULTS.write_text(after)
