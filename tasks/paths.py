"""Where the line's files lie, relative to the workspace root, in which every stage runs."""

import os
from pathlib import Path

STATE = Path(".tunegate")
STATE_VARIABLE = "TUNEGATE_STATE"
"""Names the state folder of the user's workspace to a stage that runs in a worktree."""
PACE_VARIABLE = "TUNEGATE_PACE"
"""Names the file outside the workspace that a training leaves its `records.Pace` in."""
SERVING_VARIABLE = "TUNEGATE_SERVING"
"""Names the file outside the workspace that a merge leaves its `records.Serving` in."""


def state_folder() -> Path:
    """Where what outlives a run is kept: a run happens in a worktree that is removed, so its flow names the place."""
    return Path(os.environ.get(STATE_VARIABLE) or STATE)


PARAMS = Path("params.yaml")
SOURCES = Path("data/sources")

BASE = Path("data/base")
BASE_MODEL = BASE / "model"
BASE_RECORD = BASE / "base.json"
BASE_TOKENIZER = BASE / "tokenizer"

INGEST = Path("data/ingest")
CLEAN = Path("data/clean")
BENCHMARK_ITEMS = Path("data/benchmark_items")
DEDUP = Path("data/dedup")
SPLIT = Path("data/split")
TRAIN_EXAMPLES = SPLIT / "train.parquet"
VALIDATION_EXAMPLES = SPLIT / "validation.parquet"
TEST_EXAMPLES = SPLIT / "test.parquet"
CONTAMINATED_ITEMS = SPLIT / "contaminated_items.json"

VALIDATE = Path("data/validate")
VALIDATION = VALIDATE / "validation.json"
DRIFT = VALIDATE / "drift.json"
DATA_PROFILE = VALIDATE / "profile.json"
DATA_DOCS = VALIDATE / "docs"
DATA_APPROVAL = VALIDATE / "approval.json"
SUITE = Path("tasks/expectations/examples.json")
DRIFT_SUITE = Path("tasks/expectations/drift.json")

TRAIN = Path("data/train")
ADAPTER = TRAIN / "adapter"
TRAIN_METRICS = TRAIN / "metrics.json"
TRAIN_HISTORY = TRAIN / "history.jsonl"
TRAIN_CURVES = TRAIN / "curves"
ROW_LOSSES = TRAIN / "row_losses.jsonl"
SUPERVISION = TRAIN / "supervision.json"

EVALS = Path("tasks/evals")
EVALUATE_BASE = Path("data/evaluate/base")
EVALUATE_CANDIDATE = Path("data/evaluate/candidate")
EVALUATE_CHAMPION = Path("data/evaluate/champion")
EVALUATE_MERGED = Path("data/evaluate/merged")
CHAMPION = Path("data/champion/champion.json")
CHAMPION_SAMPLES = Path("data/champion/samples.jsonl.gz")
CHAMPION_MODEL = Path("data/champion/model.json")
CHAMPION_ADAPTER = Path("data/champion/adapter")
CHAMPION_BASE = Path("data/champion/base")

GATE = Path("data/gate")
VERDICT = GATE / "verdict.json"
GATE_EVIDENCE = GATE / "evidence.json"
ADAPTER_APPROVAL = GATE / "approval.json"

MERGE = Path("data/merge")
MERGED_MODEL = MERGE / "model"
PARITY = MERGE / "parity.json"
MERGED_APPROVAL = MERGE / "approval.json"

EXAMPLES = "examples.parquet"
LEDGER = "ledger.parquet"
QUARANTINE = "quarantine.parquet"
ITEMS = "items.parquet"
CLUSTERS = "clusters.parquet"
PAIRS = "pairs.parquet"
CONFLICTS = "conflicts.parquet"
SUMMARY = "summary.json"
EVALUATION = "evaluation.json"
SAMPLES = "samples.jsonl.gz"
