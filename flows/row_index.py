"""Where every row of a stage's ledger went, in a file that is searched without reading it through.

One file for each output of a data stage that any run made, named by the digest that the run's record has of it: runs
with the same data share it. The files are a convenience below `.tunegate`; whatever is missing is made again.
"""

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.outputs import LOCKED, Outputs, run_outputs
from flows.row_story import FOLDERS
from flows.row_tables import final_fates
from flows.run_record import RunRecord
from tasks import paths
from tasks.errors import FileInvalid
from tasks.files import whole

INDEX = paths.STATE / "rows-1"
"""The number is the format's: a file of another one is never read."""
_ID_DIGITS = 16
ROW_ID = re.compile(rf"[0-9a-f]{{1,{_ID_DIGITS}}}")


@dataclass(frozen=True)
class Fate:
    """What a stage decided about a row: kept in a partition, or dropped by a rule."""

    row_id: str
    stage: str
    fate: str
    rule: str


@dataclass(frozen=True)
class LedgerIndex:
    """The rows of one ledger: ids as numbers in their order, and the place of each one's fate in `fates`."""

    ids: NDArray[np.uint64]
    codes: NDArray[np.uint16]
    fates: NDArray[np.str_]

    def find(self, beginning: str, stage: str) -> list[Fate]:
        """The rows whose id begins so."""
        low = np.uint64(int(beginning.ljust(_ID_DIGITS, "0"), 16))
        high = np.uint64(int(beginning.ljust(_ID_DIGITS, "f"), 16))
        places = range(np.searchsorted(self.ids, low, "left"), np.searchsorted(self.ids, high, "right"))
        return [self._fate(place, stage) for place in places]

    def _fate(self, place: int, stage: str) -> Fate:
        fate, _, rule = str(self.fates[self.codes[place]]).partition(" ")
        return Fate(f"{int(self.ids[place]):016x}", stage, fate, rule)


@dataclass
class RowIndex:
    """The indices of all runs' ledgers; each is read once, and made where it is not there yet."""

    root: Path

    def __post_init__(self) -> None:
        self._known: dict[str, LedgerIndex] = {}

    def fates(self, record: RunRecord, beginning: str) -> list[Fate]:
        """What became in a run of the rows whose id begins so; nothing of a run whose split did not end.

        Raises:
            OutputGone: a ledger is neither indexed nor in DVC's cache.
            FileInvalid: a ledger is damaged.
        """
        found = []
        for stage, folder in FOLDERS.items():
            if (digest := ledger_digest(record, stage)) is not None:
                found += self._ledger(record, digest, folder / paths.LEDGER).find(beginning, stage)
        return found

    def _ledger(self, record: RunRecord, digest: str, ledger: Path) -> LedgerIndex:
        if digest not in self._known:
            place = self.root / INDEX / f"{digest}.npz"
            self._known[digest] = _read(place) or _make(run_outputs(self.root, record.run_id), ledger, place)
        return self._known[digest]


def ledger_digest(record: RunRecord, stage: str) -> str | None:
    """The digest on record of what a data stage wrote; None where it did not come to its end."""
    own = record.stage(stage)
    return None if own is None or own.outcome not in LOCKED else own.output_digests.get(FOLDERS[stage].as_posix())


def _read(place: Path) -> LedgerIndex | None:
    """An index that is there and whole."""
    try:
        with np.load(place, allow_pickle=False) as stored:
            return LedgerIndex(stored["ids"], stored["codes"], stored["fates"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _make(outputs: Outputs, ledger: Path, place: Path) -> LedgerIndex:
    path = outputs.path(ledger)
    if path is None:
        raise FileInvalid(f"{outputs.name}: its dvc.lock does not name {ledger}")
    rows = final_fates(path)
    fates = sorted({f"{fate} {rule}" for _, fate, rule in rows})
    code = {name: number for number, name in enumerate(fates)}
    ids = np.array([int(row_id, 16) for row_id, _, _ in rows], dtype=np.uint64)
    order = np.argsort(ids, kind="stable")
    codes = np.array([code[f"{fate} {rule}"] for _, fate, rule in rows], dtype=np.uint16)
    made = LedgerIndex(ids[order], codes[order], np.array(fates, dtype=np.str_))
    with whole(place) as partial, partial.open("wb") as file:
        np.savez(file, ids=made.ids, codes=made.codes, fates=made.fates)
    return made
