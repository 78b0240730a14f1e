import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.errors import SourceInvalid
from tasks.params import Source
from tasks.row_readers import MAX_LINE_BYTES, SourceFile
from tasks.source_files import find_files, read_rows
from tasks.strict_json import Broken

ROW = b'{"text": "hello"}'


def rows_of(path: Path, content: bytes) -> list[tuple[int, object]]:
    path.write_bytes(content)
    rows = read_rows(SourceFile(path, path.name))
    return [(row.line, row.row.rule if isinstance(row.row, Broken) else row.row) for row in rows]


def source(path: str, revision: str | None = None) -> Source:
    return Source.model_validate(
        {
            "name": "tickets",
            "role": "train",
            "path": path,
            "repo_id": revision and "team/tickets",
            "revision": revision,
            "layout": {"kind": "auto", "system": ""},
        }
    )


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"", "blank_line"),
        (b"  ", "blank_line"),
        (b'{"text": "\xe9"}', "invalid_utf8"),
        (b'{"text": "\xc0\xaf"}', "invalid_utf8"),
        (b'{"text": "' + b"x" * MAX_LINE_BYTES + b'"}', "line_too_long"),
        (b'{"text": 1} trailing', "json_syntax"),
    ],
)
def test_a_broken_line_costs_one_row_and_keeps_its_line(tmp_path: Path, line: bytes, found: str) -> None:
    rows = rows_of(tmp_path / "a.jsonl", ROW + b"\n" + line + b"\n" + ROW + b"\n")
    assert rows == [(1, {"text": "hello"}), (2, found), (3, {"text": "hello"})]


def test_a_line_of_the_largest_size_is_read(tmp_path: Path) -> None:
    line = b'{"text": "' + b"x" * (MAX_LINE_BYTES - 12) + b'"}'
    assert len(line) == MAX_LINE_BYTES
    assert [row for _, row in rows_of(tmp_path / "a.jsonl", line + b"\n" + line)] == [json.loads(line)] * 2


def test_a_cut_last_line_is_said_to_end_mid_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(ROW + b'\n{"text": "he')
    *_, last = read_rows(SourceFile(tmp_path / "a.jsonl", "a.jsonl"))
    assert isinstance(last.row, Broken)
    assert last.row.value.endswith("file ends mid-line")


def test_a_byte_order_mark_at_the_start_is_accepted(tmp_path: Path) -> None:
    assert rows_of(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + ROW) == [(1, {"text": "hello"})]


def test_a_json_array_gives_its_elements_with_their_lines(tmp_path: Path) -> None:
    assert rows_of(tmp_path / "a.json", b'[\n{"a": 1},\n\n{"a": NaN}\n]') == [(2, {"a": 1}), (4, "json_non_finite")]


def test_json_lines_named_json_are_read_as_lines(tmp_path: Path) -> None:
    assert rows_of(tmp_path / "a.json", b'{"a": 1}\n{"a": 2}\n') == [(1, {"a": 1}), (2, {"a": 2})]


def test_csv_cells_may_span_lines(tmp_path: Path) -> None:
    content = b'text,queue\n"two\nlines",a\nplain,b\n'
    assert rows_of(tmp_path / "a.csv", content) == [
        (2, {"text": "two\nlines", "queue": "a"}),
        (4, {"text": "plain", "queue": "b"}),
    ]


def test_tsv_is_read_with_tabs(tmp_path: Path) -> None:
    assert rows_of(tmp_path / "a.tsv", b"text\tqueue\nhello, you\ta\n") == [(2, {"text": "hello, you", "queue": "a"})]


def test_broken_csv_rows_have_rules(tmp_path: Path) -> None:
    assert rows_of(tmp_path / "a.csv", b"text,queue\nonly\n\n\xff,a\nok,b\n") == [
        (2, "column_count"),
        (3, "blank_line"),
        (4, "invalid_utf8"),
        (5, {"text": "ok", "queue": "b"}),
    ]


def test_every_line_that_an_open_quote_swallows_is_a_row(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "a.csv", b'text,queue\nok,b\n"open,a\nlost,b\nlost,c\n')
    assert rows == [(2, {"text": "ok", "queue": "b"}), (3, "csv_syntax"), (4, "csv_syntax"), (5, "csv_syntax")]


def test_parquet_rows_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", None]}), tmp_path / "a.parquet")
    rows = read_rows(SourceFile(tmp_path / "a.parquet", "a.parquet"))
    assert [(row.line, row.row) for row in rows] == [(1, {"text": "a"}), (2, {"text": None})]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz"])
def test_compressed_files_are_read(tmp_path: Path, name: str) -> None:
    assert rows_of(tmp_path / name, gzip.compress(ROW)) == [(1, {"text": "hello"})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "empty_file"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "utf16_file"),
        ("a.jsonl", b"PK\x03\x04rest", "binary_file"),
        ("a.jsonl", b'{"a": "\0"}', "binary_file"),
        ("a.csv", b"PAR1rest", "rename it to end in .parquet"),
        ("a.parquet", b"PAR1rest", "not a readable Parquet file"),
        ("a.jsonl.gz", b"not gzip", "not readable as gzip"),
        ("a.jsonl.gz", gzip.compress(ROW * 9999)[:-30], "torn|not readable as gzip"),
        ("a.json", b"[{}, {", r"a\.json:1: not a JSON array"),
        ("a.json", b'[{"a": "\xff"}]', r"a\.json:1: invalid_utf8"),
        ("a.csv", b"a,a\n1,2\n", "distinct column names"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(SourceInvalid, match=message):
        rows_of(tmp_path / name, content)


def test_a_folder_gives_its_readable_files_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/sources/rows/.hidden").mkdir(parents=True)
    for name in ("b.csv", "a.jsonl", "README.md", ".hidden/c.jsonl"):
        (tmp_path / "data/sources/rows" / name).write_bytes(ROW)
    assert [file.shown for file in find_files(source("data/sources/rows"))] == [
        "data/sources/rows/a.jsonl",
        "data/sources/rows/b.csv",
    ]


def test_a_missing_file_names_the_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceInvalid, match=r"rows\.csv: no such file or folder; mend sources\.tickets\.path"):
        find_files(source("data/sources/rows.csv"))


def test_a_file_of_unknown_kind_lists_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/sources").mkdir(parents=True)
    (tmp_path / "data/sources/rows.xlsx").write_bytes(ROW)
    with pytest.raises(SourceInvalid, match=r"ends in none of .*\.parquet"):
        find_files(source("data/sources/rows.xlsx"))


def test_a_hub_data_set_is_fetched_at_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def download(repo_id: str, **options: object) -> str:
        asked.update(options, repo_id=repo_id)
        return str(tmp_path)

    monkeypatch.setattr("tasks.source_files.snapshot_download", download)
    (tmp_path / "train.jsonl").write_bytes(ROW)
    assert [file.shown for file in find_files(source("train.jsonl", "a" * 40))] == [
        f"hf://datasets/team/tickets@{'a' * 40}/train.jsonl"
    ]
    assert asked == {
        "repo_id": "team/tickets",
        "repo_type": "dataset",
        "revision": "a" * 40,
        "allow_patterns": ["train.jsonl", "train.jsonl/**"],
    }


def test_a_hub_that_does_not_answer_is_a_bad_source(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(_repo_id: str, **_options: object) -> str:
        raise ConnectionError

    monkeypatch.setattr("tasks.source_files.snapshot_download", download)
    with pytest.raises(SourceInvalid, match=r"team/tickets at a{40} cannot be fetched \(ConnectionError\)"):
        find_files(source("train.jsonl", "a" * 40))
