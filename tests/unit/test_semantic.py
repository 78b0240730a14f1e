import sys
from pathlib import Path

import numpy as np
import pytest
from model2vec import StaticModel
from tokenizers import Tokenizer, models, pre_tokenizers

from tasks import semantic
from tasks.errors import FileInvalid, Unavailable
from tasks.params_data import SemanticParams
from tasks.semantic import semantic_pairs
from tests.unit.rows import DEDUP, example
from tests.unit.test_dedup import search

VECTORS = {"[UNK]": (0, 0, 0), "car": (1, 0, 0), "auto": (1, 0.1, 0), "my": (0, 0, 0.1), "boat": (0, 1, 0)}


@pytest.fixture
def model(tmp_path: Path) -> SemanticParams:
    """A model of five words, in which a car is an auto."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(VECTORS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    StaticModel(np.array(list(VECTORS.values()), np.float32), tokenizer).save_pretrained(tmp_path / "model")
    return SemanticParams(model=str(tmp_path / "model"), revision=None, min_cosine=0.9)


def test_texts_that_mean_the_same_are_pairs(model: SemanticParams) -> None:
    ((left, right, cosine),) = semantic_pairs(["my car", "my boat", "my auto"], model)
    assert (left, right) == (0, 2)
    assert cosine == pytest.approx(0.995, abs=0.001)


def test_blocks_do_not_hide_pairs(model: SemanticParams, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["car", "boat", "auto", "car", "boat"]
    whole = [(left, right) for left, right, _ in semantic_pairs(texts, model)]
    monkeypatch.setattr(semantic, "BLOCK_ROWS", 2)
    assert sorted((left, right) for left, right, _ in semantic_pairs(texts, model)) == sorted(whole)
    assert sorted(whole) == [(0, 2), (0, 3), (1, 4), (2, 3)]


def test_texts_of_unknown_words_are_like_nothing(model: SemanticParams) -> None:
    assert list(semantic_pairs(["xyz", "xyz", "uvw"], model)) == []


def test_no_texts_have_no_pairs(model: SemanticParams) -> None:
    assert list(semantic_pairs([], model)) == []


def test_a_semantic_duplicate_leaves_with_the_row_that_stays(model: SemanticParams) -> None:
    rows = [
        example("a", "my car"),
        example("b", "my auto"),
        example("c", "my boat"),
        example("d", "my car", role="test"),
    ]
    found = search(*rows[:3], params=DEDUP.model_copy(update={"semantic": model}))
    assert [(entry.id, entry.rule, entry.value) for entry in found.entries] == [
        ("a", "semantic_duplicate", "b cosine 0.995")
    ]
    assert {member.id: member.cluster for member in found.clusters} == {"a": "a", "b": "a", "c": "c"}
    assert found.pairs == []
    with_test = search(*rows, params=DEDUP.model_copy(update={"semantic": model}))
    assert {entry.id: entry.rule for entry in with_test.entries} == {"a": "duplicate_of_test", "b": "duplicate_of_test"}


def test_a_missing_package_is_told_with_the_command(model: SemanticParams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model2vec", None)
    with pytest.raises(FileInvalid, match=r"run `pip install 'tunegate\[semantic\]'`"):
        list(semantic_pairs(["a"], model))


def test_a_folder_without_a_model_is_refused(model: SemanticParams, tmp_path: Path) -> None:
    wrong = model.model_copy(update={"model": str(tmp_path)})
    with pytest.raises(FileInvalid, match=r"dedup\.semantic\.model: no model\.safetensors in"):
        list(semantic_pairs(["a"], wrong))


def test_a_hub_that_does_not_answer_may_be_tried_again(model: SemanticParams, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    wrong = model.model_copy(update={"model": "who/what", "revision": "0" * 40})
    with pytest.raises(Unavailable, match="who/what@000000000000: no route"):
        list(semantic_pairs(["a"], wrong))
