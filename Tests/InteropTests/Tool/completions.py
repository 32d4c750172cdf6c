"""What real shells complete with the tool's completions: completions.py bash|zsh|fish|page TOOL. Exits 1 and says why when something differs."""

import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import time

import processes  # noqa: F401

name, tool = sys.argv[1:3]
SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "scripts")

# A line, what is offered for its last word, what is not.
LINES = [
    ("sluice listen+w", ["listen+ws://"], ["ws://", "topics"]),
    ("sluice ech", ["echo:"], []),
    ("sluice top", ["topics"], ["tcp://"]),
    ("sluice --on-end de", ["defer"], ["demo", "close"]),
    ("sluice --when", ["--when-slow"], ["--wait"]),
    ("sluice ws://127.0.0.1:1 nu", ["null:"], []),
    ("sluice topics ", ["list", "info", "trim"], ["ws://"]),
    ("sluice topics trim --max-", ["--max-age", "--max-bytes", "--max-count"], ["--max-message"]),
    ("sluice demo --", ["--listen", "--topics"], ["--max-age"]),
    ("sluice --cert cert.p", ["cert.pem"], ["certificates"]),
]


def fail(what):
    print(f"{name}: {what}")
    sys.exit(1)


def completions(shell):
    done = subprocess.run([f"{SCRIPTS}/completions", tool, shell], capture_output=True, text=True)
    if done.returncode != 0 or done.stderr: fail(done.stderr)
    return done.stdout


def in_bash(folder, line):
    """What _sluice would have bash offer."""
    words = line.split(" ")
    script = """
source "$1"; shift
line=$1; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE=$line; COMP_POINT=${#line}
# It is a builtin of interactive shells only.
compopt() { :; }
function=$(complete -p sluice); function=${function#*-F }; function=${function%% *}
"$function" sluice "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
    done = subprocess.run(["bash", "-c", script, "bash", f"{folder}/sluice.bash", line, *words], cwd=folder, capture_output=True, text=True)
    if done.stderr: fail(f"{line}: {done.stderr}")
    return done.stdout.split("\n")


def in_fish(folder, line):
    done = subprocess.run(["fish", "--no-config", "-c", f"source sluice.fish; complete -C '{line}'"], cwd=folder, capture_output=True, text=True, env={**os.environ, "HOME": folder})
    if done.stderr: fail(f"{line}: {done.stderr}")
    return [offered.split("\t")[0] for offered in done.stdout.split("\n")]


class Zsh:
    """An interactive zsh, whose list of matches is read from its screen."""

    def __init__(self, folder):
        self.child, self.terminal = pty.fork()
        if self.child == 0:
            os.chdir(folder)
            os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb", "HOME": folder, "PS1": "", "COLUMNS": "400", "LINES": "100"})
        self.say("PROMPT=; RPROMPT=; unsetopt zle_bracketed_paste prompt_cr prompt_sp; fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D\n")
        # What is offered is printed instead of being inserted.
        self.say("compadd() { local -a found; if [[ \" $* \" = *' -O '* || \" $* \" = *' -A '* || \" $* \" = *' -D '* ]]; then builtin compadd \"$@\"; else "
                 "builtin compadd -O found \"$@\"; print -rl -- ${found/#/offered=} >>matches; builtin compadd \"$@\"; fi }\n")
        self.say("bindkey '^I' complete-word; bindkey '^X' kill-whole-line; print rea''dy\n")
        self.wait_for("ready")

    def say(self, text): os.write(self.terminal, text.encode())

    def wait_for(self, text):
        seen, limit = "", time.monotonic() + 20
        while text not in seen:
            if time.monotonic() > limit: fail(f"zsh is not ready: {seen!r}")
            if select.select([self.terminal], [], [], 0.2)[0]: seen += os.read(self.terminal, 65536).decode(errors="replace")
        return seen

    def offered(self, line):
        if os.path.exists("matches"): os.remove("matches")
        self.say(line + "\t")
        # The end of the line shows that the completion is done.
        self.say("\x18print do''ne\n")
        self.wait_for("done")
        return [text.removeprefix("offered=") for text in open("matches").read().split("\n")] if os.path.exists("matches") else []


def shells():
    with tempfile.TemporaryDirectory() as folder:
        for file in ("cert.pem", "certificates"): open(f"{folder}/{file}", "w").close()
        os.remove(f"{folder}/certificates")
        open(f"{folder}/{'_sluice' if name == 'zsh' else 'sluice.' + name}", "w").write(completions(name))
        os.chdir(folder)
        zsh = Zsh(folder) if name == "zsh" else None
        for line, wanted, unwanted in LINES:
            offered = zsh.offered(line) if zsh else {"bash": in_bash, "fish": in_fish}[name](folder, line)
            for word in wanted:
                if word not in offered: fail(f"{line!r} offers {offered}, without {word}")
            for word in unwanted:
                if word in offered: fail(f"{line!r} offers {word}")
        if zsh:
            zsh.say("exit\n")
            os.close(zsh.terminal)
            os.waitpid(zsh.child, 0)
        os.chdir("/")


def page():
    """The manual page: whole, and without a fault that a formatter finds."""
    checked = subprocess.run([f"{SCRIPTS}/manual-page", tool, "--check"], capture_output=True, text=True)
    if checked.returncode != 0: fail(checked.stderr)
    text = subprocess.run([f"{SCRIPTS}/manual-page", tool], capture_output=True, text=True, check=True).stdout
    found = subprocess.run(["mandoc", "-Tlint", "-W", "warning"], input=text, capture_output=True, text=True)
    if found.returncode != 0: fail(found.stdout + found.stderr)
    shown = subprocess.run(["mandoc", "-Tutf8"], input=text, capture_output=True, text=True, check=True).stdout
    if "**" in shown or "](" in shown or "|---" in shown: fail("Markdown is left in the page")


for program in {"page": ["mandoc"]}.get(name, [name]):
    if not shutil.which(program): fail(f"{program} is missing; scripts/install test installs it")
page() if name == "page" else shells()
