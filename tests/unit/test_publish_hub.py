"""Publishing to a Hub, for real: huggingface_hub in a process of its own against `tests/loopback_hub.py`."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.digests import file_digests
from tasks.publish_bundle import Bundle, Published, gather
from tests.loopback_hub import ENDPOINTS, Blob, Fault, LoopbackHub, loopback_hub
from tests.unit.test_publish_bundle import RELEASE, make_model

TOKEN = "hf_canary0123456789"
REPO = "tester/support-router"

PUBLISH = """
import sys
from pathlib import Path
from tasks.entry import quiet
quiet()
from tasks.errors import TunegateError
from tasks.files import dump_json, read_json
from tasks.publish_bundle import Bundle
from tasks.publish_hub import Patience, publish_to_hub

patience = Patience(attempts=int(sys.argv[2]), first_wait_seconds=0.01, timeout_seconds=float(sys.argv[3]))
try:
    bundle = read_json(Path(sys.argv[1]), Bundle)
    print(dump_json(publish_to_hub(bundle, "tester/support-router", is_private=True, patience=patience)))
except TunegateError as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""

DOWNLOAD = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download("tester/support-router", revision=sys.argv[1], cache_dir=sys.argv[2]))
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with loopback_hub(TOKEN) as hub:
        yield hub


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path, "v0.1.0")


def make_bundle(folder: Path, version: str, weights: bytes = b"weights") -> Bundle:
    model, approval = make_model(folder / f"{version}-{weights.decode()}", weights)
    release = RELEASE.model_copy(update={"version": version})
    card = "---\nlicense: mit\n---\n\n<!-- tunegate:begin -->\n# card\n<!-- tunegate:end -->\n"
    return gather(release, model, approval, card)


def run(script: str, arguments: list[str], hub: LoopbackHub, token: str | None, home: Path) -> Run:
    environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HOME": str(home), "NO_PROXY": "*"}
    environment |= {"HF_HUB_DISABLE_XET": "1"} | ({"HF_TOKEN": token} if token is not None else {})
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )


@pytest.fixture
def publish(hub: LoopbackHub, tmp_path: Path) -> Run:
    def start(
        bundle: Bundle, *, attempts: int = 3, timeout_seconds: float = 10.0, token: str | None = TOKEN
    ) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "bundle.json"
        path.write_text(bundle.model_dump_json())
        return run(PUBLISH, [str(path), str(attempts), str(timeout_seconds)], hub, token, tmp_path / "home")

    return start


def tag_of(hub: LoopbackHub, version: str = "v0.1.0") -> dict[str, Blob]:
    repository = hub.repositories[REPO]
    return repository.commits[repository.tags[version]]


def called(hub: LoopbackHub, endpoint: str) -> int:
    return [name for name, _ in hub.requests].count(endpoint)


def test_a_first_publication_makes_one_commit_and_one_tag_in_a_private_repository(
    hub: LoopbackHub, publish: Run, bundle: Bundle
) -> None:
    done = publish(bundle)
    assert done.returncode == 0, done.stderr
    repository = hub.repositories[REPO]
    published = Published.model_validate_json(done.stdout)
    assert (repository.private, len(repository.commits), repository.tags) == (True, 2, {"v0.1.0": published.commit})
    assert (published.target, published.location, published.version) == ("hub", REPO, "v0.1.0")
    assert published.digest == bundle.provenance.approval.digest
    assert {n: b.sha256 for n, b in tag_of(hub).items() if n != ".gitattributes"} == bundle.digests == published.files


def test_a_second_publication_changes_nothing(hub: LoopbackHub, publish: Run, bundle: Bundle) -> None:
    first = publish(bundle)
    second = publish(bundle)
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert (len(hub.repositories[REPO].commits), called(hub, "put"), called(hub, "commit")) == (2, 1, 1)


def test_other_content_under_a_published_tag_is_refused(
    hub: LoopbackHub, publish: Run, bundle: Bundle, tmp_path: Path
) -> None:
    publish(bundle)
    done = publish(make_bundle(tmp_path, "v0.1.0", b"others!"))
    assert done.returncode == 3
    assert "PublishRefused: tester/support-router: tag v0.1.0 holds other content" in done.stderr
    assert "model.safetensors, provenance.json" in done.stderr
    assert len(hub.repositories[REPO].commits) == 2


def test_the_next_version_replaces_the_tree_and_keeps_what_people_wrote(
    hub: LoopbackHub, publish: Run, bundle: Bundle, tmp_path: Path
) -> None:
    publish(bundle)
    repository = hub.repositories[REPO]
    tree = dict(repository.commits[repository.head])
    card = tree["README.md"].content.replace(b"license: mit\n", b"license: mit\nlanguage: en\n") + b"\nAsk Ada.\n"
    repository.add({**tree, "README.md": Blob(card, is_large=False), "old.txt": Blob(b"old", is_large=False)})
    following = make_bundle(tmp_path, "v0.2.0", b"better!")
    done, again = publish(following), publish(following)
    assert (done.returncode, again.returncode, again.stdout) == (0, 0, done.stdout), done.stderr
    text = tag_of(hub, "v0.2.0")["README.md"].content.decode()
    assert "language: en" in text
    assert text.endswith("<!-- tunegate:end -->\n\nAsk Ada.\n")
    assert "old.txt" not in tag_of(hub, "v0.2.0")
    assert len(repository.commits) == 4


def test_the_tag_loads_back_byte_for_byte_and_storage_never_sees_the_token(
    hub: LoopbackHub, publish: Run, bundle: Bundle, tmp_path: Path
) -> None:
    publish(bundle)
    done = run(DOWNLOAD, ["v0.1.0", str(tmp_path / "cache")], hub, TOKEN, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    found = file_digests(Path(done.stdout.strip()))
    assert {name: digest for name, digest in found.items() if name != ".gitattributes"} == bundle.digests
    assert called(hub, "storage") > 0
    assert not [name for name, has_token in hub.requests if has_token and name in {"put", "storage"}]


def test_a_missing_token_is_said_before_anything_is_asked(hub: LoopbackHub, publish: Run, bundle: Bundle) -> None:
    done = publish(bundle, token=None)
    assert (done.returncode, hub.requests) == (2, [])
    assert done.stderr == "PublishFailed: HF_TOKEN is not set: set it to a token with write access and release again\n"


def test_a_token_with_a_line_break_in_it_is_refused_unseen(hub: LoopbackHub, publish: Run, bundle: Bundle) -> None:
    done = publish(bundle, token=f"{TOKEN}\nX-Other: 1")
    assert (done.returncode, hub.requests) == (2, [])
    assert "holds characters that no token has" in done.stderr
    assert TOKEN not in done.stderr


def test_a_bad_token_is_one_line_with_the_next_move(hub: LoopbackHub, publish: Run, bundle: Bundle) -> None:
    done = publish(bundle, token="hf_wrong0123456789")
    assert (done.returncode, hub.repositories) == (2, {})
    assert "HTTP 401: the Hub does not know this token; set HF_TOKEN to a valid one" in done.stderr
    assert "hf_wrong" not in done.stderr + done.stdout
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_one_server_error_anywhere_is_outlived(hub: LoopbackHub, publish: Run, bundle: Bundle, endpoint: str) -> None:
    hub.faults = [Fault(endpoint, "500")]
    done = publish(bundle)
    assert done.returncode == 0, done.stderr
    assert (len(hub.repositories[REPO].commits), list(hub.repositories[REPO].tags)) == (2, ["v0.1.0"])


@pytest.mark.parametrize("endpoint", ["create", "refs", "commit", "tag"])
def test_a_publication_that_gave_up_is_finished_by_the_next(
    hub: LoopbackHub, publish: Run, bundle: Bundle, endpoint: str
) -> None:
    hub.faults = [Fault(endpoint, "500")]
    gave_up, rerun = publish(bundle, attempts=1), publish(bundle)
    assert (gave_up.returncode, rerun.returncode) == (2, 0)
    assert gave_up.stderr.startswith("PublishFailed: tester/support-router: cannot ") is False
    assert "tester/support-router: cannot " in gave_up.stderr
    assert (len(hub.repositories[REPO].commits), list(hub.repositories[REPO].tags)) == (2, ["v0.1.0"])


@pytest.mark.parametrize("endpoint", ["create", "commit", "tag"])
def test_a_lost_reply_does_not_do_the_work_twice(hub: LoopbackHub, publish: Run, bundle: Bundle, endpoint: str) -> None:
    hub.faults = [Fault(endpoint, "lost")]
    done = publish(bundle)
    assert done.returncode == 0, done.stderr
    assert (len(hub.repositories[REPO].commits), called(hub, "commit")) == (2, 1)


def test_a_head_that_moved_is_read_again(hub: LoopbackHub, publish: Run, bundle: Bundle) -> None:
    hub.faults = [Fault("commit", "moved")]
    done = publish(bundle)
    assert (done.returncode, len(hub.repositories[REPO].commits), called(hub, "commit")) == (0, 2, 2)


@pytest.mark.parametrize(("endpoint", "kind"), [("commit", "hang"), ("refs", "wait"), ("create", "conflict")])
def test_a_hub_that_never_answers_ends_in_bounded_time(
    hub: LoopbackHub, publish: Run, bundle: Bundle, endpoint: str, kind: str
) -> None:
    hub.faults = [Fault(endpoint, kind, times=1000)]  # type: ignore[arg-type]  # a parameter of the test
    done = publish(bundle, attempts=2, timeout_seconds=0.3)
    assert (done.returncode, called(hub, endpoint)) == (2, 2)
    assert done.stderr.count("\n") == 1


def test_bytes_that_the_hub_bent_are_never_tagged(hub: LoopbackHub, publish: Run, bundle: Bundle) -> None:
    hub.faults = [Fault("put", "bent")]
    done = publish(bundle)
    assert (done.returncode, hub.repositories[REPO].tags) == (2, {})
    assert "model.safetensors came back with other bytes than were approved" in done.stderr


def test_a_public_repository_does_not_receive_a_private_release(hub: LoopbackHub, publish: Run, bundle: Bundle) -> None:
    publish(bundle)
    hub.repositories[REPO].private = False
    done = publish(bundle)
    assert done.returncode == 3
    assert "is public, release.private is true" in done.stderr


@pytest.mark.parametrize("endpoint", ["create", "put", "commit"])
def test_a_hub_that_echoes_the_token_does_not_bring_it_into_the_error(
    hub: LoopbackHub, publish: Run, bundle: Bundle, endpoint: str
) -> None:
    hub.faults = [Fault(endpoint, "echo", times=1000)] if endpoint != "put" else [Fault("put", "404", times=1000)]
    done = publish(bundle, attempts=1)
    assert done.returncode == 2
    assert TOKEN not in done.stdout + done.stderr
    assert "canary-signature" not in done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
