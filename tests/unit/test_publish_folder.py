from pathlib import Path

import pytest

from tasks import publish_folder
from tasks.digests import combine_digests, file_digests
from tasks.errors import DiskFull, PublishFailed, PublishRefused, WorkspaceBusy
from tasks.publish_bundle import Bundle, gather
from tasks.publish_folder import publish_to_folder
from tests.unit.test_publish_bundle import RELEASE, make_model

CARD = "---\nlicense: mit\n---\n\n<!-- tunegate:begin -->\n# card\n<!-- tunegate:end -->\n"


@pytest.fixture(params=[CARD, "# a card without marks\n"])
def bundle(tmp_path: Path, request: pytest.FixtureRequest) -> Bundle:
    return gather(RELEASE, *make_model(tmp_path / "source"), card=request.param)


def test_a_release_lies_under_its_name_and_version_byte_for_byte(tmp_path: Path, bundle: Bundle) -> None:
    published = publish_to_folder(bundle, tmp_path / "registry")
    target = tmp_path / "registry/support-router/v0.1.0"
    assert (published.target, published.location, published.commit) == ("folder", target.as_posix(), None)
    assert file_digests(target) == bundle.digests == published.files
    assert combine_digests(bundle.provenance.files) == published.digest


def test_publishing_twice_is_publishing_once(tmp_path: Path, bundle: Bundle) -> None:
    first = publish_to_folder(bundle, tmp_path / "registry")
    weights = tmp_path / "registry/support-router/v0.1.0/model.safetensors"
    before = weights.stat()
    assert publish_to_folder(bundle, tmp_path / "registry") == first
    assert (weights.stat().st_ino, weights.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_other_content_under_the_version_is_refused_and_stays(tmp_path: Path, bundle: Bundle) -> None:
    publish_to_folder(bundle, tmp_path / "registry")
    other = gather(RELEASE, *make_model(tmp_path / "other", b"other"), card=bundle.texts["README.md"])
    with pytest.raises(PublishRefused, match=r"holds other content \(model\.safetensors, provenance\.json\)"):
        publish_to_folder(other, tmp_path / "registry")
    assert file_digests(tmp_path / "registry/support-router/v0.1.0") == bundle.digests


def test_a_file_that_was_added_to_a_release_is_named(tmp_path: Path, bundle: Bundle) -> None:
    publish_to_folder(bundle, tmp_path / "registry")
    (tmp_path / "registry/support-router/v0.1.0/extra.bin").write_text("x")
    with pytest.raises(PublishRefused, match=r"other content \(extra\.bin\)"):
        publish_to_folder(bundle, tmp_path / "registry")


def test_what_people_wrote_into_a_released_card_is_no_other_content(tmp_path: Path, bundle: Bundle) -> None:
    publish_to_folder(bundle, tmp_path / "registry")
    card = tmp_path / "registry/support-router/v0.1.0/README.md"
    edited = card.read_text() + "\nAsk Ada.\n"
    card.write_text(edited)
    publish_to_folder(bundle, tmp_path / "registry")
    assert card.read_text() == edited


def test_a_copy_that_differs_is_never_seen(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy_badly(_source: Path, target: Path) -> None:
        target.write_text("not that")

    monkeypatch.setattr("tasks.publish_folder.shutil.copyfile", copy_badly)
    with pytest.raises(PublishFailed, match="differ from what was approved"):
        publish_to_folder(bundle, tmp_path / "registry")
    assert list((tmp_path / "registry/support-router").iterdir()) == []


def test_what_a_killed_publication_left_does_not_get_into_the_next(tmp_path: Path, bundle: Bundle) -> None:
    left = tmp_path / "registry/support-router/.v0.1.0.partial"
    left.mkdir(parents=True)
    (left / "half.safetensors").write_text("half")
    publish_to_folder(bundle, tmp_path / "registry")
    assert [path.name for path in (tmp_path / "registry/support-router").iterdir()] == ["v0.1.0"]
    assert file_digests(tmp_path / "registry/support-router/v0.1.0") == bundle.digests


def test_no_room_is_said_before_anything_is_written(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.files.shutil.disk_usage", lambda _: _Usage)
    with pytest.raises(DiskFull, match="free some space"):
        publish_to_folder(bundle, tmp_path / "registry")
    assert list((tmp_path / "registry/support-router").iterdir()) == []


class _Usage:
    free = 1


def test_two_publications_of_one_name_do_not_mix(tmp_path: Path, bundle: Bundle) -> None:
    shelf = tmp_path / "registry/support-router"
    with publish_folder._locked(shelf), pytest.raises(WorkspaceBusy, match="another release is being published"):
        publish_to_folder(bundle, tmp_path / "registry")
