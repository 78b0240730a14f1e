"""Publishing to a Hub, for real: huggingface_hub in a process of its own against `tests/loopback_hub.py`."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.digests import file_digests
from tasks.publish_bundle import Bundle, Published
from tasks.publish_hub_session import explained
from tasks.signing import sign, signature_problem
from tests.hub_client import REPO, TOKEN, Client, hub_client, make_bundle
from tests.loopback_hub import ENDPOINTS, Blob, Fault, LoopbackHub, loopback_hub
from tests.unit.test_signing import make_keys


@pytest.fixture(scope="module")
def served() -> Iterator[LoopbackHub]:
    with loopback_hub(TOKEN) as hub:
        yield hub


@pytest.fixture(scope="module")
def client(served: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with hub_client(served.url, tmp_path_factory.mktemp("home")) as client:
        yield client


@pytest.fixture
def hub(served: LoopbackHub) -> LoopbackHub:
    served.reset()
    return served


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path, "v0.1.0")


def tag_of(hub: LoopbackHub, version: str = "v0.1.0") -> dict[str, Blob]:
    repository = hub.repositories[REPO]
    return repository.commits[repository.tags[version]]


def called(hub: LoopbackHub, endpoint: str) -> int:
    return [name for name, _ in hub.requests].count(endpoint)


def test_a_first_publication_makes_one_commit_and_one_tag_in_a_private_repository(
    hub: LoopbackHub, client: Client, bundle: Bundle
) -> None:
    done = client.publish(bundle)
    assert done.code == 0, done.told
    repository = hub.repositories[REPO]
    published = Published.model_validate_json(done.answer)
    assert (repository.private, len(repository.commits), repository.tags) == (True, 2, {"v0.1.0": published.commit})
    assert (published.target, published.location, published.version) == ("hub", REPO, "v0.1.0")
    assert published.digest == bundle.provenance.approval.digest
    assert {n: b.sha256 for n, b in tag_of(hub).items() if n != ".gitattributes"} == bundle.digests == published.files


def test_a_second_publication_changes_nothing(hub: LoopbackHub, client: Client, bundle: Bundle) -> None:
    first = client.publish(bundle)
    second = client.publish(bundle)
    assert (second.code, second.answer) == (0, first.answer)
    assert (len(hub.repositories[REPO].commits), called(hub, "put"), called(hub, "commit")) == (2, 1, 1)


def test_other_content_under_a_published_tag_is_refused(
    hub: LoopbackHub, client: Client, bundle: Bundle, tmp_path: Path
) -> None:
    client.publish(bundle)
    done = client.publish(make_bundle(tmp_path, "v0.1.0", b"others!"))
    assert done.code == 3
    assert "PublishRefused: tester/support-router: tag v0.1.0 holds other content" in done.told
    assert "model.safetensors, provenance.json" in done.told
    assert len(hub.repositories[REPO].commits) == 2


def test_the_next_version_replaces_the_tree_and_keeps_what_people_wrote(
    hub: LoopbackHub, client: Client, bundle: Bundle, tmp_path: Path
) -> None:
    client.publish(bundle)
    repository = hub.repositories[REPO]
    tree = dict(repository.commits[repository.head])
    card = tree["README.md"].content.replace(b"license: mit\n", b"license: mit\nlanguage: en\n") + b"\nAsk Ada.\n"
    repository.add({**tree, "README.md": Blob(card, is_large=False), "old.txt": Blob(b"old", is_large=False)})
    following = make_bundle(tmp_path, "v0.2.0", b"better!")
    done, again = client.publish(following), client.publish(following)
    assert (done.code, again.code, again.answer) == (0, 0, done.answer), done.told
    text = tag_of(hub, "v0.2.0")["README.md"].content.decode()
    assert "language: en" in text
    assert text.endswith("<!-- tunegate:end -->\n\nAsk Ada.\n")
    assert "old.txt" not in tag_of(hub, "v0.2.0")
    assert len(repository.commits) == 4


def test_the_tag_loads_back_byte_for_byte_and_storage_never_sees_the_token(
    hub: LoopbackHub, client: Client, bundle: Bundle, tmp_path: Path
) -> None:
    client.publish(bundle)
    done = client.call("download", revision="v0.1.0", folder=str(tmp_path / "cache"))
    assert done.code == 0, done.told
    found = file_digests(Path(done.answer))
    assert {name: digest for name, digest in found.items() if name != ".gitattributes"} == bundle.digests
    assert called(hub, "storage") > 0
    assert not [name for name, has_token in hub.requests if has_token and name in {"put", "storage"}]


def test_a_signed_release_is_checked_as_it_comes_back_from_the_hub(
    hub: LoopbackHub, client: Client, bundle: Bundle, tmp_path: Path
) -> None:
    private, public = make_keys(tmp_path / "keys")
    done = client.publish(sign(bundle, private, tmp_path / "kept"))
    assert done.code == 0, done.told
    assert "model.sig" in tag_of(hub)
    came = client.call("download", revision="v0.1.0", folder=str(tmp_path / "cache"))
    folder = Path(shutil.copytree(came.answer, tmp_path / "copy"))
    assert "Extra files found in model 'copy': .gitattributes" in (signature_problem(folder, public) or "")
    (folder / ".gitattributes").unlink()  # made by the Hub
    assert signature_problem(folder, public) is None
    (folder / "config.json").write_text("{ }\n", encoding="utf-8")
    assert "Hash mismatch for 'config.json'" in (signature_problem(folder, public) or "")


def test_a_missing_token_is_said_before_anything_is_asked(hub: LoopbackHub, client: Client, bundle: Bundle) -> None:
    done = client.publish(bundle, token=None)
    assert (done.code, hub.requests) == (2, [])
    assert done.told == "PublishFailed: HF_TOKEN is not set: set it to a token with write access and release again\n"


def test_a_token_with_a_line_break_in_it_is_refused_unseen(hub: LoopbackHub, client: Client, bundle: Bundle) -> None:
    done = client.publish(bundle, token=f"{TOKEN}\nX-Other: 1")
    assert (done.code, hub.requests) == (2, [])
    assert "holds characters that no token has" in done.told
    assert TOKEN not in done.told


def test_a_bad_token_is_one_line_with_the_next_move(hub: LoopbackHub, client: Client, bundle: Bundle) -> None:
    done = client.publish(bundle, token="hf_wrong0123456789")
    assert (done.code, hub.repositories) == (2, {})
    assert "HTTP 401: the Hub does not know this token; set HF_TOKEN to a valid one" in done.told
    assert "hf_wrong" not in done.told
    assert done.told.count("\n") == 1


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_one_server_error_anywhere_is_outlived(hub: LoopbackHub, client: Client, bundle: Bundle, endpoint: str) -> None:
    hub.faults = [Fault(endpoint, "500")]
    done = client.publish(bundle)
    assert done.code == 0, done.told
    assert (len(hub.repositories[REPO].commits), list(hub.repositories[REPO].tags)) == (2, ["v0.1.0"])


@pytest.mark.parametrize("endpoint", ["create", "refs", "commit", "tag"])
def test_a_publication_that_gave_up_is_finished_by_the_next(
    hub: LoopbackHub, client: Client, bundle: Bundle, endpoint: str
) -> None:
    hub.faults = [Fault(endpoint, "500")]
    gave_up, rerun = client.publish(bundle, attempts=1), client.publish(bundle)
    assert (gave_up.code, rerun.code) == (2, 0)
    assert "tester/support-router: cannot " in gave_up.told
    assert (len(hub.repositories[REPO].commits), list(hub.repositories[REPO].tags)) == (2, ["v0.1.0"])


@pytest.mark.parametrize("endpoint", ["create", "commit", "tag"])
def test_a_lost_reply_does_not_do_the_work_twice(
    hub: LoopbackHub, client: Client, bundle: Bundle, endpoint: str
) -> None:
    hub.faults = [Fault(endpoint, "lost")]
    done = client.publish(bundle)
    assert done.code == 0, done.told
    assert (len(hub.repositories[REPO].commits), called(hub, "commit")) == (2, 1)


def test_a_head_that_moved_is_read_again(hub: LoopbackHub, client: Client, bundle: Bundle) -> None:
    hub.faults = [Fault("commit", "moved")]
    done = client.publish(bundle)
    assert (done.code, len(hub.repositories[REPO].commits), called(hub, "commit")) == (0, 2, 2)


@pytest.mark.parametrize(("endpoint", "kind"), [("commit", "hang"), ("refs", "wait"), ("create", "conflict")])
def test_a_hub_that_never_answers_ends_in_bounded_time(
    hub: LoopbackHub, client: Client, bundle: Bundle, endpoint: str, kind: str
) -> None:
    hub.faults = [Fault(endpoint, kind, times=1000)]  # type: ignore[arg-type]  # a parameter of the test
    start = time.monotonic()
    done = client.publish(bundle, attempts=2, timeout_seconds=1.0)
    assert time.monotonic() - start < 30
    assert (done.code, called(hub, endpoint)) == (2, 2)
    assert done.told.count("\n") == 1


def test_a_listing_that_is_not_answered_is_asked_again(hub: LoopbackHub, client: Client, bundle: Bundle) -> None:
    hub.faults = [Fault("tree", "hang")]  # which huggingface_hub would wait for without end
    done = client.publish(bundle, timeout_seconds=1.0)
    assert (done.code, called(hub, "tree")) == (0, 3), done.told


@pytest.mark.parametrize("endpoint", ["create", "tag"])
def test_a_conflict_is_not_taken_for_what_exists_already(
    hub: LoopbackHub, client: Client, bundle: Bundle, endpoint: str
) -> None:
    hub.faults = [Fault(endpoint, "409")]
    done = client.publish(bundle)
    assert (done.code, list(hub.repositories[REPO].tags)) == (0, ["v0.1.0"]), done.told


def test_bytes_that_the_hub_bent_are_never_tagged(hub: LoopbackHub, client: Client, bundle: Bundle) -> None:
    hub.faults = [Fault("put", "bent")]
    done = client.publish(bundle)
    assert (done.code, hub.repositories[REPO].tags) == (2, {})
    assert "model.safetensors came back with other bytes than were approved" in done.told


def test_a_tag_that_somebody_else_made_first_is_not_ours(hub: LoopbackHub, client: Client, bundle: Bundle) -> None:
    hub.faults = [Fault("tag", "taken")]
    done = client.publish(bundle)
    assert done.code == 3
    assert "tag v0.1.0 names " in done.told


def test_an_address_is_told_without_its_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    error = explained(ValueError(f"PUT https://store/x?signature=canary-signature\nfailed for {TOKEN}"), "cannot")
    assert str(error) == "cannot: ValueError: PUT https://store/x?... failed for ***"


def test_a_public_repository_does_not_receive_a_private_release(
    hub: LoopbackHub, client: Client, bundle: Bundle
) -> None:
    client.publish(bundle)
    hub.repositories[REPO].private = False
    done = client.publish(bundle)
    assert done.code == 3
    assert "is public, release.private is true" in done.told


@pytest.mark.parametrize("endpoint", ["create", "put", "commit"])
def test_a_hub_that_echoes_the_token_does_not_bring_it_into_the_error(
    hub: LoopbackHub, client: Client, bundle: Bundle, endpoint: str
) -> None:
    hub.faults = [Fault(endpoint, "echo", times=1000)] if endpoint != "put" else [Fault("put", "404", times=1000)]
    done = client.publish(bundle, attempts=1)
    assert done.code == 2
    assert TOKEN not in done.told
    assert "canary-signature" not in done.told
    assert done.told.count("\n") == 1
