"""The live page: it follows its run, is for this machine alone, and ends with the search."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysearch.errors import InputError
from raysearch.reporting import serve
from raysearch.reporting.serve import LivePage, Pages, PageServer, port_of
from raysearch.run import Run
from raysearch.tune import main
from tests.reporting.events import LOG

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server(tmp_path) -> Iterator[PageServer]:
    with PageServer(tmp_path / "run", 0) as opened:
        threading.Thread(target=opened.serve_forever, daemon=True).start()
        yield opened
        opened.shutdown()


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def ask(server: PageServer, path: str, method: str = "GET", **headers: str) -> tuple[int, str, http.client.HTTPMessage]:
    port = server.server_address[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers={"Host": f"127.0.0.1:{port}"} | given)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


def answers(address: str) -> bool:
    host, port = address.removeprefix("http://").rstrip("/").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_the_page_comes_up_before_its_run_and_follows_it(server, tmp_path):
    status, page, _ = ask(server, "/")
    assert status == 200
    assert "The search is being prepared" in page
    assert "connect-src 'self'" in page
    run = Run.create(tmp_path / "run", {"metric": "accuracy"})
    run.append(*LOG[:5])
    status, content, headers = ask(server, "/content")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "1 trials were made" in content
    assert ask(server, "/content", If_None_Match=headers["ETag"])[:2] == (304, "")
    server.pages._cost = 0.0  # what this machine needed does not matter here
    run.append(*LOG[5:])
    status, later, after = ask(server, "/content", If_None_Match=headers["ETag"])
    assert status == 200
    assert after["ETag"] != headers["ETag"]
    assert "t0001" in later
    assert "t0001" not in content
    version = after["ETag"].replace('"', "&#34;")
    assert f'data-version="{version}"' in ask(server, "/")[1]


def test_only_the_page_is_served_and_only_to_its_own_name(server, tmp_path):
    Run.create(tmp_path / "run", {})
    port = server.server_address[1]
    assert server.server_address[0] == "127.0.0.1"
    for path in ("/run.json", "/../run/run.json", "/log.jsonl", "/pictures/", "/?x"):
        assert ask(server, path)[0] == 404
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", ""):
        assert ask(server, "/content", Host=host)[0] == 403
    assert ask(server, "/content", Host=f"localhost:{port}")[0] == 200
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(server, "/content", method)[0] == 501
    headers = ask(server, "/content")[2]
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


def test_a_broken_run_is_told_and_does_not_end_the_server(server, tmp_path):
    run = Run.create(tmp_path / "run", {})
    (run.folder / "run.json").write_text("{")
    status, text, _ = ask(server, "/content")
    assert status == 503
    assert "run.json" in text
    run.write_json("run.json", {"settings": {}})
    assert ask(server, "/content")[0] == 200


def test_a_page_that_is_slow_to_make_is_made_seldom(tmp_path, monkeypatch):
    run = Run.create(tmp_path / "run", {})
    pages = Pages(run.folder)
    first = pages.content()
    monkeypatch.setattr(serve, "_SHARE", 1e-9)
    run.append(*LOG)
    assert pages.content() == first
    pages.last_look()  # nobody looks, so it does not wait; what is asked for now is the last
    assert pages.content() != first


def test_at_the_end_an_open_page_gets_its_last_look(tmp_path):
    run = Run.create(tmp_path / "run", {})
    pages = Pages(run.folder)
    pages.asked(pages.content()[1])
    run.append(*LOG)
    waiting = threading.Thread(target=pages.last_look)
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    content, version = pages.content()
    assert "t0001" in content
    pages.asked(version)
    waiting.join(5)
    assert not waiting.is_alive()


def test_a_port_that_is_taken_is_refused_by_name(taken, tmp_path):
    with pytest.raises(InputError, match=f"--serve {taken}: the port cannot be had"):
        PageServer(tmp_path, taken)
    with pytest.raises(InputError, match=f"--serve {taken}: the port cannot be had"):
        LivePage(tmp_path, taken)
    with pytest.raises(InputError, match="--serve 99999"):
        PageServer(tmp_path, 99999)


def test_the_command_tells_of_the_port_together_with_all_else(taken, tmp_path, capsys):
    arguments = ["--space", "no_such_space", "--results", str(tmp_path), "--serve", str(taken)]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert f"--serve {taken}" in told
    assert "no_such_space" in told
    assert list(tmp_path.iterdir()) == []


def test_a_plan_has_no_page(capsys):
    assert main(["--space", "baseline", "--plan", "--serve"]) == 2
    assert "no page to --serve" in capsys.readouterr().err


def test_one_port_is_named_or_none():
    assert port_of(()) == serve.PORT
    assert port_of((0,)) == 0
    with pytest.raises(InputError, match="takes one port, got 1 2"):
        port_of((1, 2))


def test_a_live_page_is_served_until_the_search_is_left(tmp_path):
    with LivePage(tmp_path / "run", 0) as page:
        assert answers(page.address)
    assert not answers(page.address)


def test_a_search_that_is_killed_leaves_no_server(tmp_path):
    script = "import time; from raysearch.reporting.serve import LivePage; from pathlib import Path\n"
    script += f"print(LivePage(Path({str(tmp_path)!r}), 0).address, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as search:
        assert search.stdout is not None
        address = search.stdout.readline().strip()
        assert answers(address)
        search.send_signal(signal.SIGKILL)
        search.wait(10)
    for _ in range(100):
        if not answers(address):
            break
        time.sleep(0.1)
    assert not answers(address)
