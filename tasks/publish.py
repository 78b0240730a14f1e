"""Publish an approved merged model to where `params.release` says; called by the flow `release`, never a DVC stage."""

from pathlib import Path

from tasks.errors import ParamsInvalid
from tasks.params import ReleaseParams
from tasks.publish_bundle import Bundle, Published
from tasks.publish_folder import publish_to_folder
from tasks.publish_hub import publish_to_hub


def publish(bundle: Bundle, release: ReleaseParams, workspace: Path) -> Published:
    """Publish `bundle`; doing it again changes nothing.

    Args:
        bundle: what `tasks.publish_bundle.gather` collected.
        release: the target; the Hub's address and token come from `HF_ENDPOINT` and `HF_TOKEN`.
        workspace: the root that `release.folder` is relative to.

    Raises:
        PublishRefused: the version is there with other content.
        PublishFailed: the target could not be reached, would not take it, or gave other bytes back.
        DiskFull: the folder registry has no room.
    """
    if release.target == "folder":
        return publish_to_folder(bundle, workspace / release.folder)
    if release.repo_id is None:
        raise ParamsInvalid("release.repo_id: target `hub` needs it; give `owner/name`")
    return publish_to_hub(bundle, release.repo_id, is_private=release.private)
