"""Data sets on a Hub, for real: huggingface_hub in a process of its own against `tests/loopback_hub.py`."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.loopback_hub import Blob, Fault, LoopbackHub, Repository, loopback_hub

TOKEN = "hf_canary0123456789"
REPO = "team/tickets"
ROW = b'{"prompt": "a", "completion": "b"}\n'
TREE = {
    "README.md": Blob(b"# Tickets\n", is_large=False),
    "data/train-0.jsonl": Blob(ROW, is_large=False),
    "data/train-1.jsonl": Blob(ROW * 2, is_large=True),
    "data/deep/more.jsonl": Blob(ROW * 3, is_large=False),
    "data/test.jsonl": Blob(ROW * 4, is_large=False),
}

CLIENT = """
import json, os, sys, time
from tasks.errors import TunegateError
from tasks.params_data import Source
from tasks.source_files import find_files, read_rows

time.sleep = lambda seconds: None  # the Hub client waits half a minute in all before it gives up
for line in sys.stdin:
    call = json.loads(line)
    os.environ.pop("HF_TOKEN", None)
    if call["token"]:
        os.environ["HF_TOKEN"] = call["token"]
    try:
        files = find_files(Source.model_validate(call["source"]))
        answer = {"files": {file.shown: len(list(read_rows(file))) for file in files}, "error": None}
    except TunegateError as error:
        answer = {"files": {}, "error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
"""


def start(endpoint: str, folder: Path, **more: str) -> "subprocess.Popen[str]":
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        **more,
    }
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def ask(client: "subprocess.Popen[str]", path: str, revision: str, token: str = TOKEN, repo: str = REPO) -> Any:
    fields = {"name": "tickets", "role": "train", "sha256": None, "repo_id": repo, "weight": 1.0}
    layout = {"kind": "auto", "system": "", "tools": "native"}
    source = {**fields, "path": path, "revision": revision, "layout": layout}
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(json.dumps({"source": source, "token": token}) + "\n")
    client.stdin.flush()
    return json.loads(client.stdout.readline())


def end(client: "subprocess.Popen[str]") -> None:
    client.communicate()


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackHub]:
    with loopback_hub(TOKEN) as hub:
        yield hub


@pytest.fixture(scope="module")
def client(server: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[str]"]:
    process = start(server.url, tmp_path_factory.mktemp("hub"))
    yield process
    end(process)


@pytest.fixture
def hub(server: LoopbackHub, request: pytest.FixtureRequest) -> LoopbackHub:
    """A Hub whose one data set has files of this test's own, so that nothing of them is in the client's cache."""
    server.reset()
    repository = Repository(private=True)
    repository.add(
        {**TREE, "data/own.csv": Blob(f"prompt,completion\n{request.node.name},b\n".encode(), is_large=False)}
    )
    server.repositories[REPO] = repository
    server.objects = {blob.sha256: blob.content for blob in TREE.values()}
    return server


@pytest.mark.parametrize(
    ("path", "files"),
    [
        ("data/train-0.jsonl", {"data/train-0.jsonl": 1}),
        ("data/train-*.jsonl", {"data/train-0.jsonl": 1, "data/train-1.jsonl": 2}),
        (
            "data/**/*.jsonl",
            {"data/deep/more.jsonl": 3, "data/test.jsonl": 4, "data/train-0.jsonl": 1, "data/train-1.jsonl": 2},
        ),
        ("data/deep", {"data/deep/more.jsonl": 3}),
        (
            ".",
            {
                "data/deep/more.jsonl": 3,
                "data/own.csv": 1,
                "data/test.jsonl": 4,
                "data/train-0.jsonl": 1,
                "data/train-1.jsonl": 2,
            },
        ),
    ],
)
def test_a_data_set_is_read_at_its_commit(
    hub: LoopbackHub, client: "subprocess.Popen[str]", path: str, files: dict[str, int]
) -> None:
    commit = hub.repositories[REPO].head
    hub.repositories[REPO].add({"data/train-0.jsonl": Blob(b"later", is_large=False)})
    answer = ask(client, path, commit)
    assert answer == {
        "files": {f"hf://datasets/{REPO}@{commit}/{name}": rows for name, rows in files.items()},
        "error": None,
    }


def test_only_what_the_path_names_is_fetched(hub: LoopbackHub, client: "subprocess.Popen[str]") -> None:
    ask(client, "data/own.csv", hub.repositories[REPO].head)
    assert [endpoint for endpoint, _ in hub.requests].count("resolve") == 2


def test_a_path_without_files_names_what_can_be_read(hub: LoopbackHub, client: "subprocess.Popen[str]") -> None:
    commit = hub.repositories[REPO].head
    assert ask(client, "other.jsonl", commit)["error"] == (
        f"SourceInvalid: hf://datasets/{REPO}@{commit}/other.jsonl: no such file or folder; mend sources.tickets.path"
    )


def test_a_commit_that_does_not_exist_is_named(hub: LoopbackHub, client: "subprocess.Popen[str]") -> None:
    assert ask(client, "data", "0" * 40)["error"] == (
        f"SourceInvalid: sources.tickets: {REPO} at {'0' * 40}: no such commit; mend sources.tickets.revision"
    )


@pytest.mark.parametrize(
    ("repo", "token", "advice"),
    [
        ("team/nothing", TOKEN, "no such data set, or no access to it; mend repo_id, or `hf auth login`"),
        (REPO, "hf_wrong", "no access (HTTP 401); `hf auth login` again"),
    ],
)
def test_a_data_set_that_is_not_shown_is_named(
    hub: LoopbackHub, client: "subprocess.Popen[str]", repo: str, token: str, advice: str
) -> None:
    commit = hub.repositories[REPO].head
    error = ask(client, "data", commit, token=token, repo=repo)["error"]
    assert error == f"SourceInvalid: sources.tickets: {repo} at {commit}: {advice}"


def test_a_gated_data_set_says_how_to_be_let_in(hub: LoopbackHub, client: "subprocess.Popen[str]") -> None:
    hub.faults.append(Fault("tree", "gated"))
    error = ask(client, "data", hub.repositories[REPO].head)["error"]
    assert error.endswith("no access; ask for it on its page, then `hf auth login`")


def test_a_hub_that_fails_may_be_back(hub: LoopbackHub, client: "subprocess.Popen[str]") -> None:
    hub.faults.append(Fault("tree", "500", times=99))
    error = ask(client, "data", hub.repositories[REPO].head)["error"]
    assert error.startswith(f"Unavailable: sources.tickets: {REPO} at ")
    assert error.endswith("check the network and HF_ENDPOINT, and run again")


def test_a_file_that_fails_leaves_no_part_of_the_data_set(hub: LoopbackHub, client: "subprocess.Popen[str]") -> None:
    commit = hub.repositories[REPO].head
    hub.faults.append(Fault("resolve", "500", times=99))
    assert ask(client, "data", commit)["error"].startswith("Unavailable: ")
    hub.faults.clear()
    assert len(ask(client, "data", commit)["files"]) == 5


def test_without_a_network_the_message_names_the_data_set(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nothing listens there
        process = start(f"http://127.0.0.1:{taken.getsockname()[1]}", tmp_path)
        error = ask(process, "data", "0" * 40)["error"]
        end(process)
    assert error.startswith(f"Unavailable: sources.tickets: {REPO} at {'0' * 40}: cannot be fetched (")


def test_offline_what_was_fetched_before_is_read(hub: LoopbackHub, tmp_path: Path) -> None:
    commit = hub.repositories[REPO].head
    online = start(hub.url, tmp_path)
    expected = ask(online, "data", commit)
    end(online)
    hub.requests.clear()
    offline = start(hub.url, tmp_path, HF_HUB_OFFLINE="1")
    assert ask(offline, "data", commit) == expected
    end(offline)
    assert hub.requests == []
