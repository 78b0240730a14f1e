"""A short version of `benchmarks/publish.py`: publications to a Hub that goes wrong in a way that is drawn."""

from pathlib import Path

import pytest

from tests.faulty_publications import KINDS, publish_under_faults

SOON = tuple(kind for kind in KINDS if kind != "hang")


@pytest.mark.parametrize("seed", [1])
def test_every_publication_ends_in_one_correct_release_after_one_more_run_at_most(tmp_path: Path, seed: int) -> None:
    trials = list(publish_under_faults(14, seed, tmp_path / "publish", SOON))
    assert len({trial.fault for trial in trials}) >= 6
    assert [(trial.fault, trial.endpoint, trial.told, trial.problems) for trial in trials if trial.problems] == []
    assert [(trial.fault, trial.endpoint, trial.told) for trial in trials if trial.codes[-1]] == []
    assert all(trial.runs <= 2 for trial in trials)
