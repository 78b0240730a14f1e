"""Claim: the gate passes no planted bad candidate and holds back no clearly good one.

Needs a workspace that `dvc repro gate` has filled: its adapter is the good candidate. Each of the others
(benchmarks/planted.py) gets a folder of its own in `.tunegate/truth`, in which the line's own stages train, evaluate
and judge it. What is there already is not done again, so a run that was stopped carries on. `--quick` takes two.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML

from benchmarks.harness import Claim, parse_arguments, show
from benchmarks.planted import CANDIDATES, GOOD, Planted, change_weights, write_champion
from flows.reproduce import child_environment, stage_environment
from tasks import paths
from tasks.approvals import Approval, write_approval
from tasks.digests import combine_digests, digest_path, digest_text, file_digests
from tasks.files import read_json, write_json
from tasks.models import read_chat_template
from tasks.records import BaseRecord, Champion
from tasks.tables import read_examples, write_examples
from tasks.verdict_records import Verdict

TRUTH = paths.STATE / "truth"
QUICK = (GOOD, "zero steps")
SHARED = ("tasks", paths.EVALUATE_BASE, paths.BENCHMARK_ITEMS, paths.BASE, paths.DEDUP, paths.SPLIT, paths.VALIDATE)
"""What a candidate's folder has from the workspace, before something of it is spoilt."""


@dataclass(frozen=True)
class Outcome:
    """What became of a candidate; `verdict` is `stopped` where training would not make one."""

    planted: Planted
    verdict: str
    scores: str
    reason: str

    @property
    def is_right(self) -> bool:
        """Whether it is what the candidate deserves."""
        return (self.verdict == "passed") == (self.planted.deserves == "passed")


class Grounds:
    """The folders of the candidates beside the workspace `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, name: str) -> Path:
        """Where a candidate lies."""
        return self.root / TRUTH / name.replace(" ", "-").replace(",", "")

    def judge(self, planted: Planted) -> Outcome:
        """Make, measure and judge one candidate, or read what an earlier run came to."""
        folder = self.folder(planted.name)
        if not (folder / paths.VERDICT).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            self._prepare(planted, folder)
            if not self._make(planted, folder):
                return Outcome(planted, "stopped", "", (folder / "said.txt").read_text(encoding="utf-8").strip())
            self._measure(planted, folder)
            run_stage(folder, "tasks.gate")
        return outcome_of(planted, folder)

    def _prepare(self, planted: Planted, folder: Path) -> None:
        """Everything that stands before training: what is not spoilt is the workspace's own."""
        for name in SHARED:
            link(self.root / name, folder / name)
        write_params(self.root, folder, planted.params)
        if planted.champion is None:
            write_json(folder / paths.CHAMPION, Champion())
        else:
            write_champion(folder, self.folder(planted.champion) / paths.EVALUATE_CANDIDATE / paths.EVALUATION)
        if planted.rows is not None:
            spoil_rows(planted, folder)
        if planted.template is not None:
            spoil_template(planted.template, self.root, folder)

    def _make(self, planted: Planted, folder: Path) -> bool:
        """Train, or change the good adapter; whether there is an adapter now."""
        if planted.is_trained:
            done = run_stage(folder, "tasks.train", must_end_well=False)
            (folder / "said.txt").write_text((done.stdout.splitlines() or [""])[-1], encoding="utf-8")
            if done.returncode:
                return False
            if planted.template is not None:  # it is measured as every candidate is
                relink(self.root / paths.BASE, folder / paths.BASE)
            return True
        shutil.copytree(self.root / paths.TRAIN, folder / paths.TRAIN)
        if planted.weights is not None:
            change_weights(folder / paths.ADAPTER, planted.weights)
        return True

    def _measure(self, planted: Planted, folder: Path) -> None:
        """The stage that evaluates, or the scores of another candidate."""
        if planted.name == GOOD:
            link(self.root / paths.EVALUATE_CANDIDATE, folder / paths.EVALUATE_CANDIDATE)
        elif planted.borrowed is not None:
            link(self.folder(planted.borrowed) / paths.EVALUATE_CANDIDATE, folder / paths.EVALUATE_CANDIDATE)
        else:
            evaluate = {"evaluate": planted.evaluate} if planted.evaluate else {}
            write_params(self.root, folder, {**planted.params, **evaluate})
            run_stage(folder, "tasks.evaluate", "candidate")
        write_params(self.root, folder, planted.params)


def link(target: Path, place: Path) -> None:
    """A symbolic link at `place`."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target.resolve(), target_is_directory=target.is_dir())


def relink(target: Path, place: Path) -> None:
    """A symbolic link in place of the folder that is there."""
    shutil.rmtree(place)
    link(target, place)


def write_params(root: Path, folder: Path, changes: Any) -> None:
    """The workspace's params.yaml with sections changed."""
    yaml = YAML()
    params = yaml.load((root / paths.PARAMS).read_text(encoding="utf-8"))
    for section, values in changes.items():
        params[section].update(values)
    with (folder / paths.PARAMS).open("w", encoding="utf-8") as file:
        yaml.dump(params, file)


def spoil_rows(planted: Planted, folder: Path) -> None:
    """The training rows spoilt, and the data approved as if nothing were wrong: the gate has to find it."""
    assert planted.rows is not None
    split, validate = folder / paths.SPLIT, folder / paths.VALIDATE
    for place in (split, validate):
        original = place.resolve()
        place.unlink()
        shutil.copytree(original, place)
    train = folder / paths.TRAIN_EXAMPLES
    rows = planted.rows(read_examples(train))
    write_examples(train, rows)
    approval = read_json(folder / paths.DATA_APPROVAL, Approval)
    write_approval(folder / paths.DATA_APPROVAL, approval.model_copy(update={"digest": digest_path(split)}))


def spoil_template(template: str, root: Path, folder: Path) -> None:
    """A base that is the workspace's but for its chat template."""
    (folder / paths.BASE).unlink()
    shutil.copytree(root / paths.BASE, folder / paths.BASE)
    model = folder / paths.BASE_MODEL
    for place in (model, folder / paths.BASE_TOKENIZER):
        (place / "chat_template.jinja").unlink()
        (place / "chat_template.jinja").write_text(template, encoding="utf-8")
    files = file_digests(model)
    record = read_json(folder / paths.BASE_RECORD, BaseRecord)
    changed = {
        "files": files,
        "digest": combine_digests(files),
        "chat_template_digest": digest_text(read_chat_template(model)),
    }
    write_json(folder / paths.BASE_RECORD, record.model_copy(update=changed))


def run_stage(
    folder: Path, module: str, *arguments: str, must_end_well: bool = True
) -> "subprocess.CompletedProcess[str]":
    """A stage in a candidate's folder, in the environment that dvc.yaml gives it."""
    ours = stage_environment(Path.cwd(), "train") if module == "tasks.train" else {}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=child_environment(ours) | {"PYTHONPATH": os.fspath(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode and must_end_well:
        raise SystemExit(f"{folder.name}: {module} failed\n{done.stdout[-3000:]}")
    return done


def outcome_of(planted: Planted, folder: Path) -> Outcome:
    """What the gate wrote."""
    verdict = read_json(folder / paths.VERDICT, Verdict)
    evaluation = json.loads((folder / paths.EVALUATE_CANDIDATE / paths.EVALUATION).read_text(encoding="utf-8"))
    shown = {("ticket_routing", "exact_match"), ("general_knowledge", "acc")}
    scores = [f"{one['value']:.1%}" for one in evaluation["scores"] if (one["benchmark"], one["metric"]) in shown]
    return Outcome(planted, verdict.verdict, ", ".join(scores), (verdict.reasons or ("",))[0])


def print_table(outcomes: Sequence[Outcome]) -> None:
    """Every candidate, what it deserves and what it got."""
    table = Table("candidate", "scores", "deserves", "verdict", "right", "why", title="planted candidates")
    for one in outcomes:
        right = "yes" if one.is_right else "NO"
        table.add_row(one.planted.name, one.scores, one.planted.deserves, one.verdict, right, one.reason[:90])
    Console(width=200).print(table)


def main() -> None:
    """Judge every candidate, print, write."""
    arguments = parse_arguments(__doc__ or "")
    grounds = Grounds(Path.cwd())
    chosen = [one for one in CANDIDATES if not arguments.quick or one.name in QUICK]
    outcomes = []
    for number, planted in enumerate(chosen, start=1):
        began = time.monotonic()
        outcomes.append(grounds.judge(planted))
        seconds = time.monotonic() - began
        print(f"{number}/{len(chosen)} {planted.name}: {outcomes[-1].verdict} ({seconds:.0f} s)", flush=True)
    print_table(outcomes)
    passed = [one for one in outcomes if one.verdict == "passed" and not one.is_right]
    held_back = [one for one in outcomes if one.planted.deserves == "passed" and not one.is_right]
    claims = [
        Claim("planted candidates", len(outcomes), "", 20, "min"),
        Claim("bad ones passed", len(passed), "", 0, "max"),
        Claim("good ones held back", len(held_back), "", 0, "max"),
    ]
    show("planted candidates", [], claims, is_quick=arguments.quick, path=arguments.json)


if __name__ == "__main__":
    main()
