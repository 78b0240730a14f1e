"""The failures a user can meet, one class each, with the exit code that a command ends in.

0 done; 1 a bug, shown with its traceback; 2 the user's input is wrong, one message; 3 refused; 4 inconclusive: the gate
proved neither that the candidate is good nor that it is not.
"""

EXIT_INPUT = 2
EXIT_REFUSED = 3
EXIT_INCONCLUSIVE = 4


class TunegateError(Exception):
    """A failure that is not a bug: its message says what, where and the next move."""

    exit_code = EXIT_INPUT


class ParamsInvalid(TunegateError):
    """`params.yaml` does not parse into the typed sections; every problem is in the message."""


class SourceInvalid(TunegateError):
    """A source file is missing, unreadable, of an unknown layout, or has too many broken rows."""


class FileInvalid(TunegateError):
    """A file that a stage reads is missing, torn or of another schema."""


class BaseInvalid(TunegateError):
    """The base model cannot be had, or its bytes are not the pinned ones."""


class Unavailable(TunegateError):
    """A network or a package index did not answer; it may be back, so a run tries such a stage again."""


class WorkersLost(TunegateError):
    """The processes that a stage spreads its rows over were killed, or the cluster does not answer."""


class TrainingInvalid(TunegateError):
    """Training cannot mean what it should: nothing is supervised, the loss is not finite, the adapter starts wrong."""


class RehearsalFailed(TunegateError):
    """A step that comes late in the line does not work; better now than after the training."""


class DiskFull(TunegateError):
    """There is no room for what a stage is about to write."""


class WorkspaceBusy(TunegateError):
    """Another run or another `dvc repro` holds the workspace."""


class WorkspaceInvalid(TunegateError):
    """The folder is not a workspace that a run can start from."""


class RunNotFound(TunegateError):
    """No run on record has the id that was asked for."""


class NothingSuggested(TunegateError):
    """The findings of a run name nothing to try."""


class EvidenceMissing(TunegateError):
    """A decision was asked for without the figures it needs; that is a refusal, never a pass."""

    exit_code = EXIT_REFUSED


class NotApproved(TunegateError):
    """A consumer met bytes that no approval names."""

    exit_code = EXIT_REFUSED


class DataRefused(TunegateError):
    """The data broke an expectation of the suite."""

    exit_code = EXIT_REFUSED


class MergeRefused(TunegateError):
    """The merged model answers differently from the adapter that the gate approved."""

    exit_code = EXIT_REFUSED


class PublishRefused(TunegateError):
    """The target holds something else under the name that was to be published."""

    exit_code = EXIT_REFUSED


class KeyInvalid(TunegateError):
    """A key that releases are to be signed or checked with is missing, or no key that can do it."""


class PublishFailed(TunegateError):
    """The target could not be reached, would not take the release, or gave other bytes back."""
