import hashlib
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import json_arrays
from tasks.json_arrays import read_elements
from tasks.raw_rows import KEPT_BYTES, MAX_ROW_BYTES, FileBroken

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.text('"\\[]{},\n'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def found(content: bytes) -> list[tuple[int, bytes]]:
    return [(element.line, element.raw) for element in read_elements(io.BytesIO(content))]


def test_elements_come_with_their_lines_and_bytes() -> None:
    assert found(b'\xef\xbb\xbf\n[{"a": 1},\n\n {"b": [1, "],"]} , 7]\n') == [
        (2, b'{"a": 1}'),
        (4, b'{"b": [1, "],"]}'),
        (4, b"7"),
    ]


def test_lines_inside_an_element_are_counted_too() -> None:
    assert found(b'[{\n"a": 1\n},\n{"b": 2}]') == [(1, b'{\n"a": 1\n}'), (4, b'{"b": 2}')]


@pytest.mark.parametrize("chunk_bytes", range(1, 12))
def test_an_escape_at_the_end_of_a_chunk_is_one(chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_arrays, "_CHUNK_BYTES", chunk_bytes)
    assert found(rb'["a\"],[", 1]') == [(1, rb'"a\"],["'), (1, b"1")]


def test_the_digest_is_that_of_the_element_alone() -> None:
    (element,) = read_elements(io.BytesIO(b'[ {"a": 1} ]'))
    assert element.digest == hashlib.sha256(b'{"a": 1}').hexdigest()


def test_an_empty_array_has_no_elements() -> None:
    assert found(b" [ ] ") == []


@pytest.mark.parametrize("content", [b"[1,,2]", b"[1,2,]", b"[,1]"])
def test_nothing_between_two_commas_is_an_element(content: bytes) -> None:
    assert b"" in [raw for _, raw in found(content)]


def test_an_element_of_bad_syntax_does_not_cost_the_others() -> None:
    assert [raw for _, raw in found(b'[{\'a\': 1}, {"a" 1}, {"b": 2}]')] == [b"{'a': 1}", b'{"a" 1}', b'{"b": 2}']


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        (b"", 1, "not a JSON array"),
        (b"7", 1, "not a JSON array"),
        (b'[{"a": 1},\n{"a": ', 2, "breaks off"),
        (b'[{"a": "', 1, "breaks off"),
        (b"[1", 1, "breaks off"),
        (b"[1]\n\n x", 3, "something follows"),
        (b"[" * 5000, 1, "breaks off"),
    ],
)
def test_what_is_no_whole_array_breaks_off_at_its_line(content: bytes, line: int, problem: str) -> None:
    with pytest.raises(FileBroken, match=problem) as caught:
        found(content)
    assert (caught.value.rule, caught.value.line) == ("json_syntax", line)


def test_an_oversized_element_is_passed_over_without_being_held() -> None:
    big = b'{"a": "' + b"x" * (3 * MAX_ROW_BYTES) + b'"}'
    first, last = read_elements(io.BytesIO(b"[" + big + b',\n{"b": 1}]'))
    assert (first.size, len(first.raw)) == (len(big), KEPT_BYTES)
    assert first.digest == hashlib.sha256(big).hexdigest()
    assert (last.line, last.raw) == (2, b'{"b": 1}')


@given(st.lists(VALUES), st.integers(1, 40), st.sampled_from([None, 2]))
def test_every_array_is_split_where_json_splits_it_whatever_the_chunks(
    values: list[object], chunk_bytes: int, indent: int | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_arrays, "_CHUNK_BYTES", chunk_bytes)
        content = json.dumps(values, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
        assert [json.loads(raw.decode("utf-8", "surrogatepass")) for _, raw in found(content)] == values
