"""What the sections of the parameters are made of: constrained values and the frozen, strict base class."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

HEX40 = re.compile(r"[0-9a-f]{40}")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Name = Annotated[str, Field(pattern=rf"^{NAME.pattern}$")]
BenchmarkName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.:+()-]{0,127}$")]
RepoId = Annotated[str, Field(pattern=rf"^{REPO_ID.pattern}$")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Role = Literal["train", "replay", "test", "seen_by_base"]
Seconds = Annotated[int, Field(gt=0, le=7 * 24 * 3600)]


class Section(BaseModel):
    """A part of the parameters: frozen, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Dtype = Literal["bfloat16", "float16", "float32"]


def check_inside(path: str) -> str:
    """Refuse a path that is absolute or climbs out of the workspace.

    Raises:
        ValueError: it is one of these.
    """
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ValueError("must be a path inside the workspace, without `..`")
    return path


def check_absolute(path: str) -> str:
    """Refuse a path that leads elsewhere from another folder.

    Raises:
        ValueError: it is relative; `~` is not expanded.
    """
    if not Path(path).is_absolute():
        raise ValueError(
            f"must be an absolute path, found {path!r}: a run happens in a copy of the workspace elsewhere; "
            "write the folder's full path, from `/`"
        )
    return path
