"""What the parameters of today say of releases, whatever a past run's, or a file that was named, had there."""

from pathlib import Path

from pydantic import BaseModel

from flows.variants import load_variant_sections, variant_names
from tasks.errors import TunegateError
from tasks.params import ReleaseParams, load_sections
from tasks.paths import PARAMS


class ReleaseSection(BaseModel):
    """The section alone; the others may be wrong."""

    release: ReleaseParams


def release_params(root: Path, variant: str | None = None) -> ReleaseParams:
    """The section `release` of today, of a variant where one is named.

    Raises:
        ParamsInvalid: it cannot be read, or there is no such variant.
    """
    if variant is None:
        return load_sections(ReleaseSection, root / PARAMS).release
    return load_variant_sections(ReleaseSection, root, root / PARAMS, variant).release


def release_params_of(root: Path, variant: str | None) -> ReleaseParams:
    """The section `release` of today for what a run of `variant` made; that of params.yaml where the variant is gone.

    Raises:
        ParamsInvalid: it cannot be read.
    """
    return release_params(root, variant if variant in variant_names(root) else None)


def asks_for_approval(root: Path, variant: str | None = None) -> bool:
    """Whether another person has to agree, by the parameters of today; where they cannot be read, somebody has to."""
    try:
        return release_params_of(root, variant).require_approval
    except TunegateError:
        return True
