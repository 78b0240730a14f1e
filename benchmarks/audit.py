"""Claims: `audit list` over 1,000 runs in 1 s or less; `audit trained-on` over 100 runs of 52,000 rows in 2 s or less.

A repository of synthetic runs is made first: real branches, records and ledgers, of which nothing was measured. Each
of the 100 runs has a last ledger of its own, so that no two share an index; the first question makes the indices and is
timed apart. The peer of `list` is git alone, which reads the same records and prints nothing.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Claim, Timing, interleave, parse_arguments, show
from flows.run_branches import read_blobs, record_path, run_branches
from flows.run_record import EarlierRun, RunRecord
from tasks.digests import combine_digests, digest_file, digest_text
from tasks.records import LedgerEntry
from tasks.tables import write_records
from tests.flows.fake_run import fake_digest, passed_record, refused_record

ROOT = Path(__file__).parents[1]
ROWS = 52_000
ASKED = 777
LEDGERS = ("ingest", "clean", "dedup", "split")


def tunegate(root: Path, *words: str) -> str:
    """The command as a user gives it; returns what it printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "flows.cli", *words]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True).stdout


def git(root: Path, *arguments: str, stdin: str = "") -> str:
    """Run git in `root`; returns what it printed."""
    done = subprocess.run(["git", *arguments], cwd=root, input=stdin, capture_output=True, text=True, check=True)
    return done.stdout


class Repository:
    """A repository to put made-up runs into, all by one `git fast-import`."""

    def __init__(self, root: Path) -> None:
        self.root, self.stream, self.last = root, list[str](), EarlierRun(run_id="", commit="0" * 40, digest="")
        root.mkdir(parents=True)
        git(root, "init", "--quiet", "--initial-branch", "main")
        (root / ".dvc").mkdir()

    def add(self, number: int, objects: dict[str, str], digests: dict[str, str]) -> None:
        """One run: its record, which vouches for the one before, and its dvc.lock."""
        record = made_up(number, digests, self.last)
        text = json.dumps(record.model_dump(mode="json"), sort_keys=True, indent=2)
        stages = {
            name: {"cmd": "true", "outs": [{"path": f"data/{name}", "md5": md5}]} for name, md5 in objects.items()
        }
        lock = json.dumps({"schema": "2.0", "stages": stages})
        message = f"Run {record.run_id}: {record.status}\n\nRun: {record.run_id}\n"
        self.stream += [
            f"commit refs/heads/run/{record.run_id}",
            "committer Benchmark <benchmark@localhost> 1700000000 +0000",
            f"data {len(message)}\n{message}",
            *(f"M 100644 inline {path}\ndata {len(body.encode())}\n{body}" for path, body in (
                (record_path(record.run_id), text), ("dvc.lock", lock), ("params.yaml", "seed: 1\n"),
            )),
            "",
        ]  # fmt: skip
        self.last = EarlierRun(run_id=record.run_id, commit="0" * 40, digest=digest_text(text))

    def finish(self) -> None:
        """Write the branches, and a main branch to stand on."""
        git(self.root, "fast-import", "--quiet", stdin="\n".join(self.stream))
        git(self.root, "branch", "main", self.last_branch())
        git(self.root, "symbolic-ref", "HEAD", "refs/heads/main")

    def last_branch(self) -> str:
        """The branch of the newest run."""
        return f"run/{self.last.run_id}"


def made_up(number: int, digests: dict[str, str], last: EarlierRun) -> RunRecord:
    """The record of a run that took place only here."""
    record = passed_record() if number % 3 else refused_record()
    stages = tuple(
        stage.model_copy(update={"output_digests": {f"data/{stage.name}": digests[stage.name]}})
        if stage.name in digests
        else stage
        for stage in record.stages
    )
    day = f"2026-{1 + number // 28 % 12:02d}-{1 + number % 28:02d}"
    return record.model_copy(
        update={
            "run_id": f"{day.replace('-', '')}-{number:06d}-{number % 65536:04x}", "started_at": f"{day}T08:15:02Z",
            "stages": stages, "release": None, "vouches_for": (last,) if last.run_id else (),
        }
    )  # fmt: skip


def row_id(number: int) -> str:
    """The id of a made-up row."""
    return digest_text(str(number))[:16]


def put_folder(cache: Path, folder: Path) -> tuple[str, str]:
    """Put a folder into DVC's cache; its name there, and its digest as records have it."""

    def md5(content: bytes) -> str:
        return hashlib.md5(content, usedforsecurity=False).hexdigest()

    listed, digests = [], {}
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        name = md5(content)
        place = cache / name[:2] / name[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        listed.append({"md5": name, "relpath": file.name})
        digests[file.name] = digest_file(file)
    text = json.dumps(listed).encode()
    name = f"{md5(text)}.dir"
    place = cache / name[:2] / name[2:]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(text)
    return name, combine_digests(digests)


def ledger_of(stage: str, run: int, rows: int) -> list[LedgerEntry]:
    """A stage's ledger: early stages drop a twentieth each, the last one keeps what is left, run by run otherwise."""
    drops = {"ingest": 0, "clean": 1, "dedup": 2}
    entries = []
    for number in range(rows):
        part = number % 20
        if stage == "split":
            if part in drops.values():
                continue
            rule = "train" if (number + run) % 10 else "validation"
            fate = "kept"
        elif drops[stage] == part:
            rule, fate = f"{stage}_rule", "dropped"
        else:
            continue
        entries.append(
            LedgerEntry(
                id=row_id(number), source="tickets", file="data/sources/tickets.jsonl", line=number + 1, stage=stage,
                fate=fate, rule=rule, value="",
            )
        )  # fmt: skip
    return entries


def runs_with_data(root: Path, runs: int, rows: int, scratch: Path) -> None:
    """A repository of runs with ledgers in DVC's cache; the last ledger of each is its own."""
    made, cache = Repository(root), root / ".dvc" / "cache" / "files" / "md5"
    shared: dict[str, tuple[str, str]] = {}
    for run in range(runs):
        for stage in LEDGERS:
            if stage in shared and stage != "split":
                continue
            folder = scratch / f"{stage}-{run}"
            folder.mkdir(parents=True)
            write_records(folder / "ledger.parquet", ledger_of(stage, run, rows), LedgerEntry)
            shared[stage] = put_folder(cache, folder)
        made.add(
            run, {name: md5 for name, (md5, _) in shared.items()}, {name: one for name, (_, one) in shared.items()}
        )
    made.finish()


def records_by_git(root: Path) -> None:
    """What git alone takes to read every record."""
    branches = run_branches(root).values()
    assert all(read_blobs(root, [f"{branch.commit}:{record_path(branch.run_id)}" for branch in branches]))


def ask(root: Path, runs: int) -> None:
    """The question, with its answer checked."""
    found = json.loads(tunegate(root, "audit", "trained-on", row_id(ASKED), "--json"))
    assert len(found["sightings"]) == runs
    assert found["unread"] == []


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments(__doc__ or "")
    listed, asked, rows = (100, 5, 5_000) if arguments.quick else (1_000, 100, ROWS)
    repetitions = 1 if arguments.quick else 5
    with tempfile.TemporaryDirectory() as folder:
        many, data = Path(folder) / "many", Path(folder) / "data"
        made = Repository(many)
        for number in range(listed):
            made.add(number, {}, {"split": fake_digest(f"split {number}")})
        made.finish()
        runs_with_data(data, asked, rows, Path(folder) / "scratch")
        started = time.perf_counter()
        ask(data, asked)
        first = Timing("trained-on, indices made", (time.perf_counter() - started,), ())
        contestants = {
            "audit list": lambda: tunegate(many, "audit", "list"),
            "audit list --json": lambda: tunegate(many, "audit", "list", "--json"),
            "records by git alone": lambda: records_by_git(many),
            "audit trained-on": lambda: ask(data, asked),
        }
        interleave(contestants, 1)
        timings = interleave(contestants, repetitions)
    claims = [
        Claim(f"audit list, {listed:,} runs", timings[0].median, "s", 1, "max"),
        Claim(f"audit trained-on, {asked} runs of {rows:,} rows", timings[3].median, "s", 2, "max"),
    ]
    show("the audit", [*timings, first], claims, is_quick=arguments.quick, path=arguments.json)


if __name__ == "__main__":
    main()
