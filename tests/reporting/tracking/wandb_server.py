"""A stand-in for W&B's server: the few endpoints that its client calls for runs, files, sweeps and artifacts.

Keeps what it is sent, by run. Knows only one user, and believes every key.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "someone"


@dataclass
class ServedRun:
    """What the server was told of one run."""

    name: str
    upserts: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    """Lines of its history, as the file stream wrote them."""
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    files: set[str] = field(default_factory=set)
    started: int = 0
    """How often a client opened it."""

    def told(self, key: str) -> Any:
        """The last value of an argument of upsertBucket."""
        given = [one[key] for one in self.upserts if one.get(key) is not None]
        return given[-1] if given else None

    @property
    def config(self) -> dict[str, Any]:
        """Without W&B's own part and its {"value": …}."""
        return {key: one["value"] for key, one in json.loads(self.told("config")).items() if key != "_wandb"}


class _Listener(ThreadingHTTPServer):
    """Clients hang up whenever they have heard enough."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing on the console."""


class Server:
    """Listens on a port of its own, from the beginning to the end of a `with` block."""

    def __init__(self) -> None:
        self.runs: dict[str, ServedRun] = {}
        self.sweeps: list[dict[str, Any]] = []
        self.artifacts: list[dict[str, Any]] = []
        self.unknown: list[str] = []
        self.keys: set[str] = set()
        self.uploads: dict[str, int] = {}
        """Bytes of uploaded files, by name."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.keys.add(self.headers.get("Authorization") or "")
                text = json.dumps(server.answer(self.path, body)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = _answer  # noqa: N815 - as the library names them

            def log_message(self, *args: object) -> None:
                """Nothing on the console."""

        self._http = _Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Server:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        """What one request is answered."""
        if path == "/graphql":
            asked = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            name = operation.group(1) if operation else asked["query"]
            handler = getattr(self, f"_{name}", None)
            if handler is None:
                self.unknown.append(name)
                return {"data": {}}
            return {"data": handler(asked.get("variables") or {})}
        if stream := re.fullmatch(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream", path):
            self._stream(self.runs[stream[3]], json.loads(body))
        elif path.startswith("/upload/"):
            self.uploads[path.removeprefix("/upload/")] = len(body)
        elif not path.startswith("/sdk/"):  # its client's own telemetry
            self.unknown.append(path)
        return {}

    def _stream(self, run: ServedRun, told: dict[str, Any]) -> None:
        for name, chunk in (told.get("files") or {}).items():
            lines = [json.loads(line) for line in chunk["content"]] if name.endswith((".json", ".jsonl")) else []
            if name == "wandb-history.jsonl":
                run.history[chunk["offset"] : chunk["offset"] + len(lines)] = lines
            elif name == "wandb-summary.json":
                run.summary = lines[-1]
        if told.get("complete"):
            run.exit_code = told["exitcode"]

    # ---- GraphQL, by the operations' names ---------------------------------------------------------------------

    def _RunResumeStatus(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self.runs.get(asked["name"])
        bucket = None
        if run is not None:
            bucket = {
                "id": run.name,
                "name": run.name,
                "displayName": run.told("displayName"),
                "summaryMetrics": json.dumps(run.summary),
                "historyLineCount": len(run.history),
                "logLineCount": 0,
                "eventsLineCount": 0,
                "historyTail": json.dumps([json.dumps(line) for line in run.history[-1:]]),
                "eventsTail": "[]",
                "config": run.told("config"),
                "tags": [],
                "notes": None,
                "wandbConfig": json.dumps({"t": 1}),
            }
        return {"model": {**_project(asked["project"]), "bucket": bucket}}

    def _UpsertBucket(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        inserted = asked["name"] not in self.runs
        run = self.runs.setdefault(asked["name"], ServedRun(asked["name"]))
        run.upserts.append(asked)
        run.started += asked.get("program") is not None
        bucket = {
            "id": run.name,
            "name": run.name,
            "displayName": run.told("displayName"),
            "description": None,
            "config": run.told("config"),
            "sweepName": run.told("sweep"),
            "project": _project(asked["project"]),
            "historyLineCount": len(run.history),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _CreateRunFiles(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.runs[asked["run"]].files.update(asked["files"])
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{asked['run']}/{name}"} for name in asked["files"]]
        return {"createRunFiles": {"runID": asked["run"], "uploadHeaders": [], "files": files}}

    def _Viewer(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        me = {"id": ENTITY, "username": ENTITY, "entity": ENTITY, "email": None, "admin": False, "flags": "{}"}
        return {"viewer": {**me, "name": ENTITY, "teams": {"edges": []}, "apiKeys": {"edges": []}}}

    def _UpsertSweep(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.sweeps.append(asked)
        sweep = {"name": f"sweep{len(self.sweeps)}", "project": _project(asked["projectName"])}
        return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}

    def _ArtifactType(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"project": None}

    def _ServerFeaturesQuery(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def _CreateArtifact(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.artifacts.append(asked["input"])
        artifact = {"id": f"artifact{len(self.artifacts)}", "state": "PENDING"}
        return {"createArtifact": {"artifact": artifact | {"artifactSequence": {"latestArtifact": None}}}}

    def _CreateArtifactManifest(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"createArtifactManifest": {"artifactManifest": self._manifest(asked["artifactID"])}}

    def _UpdateArtifactManifest(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"updateArtifactManifest": {"artifactManifest": self._manifest(asked["artifactManifestID"])}}

    def _manifest(self, name: str) -> dict[str, Any]:
        file = {"id": name, "uploadUrl": f"{self.url}/upload/manifests/{name}", "uploadHeaders": []}
        return {"id": name, "file": file}

    def _CreateArtifactFiles(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        edges = []
        for file in asked["input"]["artifactFiles"]:
            name = f"{file['artifactID']}/{file['name']}"
            url = f"{self.url}/upload/{name}"
            node = {"storagePath": name, "uploadUrl": url, "uploadHeaders": [], "uploadMultipartUrls": None}
            edges.append({"node": node | {"artifact": {"id": file["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _CommitArtifact(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"commitArtifact": {"artifact": {"id": asked["artifactID"], "digest": ""}}}


def _project(name: str) -> dict[str, Any]:
    return {"id": name, "name": name, "entity": {"id": ENTITY, "name": ENTITY}}
