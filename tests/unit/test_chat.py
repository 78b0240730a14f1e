"""Base, two adapters and a merged model of a few thousand weights, talked to in one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tasks import chat
from tasks.chat import Answer, Switchboard, converse
from tasks.chat_plan import ChatBase, ChatPlan, Talker
from tasks.digests import combine_digests, file_digests
from tasks.files import write_json
from tasks.merge_model import Merge, write_merged
from tasks.models import load_candidate, load_plain, load_tokenizer
from tasks.params_train import ComputeParams
from tasks.records import BaseRecord
from tests.contract.imports import ROOT
from tests.merging import PARAMS, llama, lora, write_adapter, write_base

COMPUTE = ComputeParams(dtype="float32", threads=1, num_processes=1, sharding="none")
IDS = torch.tensor([[8, 2, 3, 4, 1]])


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> ChatPlan:
    """Names with dots, as those of releases have them."""
    root = tmp_path_factory.mktemp("chat")
    base = write_base(root / "base", llama())
    one, two = (write_adapter(root / name, llama(), lora(), seed=seed) for name, seed in (("one", 1), ("two", 2)))
    merging = PARAMS.merge.model_copy(update={"dtype": "float32"})
    write_merged(Merge(base, one, None, merging, load_tokenizer(base)), root / "merged", root / "receipts", "merged")
    files = file_digests(base)
    record = BaseRecord(
        name="tiny", license="mit", origin={}, digest=combine_digests(files), files=files, chat_template_digest="",
        weights=f"path:{base}",
    )  # fmt: skip
    models = (
        Talker(name="one@v0.0.1:merged", kind="merged", folder=str(root / "merged")),
        Talker(name="one@v0.0.1", kind="adapter", folder=str(one)),
        Talker(name="two@v0.0.1", kind="adapter", folder=str(two)),
        Talker(name="base", kind="base", folder=None),
    )
    return ChatPlan(
        base=ChatBase(record=record, tokenizer=str(base), quantization=None),
        compute=COMPUTE, models=models, system=None, max_new_tokens=3,
    )  # fmt: skip


def folder(plan: ChatPlan, number: int) -> Path:
    return Path(str(plan.models[number - 1].folder))


def base_of(plan: ChatPlan) -> Path:
    assert plan.base is not None
    return Path(plan.base.tokenizer)


def logits(model: object) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(IDS).logits  # type: ignore[operator]
    return found


def test_each_answers_as_if_it_were_loaded_alone_whatever_answered_before(plan: ChatPlan) -> None:
    base = base_of(plan)
    alone = {
        "one@v0.0.1:merged": logits(load_plain(folder(plan, 1), torch.float32)),
        "one@v0.0.1": logits(load_candidate(base, folder(plan, 2), None, torch.float32)),
        "two@v0.0.1": logits(load_candidate(base, folder(plan, 3), None, torch.float32)),
        "base": logits(load_plain(base, torch.float32)),
    }
    assert not torch.allclose(alone["one@v0.0.1"], alone["two@v0.0.1"], atol=1e-3)
    board = Switchboard(plan)
    for wanted in ("base", "two@v0.0.1", "1", "2", "base", "base", "3", "2", "1"):
        talker = board.find(wanted)
        assert talker is not None
        board.use(talker)
        assert board.voice is not None
        assert torch.equal(logits(board.voice.model), alone[talker.name]), wanted


def test_only_the_first_switch_to_a_model_loads_and_adapters_come_with_the_base(plan: ChatPlan) -> None:
    board = Switchboard(plan)
    loads = [board.use(plan.models[number - 1]).load_seconds is not None for number in (1, 3, 2, 4, 1, 3)]
    assert loads == [True, True, False, False, False, False]


def test_an_answer_ends_at_the_stop_tokens_of_the_folder_or_at_the_longest_that_is_allowed(
    plan: ChatPlan, tmp_path: Path
) -> None:
    board = Switchboard(plan)
    asked = [{"role": "user", "content": "route this ticket please"}]
    long = board.answer(asked, is_shown=False)
    assert long.tokens == 3
    assert board.voice is not None
    first = board.voice.tokenizer.convert_tokens_to_ids(long.text.split()[0])
    merged = tmp_path / "merged"
    merged.mkdir()
    for path in folder(plan, 1).iterdir():
        (merged / path.name).write_bytes(path.read_bytes())
    (merged / "generation_config.json").write_text(json.dumps({"eos_token_id": [first]}), encoding="utf-8")
    other = plan.model_copy(update={"models": (plan.models[0].model_copy(update={"folder": str(merged)}),)})
    assert Switchboard(other).answer(asked, is_shown=False).tokens == 1


def said(plan: ChatPlan, monkeypatch: pytest.MonkeyPatch, *lines: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Whom the model was that answered, and what it was given, for each answer of a conversation."""
    found = []

    def answer(board: Switchboard, messages: chat.Messages) -> Answer:
        found.append((board.current.name, [(message["role"], message["content"]) for message in messages]))
        return Answer("billing", 1, 0.1)

    monkeypatch.setattr(Switchboard, "answer", answer)
    converse(plan, [f"{line}\n" for line in lines])
    return found


def test_a_conversation_goes_on_until_a_switch_and_again_asks_the_next_model_the_same(
    plan: ChatPlan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = said(
        plan, monkeypatch, "route this", "", "please", "/use base", "/again", "/system ticket", "/again", "/quit", "no"
    )
    user, first = ("user", "please"), [("user", "route this")]
    assert found == [
        ("one@v0.0.1:merged", first),
        ("one@v0.0.1:merged", [*first, ("assistant", "billing"), user]),
        ("base", [user]),
        ("base", [("system", "ticket"), user]),
    ]
    told = capsys.readouterr().out
    assert "one@v0.0.1:merged answers now: switched in " in told
    assert "base answers now: switched in " in told
    assert "(base: 1 tokens, 0.1 s)\n" in told


def test_the_system_prompt_of_the_plan_is_there_from_the_start_and_can_be_taken_away(
    plan: ChatPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_system = plan.model_copy(update={"system": "route"})
    found = said(with_system, monkeypatch, "this", "/system", "this")
    assert [messages for _, messages in found] == [[("system", "route"), ("user", "this")], [("user", "this")]]


def test_what_is_not_there_is_told_with_what_is(
    plan: ChatPlan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said(plan, monkeypatch, "/use three", "/use 5", "/jump", "/again", "/models")
    told = capsys.readouterr().out
    assert "three: no such model\n* 1  one@v0.0.1:merged  (merged)\n  2  one@v0.0.1  (adapter)\n" in told
    assert "5: no such model\n" in told
    assert "/jump: no such command\n/models " in told
    assert "/again: nothing was said yet\n" in told


def test_a_template_that_refuses_a_turn_is_told_and_the_conversation_goes_on(
    plan: ChatPlan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    merged = tmp_path / "merged"
    merged.mkdir()
    for path in folder(plan, 1).iterdir():
        (merged / path.name).write_bytes(path.read_bytes())
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}user assistant "
    (merged / "chat_template.jinja").write_text(template, encoding="utf-8")
    other = plan.model_copy(update={"models": (plan.models[0].model_copy(update={"folder": str(merged)}),)})
    converse(other, ["/system route", "this", "/system", "this"])
    told = capsys.readouterr().out
    assert "the chat template does not take this: no system here; /reset, or another /system\n" in told
    assert told.count(" tokens, ") == 1


def test_lines_of_a_pipe_are_answered_by_the_process(plan: ChatPlan, tmp_path: Path) -> None:
    write_json(tmp_path / "plan.json", plan)
    done = subprocess.run(
        [sys.executable, "-m", "tasks.chat", str(tmp_path / "plan.json")], cwd=ROOT, capture_output=True, text=True,
        input="route this\n/use two@v0.0.1\n/use one@v0.0.1\nthis ticket\n", check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(" answers now: switched in ") == 3
    assert "(one@v0.0.1: 3 tokens, " in done.stdout
