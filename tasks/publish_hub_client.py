"""One model repository on the Hub: the handful of calls that publishing needs, each failing in one line.

Files go up as open file objects: that makes huggingface_hub take the plain LFS path over HTTP, whose every request
runs under our timeouts, and not Xet, whose transfers run in native code without them (`HF_HUB_DISABLE_XET=1` has the
same effect for a whole process).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.hf_api import RepoFile

from tasks.errors import PublishFailed
from tasks.publish_bundle import README, Bundle
from tasks.publish_hub_session import HubTransientError, explained, read_token

MAX_CARD_BYTES = 1_000_000

# what the client raises over an answer of another shape than it expects
_MALFORMED = (RuntimeError, ValueError, LookupError, TypeError, AttributeError)


class HubClient:
    """One model repository on the Hub."""

    def __init__(self, repo_id: str, timeout_seconds: float) -> None:
        self.repo_id = repo_id
        self._timeout_seconds = timeout_seconds
        self._api = HfApi(token=read_token())

    def create(self, *, is_private: bool) -> None:
        """Make the repository unless it exists."""
        with self._asking("create the repository"):
            try:
                self._api.create_repo(self.repo_id, private=is_private, exist_ok=True)
            except KeyError:  # the client takes every 409 for a repository that exists, and reads its address
                raise HubTransientError("HTTP 409: the Hub is busy with this repository; release again") from None

    def is_private(self) -> bool:
        """Whether only members can see the repository."""
        with self._asking("read the repository"):
            return bool(self._api.model_info(self.repo_id, timeout=self._timeout_seconds).private)

    def refs(self) -> tuple[str, dict[str, str]]:
        """The commit at the head of `main`, and the commit of every tag."""
        with self._asking("read the references"):
            refs = self._api.list_repo_refs(self.repo_id)
            heads = {branch.name: branch.target_commit for branch in refs.branches}
            return heads["main"], {tag.name: tag.target_commit for tag in refs.tags}

    def tree(self, commit: str) -> dict[str, RepoFile]:
        """Every file at `commit`, by path."""
        with self._asking("list the files"):
            items = self._api.list_repo_tree(self.repo_id, revision=commit, recursive=True)
            return {item.path: item for item in items if isinstance(item, RepoFile)}

    def card(self, commit: str, size_bytes: int) -> str:
        """The text of the model card at `commit`.

        Raises:
            PublishFailed: it is too large to be a model card, or could not be read.
        """
        if size_bytes > MAX_CARD_BYTES:
            raise PublishFailed(
                f"{self.repo_id}: {README} has {size_bytes:,} bytes, more than a model card; shorten it"
            )
        with self._asking("read the model card"), TemporaryDirectory() as folder:
            path = self._api.hf_hub_download(self.repo_id, README, revision=commit, local_dir=folder)
            return Path(path).read_text(encoding="utf-8", errors="replace")

    def commit(self, bundle: Bundle, delete: list[str], parent: str, message: str) -> str:
        """Make the tree equal to the bundle in one commit on top of `parent`; its id."""
        with self._asking("commit the files"), ExitStack() as files:
            adds = [CommitOperationAdd(name, text.encode()) for name, text in bundle.texts.items()]
            for name in bundle.provenance.files:
                file = files.enter_context((bundle.model / name).open("rb"))
                adds.append(CommitOperationAdd(name, file))
            deletes = [CommitOperationDelete(name, is_folder=False) for name in delete]
            info = self._api.create_commit(
                self.repo_id, [*adds, *deletes], commit_message=message, parent_commit=parent
            )
            return str(info.oid)

    def tag(self, name: str, commit: str) -> None:
        """Tag `commit`; a tag that exists stays where it is, so read it back."""
        with self._asking(f"make the tag {name}"):
            self._api.create_tag(self.repo_id, tag=name, revision=commit, exist_ok=True)

    @contextmanager
    def _asking(self, purpose: str) -> Iterator[None]:
        """Turn whatever the client raises into one line that names the repository, the purpose and the cause."""
        try:
            yield
        except (OSError, httpx2.HTTPError, httpx2.InvalidURL, PublishFailed, *_MALFORMED) as error:
            raise explained(error, f"{self.repo_id}: cannot {purpose}") from None
