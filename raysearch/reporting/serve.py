"""The report page while a search runs, for the browsers of this machine.

    raysearch report RUN --serve            python -m raysearch.tune --serve

A search serves its page from a process of its own, at low priority, which reads the run folder and nothing else: so it
can neither slow the search nor make it fail. It listens on the loopback interface only, and answers only to its own
name there: a page from elsewhere, whose host name was made to mean this machine (DNS rebinding), is refused.
"""

from __future__ import annotations

import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

from raysearch.errors import InputError
from raysearch.record.files import LOG

if TYPE_CHECKING:
    from raysearch.record.folder import RunFolder

# pandas and plotly take seconds to import; the port is to be claimed, or refused, at once.

PORT = 8300
"""Where the page is served unless another port is named."""

_HOST = "127.0.0.1"
_SHARE = 0.1  # the part of the time that may go into making pages
_WATCHED_SECONDS = 10.0  # a page that has not asked for so long is not open any more
_READ = (LOG, "run.json", "evaluation.json", "pictures/pictures.json", "predictions.parquet")
_PREPARING = "<main><h1>raysearch</h1><p>The search is being prepared; its page comes up here by itself.</p></main>"


class Pages:
    """The page of a run folder, made anew only when the run has changed, and not more often than `_SHARE` allows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._run: RunFolder | None = None
        self._lock = threading.Lock()
        self._content = ""
        self._state: tuple[int, ...] | None = None
        self._made_at = self._cost = 0.0
        self._asked_at = -_WATCHED_SECONDS
        self._seen: str | None = None
        self._ending = False

    def content(self) -> tuple[str, str]:
        """What of the page changes, HTML, and its version."""
        with self._lock:
            state = self._now()
            due = self._made_at + self._cost * (1 / _SHARE - 1)
            if state != self._state and (self._ending or time.monotonic() >= due):
                began = time.monotonic()
                self._content, self._state = self._make(), state
                self._made_at = time.monotonic()
                self._cost = self._made_at - began
            return self._content, self._version()

    def page(self) -> str:
        """The whole page, HTML."""
        from raysearch.reporting.page import whole_page

        content, version = self.content()
        return whole_page(self._folder.resolve().name, content, live=version)

    def asked(self, version: str | None) -> None:
        """Note that an open page has asked, and what it showed then."""
        self._asked_at, self._seen = time.monotonic(), version

    def last_look(self) -> None:
        """Return when a page that is open shows how the run ended; at once if none is."""
        self._ending = True
        deadline = time.monotonic() + _WATCHED_SECONDS
        while time.monotonic() < min(deadline, self._asked_at + _WATCHED_SECONDS):
            if self._now() == self._state and self._seen == self._version():
                return
            time.sleep(0.2)

    def _make(self) -> str:
        from raysearch.record.folder import RunFolder
        from raysearch.reporting.page import content_text

        if not (self._folder / "run.json").is_file():
            return _PREPARING
        self._run = self._run or RunFolder.open(self._folder)
        return content_text(self._run)

    def _now(self) -> tuple[int, ...]:
        """What the page depends on: the length and age of the files that it is made from."""
        found: list[int] = []
        for name in _READ:
            try:
                about = (self._folder / name).stat()
            except OSError:
                found += (0, 0)
            else:
                found += (about.st_size, about.st_mtime_ns)
        return tuple(found)

    def _version(self) -> str:
        return "" if self._state is None else '"' + "-".join(format(number, "x") for number in self._state) + '"'


class PageServer(socketserver.ThreadingTCPServer):
    """Serves one run's page at `address`, and nothing else.

    Args:
        folder: of the run; it may come later.
        port: to listen on; 0: any that is free.

    Raises:
        InputError: the port cannot be had.
    """

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # there it would let two processes listen on one port

    def __init__(self, folder: Path, port: int) -> None:
        try:
            super().__init__((_HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"--serve {port}: the port cannot be had ({error}); name another, or 0 for any that is free"
            ) from error
        self.pages = Pages(folder)
        number = self.server_address[1]
        self.names = frozenset(f"{host}:{number}" for host in (_HOST, "localhost"))
        self.address = f"http://{_HOST}:{number}/"


class _Handler(BaseHTTPRequestHandler):
    timeout = 30  # seconds that a request may take to arrive
    server: PageServer

    def do_GET(self) -> None:
        pages = self.server.pages
        if self.headers.get("Host") not in self.server.names:
            self._answer(HTTPStatus.FORBIDDEN, f"this page is at {self.server.address}")
            return
        try:
            if self.path == "/":
                self._answer(HTTPStatus.OK, pages.page(), kind="text/html")
            elif self.path == "/content":
                shown = self.headers.get("If-None-Match")
                content, version = pages.content()
                pages.asked(shown)
                if shown == version:
                    self._answer(HTTPStatus.NOT_MODIFIED)
                else:
                    self._answer(HTTPStatus.OK, content, kind="text/html", version=version)
            else:
                self._answer(HTTPStatus.NOT_FOUND, "there is only /")
        except (BrokenPipeError, ConnectionResetError):
            return  # whoever asked has gone
        except Exception as error:  # noqa: BLE001 - a run in the middle of being written; the page asks again
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{type(error).__name__}: {error}")

    def log_message(self, *_: object) -> None:
        """Nobody wants a line a request."""

    def _answer(self, status: HTTPStatus, text: str = "", kind: str = "text/plain", version: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            **({"ETag": version} if version else {}),
            **({} if status is HTTPStatus.NOT_MODIFIED else {"Content-Length": str(len(body))}),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class LivePage:
    """The page of a search, served by another process until the `with` is left.

    Args:
        folder: of the run; it may come later.
        port: to listen on; 0: any that is free.

    Raises:
        InputError: the port cannot be had.
    """

    def __init__(self, folder: Path, port: int) -> None:
        command = [sys.executable, "-m", "raysearch.reporting.serve", str(folder), str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        if not self.address.startswith("http"):
            self._stop()
            raise InputError(self.address or "--serve: the page's process did not start")

    def __enter__(self) -> LivePage:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()  # it ends when nobody holds the other end any more, however the search ended
        try:
            self._process.wait(2 * _WATCHED_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def port_of(flag: tuple[int, ...]) -> int:
    """The port that `--serve [PORT]` means.

    Raises:
        InputError: more than one is named.
    """
    if len(flag) > 1:
        raise InputError(f"--serve takes one port, got {' '.join(map(str, flag))}")
    return flag[0] if flag else PORT


def main(arguments: list[str]) -> None:
    """The process of a `LivePage`: says its address, or what is wrong, and serves until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the search
    if hasattr(os, "nice"):
        os.nice(10)
    try:
        server = PageServer(Path(arguments[0]), int(arguments[1]))
    except InputError as error:
        _say(str(error))
        return
    _say(server.address)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    server.pages.last_look()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
