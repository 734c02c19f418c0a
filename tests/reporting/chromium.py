"""A page in headless Chromium, driven over its DevTools protocol through two pipes: no port, no library."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")


class Tab:
    """One page; `complaints` are its errors, on the console or thrown."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = os.fdopen(commands, "wb"), os.fdopen(answers, "rb")
        self._buffer = b""
        self._sent = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requested: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            told = self._next()
            if told.get("id") == self._sent:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['error']}")
                return told["result"]

    def show(self, address: str, width: int, *, height: int = 900, dark: bool = False, phone: bool = False) -> None:
        """Open a page in a window of so many pixels, and wait until it is drawn."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=address)
        self.evaluate("new Promise((done) => document.readyState === 'complete' ? done() : onload = done)")
        self.settle()

    def settle(self) -> None:
        """Wait until two frames have been drawn."""
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Drag the mouse between two places of the window, in pixels."""
        steps = [("mousePressed", start), ("mouseMoved", end), ("mouseMoved", end), ("mouseReleased", end)]
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=start[0], y=start[1])
        for kind, (x, y) in steps:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
            self.settle()

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    def screenshot(self) -> bytes:
        """The whole page, however long, as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        return base64.b64decode(
            self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
        )

    def printed(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self.call("Page.printToPDF")["data"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            more = os.read(self._answers.fileno(), 1 << 16)
            if not more:
                raise RuntimeError("the browser has ended")
            self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        match told.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(told["params"]["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if told["params"]["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(told["params"]["args"]))
            case "Log.entryAdded" if told["params"]["entry"]["level"] == "error":
                self.complaints.append(json.dumps(told["params"]["entry"]))
            case "Network.requestWillBeSent":
                self.requested.append(told["params"]["request"]["url"].partition(",")[0])
        return told

    def close(self) -> None:
        """Let go of the browser, which ends when nobody commands it."""
        self._commands.close()
        self._answers.close()


@contextmanager
def tab() -> Iterator[Tab]:
    """A page of a browser of its own."""
    ours, theirs = os.pipe(), os.pipe()  # commands to the browser, its answers
    with tempfile.TemporaryDirectory(prefix="raysearch-chromium-", ignore_cleanup_errors=True) as profile:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
        flags += ["--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        # The browser reads commands from descriptor 3 and writes to 4.
        script = f'exec "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        browser = subprocess.Popen(
            ["/bin/bash", "-c", script, "bash", BROWSER, *flags],
            pass_fds=(ours[0], theirs[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        opened = Tab(ours[1], theirs[0])
        try:
            yield opened
        finally:
            opened.close()
            try:
                browser.wait(20)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait()
