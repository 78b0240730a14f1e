"""The stage `merge`: both sets of weights are measured, the closer one ships, and nothing ships that was refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks import merge, paths
from tasks.adapters import save_trained
from tasks.approvals import Approval, require_approval, write_approval
from tasks.digests import digest_path, digest_text, file_digests
from tasks.errors import MergeRefused, NotApproved, WorkspaceBusy
from tasks.files import parse_json, read_json, write_json
from tasks.merge_work import build_key, work_folder
from tasks.params import load_params
from tasks.records import Parity, SupervisionAudit
from tests.merging import lora, write_adapter
from tests.tiny_workspace import make_workspace
from tests.unit.tiny_model import TEMPLATE, make_model

OLD = """{"prompts": 32, "positions": 470, "mean_kl": 5.7e-06, "max_kl": 0.0002, "top1_agreement": 1.0,
"mean_abs_logit_difference": 0.05, "max_abs_logit_difference": 0.3, "passed": true, "merged_digest": "dc10"}"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace in which everything before `merge` is done: a 4-bit base, and an approved adapter for it."""
    root = make_workspace(tmp_path / "workspace")
    monkeypatch.chdir(root)
    monkeypatch.delenv(paths.STATE_VARIABLE, raising=False)
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    write_adapter(paths.ADAPTER, make_model(hidden_size=64), lora(target_modules=layers))
    approve(paths.ADAPTER)
    audit = SupervisionAudit(
        rows=1, max_length=8, trained_tokens=1, fewest_trained_tokens=1, median_trained_tokens=1, most_trained_tokens=1,
        rows_without_trained_tokens=0, rows_without_stop_token=0, stop_token="<end>", generation_stop_tokens=(1,),
        template_digest=digest_text(TEMPLATE), checks=(), examples=(),
    )  # fmt: skip
    write_json(paths.SUPERVISION, audit)
    return root


def approve(adapter: Path) -> None:
    approval = Approval(
        subject="adapter", digest=digest_path(adapter), evidence={}, approved_by="gate", decision="approved"
    )
    write_approval(paths.ADAPTER_APPROVAL, approval)


def change_params(**changed: Any) -> None:
    text = paths.PARAMS.read_text(encoding="utf-8")
    for name, value in changed.items():
        (old,) = [line for line in text.splitlines() if line.strip().startswith(f"{name}:")]
        text = text.replace(old, f"  {name}: {value}")
    paths.PARAMS.write_text(text, encoding="utf-8")


def parity() -> Parity:
    return read_json(paths.PARITY, Parity)


def test_both_sets_of_weights_are_measured_and_the_closer_one_ships(workspace: Path) -> None:
    merge.main()
    found = parity()
    dequantized, original = found.candidates
    assert (dequantized.merged_from, original.merged_from) == ("dequantized", "original")
    assert dequantized.mean_kl < 1e-4 < original.mean_kl
    assert (found.merged_from, found.mean_kl, found.prompts) == ("dequantized", dequantized.mean_kl, 4)
    assert dequantized.greedy_texts == original.greedy_texts == 4
    assert dequantized.merged_digest != original.merged_digest
    assert found.merged_digest == dequantized.merged_digest == digest_path(paths.MERGED_MODEL)
    require_approval(paths.MERGED_APPROVAL, paths.MERGED_MODEL, "")


def test_the_same_inputs_give_the_same_files_and_leave_nothing_else(workspace: Path) -> None:
    merge.main()
    first = file_digests(paths.MERGE)
    merge.main()
    assert file_digests(paths.MERGE) == first
    assert not list((paths.STATE / "merge").iterdir())


def test_a_base_that_is_not_quantised_has_one_candidate(workspace: Path) -> None:
    params = load_params()
    assert list(merge.candidates_of(paths.ADAPTER, params.quantization)) == ["dequantized", "original"]
    assert list(merge.candidates_of(paths.ADAPTER, None)) == ["original"]


def test_what_full_trained_is_the_model_and_keeps_its_weights(workspace: Path) -> None:
    save_trained(make_model(hidden_size=64), "base", torch.float32, None, paths.ADAPTER)
    assert list(merge.candidates_of(paths.ADAPTER, load_params().quantization)) == ["trained"]
    approve(paths.ADAPTER)
    merge.main()
    assert (parity().merged_from, parity().top1_agreement) == ("trained", 1.0)


def test_beyond_the_limit_the_model_is_refused_and_so_is_its_approval(workspace: Path) -> None:
    change_params(max_mean_kl=1e-12)
    with pytest.raises(MergeRefused, match="does not answer as base plus adapter"):
        merge.main()
    assert not parity().passed
    with pytest.raises(NotApproved, match="was refused by merge"):
        require_approval(paths.MERGED_APPROVAL, paths.MERGED_MODEL, "")


def test_another_adapter_than_the_gate_approved_is_not_merged(workspace: Path) -> None:
    config = paths.ADAPTER / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text(encoding="utf-8")) | {"lora_alpha": 99}), encoding="utf-8")
    with pytest.raises(NotApproved):
        merge.main()
    assert not paths.MERGE.exists()


def test_a_template_other_than_that_of_the_training_is_refused(workspace: Path) -> None:
    audit = read_json(paths.SUPERVISION, SupervisionAudit)
    write_json(paths.SUPERVISION, audit.model_copy(update={"template_digest": "0" * 64}))
    with pytest.raises(MergeRefused, match="trained with 000000000000"):
        merge.main()


def test_what_failed_goes_on_where_it_was(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("killed here")

    with monkeypatch.context() as patched:
        patched.setattr("tasks.merge.measure", fail)
        with pytest.raises(RuntimeError):
            merge.main()
    assert not paths.MERGED_MODEL.exists()
    capsys.readouterr()
    merge.main()
    assert capsys.readouterr().out.count("was written before, its digest is right") == 2
    assert parity().passed


def test_what_a_merge_of_other_inputs_has_left_is_removed_unless_it_is_at_work(workspace: Path) -> None:
    with pytest.raises(RuntimeError), work_folder("left"):
        raise RuntimeError
    with work_folder("busy"):
        assert not (paths.STATE / "merge/left").exists()
        with work_folder("ours"):
            assert (paths.STATE / "merge/busy").is_dir()
        with pytest.raises(WorkspaceBusy, match="the same merge is running"), work_folder("busy"):
            pass


def test_the_key_of_a_merge_is_of_its_inputs() -> None:
    assert build_key({"base": "a"}) == build_key({"base": "a"})
    assert build_key({"base": "a"}) != build_key({"base": "b"})


def test_a_report_of_before_there_were_two_candidates_is_read() -> None:
    found = parse_json(OLD, Parity, "old")
    assert (found.merged_from, found.candidates) == (None, ())
