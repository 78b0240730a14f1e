from pathlib import Path

import pytest

from tasks.errors import ParamsInvalid, PublishFailed
from tasks.params import ReleaseParams
from tasks.publish import publish
from tasks.publish_bundle import Bundle, gather
from tests.unit.test_publish_bundle import RELEASE, make_model

PARAMS = ReleaseParams(
    name="support-router",
    target="folder",
    folder="registry",
    repo_id=None,
    private=True,
    stage="production",
    promote=True,
    require_approval=False,
    signing_key=None,
    public_key=None,
)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return gather(RELEASE, *make_model(tmp_path / "source"), card="card\n")


def test_the_folder_target_lies_inside_the_workspace(tmp_path: Path, bundle: Bundle) -> None:
    assert publish(bundle, PARAMS, tmp_path).location == (tmp_path / "registry/support-router/v0.1.0").as_posix()


def test_the_hub_target_needs_a_token_first(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(PublishFailed, match="HF_TOKEN is not set"):
        publish(bundle, PARAMS.model_copy(update={"target": "hub", "repo_id": "owner/name"}), tmp_path)


def test_the_hub_target_needs_a_repository(tmp_path: Path, bundle: Bundle) -> None:
    with pytest.raises(ParamsInvalid, match=r"release\.repo_id"):
        publish(bundle, PARAMS.model_copy(update={"target": "hub"}), tmp_path)
