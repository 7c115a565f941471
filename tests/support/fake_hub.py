"""A hub on this machine: the few requests of the real one that schedules need, in memory."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import pytest
from huggingface_hub import constants

TOKEN = "hf_ofthisone"  # noqa: S105 - of no hub but this
Files = dict[str, bytes]


@dataclass
class Repository:
    """Its commits by hash, and its branches."""

    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def commit(self, files: Files, branch: str = "main") -> str:
        oid = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()  # noqa: S324 - a name
        self.commits[oid] = {**self.commits.get(self.branches.get(branch, ""), {}), **files}
        self.branches[branch] = oid
        return oid


@dataclass
class Hub:
    """The repositories, and how the hub answers."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    broken: int | None = None
    """A status that every request is answered with."""

    def repository(self, repo_id: str, **files: bytes) -> Repository:
        """A repository with a commit of these files, whose names end in .json."""
        repository = self.repositories.setdefault(repo_id, Repository())
        repository.commit({f"{name}.json": content for name, content in files.items()})
        return repository


class _Requests(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def told(self, value: object) -> None:
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        if self.hub.broken:
            return self.answer(self.hub.broken)
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        repository = found and self.hub.repositories.get(found[1])
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if not repository or (repository.private and not allowed):
            return self.answer(401, X_Error_Code="RepoNotFound")
        revision = unquote(found[2])
        oid = repository.branches.get(revision, revision)
        if oid not in repository.commits:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        content = repository.commits[oid].get(found[3])
        if content is None:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=oid)
        etag = hashlib.sha256(content).hexdigest()
        return self.answer(200, content, X_Repo_Commit=oid, ETag=f'"{etag}"')

    def do_POST(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.hub.broken:
            return self.answer(self.hub.broken)
        if self.path == "/api/validate-yaml":
            wrong = [{"message": "no such license"}] if b"license: wrong" in body else []
            told = json.dumps({"errors": wrong, "warnings": []}).encode()
            return self.answer(400 if wrong else 200, told, Content_Type="application/json")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401)
        if self.path == "/api/repos/create":
            return self.create(json.loads(body))
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/([^/?]+).*", self.path)
        if not found or found[1] not in self.hub.repositories:
            return self.answer(404, X_Error_Code="RepoNotFound")
        if found[2] == "preupload":
            asked = [one["path"] for one in json.loads(body)["files"]]
            how = {"uploadMode": "regular", "shouldIgnore": False}
            return self.told({"files": [{"path": path, **how} for path in asked]})
        return self.commit(found[1], unquote(found[3]), body)

    def create(self, asked: dict) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.hub.url}/{name}"}
        if name in self.hub.repositories:
            return self.answer(409, json.dumps(url).encode())
        self.hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
        return self.told(url)

    def commit(self, name: str, branch: str, body: bytes) -> None:
        repository = self.hub.repositories[name]
        if branch != "main" and branch not in repository.branches:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        parts = [json.loads(line) for line in body.splitlines()]
        files = [part["value"] for part in parts if part["key"] == "file"]
        oid = repository.commit(
            {one["path"]: base64.b64decode(one["content"]) for one in files}, branch
        )
        return self.told({"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid})


@contextmanager
def fake_hub(cache: Path) -> Iterator[Hub]:
    """The hub as huggingface_hub sees it in the context; its cache is `cache`, it has a token."""
    hub = Hub()
    handler = type("Requests", (_Requests,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        template = "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + template)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
        patch.setenv("HF_TOKEN", TOKEN)
        patch.delenv("HF_HUB_OFFLINE", raising=False)
        yield hub
    server.shutdown()
    server.server_close()
