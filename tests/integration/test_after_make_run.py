"""What must hold in a clone in which `make run` was run: `make accept`."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from flows.git import git
from flows.run_branches import read_runs
from flows.run_record import RunRecord
from tasks.digests import combine_digests, file_digests
from tasks.files import read_jsonl
from tasks.models import load_plain, load_tokenizer, resolve_dtype
from tasks.publish_bundle import BESIDE_THE_MODEL
from tasks.records import LedgerEntry
from tasks.tables import read_records
from tests.integration.conftest import ROOT, dvc

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def record() -> RunRecord:
    runs = read_runs(ROOT)
    assert runs, "run `make run` first"
    return runs[0]


@pytest.fixture(scope="module")
def reproduced() -> subprocess.CompletedProcess[str]:
    """The first `dvc repro` in the user's own working tree, which puts the outputs there."""
    return dvc(ROOT, "repro")


def released_folder(record: RunRecord) -> Path:
    assert record.release is not None
    return ROOT / record.release.location


def test_the_newest_run_passed_and_holds_production(record: RunRecord) -> None:
    assert record.status == "passed"
    assert record.release is not None
    tags = subprocess.run(["git", "tag"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert record.release.tag in tags
    assert any(tag.startswith(f"{record.release.name}#production#") for tag in tags)


def test_the_adapter_gained_40_points_and_lost_3_or_fewer_on_general_knowledge(record: RunRecord) -> None:
    assert record.verdict is not None
    routing = record.verdict.comparisons["ticket_routing exact_match"][0]
    knowledge = record.verdict.comparisons["general_knowledge acc"][0]
    assert routing.difference >= 0.40
    assert knowledge.difference >= -0.03


def test_the_released_files_are_those_that_were_approved(record: RunRecord) -> None:
    digests = file_digests(released_folder(record))
    model = {name: digest for name, digest in digests.items() if name not in BESIDE_THE_MODEL}
    assert combine_digests(model) == record.approvals["merged_model"].digest


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_released_folder_loads_and_answers_a_ticket(record: RunRecord) -> None:
    folder = released_folder(record)
    tokenizer, model = load_tokenizer(folder), load_plain(folder, resolve_dtype("auto"))
    messages = [
        {"role": "system", "content": "Route the ticket as JSON."},
        {
            "role": "user",
            "content": "Smoke comes out of the speaker I bought last week!\nImpact: danger or damage right now",
        },
    ]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    answer = model.generate(**inputs, max_new_tokens=32, do_sample=False)[0][inputs["input_ids"].shape[1] :]
    routed = json.loads(tokenizer.decode(answer, skip_special_tokens=True))
    assert set(routed) == {"queue", "priority"}
    assert routed["priority"] == "urgent"


def test_dvc_repro_afterwards_executes_no_stage(reproduced: subprocess.CompletedProcess[str]) -> None:
    assert reproduced.returncode == 0, reproduced.stderr
    assert "Running stage" not in reproduced.stdout


def test_the_readmes_commands_run_as_they_are_written(record: RunRecord) -> None:
    first, *others = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    commands = [line.split("#")[0].strip() for line in first.splitlines()]
    assert commands == ["make run", "make test"]  # .ci/run runs these two
    assert others
    subprocess.run(["git", "worktree", "remove", "--force", ".tunegate/again"], cwd=ROOT, check=False)
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(others)], cwd=ROOT, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Running stage" not in done.stdout
        assert record.run_id in done.stdout  # of `status`, `report` and `audit`
        assert "verdict: PASSED" in done.stdout
        assert "the same digests" in done.stdout
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", ".tunegate/again"], cwd=ROOT, check=False)


def test_the_run_is_on_record_and_left_no_worktree(record: RunRecord) -> None:
    listed = subprocess.run(
        [ROOT / ".venv/bin/tunegate", "audit", "list"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert record.run_id in listed.stdout
    assert not list((ROOT / ".tunegate/worktrees").glob("*"))


@pytest.mark.usefixtures("reproduced")
def test_the_working_tree_is_clean_where_the_same_bits_are_computed() -> None:
    status = git(ROOT, "status", "--porcelain")
    if adapter_in(git(ROOT, "show", "HEAD:dvc.lock")) == adapter_in((ROOT / "dvc.lock").read_text(encoding="utf-8")):
        assert status == ""
    else:  # another kind of machine: dvc.lock says what this one computed, and nothing else moved
        assert status == "M dvc.lock"


def adapter_in(lock: str) -> str:
    found = re.search(r"path: data/train/adapter\n\s+hash: md5\n\s+md5: (\w+)", lock)
    assert found
    return found[1]


@pytest.mark.usefixtures("reproduced")
def test_every_ingested_row_has_one_final_fate() -> None:
    entries = [
        entry
        for stage in ("ingest", "clean", "dedup", "split")
        for entry in read_records(ROOT / f"data/{stage}/ledger.parquet", LedgerEntry)
    ]
    final = [entry.id for entry in entries if entry.fate in {"dropped", "kept"}]
    rows = json.loads((ROOT / "data/ingest/summary.json").read_text(encoding="utf-8"))["rows_in"]
    assert len(final) == len(set(final)) == rows


@pytest.mark.usefixtures("reproduced")
def test_what_the_model_was_taught_ends_in_its_stop_token() -> None:
    audit = json.loads((ROOT / "data/train/supervision.json").read_text(encoding="utf-8"))
    assert (audit["rows_without_trained_tokens"], audit["rows_without_stop_token"]) == (0, 0)
    shown = audit["examples"]
    assert all("<|im_end|>" in example["supervised_text"] for example in shown)
    assert all("<|im_start|>assistant\n" in example["masked_text"] for example in shown)


def test_the_report_needs_no_network(record: RunRecord) -> None:
    page = (ROOT / ".tunegate/reports" / record.run_id / "report.html").read_text(encoding="utf-8")
    assert 'src="http' not in page
    assert "<link" not in page


@pytest.mark.usefixtures("reproduced")
def test_the_samples_of_both_models_are_the_same_items() -> None:
    from tasks.records import Sample  # noqa: PLC0415

    asked = [
        [
            (sample.benchmark, sample.item, sample.prompt)
            for sample in read_jsonl(ROOT / f"data/evaluate/{which}/samples.jsonl.gz", Sample)
        ]
        for which in ("base", "candidate")
    ]
    assert asked[0] == asked[1]
    assert len(asked[0]) == 224 + 180
