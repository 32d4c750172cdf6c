"""A browser without a window, driven through its DevTools protocol, a line of the tool for each of its messages."""
import json
import re
import subprocess
import time

import processes
from toolkit import LIMIT, check, tool


class Browser:
    """One page in a Chromium that knows nothing of any other run."""

    def __init__(self, folder, url):
        self.process = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0", f"--user-data-dir={folder}/profile",
             "about:blank"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        said = b""
        while not (found := re.search(rb"DevTools listening on (\S+)", said)):
            line = self.process.stderr.readline()
            check(line, f"the browser ended before it was ready: {said}")
            said += line
        self.tools = subprocess.Popen([tool, "-", found[1].decode()], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.last = 0
        self.session = None
        target = self.call("Target.createTarget", url=url)["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method, **parameters):
        self.last += 1
        request = {"id": self.last, "method": method, "params": parameters, **({"sessionId": self.session} if self.session else {})}
        self.tools.stdin.write(json.dumps(request).encode() + b"\n")
        self.tools.stdin.flush()
        for line in self.tools.stdout:
            answer = json.loads(line)
            if answer.get("id") == self.last:
                check("result" in answer, f"{method}: {answer}")
                return answer["result"]
        check(False, f"{method}: the browser is gone")

    def evaluate(self, expression):
        """The value of an expression, or what is thrown, as text: a page that is not there yet throws."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        return json.dumps(answer["exceptionDetails"]) if "exceptionDetails" in answer else answer["result"].get("value")

    def wait(self, expression, expected=True):
        """Waits until an expression has a value."""
        deadline = time.monotonic() + 30
        while (got := self.evaluate(expression)) != expected:
            check(time.monotonic() < deadline, f"{expression} is not {expected}, but {got}")
            time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tools.communicate(timeout=LIMIT)
        self.process.terminate()
        self.process.communicate(timeout=LIMIT)
