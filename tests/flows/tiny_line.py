"""A whole line in seconds: the real stages and outputs of dvc.yaml, each made by a script that copies prepared records.

Nothing here was measured. A file `made/<stage>/behave.py` lets a stage refuse, crash or sleep before it copies.
"""

import json
import shutil
import sys
from pathlib import Path

from tasks import paths
from tasks.approvals import Approval, write_approval
from tasks.digests import digest_path
from tasks.files import write_json, write_text
from tasks.records import (
    BaseRecord,
    BenchmarkItem,
    Champion,
    ContaminatedItems,
    Evaluation,
    Example,
    Fingerprint,
    Message,
    Parity,
    Score,
)
from tasks.tables import write_examples, write_records
from tasks.verdict_records import GateEvidence
from tasks.yaml_files import read_yaml
from tests.flows.fake_run import (
    FAKE_PACE,
    FAKE_SERVING,
    fake_metrics,
    fake_verdict,
    inconclusive_record,
    write_workspace,
)
from tests.flows.tiny_repo import DVC_CONFIG, commit, run

ROOT = Path(__file__).parents[2]
STAGES = (
    *("base", "ingest", "clean", "dedup", "benchmark_items", "split", "validate", "evaluate_base", "train"),
    *("evaluate_candidate", "gate", "merge"),
)
STAGE_SCRIPT = """\
import os, runpy, shutil, sys
from pathlib import Path

made = Path("made", sys.argv[1])
if (made / "behave.py").exists():
    runpy.run_path(str(made / "behave.py"))
shutil.copytree(made / "files", ".", dirs_exist_ok=True)
for name in ("pace", "serving"):
    if (made / f"{name}.json").exists():
        shutil.copyfile(made / f"{name}.json", os.environ[f"TUNEGATE_{name.upper()}"])
"""
BEHAVE = """\
import sys
sys.path.insert(0, {root!r})
from tasks.entry import run_stage
from tasks.errors import DataRefused, SourceInvalid, Unavailable

def main():
    with open({attempts!r}, "a") as file:
        file.write("x")
    times = len(open({attempts!r}).read())
    {body}

try:
    run_stage(main)
except SystemExit as end:
    if end.code:
        raise
"""


def make_line(root: Path, *, is_short: bool = False) -> Path:
    """A committed repository with the real parameters and prepared stages.

    A short line has the stages `ingest`, `gate` and `merge` only; `gate` makes what those before it would have made.
    """
    root.mkdir(parents=True)
    run(root, "git", "init", "--quiet", "--initial-branch", "main")
    run(root, sys.executable, "-m", "dvc", "init", "--quiet")
    write_text(root / ".dvc" / "config", DVC_CONFIG)
    write_text(root / ".gitignore", "/.tunegate/\n/registry/\n__pycache__/\n" + _ignored(is_short=is_short))
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    write_text(root / "params.yaml", params.replace("retry_delay_seconds: 5", "retry_delay_seconds: 1"))
    for name in ("support_tickets", "general_instructions"):
        write_text(root / paths.SOURCES / f"{name}.jsonl", '{"text": "made up"}\n')
    for name in ("ticket_routing", "general_knowledge"):
        definition = paths.EVALS / name / f"{name}.yaml"
        write_text(root / definition, (ROOT / definition).read_text(encoding="utf-8"))
    write_json(root / paths.CHAMPION, Champion())
    write_text(root / "stage.py", STAGE_SCRIPT)
    write_text(root / "dvc.yaml", json.dumps({"stages": wired(is_short=is_short)}, indent=1))
    _prepare(root, is_short=is_short)
    commit(root, "start")
    return root


def wired(*, is_short: bool) -> dict[str, dict[str, object]]:
    """The stages of the real dvc.yaml with their data deps and outs, each running the copying script."""
    real = read_yaml(ROOT / "dvc.yaml").value["stages"]
    assert isinstance(real, dict)
    assert tuple(real) == STAGES
    stages: dict[str, dict[str, object]] = {}
    for name in ("ingest", "gate", "merge") if is_short else STAGES:
        deps = [dep for dep in real[name]["deps"] if dep.startswith("data/") and not (is_short and name == "merge")]
        if is_short:
            deps = {"ingest": ["data/sources"], "gate": ["data/champion/champion.json", "data/ingest"]}.get(name, deps)
            deps += ["data/gate/approval.json"] if name == "merge" else []
        outs = _outs(real, name, is_short=is_short)
        stages[name] = {"cmd": f"python stage.py {name}", "deps": [*deps, f"made/{name}"], "outs": outs}
    return stages


def _outs(real: dict[str, dict[str, list[str]]], name: str, *, is_short: bool) -> list[str]:
    if is_short and name == "gate":
        return [out for stage in STAGES if stage not in {"ingest", "merge"} for out in real[stage]["outs"]]
    return real[name]["outs"]


def _ignored(*, is_short: bool) -> str:
    return "".join(f"/{out}\n" for stage in wired(is_short=is_short).values() for out in _strings(stage["outs"]))


def _strings(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(item) for item in value]


def _prepare(root: Path, *, is_short: bool) -> None:
    """Write every stage's files to `made/<stage>/files`, as the stage would leave them below the workspace."""
    whole = root / "whole"
    write_whole_line(whole)
    for name, stage in wired(is_short=is_short).items():
        for out in _strings(stage["outs"]):
            target = root / "made" / name / "files" / out
            target.parent.mkdir(parents=True, exist_ok=True)
            (whole / out).rename(target)
    shutil.rmtree(whole)
    write_json(root / "made" / "train" / "pace.json", FAKE_PACE)
    write_json(root / "made" / "merge" / "serving.json", FAKE_SERVING)


def write_whole_line(root: Path) -> None:
    """The files of a whole line that passed, with approvals of exactly the bytes beside them."""
    write_workspace(root)
    write_json(root / paths.BASE_RECORD, base_record())
    write_text(root / paths.BASE_TOKENIZER / "tokenizer.json", "{}\n")
    write_records(root / paths.BENCHMARK_ITEMS / paths.ITEMS, [], BenchmarkItem)
    messages = (Message(role="user", content="Where is my parcel?"), Message(role="assistant", content="{}"))
    example = Example(id="a-1", source="a", role="train", file="a.jsonl", line=1, messages=messages)
    for partition in (paths.TRAIN_EXAMPLES, paths.VALIDATION_EXAMPLES, paths.TEST_EXAMPLES):
        write_examples(root / partition, [example])
    write_text(root / paths.DATA_DOCS / "index.html", "<html></html>\n")
    _approve(root, paths.DATA_APPROVAL, "data", paths.SPLIT)
    write_text(root / paths.ADAPTER / "adapter_config.json", '{"r": 16}\n')
    (root / paths.ADAPTER / "adapter_model.safetensors").write_bytes(safetensors(b"adapter"))
    adapter = _approve(root, paths.ADAPTER_APPROVAL, "adapter", paths.ADAPTER)
    write_json(root / paths.TRAIN_METRICS, fake_metrics().model_copy(update={"adapter_digest": adapter}))
    write_json(root / paths.EVALUATE_BASE / paths.EVALUATION, evaluation("base", 0.0))
    write_json(root / paths.EVALUATE_CANDIDATE / paths.EVALUATION, evaluation("candidate", 0.75))
    write_json(root / paths.GATE_EVIDENCE, gate_evidence(adapter))
    write_verdict(root / paths.VERDICT, adapter, passed=True)
    write_model(root / paths.MERGED_MODEL)
    write_json(root / paths.PARITY, parity(_approve(root, paths.MERGED_APPROVAL, "merged_model", paths.MERGED_MODEL)))


def _approve(root: Path, approval: Path, subject: str, place: Path) -> str:
    digest = digest_path(root / place)
    fields = {"subject": subject, "digest": digest, "evidence": {}, "approved_by": "a test", "decision": "approved"}
    write_approval(root / approval, Approval.model_validate(fields))
    return digest


def safetensors(content: bytes) -> bytes:
    """The smallest file that begins as safetensors do."""
    return (2).to_bytes(8, "little") + b"{}" + content


def write_model(folder: Path) -> None:
    """A merged model that a release may carry."""
    write_text(folder / "config.json", '{"model_type": "llama"}\n')
    write_text(folder / "tokenizer_config.json", '{"eos_token": "<|im_end|>"}\n')
    write_text(folder / "chat_template.jinja", "{% for m in messages %}{{ m.content }}\n{% endfor %}")
    (folder / "model.safetensors").write_bytes(safetensors(b"merged"))


def base_record() -> BaseRecord:
    return BaseRecord(
        name="made/up", license="apache-2.0", origin={"source": "path", "path": "made"}, digest="b" * 64,
        files={"model.safetensors": "c" * 64}, chat_template_digest="d" * 64, weights="path:made",
    )  # fmt: skip


def evaluation(model: str, value: float) -> Evaluation:
    benchmark = Fingerprint(
        benchmark="ticket_routing", harness_version="0.4.13", definition_digest="e" * 64, num_fewshot=0, limit=None,
        chat_template_digest="d" * 64, dtype="float32", batch_size=64, max_length=256, seed=1,
    )  # fmt: skip
    score = Score(
        benchmark="ticket_routing", metric="exact_match", filter_name="none", value=value, stderr=0.1, samples=4,
        higher_is_better=True, per_sample=(1.0, 1.0, 1.0, 0.0) if value else (0.0, 0.0, 0.0, 0.0),
    )  # fmt: skip
    return Evaluation(
        model=model, weights_digest="f" * 64, adapter_digest=None, fingerprints=(benchmark,), scores=(score,)
    )


def parity(merged_digest: str) -> Parity:
    return Parity(
        prompts=1, positions=9, mean_kl=0.001, max_kl=0.01, top1_agreement=1.0, mean_abs_logit_difference=0.01,
        max_abs_logit_difference=0.1, passed=True, merged_digest=merged_digest,
    )  # fmt: skip


def gate_evidence(adapter_digest: str) -> GateEvidence:
    return GateEvidence(
        adapter_digest=adapter_digest,
        template_digest="d" * 64,
        contaminated=ContaminatedItems(checked={"ticket_routing": 4}, seen_by_base={}),
        figures={"contaminated_rows": 0.0, "pii_share": 0.0, "seen_items_share": 0.0},
    )


def write_verdict(path: Path, adapter_digest: str, *, passed: bool) -> None:
    write_json(path, fake_verdict(passed=passed).model_copy(update={"adapter_digest": adapter_digest}))


def let_gate_decide_nothing(root: Path) -> None:
    """Make the gate's verdict inconclusive, and commit that."""
    made = root / "made/gate/files"
    adapter = next((root / "made").rglob("adapter_model.safetensors")).parent
    verdict = inconclusive_record().verdict
    assert verdict is not None
    write_json(made / paths.VERDICT, verdict.model_copy(update={"adapter_digest": digest_path(adapter)}))
    commit(root, "decide nothing")


def let_gate_refuse(root: Path) -> None:
    """Make the gate's verdict a refusal, and commit that."""
    made = root / "made/gate/files"
    adapter = next((root / "made").rglob("adapter_model.safetensors")).parent
    write_verdict(made / paths.VERDICT, digest_path(adapter), passed=False)
    commit(root, "refuse")


def let(root: Path, stage: str, body: str) -> Path:
    """Let a stage run `body` (one statement; `times` counts its attempts) before it copies; returns the counter."""
    attempts = root.parent / f"{root.name}-{stage}-attempts"
    write_text(root / "made" / stage / "behave.py", BEHAVE.format(root=str(ROOT), attempts=str(attempts), body=body))
    commit(root, f"let {stage}")
    return attempts
