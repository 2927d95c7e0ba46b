"""A Hub on the loopback interface that knows as much of the Hub's HTTP API as pushing and loading a model takes."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote


@dataclass
class FakeHub:
    """Repositories as lists of commits, each all files of the repository; branches and tags name commits."""

    url: str = ""
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # by the commit's id
    refs: dict[str, dict[str, str]] = field(default_factory=dict)  # of a repository: branch or tag -> commit
    blobs: dict[str, bytes] = field(default_factory=dict)  # large files by SHA-256

    def commit(self, repository: str, revision: str, files: dict[str, bytes]) -> str:
        name = hashlib.sha1(f"{repository}{len(self.commits)}".encode()).hexdigest()
        self.commits[name] = files
        self.refs[repository][revision] = name
        return name

    def environment(self, home: Path) -> dict[str, str]:
        """What a process needs to take this for the Hub; `home` is its cache."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": "hf_anything",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        """Status, body (bytes or JSON) and headers of the answer to a request."""
        if path == "/api/whoami-v2":
            auth = {"accessToken": {"displayName": "test", "role": "write"}}
            return 200, {"name": "test", "type": "user", "orgs": [{"name": "org"}], "auth": auth}, {}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}, {}
        if path == "/api/repos/create":
            request = json.loads(body)
            repository = f"{request.get('organization') or 'test'}/{request['name']}"
            description = {"url": f"{self.url}/{repository}", "id": repository, "name": repository}
            if repository in self.refs:
                return 409, description | {"error": "You already created this model repo"}, {}
            self.refs[repository] = {}
            self.commit(repository, "main", {})
            return 200, description, {}
        if match := re.fullmatch(r"/lfs/(\w+)", path):
            self.blobs[match[1]] = body
            return 200, b"", {}
        match = re.match(r"(?:/api/models)?/([^/]+/[^/]+?)(\.git/info/lfs/objects/batch|/.*)?$", path)
        repository, rest = match[1], (match[2] or "").strip("/")
        if repository not in self.refs:
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        if rest == ".git/info/lfs/objects/batch":
            objects = [
                {**o, "actions": {"upload": {"href": f"{self.url}/lfs/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            return 200, {"transfer": "basic", "objects": objects}, {"Content-Type": "application/vnd.git-lfs+json"}
        action, _, argument = rest.partition("/")
        revision, _, file = argument.partition("/")
        commit = self.refs[repository].get(revision or "main", revision if revision in self.commits else None)
        if commit is None:
            return 404, {"error": f"Invalid rev id: {revision}"}, {"X-Error-Code": "RevisionNotFound"}
        files = self.commits[commit]
        if action == "preupload":
            modes = [
                {
                    "path": entry["path"],
                    "uploadMode": "lfs" if entry["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for entry in json.loads(body)["files"]
            ]
            return 200, {"files": modes}, {}
        if action == "commit":
            files = dict(files)
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.blobs[value["oid"]]
            commit = self.commit(repository, revision, files)
            return (
                200,
                {"success": True, "commitOid": commit, "commitUrl": f"{self.url}/{repository}/commit/{commit}"},
                {},
            )
        if action in ("tag", "branch"):
            name = json.loads(body)["tag"] if action == "tag" else argument
            self.refs[repository][name] = commit if action == "tag" else self.refs[repository]["main"]
            return 200, {}, {}
        if action in ("", "revision"):
            siblings = [{"rfilename": name} for name in files]
            return 200, {"id": repository, "sha": commit, "private": False, "siblings": siblings}, {}
        if action == "tree":
            tree = [
                {"type": "file", "path": k, "size": len(v), "oid": hashlib.sha1(v).hexdigest()}
                for k, v in files.items()
            ]
            return 200, tree, {}
        if action == "resolve" and file in files:
            return 200, files[file], {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(files[file]).hexdigest()}"'}
        return 404, {"error": f"no {method} {path}"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A running Hub."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def handle_request(self) -> None:
            body = self.read_body()
            status, content, headers = hub.answer(self.command, unquote(self.path.partition("?")[0]), body)
            if not isinstance(content, bytes):
                content, headers = json.dumps(content).encode(), {"Content-Type": "application/json"} | headers
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_HEAD = handle_request  # noqa: N815, the names that the base class looks for

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
