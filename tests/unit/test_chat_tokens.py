from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer

from tasks.chat_tokens import TemplateFailed, load_chat_tokens
from tasks.errors import FileInvalid
from tests.unit.cleaning import write_tokenizer
from tests.unit.rows import conversation, example


def test_a_row_is_rendered_as_transformers_does(tmp_path: Path) -> None:
    row = conversation("a", ("system", "s"), ("user", "héllo"), ("assistant", "yes"))
    tokenizer = AutoTokenizer.from_pretrained(write_tokenizer(tmp_path))
    messages = [message.for_template() for message in row.messages]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    chat = load_chat_tokens(tmp_path)
    assert chat.render(row) == rendered
    assert chat.count([rendered]) == [len(tokenizer(rendered, add_special_tokens=False)["input_ids"])]


def test_marks_are_one_token_and_text_is_a_token_a_byte(tmp_path: Path) -> None:
    # two marks, `user\n` 5, `hello` 5, `\n` 1; two marks, `assistant\n` 10, `ok` 2, `\n` 1
    chat = load_chat_tokens(write_tokenizer(tmp_path))
    assert chat.count([chat.render(example("a", "hello", "ok")), ""]) == [28, 0]


def test_special_tokens_are_those_marked_so_not_every_added_token(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False), AddedToken("    ", special=False)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    chat = load_chat_tokens(tmp_path)
    assert chat.special_tokens() == ("<pad>", "<|im_end|>", "<|im_start|>")
    assert chat.count(["<tool_call>"]) == [1]


def test_a_template_that_raises_says_so(tmp_path: Path) -> None:
    chat = load_chat_tokens(write_tokenizer(tmp_path, "{{ raise_exception('no such role') }}"))
    with pytest.raises(TemplateFailed, match="no such role"):
        chat.render(example("a"))


def test_a_folder_without_a_tokenizer_is_named_with_the_next_move(tmp_path: Path) -> None:
    with pytest.raises(FileInvalid, match="run `dvc repro base`"):
        load_chat_tokens(tmp_path)


def test_a_tokenizer_without_a_template_is_refused(tmp_path: Path) -> None:
    (write_tokenizer(tmp_path) / "chat_template.jinja").unlink()
    with pytest.raises(FileInvalid, match="no chat template"):
        load_chat_tokens(tmp_path)
