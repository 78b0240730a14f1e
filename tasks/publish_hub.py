"""Publish to a repository on the Hub: one commit, checked, then one tag; doing it again changes nothing.

A pass looks before it acts and can be repeated from anywhere: after a kill, a lost reply or a moved head, the next one
finds what is already there. Readers take the tag or the commit, never `main`: a publisher that lost a race may have
left an untagged commit on it.
"""

import time
from collections.abc import Mapping

from huggingface_hub.hf_api import RepoFile
from pydantic import Field

from tasks.errors import PublishFailed, PublishRefused
from tasks.publish_bundle import README, Bundle, Published
from tasks.publish_hub_client import HubClient
from tasks.publish_hub_session import HubTransientError, bounded_session
from tasks.records import Record

HUBS_OWN = {".gitattributes"}  # made by the Hub with the repository; says what its large-file storage holds


class Patience(Record):
    """How long an unwilling Hub is put up with; `timeout_seconds` is for every single read or write.

    Uploads and listings are tried six times inside each attempt by huggingface_hub, so a Hub that accepts connections
    and never answers ends after at most 6 x attempts x timeout_seconds and the waits between.
    """

    attempts: int = Field(ge=1)
    first_wait_seconds: float = Field(ge=0)
    timeout_seconds: float = Field(gt=0)


PATIENCE = Patience(attempts=4, first_wait_seconds=1.0, timeout_seconds=60.0)


def publish_to_hub(bundle: Bundle, repo_id: str, *, is_private: bool, patience: Patience = PATIENCE) -> Published:
    """Publish `bundle` as `repo_id` under the tag of its version.

    Raises:
        PublishRefused: the tag holds other content, or a private release would land in a public repository.
        PublishFailed: no token, a token without rights, a Hub that cannot be reached or gave other bytes back.
    """
    client = HubClient(repo_id, patience.timeout_seconds)
    with bounded_session(patience.timeout_seconds):
        commit, there = _insist(client, bundle, patience, is_private=is_private)
    return Published(
        target="hub",
        location=repo_id,
        version=bundle.release.version,
        commit=commit,
        digest=bundle.provenance.approval.digest,
        files=there.digests,
    )


def _insist(client: HubClient, bundle: Bundle, patience: Patience, *, is_private: bool) -> tuple[str, Bundle]:
    for attempt in range(1, patience.attempts):
        try:
            return _converge(client, bundle, is_private=is_private)
        except HubTransientError:
            time.sleep(patience.first_wait_seconds * 2 ** (attempt - 1))
    return _converge(client, bundle, is_private=is_private)


def _converge(client: HubClient, bundle: Bundle, *, is_private: bool) -> tuple[str, Bundle]:
    """One pass: the commit that the tag names, and the bundle as it lies there."""
    client.create(is_private=is_private)
    _check_privacy(client, is_private=is_private)
    version = bundle.release.version
    head, tags = client.refs()
    if version in tags:
        return tags[version], _released(client, bundle, tags[version])
    commit, there = _committed(client, bundle, head)
    client.tag(version, commit)
    _, tags = client.refs()
    if version not in tags:  # the client takes every 409 for a tag that exists
        raise HubTransientError(f"{client.repo_id}: the Hub did not make the tag {version}; release again")
    if tags[version] != commit:
        raise PublishRefused(
            f"{client.repo_id}: tag {version} names {tags[version][:12]}, not {commit[:12]}; release the next version"
        )
    return commit, there


def _check_privacy(client: HubClient, *, is_private: bool) -> None:
    if is_private and not client.is_private():
        raise PublishRefused(
            f"{client.repo_id}: is public, release.private is true; make it private or change the parameter"
        )


def _released(client: HubClient, bundle: Bundle, commit: str) -> Bundle:
    tree = client.tree(commit)
    there = _over(client, bundle, tree, commit)
    if names := differences(tree, there):
        raise PublishRefused(
            f"{client.repo_id}: tag {bundle.release.version} holds other content ({', '.join(names)}); "
            "a released version never changes: release the next one"
        )
    return there


def _committed(client: HubClient, bundle: Bundle, head: str) -> tuple[str, Bundle]:
    """A commit whose tree is the bundle: the head where an earlier attempt got that far, else a new one."""
    tree = client.tree(head)
    there = _over(client, bundle, tree, head)
    if not differences(tree, there):
        return head, there
    extra = sorted(tree.keys() - there.digests.keys() - HUBS_OWN)
    commit = client.commit(there, extra, head, f"Release {bundle.release.name} {bundle.release.version}")
    if names := differences(client.tree(commit), there):
        raise PublishFailed(
            f"{client.repo_id}@{commit[:12]}: {', '.join(names)} came back with other bytes than were approved; "
            "nothing was tagged; release again"
        )
    return commit, there


def _over(client: HubClient, bundle: Bundle, tree: Mapping[str, RepoFile], commit: str) -> Bundle:
    """The bundle with what people wrote into the card at `commit`."""
    card = tree.get(README)
    if card is None or _matches(card, bundle, README):
        return bundle
    return bundle.over(client.card(commit, card.size))


def differences(tree: Mapping[str, RepoFile], bundle: Bundle) -> list[str]:
    """The paths that are missing, too many or of other bytes at the Hub."""
    wanted = bundle.digests.keys()
    wrong = (wanted ^ tree.keys()) - HUBS_OWN
    return sorted(wrong | {name for name in wanted & tree.keys() if not _matches(tree[name], bundle, name)})


def _matches(file: RepoFile, bundle: Bundle, name: str) -> bool:
    """Large files are named by the sha256 of their bytes, the others by their git blob."""
    if file.lfs is not None:
        return bool(file.lfs.sha256 == bundle.digests[name])
    return bool(file.blob_id == bundle.git_digest(name))
