"""A Hub on 127.0.0.1 for tests: the part of the HTTP API that publishing a model and downloading use, and its faults.

Written from the endpoints that huggingface_hub calls. Large files go through LFS in one part; downloads of them are
answered with a redirect to another origin (`localhost` for `127.0.0.1`), as the real Hub does.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote, urlsplit

ENDPOINTS = ("create", "info", "refs", "tree", "validate", "preupload", "batch", "put", "verify", "commit", "tag")


@dataclass(frozen=True)
class Blob:
    """A file at a commit; large ones are known by sha256, the others by their git blob."""

    content: bytes
    is_large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content, usedforsecurity=False).hexdigest()


Tree = dict[str, Blob]


@dataclass
class Repository:
    """Commits in order, the last one is `main`; tags name commits."""

    private: bool
    commits: dict[str, Tree] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    def add(self, tree: Tree) -> str:
        text = f"{len(self.commits)}:{sorted((name, blob.oid) for name, blob in tree.items())}"
        oid = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.commits[oid] = tree
        return oid

    def resolve(self, revision: str) -> str:
        return self.head if revision == "main" else self.tags.get(revision, revision)


Kind = Literal[
    "500", "404", "401", "403", "409", "gated", "lost", "hang", "echo", "wait", "conflict", "bent", "moved", "taken",
    "reset", "cut", "slow",
]  # fmt: skip
SLOW_SECONDS = 0.3


def nobody() -> None:
    """Watch nothing."""


@dataclass
class Fault:
    """What goes wrong at an endpoint, `times` times.

    `gated`: 403; `lost`: the request takes effect and the connection closes without an answer; `hang`: no answer;
    `echo`: 500 with the caller's own headers in its message; `wait`: 429 for an hour; `bent`: stores other bytes;
    `moved`: 412, as for a stale parent; `taken`: somebody else makes the tag first; `reset`: the connection breaks and
    nothing takes effect; `cut`: it takes effect and half of the answer arrives; `slow`: it takes effect after a while.
    """

    endpoint: str
    kind: Kind
    times: int = 1


@dataclass
class LoopbackHub:
    """The state of the Hub; tests read and bend it directly.

    `fault_at` makes the request of that number, counted from 0, go wrong; `watch` is called after every request, as a
    reader that looks at the Hub all the time.
    """

    token: str
    url: str = ""
    other_origin: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, bool]] = field(default_factory=list)
    fault_at: tuple[int, Kind] | None = None
    watch: Callable[[], None] = nobody
    released: threading.Event = field(default_factory=threading.Event)

    def reset(self) -> None:
        """Forget everything and let go of the requests that hang."""
        self.released.set()
        self.released = threading.Event()
        for state in (self.repositories, self.objects, self.faults, self.requests):
            state.clear()
        self.fault_at, self.watch = None, nobody

    def fault(self, endpoint: str) -> str | None:
        if self.fault_at is not None and self.fault_at[0] == len(self.requests) - 1:
            return self.fault_at[1]
        for fault in self.faults:
            if fault.endpoint == endpoint and fault.times > 0:
                fault.times -= 1
                return fault.kind
        return None


class Answer(Exception):
    """Status, JSON body and headers."""

    def __init__(self, status: int, body: object = None, headers: dict[str, str] | None = None) -> None:
        self.status, self.headers = status, headers or {}
        self.body = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()


@contextmanager
def loopback_hub(token: str) -> Iterator[LoopbackHub]:
    """Serve a Hub that knows one token, for as long as the block lasts."""
    hub = LoopbackHub(token)

    class Bound(_Handler):
        state = hub

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # a download opens many connections at once

    server = Server(("127.0.0.1", 0), Bound)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    hub.other_origin = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: LoopbackHub
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # one packet per answer: two would wait for each other, 40 ms a time

    def log_message(self, *_arguments: object) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        for method, pattern, endpoint, needs_token in ROUTES:
            if self.command == method and (match := re.fullmatch(pattern, path)):
                return self._attempt(endpoint, needs_token, match, body)
        return self._send(Answer(404, {"error": f"no route {self.command} {path}"}))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 (the names of http.server)

    def _attempt(self, endpoint: str, needs_token: bool, match: re.Match[str], body: bytes) -> None:
        hub = self.state
        is_known = self.headers.get("Authorization") == f"Bearer {hub.token}"
        hub.requests.append((endpoint, "Authorization" in self.headers))
        if needs_token and not is_known:
            return self._send(Answer(401, {"error": "Invalid credentials in Authorization header"}))
        kind = hub.fault(endpoint)
        if answer := self._broken(kind):
            return self._send(answer)
        if kind in {"hang", "reset"}:
            if kind == "hang":
                hub.released.wait()
            self.close_connection = True
            return None
        if kind == "slow":
            time.sleep(SLOW_SECONDS)
        if kind == "bent":
            body = bytes([body[0] ^ 1]) + body[1:]
        if kind == "taken":
            repository = self._repository(match.group(1))
            repository.tags[json.loads(body)["tag"]] = next(iter(repository.commits))
        try:
            getattr(self, f"_{endpoint}")(*match.groups(), body)
        except Answer as answer:
            hub.watch()
            if kind != "lost":
                return self._send(answer, is_cut=kind == "cut")
        self.close_connection = True
        return None

    def _broken(self, kind: str | None) -> Answer | None:
        answers: dict[str, Callable[[], Answer]] = {
            "500": lambda: Answer(500, {"error": "injected"}),
            "404": lambda: Answer(404, {"error": "injected"}),
            "401": lambda: Answer(401, {"error": "Invalid credentials in Authorization header"}),
            "403": lambda: Answer(403, {"error": "this token may only read"}),
            "409": lambda: Answer(409, {"error": "conflict"}),
            "gated": lambda: Answer(403, {"error": "Access is restricted"}, {"X-Error-Code": "GatedRepo"}),
            "echo": lambda: Answer(500, {"error": f"you sent\n{self.headers}"}),
            "wait": lambda: Answer(429, {"error": "slow down"}, {"Retry-After": "3600"}),
            "moved": lambda: Answer(412, {"error": "A commit has happened since. Please refresh and try again."}),
            "conflict": lambda: Answer(
                409, {"error": "Cannot create repo: another conflicting operation is in progress"}
            ),
        }
        return answers[kind]() if kind in answers else None

    def _send(self, answer: Answer, *, is_cut: bool = False) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) // 2] if is_cut else answer.body)
        self.close_connection |= is_cut

    def _repository(self, repo_id: str) -> Repository:
        if repo_id not in self.state.repositories:
            raise Answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        return self.state.repositories[repo_id]

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        repo_id = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
        url = {"url": f"{self.state.url}/{repo_id}"}
        if repo_id in self.state.repositories:
            raise Answer(409, {**url, "error": "You already created this model repo"})
        repository = Repository(private=asked.get("visibility") == "private" or bool(asked.get("private")))
        repository.add({".gitattributes": Blob(b"*.safetensors filter=lfs\n", is_large=False)})
        self.state.repositories[repo_id] = repository
        raise Answer(200, url)

    def _known(self, repository: Repository, revision: str) -> str:
        commit = repository.resolve(revision)
        if commit not in repository.commits:
            raise Answer(404, {"error": f"Invalid rev id: {revision}"}, {"X-Error-Code": "RevisionNotFound"})
        return commit

    def _info(self, repo_id: str, revision: str | None, _body: bytes) -> None:
        repository = self._repository(repo_id)
        commit = self._known(repository, revision or "main")
        siblings = [{"rfilename": name} for name in sorted(repository.commits[commit])]
        raise Answer(
            200,
            {"id": repo_id, "sha": commit, "private": repository.private, "siblings": siblings, "tags": [],
             "downloads": 0, "likes": 0, "lastModified": "2026-01-01T00:00:00.000Z"},
        )  # fmt: skip

    def _refs(self, repo_id: str, _body: bytes) -> None:
        repository = self._repository(repo_id)
        tags = [
            {"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid} for name, oid in repository.tags.items()
        ]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.head}
        raise Answer(200, {"branches": [main], "tags": tags, "converts": []})

    def _tree(self, repo_id: str, revision: str, _body: bytes) -> None:
        repository = self._repository(repo_id)
        items: list[dict[str, object]] = []
        for name, blob in sorted(repository.commits[self._known(repository, revision)].items()):
            item: dict[str, object] = {"type": "file", "path": name, "oid": blob.oid, "size": len(blob.content)}
            if blob.is_large:
                item["lfs"] = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": 120}
            items.append(item)
        raise Answer(200, items)

    def _validate(self, _body: bytes) -> None:
        raise Answer(200, {"errors": [], "warnings": []})

    def _preupload(self, repo_id: str, _revision: str, body: bytes) -> None:
        self._repository(repo_id)
        files = []
        for asked in json.loads(body)["files"]:  # without `oid`, so that the client cannot drop unchanged files for us
            mode = "lfs" if asked["path"].endswith(".safetensors") else "regular"
            files.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False})
        raise Answer(200, {"files": files})

    def _batch(self, repo_id: str, body: bytes) -> None:
        objects = []
        for asked in json.loads(body)["objects"]:
            item = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.state.objects:
                item["actions"] = {
                    "upload": {"href": f"{self.state.other_origin}/storage/{asked['oid']}?signature=canary-signature"},
                    "verify": {"href": f"{self.state.url}/{repo_id}/verify"},
                }
            objects.append(item)
        raise Answer(200, {"transfer": "basic", "objects": objects})

    def _put(self, oid: str, body: bytes) -> None:
        self.state.objects[oid] = body
        raise Answer(200, headers={"ETag": f'"{oid}"'})

    def _verify(self, _repo_id: str, body: bytes) -> None:
        raise Answer(200 if json.loads(body)["oid"] in self.state.objects else 404)

    def _commit(self, repo_id: str, _revision: str, body: bytes) -> None:
        repository = self._repository(repo_id)
        lines = [json.loads(line) for line in body.splitlines()]
        if lines[0]["value"].get("parentCommit", repository.head) != repository.head:
            raise Answer(412, {"error": "A commit has happened since. Please refresh and try again."})
        tree = dict(repository.commits[repository.head])
        for line in lines[1:]:
            self._apply(tree, line["key"], line["value"])
        oid = repository.add(tree)
        raise Answer(200, {"commitOid": oid, "commitUrl": f"{self.state.url}/{repo_id}/commit/{oid}", "success": True})

    def _apply(self, tree: Tree, key: str, value: dict[str, str]) -> None:
        if key == "file":
            tree[value["path"]] = Blob(base64.b64decode(value["content"]), is_large=False)
        elif key == "lfsFile":
            tree[value["path"]] = Blob(self.state.objects[value["oid"]], is_large=True)
        elif key == "deletedFile":
            del tree[value["path"]]

    def _tag(self, repo_id: str, revision: str, body: bytes) -> None:
        repository, name = self._repository(repo_id), json.loads(body)["tag"]
        if name in repository.tags:
            raise Answer(409, {"error": "Tag reference exists already"})
        repository.tags[name] = repository.resolve(revision)
        raise Answer(200)

    def _resolve(self, repo_id: str, revision: str, name: str, _body: bytes) -> None:
        repository = self._repository(repo_id)
        commit = self._known(repository, revision)
        blob = repository.commits[commit].get(name)
        if blob is None:
            raise Answer(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        headers = {"X-Repo-Commit": commit, "ETag": f'"{blob.oid}"'}
        if blob.is_large:
            location = f"{self.state.other_origin}/storage/{blob.sha256}"
            size = str(len(blob.content))
            headers |= {"Location": location, "X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": size}
            raise Answer(302, b"", headers)
        raise Answer(200, blob.content, {**headers, "Content-Length": str(len(blob.content))})

    def _storage(self, oid: str, _body: bytes) -> None:
        raise Answer(200, self.state.objects[oid], {"ETag": f'"{oid}"'})


_ID = r"([\w.-]+/[\w.-]+)"

ROUTES: tuple[tuple[str, str, str, bool], ...] = (
    ("POST", r"/api/repos/create", "create", True),
    ("POST", r"/api/validate-yaml", "validate", True),
    ("GET", rf"/api/(?:models|datasets)/{_ID}(?:/revision/([^/]+))?", "info", True),
    ("GET", rf"/api/models/{_ID}/refs", "refs", True),
    ("GET", rf"/api/(?:models|datasets)/{_ID}/tree/([^/]+)", "tree", True),
    ("POST", rf"/api/models/{_ID}/preupload/([^/]+)", "preupload", True),
    ("POST", rf"/api/models/{_ID}/commit/([^/]+)", "commit", True),
    ("POST", rf"/api/models/{_ID}/tag/([^/]+)", "tag", True),
    ("POST", rf"/{_ID}\.git/info/lfs/objects/batch", "batch", True),
    ("POST", rf"/{_ID}/verify", "verify", True),
    ("PUT", r"/storage/(\w+)", "put", False),
    ("HEAD", rf"/(?:datasets/)?{_ID}/resolve/([^/]+)/(.+)", "resolve", True),
    ("GET", rf"/(?:datasets/)?{_ID}/resolve/([^/]+)/(.+)", "resolve", True),
    ("HEAD", r"/storage/(\w+)", "storage", False),
    ("GET", r"/storage/(\w+)", "storage", False),
)
