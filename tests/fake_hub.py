"""A small Hugging Face Hub on loopback: create, commit, tree, resolve; enough for huggingface_hub's own functions."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

TOKEN = "hf_aSecretThatNobodySees"


@dataclass
class Repository:
    """Snapshots by commit, and the commits by branch or tag."""

    private: bool = False
    snapshots: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        before = self.snapshots.get(self.refs.get(ref, ""), {})
        oid = hashlib.sha1(repr((len(self.snapshots), sorted(files))).encode()).hexdigest()
        self.snapshots[oid] = {**before, **files}
        self.refs[ref] = oid
        return oid


class FakeHub:
    """The repositories, the tokens' rights, and what was asked for."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.refused: tuple[int, str] | None = None
        """Status and message with which every write is refused."""
        self.trickles = False
        """Whether files come a byte at a time, without an end: a network that hangs, and never times out."""
        self.url = ""

    def add(self, name: str, files: dict[str, bytes], *, private: bool = False) -> str:
        self.repositories[name] = Repository(private)
        return self.repositories[name].commit({".gitattributes": b"*.safetensors filter=lfs\n", **files})

    def files(self, name: str) -> dict[str, bytes]:
        repository = self.repositories[name]
        return repository.snapshots[repository.refs["main"]]


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            """Print nothing."""

        def answer(self, body: Any = b"", status: int = 200, **headers: str) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            headers.setdefault("Content-Length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def fail(self, status: int, code: str, message: str = "") -> None:
            self.answer({"error": message or code}, status, X_Error_Code=code, X_Error_Message=message or code)

        def content(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def repository(self, name: str) -> Repository | None:
            there = hub.repositories.get(name)
            if there is None or (there.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
                self.fail(401 if there else 404, "RepoNotFound", "Repository not found")
                return None
            return there

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            parts = self.path.partition("?")[0].strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                owner, name, kind, revision = [*parts[2:6], "", "main"][:4] if len(parts) < 6 else parts[2:6]
            else:
                (owner, name, kind, revision), kind = parts[:4], "resolve"
            there = self.repository(f"{owner}/{name}")
            if there is None:
                return
            revision = revision.replace("%2F", "/")
            oid = there.refs.get(revision, revision)
            if oid not in there.snapshots and not (kind == "" and not there.refs):
                self.fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
                return
            files = there.snapshots.get(oid, {})
            if kind == "resolve":
                self.resolve(files, "/".join(parts[4:]), oid)
            elif kind == "tree":
                self.answer([_entry(path, content) for path, content in files.items()])
            else:
                siblings = [{"rfilename": path} for path in files]
                self.answer({"id": f"{owner}/{name}", "sha": oid, "private": there.private, "siblings": siblings})

        def resolve(self, files: dict[str, bytes], path: str, oid: str) -> None:
            if path not in files:
                self.fail(404, "EntryNotFound")
                return
            etag = _entry(path, files[path]).get("lfs", {}).get("oid") or _git_oid(files[path])
            if hub.trickles and self.command == "GET":
                self.trickle(X_Repo_Commit=oid, ETag=f'"{etag}"')
                return
            self.answer(files[path], X_Repo_Commit=oid, ETag=f'"{etag}"')

        def trickle(self, **headers: str) -> None:
            self.answer(b"", Content_Length="1000000", **headers)
            with contextlib.suppress(OSError):  # the client has left
                while True:
                    self.wfile.write(b"x")
                    time.sleep(0.1)

        def do_PUT(self) -> None:
            hub.blobs[self.path.rpartition("/")[2]] = self.content()
            self.answer()

        def do_POST(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            body, parts = self.content(), self.path.partition("?")[0].strip("/").split("/")
            if hub.refused is not None:
                self.fail(hub.refused[0], "Refused", hub.refused[1])
            elif parts[-1] == "validate-yaml":
                self.answer({"errors": [], "warnings": []})
            elif parts[-1] == "create":
                self.create(json.loads(body))
            elif parts[-1] == "batch":
                self.answer(
                    {"transfer": "basic", "objects": [self.upload(item) for item in json.loads(body)["objects"]]}
                )
            elif parts[4] == "preupload":
                self.answer({"files": [self.mode(item, "/".join(parts[2:4])) for item in json.loads(body)["files"]]})
            else:
                self.commit("/".join(parts[2:4]), [json.loads(line) for line in body.splitlines()])

        def create(self, wanted: dict[str, Any]) -> None:
            name = f"{wanted['organization']}/{wanted['name']}"
            if name in hub.repositories:
                self.fail(409, "RepoExists", "You already created this model repo")
                return
            private = wanted.get("visibility") == "private" or wanted.get("private") is True
            hub.repositories[name] = Repository(private)
            hub.repositories[name].commit({".gitattributes": b""})
            self.answer({"url": f"{hub.url}/{name}", "name": name})

        def upload(self, item: dict[str, Any]) -> dict[str, Any]:
            return {**item, "actions": {"upload": {"href": f"{hub.url}/upload/{item['oid']}"}}}

        def mode(self, item: dict[str, Any], name: str) -> dict[str, Any]:
            before = hub.files(name).get(item["path"])
            entry = {} if before is None else _entry(item["path"], before)
            oid = entry.get("lfs", {}).get("oid") or entry.get("oid")
            kind = "lfs" if item["path"].endswith(".safetensors") else "regular"
            return {"path": item["path"], "uploadMode": kind, "shouldIgnore": False, "oid": oid}

        def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
            there = self.repository(name)
            if there is None:
                return
            parent = lines[0]["value"].get("parentCommit")
            if parent is not None and parent != there.refs["main"]:
                self.fail(412, "ParentCommit", "The parent commit is not the last one")
                return
            values = [(line["key"], line["value"]) for line in lines[1:]]
            files = {
                value["path"]: hub.blobs[value["oid"]] if key == "lfsFile" else base64.b64decode(value["content"])
                for key, value in values
            }
            oid = there.commit(files)
            self.answer({"commitUrl": f"{hub.url}/{name}/commit/{oid}", "commitOid": oid})

    return Handler


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(content), "oid": _git_oid(content)}
    if path.endswith(".safetensors"):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point_to(url: str, cache: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make huggingface_hub, which is imported already, use this hub, an empty cache and a token."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)  # old releases have none
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def environment(hub: FakeHub, cache: object, **more: str) -> dict[str, str]:
    """The same for a program that is started."""
    names = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    return {**names, "HF_HUB_OFFLINE": "0", **more}
