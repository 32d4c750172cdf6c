"""Whatever a script starts ends with it, however it ends: imported before anything is started."""
import atexit
import os
import signal
import subprocess
import sys

started = []


class Popen(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        started.append(self)


# `subprocess.run` and the others make theirs of it too.
subprocess.Popen = Popen


def end_all():
    for process in started:
        if process.poll() is None:
            process.kill()


def leave(status):
    """Ends this process at once, whatever its threads wait for."""
    end_all()
    sys.stdout.flush()
    os._exit(status)


atexit.register(end_all)
# `timeout` says so.
signal.signal(signal.SIGTERM, lambda number, _: leave(128 + number))
