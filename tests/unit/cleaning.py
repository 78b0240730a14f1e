"""A tokenizer folder of a few bytes and the cleaning tools built on it, for the tests of cleaning."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from tasks.clean_batch import CleaningTools, build_tools
from tasks.params_data import CleanParams
from tests.unit.rows import CLEAN

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% if message.tool_calls %}{{ message.tool_calls | tojson }}{% endif %}<|im_end|>\n{% endfor %}"
)


def write_tokenizer(folder: Path, template: str = TEMPLATE) -> Path:
    """One token for each byte, three special ones, and `template`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({sign: index for index, sign in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in ("<|im_start|>", "<|im_end|>", "<pad>")])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "TokenizersBackend", "eos_token": "<|im_end|>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def with_params(**changed: Any) -> CleanParams:
    """The tests' parameters of cleaning, some of them changed."""
    return CleanParams.model_validate({**CLEAN.model_dump(), **changed})


def tools_with(folder: Path, template: str = TEMPLATE, **changed: Any) -> CleaningTools:
    """The cleaning tools of the tests' parameters, some of them changed."""
    return build_tools(with_params(**changed), write_tokenizer(folder, template))
