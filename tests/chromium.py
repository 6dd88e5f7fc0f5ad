"""A real headless Chromium, driven over a pipe by its DevTools protocol: the standard library is all that it takes."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip
_PATIENCE_SECONDS = 60.0

Json = dict[str, Any]


class Tab:
    """One page of the browser. `requests`: addresses asked for; `complaints`: what the console and the log said."""

    def __init__(self, write_to: int, read_from: int) -> None:
        self._out, self._in = write_to, read_from
        self._buffer = b""
        self._last = 0
        self._session: str | None = None
        self._events: list[Json] = []
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: object) -> Json:
        """Send a command and return its result."""
        self._last += 1
        number = self._last
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: Json = answer["result"]
                return result

    def open(self, page: Path) -> float:
        """Open a file and return the seconds until its script was done and the page could be used."""
        self._events.clear()
        self.send("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._receive()
        parsed = "performance.getEntriesByType('navigation')[0].domInteractive"  # what a page without a script has
        ready = f"performance.getEntriesByName('interactive')[0]?.startTime ?? {parsed}"
        return float(self.js(ready)) / 1000

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        text = {"text": key} if len(key) == 1 else {}
        codes = {"Tab": 9, "Enter": 13, "Home": 36, "End": 35, "ArrowLeft": 37, "ArrowRight": 39}
        code = {"windowsVirtualKeyCode": codes[key]} if key in codes else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text, **code)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, **code)

    def choose(self, element: str, value: str) -> None:
        """Choose in a list or write in a field, as a user's input would."""
        self.js(f"(() => {{ const it = document.getElementById({json.dumps(element)}); it.value = {json.dumps(value)};"
                "it.dispatchEvent(new Event('input', { bubbles: true })); })()")  # fmt: skip

    def look(self, *, scheme: str = "light", width: int = 1200, height: int = 900) -> None:
        """Set the colour scheme and the size of the window."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self, *, whole: bool = False) -> bytes:
        """The window, or the whole page, as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def _receive(self) -> Json:
        until = time.monotonic() + _PATIENCE_SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            self._buffer += os.read(self._in, 1 << 20)
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: Json = json.loads(line)
        if "method" in message:
            self._note(message["method"], message["params"])
            self._events.append(message)
        return message

    def _note(self, method: str, params: Json) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.complaints.append(json.dumps(params))


def chromium() -> str:
    """The browser's command; skips the test where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: the page was not opened in a browser")
    return found


@contextlib.contextmanager
def browsing(profile: Path) -> Iterator[Tab]:
    """A browser of one's own with one page, closed at the end. It reads commands from descriptor 3, answers on 4."""
    command = [chromium(), *FLAGS, f"--user-data-dir={profile}"]
    pipes = [_high(fd) for fd in (*os.pipe(), *os.pipe())]
    commands, to_browser, from_browser, answers = pipes
    shell = 'exec "$@" 3<&"$COMMANDS" 4>&"$ANSWERS"'
    process = subprocess.Popen(
        [shutil.which("bash") or "/bin/bash", "-c", shell, "browser", *command],
        pass_fds=(commands, answers), stderr=subprocess.DEVNULL,
        env=os.environ | {"COMMANDS": str(commands), "ANSWERS": str(answers)},
    )  # fmt: skip
    os.close(commands)
    os.close(answers)
    try:
        yield Tab(to_browser, from_browser)
    finally:
        os.close(to_browser)  # the browser ends with its pipe
        os.close(from_browser)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _high(descriptor: int) -> int:
    """The same pipe under a number that is not 3 or 4, which the browser wants for itself."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved
