"""A headless Chromium to open pages in, driven over its debugging pipe (no package needed, no port taken)."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
START = (
    "import os, sys; a, b, *command = sys.argv[1:]; os.dup2(int(a), 3); os.dup2(int(b), 4); "
    "os.execv(command[0], command)"
)
_PATIENCE_S = 60.0


def find_browser() -> str | None:
    """A Chromium on this machine: D2VPR_CHROMIUM, or one on the path."""
    return os.environ.get("D2VPR_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """One page. Its own sandbox is off, as containers have none; what it opens is written by the tests."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers, self._unread, self._number = commands, answers, b"", 0
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self(f"{domain}.enable")
        self("Emulation.setDeviceMetricsOverride", width=1000, height=900, deviceScaleFactor=1, mobile=False)

    def __call__(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command of the DevTools protocol, answered."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        return dict(self._until(lambda message: message.get("id") == self._number)["result"])

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a page from anew, to the end."""
        self("Page.navigate", url="about:blank")
        self.events.clear()
        self("Page.navigate", url=page.as_uri() + fragment)
        self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def __getitem__(self, expression: str) -> Any:
        """The value of a JavaScript expression, once the page has drawn what was asked for before."""
        script = f"new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done({expression}))))"
        answer = self("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, x: float, y: float) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self("Input.dispatchKeyEvent", type=kind, key=key)

    @property
    def complaints(self) -> list[str]:
        """Errors of scripts, and what the page's policy has blocked."""
        texts = [event["params"]["entry"]["text"] for event in self.events if event["method"] == "Log.entryAdded"]
        thrown = [e["params"]["exceptionDetails"] for e in self.events if e["method"] == "Runtime.exceptionThrown"]
        return texts + [str(details.get("exception", details)) for details in thrown]

    @property
    def requests(self) -> list[str]:
        """What was loaded, or tried to, beside what lies in the page itself."""
        sent = [event["params"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
        urls = [parameters["request"]["url"] for parameters in sent]
        return [url for url in urls if not url.startswith("data:")]

    def _until(self, wanted: Any) -> dict[str, Any]:
        end = time.monotonic() + _PATIENCE_S
        while True:
            while b"\0" in self._unread:
                line, _, self._unread = self._unread.partition(b"\0")
                message: dict[str, Any] = json.loads(line)
                assert "error" not in message, message
                if "method" in message:
                    self.events.append(message)
                if wanted(message):
                    return message
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            received = os.read(self._answers, 1 << 20) if ready else b""
            assert received, "the browser has ended" if ready else f"no answer from the browser in {_PATIENCE_S} s"
            self._unread += received


@contextmanager
def browser(executable: str, profile: Path) -> Iterator[Tab]:
    """A tab in a browser of its own, which ends with the block."""
    theirs_in, commands = os.pipe()
    answers, theirs_out = os.pipe()
    # Chromium wants exactly descriptors 3 and 4; from 10 on there is nothing that `START` could overwrite.
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10) for descriptor in (theirs_in, theirs_out)]
    arguments = [executable, *FLAGS, "--no-sandbox", f"--user-data-dir={profile}"]
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", START, *map(str, high), *arguments],
        pass_fds=high,
        stderr=subprocess.DEVNULL,
    ) as process:
        for descriptor in (theirs_in, theirs_out, *high):
            os.close(descriptor)
        try:
            yield Tab(commands, answers)
        finally:
            os.close(commands)  # at the end of the pipe it ends
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
            os.close(answers)
