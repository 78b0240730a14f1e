"""What params.yaml of today says of releases, whatever a past run's, or a file that was named, had there."""

from pathlib import Path

from pydantic import BaseModel

from tasks.errors import TunegateError
from tasks.params import ReleaseParams, load_sections
from tasks.paths import PARAMS


class ReleaseSection(BaseModel):
    """The section alone; the others may be wrong."""

    release: ReleaseParams


def release_params(root: Path) -> ReleaseParams:
    """The section `release` of today.

    Raises:
        ParamsInvalid: it cannot be read.
    """
    return load_sections(ReleaseSection, root / PARAMS).release


def asks_for_approval(root: Path) -> bool:
    """Whether another person has to agree, by params.yaml of today; where it cannot be read, somebody has to."""
    try:
        return release_params(root).require_approval
    except TunegateError:
        return True
