"""What `tunegate plan` says of memory, cost and this machine, and what a run refuses or warns of before it starts."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from flows import base_shape, cli, machine
from flows.base_shape import ShapeUnknown, find_shape
from flows.plan import make_plan, memory_warning
from flows.preflight import check_machine
from tasks import paths
from tasks.errors import BaseInvalid, FileInvalid, ParamsInvalid
from tasks.files import write_json, write_text
from tasks.params import Params, load_params
from tasks.records import BaseRecord
from tests.flows.fake_run import passed_record
from tests.flows.test_cli import put_on_record
from tests.flows.tiny_line import ROOT, base_record

LLAMA = ROOT / "params/shapes/llama-3.1-8b.json"
SMALL = {
    "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 16, "vocab_size": 10,
}  # fmt: skip


@pytest.fixture
def home(short_line: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository without runs as the current folder, on a machine of 16 GB without a GPU."""
    monkeypatch.chdir(short_line)
    monkeypatch.setattr(machine, "has_cuda", lambda: False)
    monkeypatch.setattr(machine, "memory_bytes", lambda: 16 * 10**9)
    return short_line


def ask(*words: str) -> str:
    result = CliRunner().invoke(cli.app, ["plan", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def default() -> Params:
    return load_params(ROOT / "params.yaml")


def write_base(root: Path, record: BaseRecord) -> None:
    write_json(root / paths.BASE_RECORD, record)
    write_text(root / paths.BASE_TOKENIZER / "config.json", json.dumps(SMALL))


def of_the_default() -> BaseRecord:
    base, origin = default().base_model, default().base_model.origin.model_dump()
    kept = {key: origin[key] for key in ("source", "requirement", "wheel_sha256")}
    return base_record().model_copy(update={"name": base.name, "origin": kept})


def test_the_plan_has_a_row_for_each_method_and_device_and_says_where_it_fits(home: Path) -> None:
    said = ask("--config", str(LLAMA))
    rows = {" ".join(line.split()[: 4 if "*" in line else 3]): line for line in said.splitlines() if " on " in line}
    assert [name for name in rows if "GPU" in name or "CPU" in name][:3] == [
        "full on GPU",
        "lora on GPU",
        "qlora on GPU *",
    ]
    assert rows["full on GPU"].split()[-6:] == ["no"] * 6
    assert rows["qlora on GPU *"].split()[-6:] == ["no", "yes", "yes", "yes", "yes", "yes"]
    assert rows["full on CPU"].split()[-2:] == ["138.02", "no"]
    assert "trained: 41,943,040 weights beside or of the base's 8,030,261,248 (0.52%)" in said
    assert "to fit a GPU of 8 GB: train.activation_checkpointing: true" in said


def test_without_the_base_the_plan_says_what_to_run_and_still_shows_the_rest(home: Path) -> None:
    said = " ".join(ask().split())
    assert "memory: not known: HuggingFaceTB/SmolLM2-135M-Instruct has not been fetched here yet:" in said
    assert "`tunegate run --until base` does it once; or give its config.json with --config" in said
    assert "steps: 1, for 1 examples (at most, by the sources' lines)" in said


def test_the_plan_as_json_has_the_stages_and_every_figure(home: Path) -> None:
    found = json.loads(ask("--json", "--config", str(LLAMA)))
    assert [stage["stage"] for stage in found["stages"]] == ["ingest", "gate", "merge"]
    assert found["stages"][0]["would"] == "run"
    assert [(row["device"], row["method"], row["is_chosen"]) for row in found["memory"]][2] == ("GPU", "qlora", True)
    assert found["memory"][2]["fits"] == {
        "8 GB": False, "16 GB": True, "24 GB": True, "40 GB": True, "48 GB": True, "80 GB": True,
    }  # fmt: skip
    assert found["disk"]["merge"] == 2 * 8_030_261_248
    assert found["unknown"] is None


def test_unusual_values_and_what_this_machine_cannot_do_are_told(home: Path) -> None:
    params = default()
    train = params.train.model_copy(update={"learning_rate": 0.5, "optim": "paged_adamw_8bit"})
    plan = make_plan(home, params.model_copy(update={"train": train}), LLAMA)
    assert [note.split(",")[0] for note in plan.unusual] == [
        "train.learning_rate of qlora is 0.5",
        "examples in a step (batch size x accumulation x processes) is 4",
    ]
    assert [problem.split(";")[0] for problem in plan.impossible] == [
        "train.optim: paged_adamw_8bit pages to a GPU's host memory"
    ]


@pytest.mark.parametrize("profile", sorted((ROOT / "params").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_profile_is_planned(home: Path, profile: Path) -> None:
    shape = "llama-3.1-70b" if profile.stem.startswith("70b") else "llama-3.1-8b"
    said = ask("--params", str(profile), "--config", str(ROOT / f"params/shapes/{shape}.json"))
    assert "memory of training, in GB" in said


def test_the_shape_is_what_base_wrote_in_the_workspace_for_this_model_alone(home: Path) -> None:
    write_base(home, of_the_default())
    assert find_shape(home, default(), None).hidden_size == 8
    write_base(home, base_record())
    with pytest.raises(ShapeUnknown, match="has not been fetched here yet"):
        find_shape(home, default(), None)


def test_the_shape_of_a_folder_is_read_there(home: Path, tmp_path: Path) -> None:
    write_text(tmp_path / "model/config.json", json.dumps(SMALL))
    origin = {"source": "path", "path": str(tmp_path / "model")}
    values = default().model_dump(by_alias=True)
    values["base_model"]["origin"] = origin
    assert find_shape(home, Params.model_validate(values), None).vocab_size == 10


def test_the_hub_is_asked_for_the_config_alone_and_may_be_away(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(home / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    text = (ROOT / "params/8b-qlora-24gb.yaml").read_text(encoding="utf-8")
    write_text(home / "chosen.yaml", text.replace("0" * 40, "1" * 40))
    profile = load_params(home / "chosen.yaml")
    with pytest.raises(
        ShapeUnknown, match=r"Llama-3\.1-8B-Instruct@111111111111: its config\.json cannot be fetched: "
    ):
        find_shape(home, profile, None)
    known = {("meta-llama/Llama-3.1-8B-Instruct", "1" * 40): LLAMA}
    monkeypatch.setattr(base_shape, "fetch_config", lambda *words: known[words])
    assert find_shape(home, profile, None).hidden_size == 4096


def test_for_the_zeros_of_a_profile_the_hub_is_not_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_shape, "fetch_config", lambda *_: pytest.fail("the Hub was asked"))
    with pytest.raises(ShapeUnknown, match=r"revision: 0{40} stands for a commit that you choose: write the commit of"):
        find_shape(home, load_params(ROOT / "params/8b-qlora-24gb.yaml"), None)


@pytest.mark.parametrize("text", [None, "# a model card\n", "{}"])
def test_a_config_that_was_named_and_is_none_ends_the_command(home: Path, text: str | None) -> None:
    if text is not None:
        write_text(home / "config.json", text)
    result = CliRunner().invoke(cli.app, ["plan", "--config", str(home / "config.json")])
    assert isinstance(result.exception, FileInvalid)


def test_steps_and_time_come_from_the_last_run_that_trained_on_the_same_sources(home: Path) -> None:
    record = passed_record()
    same = load_params(home / "params.yaml").model_dump(mode="json", by_alias=True)
    place = record.model_copy(update={"run_id": "20261120-081502-3f9c", "params": same})
    put_on_record(home, place)
    plan = make_plan(home, load_params(home / "params.yaml"), LLAMA)
    assert plan.examples_from in {"as in run 20261120-081502-3f9c", "at most, by the sources' lines"}


def test_a_run_is_refused_what_needs_a_gpu_before_it_starts_and_only_where_it_trains(home: Path) -> None:
    text = (home / "params.yaml").read_text(encoding="utf-8")
    (home / "params.yaml").write_text(text.replace("optim: adamw_torch", "optim: paged_adamw_8bit"), encoding="utf-8")
    params = load_params(home / "params.yaml")
    with pytest.raises(ParamsInvalid, match=r"no CUDA device: nothing was started\n  train\.optim: paged_adamw_8bit"):
        check_machine(home, params)
    check_machine(home, params, until="ingest")


def test_a_profile_with_zeros_for_a_commit_is_not_run(home: Path) -> None:
    with pytest.raises(
        BaseInvalid, match=r"revision: 0{40} stands for a commit that you choose; nothing was\s+started"
    ):
        check_machine(home, load_params(ROOT / "params/8b-qlora-24gb.yaml"))


@pytest.mark.parametrize(("gigabytes", "warns"), [(1, True), (16, False)])
def test_a_run_that_will_hardly_fit_is_warned_of(
    home: Path, monkeypatch: pytest.MonkeyPatch, gigabytes: int, warns: bool
) -> None:
    write_base(home, of_the_default())
    monkeypatch.setattr(machine, "memory_bytes", lambda: machine.PROCESS_BYTES + (gigabytes - 1) * 10**9 + 1000)
    warning = memory_warning(home, default())
    assert (warning is not None) == warns
    if warning is not None:
        assert "`tunegate plan` says what would make it fit" in warning


@pytest.mark.parametrize(("items", "warns"), [(20, True), (224, False)])
def test_a_margin_that_the_items_can_hardly_decide_is_noted(home: Path, items: int, warns: bool) -> None:
    write_text(home / paths.EVALS / "ticket_routing/items.jsonl", "{}\n" * items)
    said = " ".join(ask().split())
    note = "note: gate.rules ticket_routing exact_match: max_loss_from_champion 0.1 can hardly be decided by its 20"
    assert (note in said) == warns


def test_an_unknown_base_is_nothing_to_warn_of(home: Path) -> None:
    assert memory_warning(home, default()) is None


Smi = Callable[[str, int], None]


@pytest.fixture
def smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Smi:
    """Let `nvidia-smi` say this; no control device is there."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine, "CONTROL_DEVICE", tmp_path / "nvidiactl")

    def say(text: str, code: int = 0) -> None:
        monkeypatch.setattr("flows.machine.shutil.which", lambda _name: "/usr/bin/nvidia-smi")
        done = SimpleNamespace(stdout=text, returncode=code)
        monkeypatch.setattr("flows.machine.subprocess.run", lambda *_words, **_options: done)

    return say


def test_a_gpu_is_found_by_the_tool_or_the_control_device_and_may_be_hidden(
    smi: Smi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.machine.shutil.which", lambda _name: None)
    assert not machine.has_cuda()
    smi("81559\n24564\n", 0)
    assert machine.has_cuda()
    assert machine.training_bytes(is_cuda=True) == 24564 * 2**20
    smi("NVIDIA-SMI has failed", 9)
    assert not machine.has_cuda()
    machine.CONTROL_DEVICE.touch()
    assert machine.has_cuda()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not machine.has_cuda()


def test_a_containers_limit_counts_as_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "CGROUP_LIMITS", (limit,))
    physical = machine.memory_bytes()
    limit.write_text("2000000000\n", encoding="utf-8")
    assert machine.memory_bytes() == 2_000_000_000
    limit.write_text("max\n", encoding="utf-8")
    assert machine.memory_bytes() == physical
