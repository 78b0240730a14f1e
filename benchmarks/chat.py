"""Claim: going from one adapter to another in `tunegate chat` takes 50 ms or less on the default model.

Needs a workspace in which stage `base` was run. Two adapters of the default shape stand in front of one copy of the
base; their weights are drawn, which costs what trained ones cost. Every switch is timed until the next model can
answer, and what that answers first is compared, to the last bit, with the same adapter loaded alone. Beside it: base
and adapter loaded anew, as a script that knows one model does it.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Claim, interleave, parse_arguments, show
from tasks import paths
from tasks.adapters import build_lora_config
from tasks.chat import Switchboard
from tasks.chat_plan import ChatBase, ChatPlan, Talker
from tasks.files import read_json
from tasks.models import attach_adapter, base_folder, load_for_inference, load_plain, load_tokenizer, resolve_dtype
from tasks.params import Params, load_params
from tasks.records import BaseRecord
from tests.merging import write_adapter

SWITCHES, QUICK_SWITCHES = 100, 10
LOADS, QUICK_LOADS = 5, 1
TEXT = "Where is my parcel?"


def make_plan(params: Params, record: BaseRecord, adapters: dict[str, Path]) -> ChatPlan:
    """The base and the adapters, as `tunegate chat` hands them over."""
    base = ChatBase(record=record, tokenizer=str(paths.BASE_TOKENIZER), quantization=params.quantization)
    models = [Talker(name=name, kind="adapter", folder=str(folder)) for name, folder in adapters.items()]
    models.append(Talker(name="base", kind="base", folder=None))
    return ChatPlan(base=base, compute=params.compute, models=tuple(models), system=None, max_new_tokens=1)


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """What the model says of every next token."""
    with torch.inference_mode():
        found: torch.Tensor = model(ids).logits
    return found


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments(__doc__ or "")
    params, record = load_params(), read_json(paths.BASE_RECORD, BaseRecord)
    folder, dtype = base_folder(record), resolve_dtype(params.compute.dtype)
    assert params.lora is not None
    ids = torch.tensor([load_tokenizer(folder)(TEXT)["input_ids"]])
    with tempfile.TemporaryDirectory() as scratch:
        adapters = {}
        for number, name in enumerate(("first", "second"), start=1):
            plain = load_plain(folder, torch.float32)
            config = build_lora_config(params.lora, plain)
            adapters[name] = write_adapter(Path(scratch) / name, plain, config, seed=number)
        alone = {}
        for name, place in adapters.items():
            loaded = attach_adapter(load_for_inference(folder, params.quantization, dtype), place).eval()
            alone[name] = logits(loaded, ids)
        board = Switchboard(make_plan(params, record, adapters))
        seconds: dict[str, list[float]] = {"adapter": [], "base": []}
        switches = QUICK_SWITCHES if arguments.quick else SWITCHES
        for _ in range(switches):
            for name in ("first", "second", "base"):
                talker = board.find(name)
                assert talker is not None
                done = board.use(talker)
                seconds[talker.kind].append(done.seconds)
                assert board.voice is not None
                if name in alone:
                    assert torch.equal(logits(board.voice.model, ids), alone[name])

        def load_anew() -> None:
            attach_adapter(load_for_inference(folder, params.quantization, dtype), adapters["first"]).eval()

        timings = interleave({"base and adapter loaded anew": load_anew}, QUICK_LOADS if arguments.quick else LOADS)
    claims = [
        Claim("switch to an adapter, the median", 1000 * statistics.median(seconds["adapter"]), "ms", 50, "max"),
    ]
    more = {
        f"ms to {kind}": {"median": 1000 * statistics.median(taken), "slowest": 1000 * max(taken)}
        for kind, taken in seconds.items()
    }
    print(more)
    show("switching models in one process", timings, claims, is_quick=arguments.quick, path=arguments.json, more=more)


if __name__ == "__main__":
    main()
