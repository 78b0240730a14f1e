"""Talk to the base, to adapters in front of it and to merged models in one process; not a stage, nothing is written.

`python -m tasks.chat PLAN` reads a `ChatPlan` and then lines from standard input: what is said to the model, or a
command. Base and adapters share one copy of the base's weights, so that going from one adapter to another moves no
weight; a merged model is loaded when it is first asked for, and stays.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import GenerationConfig, PreTrainedTokenizerBase, TextStreamer

from tasks.chat_plan import ChatBase, ChatPlan, Talker
from tasks.entry import run_stage
from tasks.files import read_json
from tasks.models import (
    attach_adapter,
    base_folder,
    load_for_inference,
    load_plain,
    load_tokenizer,
    resolve_dtype,
    set_threads,
)
from tasks.quiet import quiet
from tasks.supervision import generation_stop_tokens

HELP = """\
/models          what can be talked to
/use NAME        talk to another one, by name or number; the conversation begins anew
/again           say the last thing again, to whom you talk to now
/system [TEXT]   set the system prompt, or take it away; the conversation begins anew
/reset           begin the conversation anew
/quit            leave; so does the end of the input"""
Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Voice:
    """A model that is loaded, how it is spoken to, and the tokens that end what it says."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    stops: tuple[int, ...]


@dataclass(frozen=True)
class Switched:
    """How long it took until another model could answer; `load_seconds` is None where nothing had to be loaded."""

    load_seconds: float | None
    seconds: float


@dataclass(frozen=True)
class Answer:
    """What a model said, and what that took."""

    text: str
    tokens: int
    seconds: float


class Switchboard:
    """The models of a plan, one of which answers."""

    def __init__(self, plan: ChatPlan) -> None:
        self._plan = plan
        self._dtype = resolve_dtype(plan.compute.dtype)
        self._merged: dict[str, Voice] = {}
        self._shared: Voice | None = None
        self._without_adapter = ExitStack()
        self.voice: Voice | None = None
        self.current = plan.models[0]

    def find(self, wanted: str) -> Talker | None:
        """The model of that name or number, counted from 1; None where there is none."""
        models = self._plan.models
        if wanted.isdecimal() and 1 <= int(wanted) <= len(models):
            return models[int(wanted) - 1]
        return next((model for model in models if model.name == wanted), None)

    def use(self, talker: Talker) -> Switched:
        """Let `talker` answer from now on.

        Raises:
            BaseInvalid: the base's weights are missing or changed.
        """
        started = time.perf_counter()
        is_new = self._load(talker)
        loaded = time.perf_counter()
        self._switch(talker)
        return Switched(loaded - started if is_new else None, time.perf_counter() - loaded)

    def _load(self, talker: Talker) -> bool:
        """Whether anything had to be loaded before `talker` can answer."""
        if talker.kind == "merged":
            if talker.name in self._merged:
                return False
            folder = Path(str(talker.folder))
            self._merged[talker.name] = _voice(load_plain(folder, self._dtype).eval(), folder)
            return True
        if self._shared is not None or self._plan.base is None:
            return False
        self._shared = self._load_shared(self._plan.base)
        return True

    def _load_shared(self, base: ChatBase) -> Voice:
        """The base with every adapter in front of it, none of them active yet."""
        model: Any = load_for_inference(base_folder(base.record), base.quantization, self._dtype)
        for number, talker in enumerate(self._adapters()):
            folder = Path(str(talker.folder))
            if number == 0:
                model = attach_adapter(model, folder)
            else:
                model.load_adapter(folder, _slot(number), autocast_adapter_dtype=True)
        return _voice(model.eval(), Path(base.tokenizer))

    def _switch(self, talker: Talker) -> None:
        self.current = talker
        if talker.kind == "merged":
            self.voice = self._merged[talker.name]
            return
        self.voice = self._shared
        adapters = self._adapters()
        if self._shared is None or not adapters:
            return
        self._without_adapter.close()
        if talker.kind == "base":
            self._without_adapter.enter_context(self._shared.model.disable_adapter())
        else:
            self._shared.model.set_adapter(_slot(adapters.index(talker)))

    def _adapters(self) -> list[Talker]:
        return [model for model in self._plan.models if model.kind == "adapter"]

    def answer(self, messages: Messages, *, is_shown: bool = True) -> Answer:
        """What the current model says, always its first choice, shown as it comes; `use` is called before.

        Raises:
            TemplateError: the chat template does not take these messages.
        """
        voice = self.voice
        if voice is None:
            self.use(self.current)
            return self.answer(messages, is_shown=is_shown)
        tokenizer: Any = voice.tokenizer
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        read = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").to(voice.model.device)
        options = GenerationConfig(
            do_sample=False,
            max_new_tokens=self._plan.max_new_tokens,
            eos_token_id=list(voice.stops),
            pad_token_id=tokenizer.pad_token_id,
        )
        streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True) if is_shown else None
        started = time.perf_counter()
        with torch.inference_mode():
            written = voice.model.generate(
                input_ids=read["input_ids"],
                attention_mask=read["attention_mask"],
                generation_config=options,
                streamer=streamer,
            )[0, read["input_ids"].shape[1] :]
        seconds = time.perf_counter() - started
        return Answer(tokenizer.decode(written, skip_special_tokens=True).strip(), len(written), seconds)


def _slot(number: int) -> str:
    """What PEFT calls an adapter: the names of people may have dots, which those of modules may not."""
    return "default" if number == 0 else f"adapter{number}"


def _voice(model: Any, folder: Path) -> Voice:
    tokenizer = load_tokenizer(folder)
    stops = {*generation_stop_tokens(folder), tokenizer.eos_token_id}
    return Voice(model, tokenizer, tuple(sorted(stop for stop in stops if stop is not None)))


class Chat:
    """A conversation with one model at a time, and the commands of whoever leads it."""

    def __init__(self, plan: ChatPlan, board: Switchboard) -> None:
        self._plan = plan
        self._board = board
        self._system = plan.system
        self._said: Messages = []
        self._last: str | None = None

    def take(self, line: str) -> bool:
        """Do what a line asks for; whether the conversation goes on."""
        if not line.startswith("/"):
            self._say(line)
            return True
        command, _, rest = line.partition(" ")
        commands: dict[str, Callable[[], None]] = {
            "/models": self._list_models,
            "/use": lambda: self.use(rest.strip()),
            "/again": self._say_again,
            "/system": lambda: self._set_system(rest.strip() or None),
            "/reset": self._said.clear,
            "/help": lambda: _tell(HELP),
        }
        if command == "/quit":
            return False
        commands.get(command, lambda: _tell(f"{command}: no such command\n{HELP}"))()
        return True

    def use(self, wanted: str) -> None:
        """Go over to another model, and tell what that took."""
        talker = self._board.find(wanted)
        if talker is None:
            _tell(f"{wanted or '/use'}: no such model")
            self._list_models()
            return
        done = self._board.use(talker)
        self._said.clear()
        loaded = "" if done.load_seconds is None else f", after {done.load_seconds:.1f} s of loading"
        _tell(f"{talker.name} answers now: switched in {1000 * done.seconds:.1f} ms{loaded}")

    def _list_models(self) -> None:
        for number, model in enumerate(self._plan.models, start=1):
            sign = "*" if model == self._board.current else " "
            _tell(f"{sign} {number}  {model.name}  ({model.kind})")

    def _set_system(self, text: str | None) -> None:
        self._system = text
        self._said.clear()
        _tell(f"system prompt: {text or 'none'}")

    def _say_again(self) -> None:
        if self._last is None:
            _tell("/again: nothing was said yet")
        else:
            self._said.clear()
            self._say(self._last)

    def _say(self, text: str) -> None:
        self._last = text
        asked = [*self._said, {"role": "user", "content": text}]
        before = [] if self._system is None else [{"role": "system", "content": self._system}]
        try:
            answer = self._board.answer([*before, *asked])
        except TemplateError as error:
            _tell(f"the chat template does not take this: {error}; /reset, or another /system")
            return
        self._said = [*asked, {"role": "assistant", "content": answer.text}]
        _tell(f"({self._board.current.name}: {answer.tokens} tokens, {answer.seconds:.1f} s)")


def _tell(text: str) -> None:
    print(text, flush=True)


def typed_lines() -> Iterator[str]:
    """What is typed, or comes through a pipe; ^C at the prompt ends it."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    while True:
        try:
            yield input("> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return


def converse(plan: ChatPlan, lines: Iterable[str]) -> None:
    """Answer every line until there are no more, or one says to leave; ^C stops an answer and not the conversation."""
    chat = Chat(plan, Switchboard(plan))
    chat.use("1")
    for line in (line.strip() for line in lines):
        try:
            if line and not chat.take(line):
                return
        except KeyboardInterrupt:
            _tell("\nstopped")


def main() -> None:
    """Talk as the plan that is named on the command line says."""
    quiet()
    plan = read_json(Path(sys.argv[1]), ChatPlan)
    set_threads(plan.compute)
    converse(plan, typed_lines())


if __name__ == "__main__":
    run_stage(main)
