import gzip
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tasks.errors import SourceInvalid
from tasks.params_data import Source
from tasks.raw_rows import MAX_COLUMNS, MAX_ROW_BYTES, SourceFile
from tasks.source_files import find_files, read_rows, unread_files
from tasks.strict_json import Broken

ROW = b'{"text": "hello"}'


def rows_of(path: Path, content: bytes) -> list[tuple[int, object]]:
    path.write_bytes(content)
    rows = read_rows(SourceFile(path, path.name))
    return [(row.line, row.row.rule if isinstance(row.row, Broken) else row.row) for row in rows]


def source(path: str, revision: str | None = None, sha256: str | None = None) -> Source:
    return Source.model_validate(
        {
            "name": "tickets",
            "role": "train",
            "path": path,
            "repo_id": revision and "team/tickets",
            "revision": revision,
            "sha256": sha256,
            "weight": 1.0,
            "layout": {"kind": "auto", "system": "", "tools": "native"},
        }
    )


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"", "blank_line"),
        (b"  ", "blank_line"),
        (b'{"text": "\xe9"}', "invalid_utf8"),
        (b'{"text": "\xc0\xaf"}', "invalid_utf8"),
        (b'{"text": "' + b"x" * MAX_ROW_BYTES + b'"}', "line_too_long"),
        (b'{"text": 1} trailing', "json_syntax"),
        (b'{"text": "\0"}', "nul_byte"),
    ],
)
def test_a_broken_line_costs_one_row_and_keeps_its_line(tmp_path: Path, line: bytes, found: str) -> None:
    rows = rows_of(tmp_path / "a.jsonl", ROW + b"\n" + line + b"\n" + ROW + b"\n")
    assert rows == [(1, {"text": "hello"}), (2, found), (3, {"text": "hello"})]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n\r\n", b"\n" * 9, b"  \n\t"])
def test_blank_lines_at_the_end_are_no_rows(tmp_path: Path, ending: bytes) -> None:
    assert rows_of(tmp_path / "a.jsonl", ROW + b"\n" + ending) == [(1, {"text": "hello"})]
    assert rows_of(tmp_path / "a.csv", b"text\nhello\n" + ending.replace(b" ", b"").replace(b"\t", b"")) == [
        (2, {"text": "hello"})
    ]


def test_blank_lines_that_are_all_of_a_file_are_broken_rows(tmp_path: Path) -> None:
    assert rows_of(tmp_path / "a.jsonl", b"\n\n") == [(1, "blank_line"), (2, "blank_line")]


def test_blank_lines_before_the_place_where_an_archive_breaks_off_are_kept(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "a.jsonl.gz", gzip.compress(ROW + b"\n\n") + gzip.compress(ROW)[:15])
    assert rows == [(1, {"text": "hello"}), (2, "blank_line"), (3, "compressed_torn")]


def test_a_line_of_the_largest_size_is_read(tmp_path: Path) -> None:
    line = b'{"text": "' + b"x" * (MAX_ROW_BYTES - 12) + b'"}'
    assert len(line) == MAX_ROW_BYTES
    assert [row for _, row in rows_of(tmp_path / "a.jsonl", line + b"\n" + line)] == [json.loads(line)] * 2


def test_a_cut_last_line_is_said_to_end_mid_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(ROW + b'\n{"text": "he')
    *_, last = read_rows(SourceFile(tmp_path / "a.jsonl", "a.jsonl"))
    assert isinstance(last.row, Broken)
    assert last.row.value.endswith("file ends mid-line")


def test_a_byte_order_mark_at_the_start_is_accepted(tmp_path: Path) -> None:
    assert rows_of(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + ROW) == [(1, {"text": "hello"})]


@pytest.mark.parametrize("space", [b"", b"\n\n"])
def test_a_json_array_gives_its_elements_with_their_numbers(tmp_path: Path, space: bytes) -> None:
    array = b"[" + space + b'{"a": 1},' + space + b'{"a": NaN}]'
    assert rows_of(tmp_path / "a.json", array) == [(1, {"a": 1}), (2, "json_non_finite")]


def test_an_array_that_breaks_off_says_in_which_element_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'[{"a": 1},\n{"a": "he')
    *_, last = read_rows(SourceFile(tmp_path / "a.json", "a.json"))
    assert (last.line, last.row) == (
        2,
        Broken("json_syntax", "the array breaks off in the element that starts here (line 2)"),
    )


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


@pytest.mark.parametrize(
    ("content", "row"),
    [
        (b"text;queue\n1,5 kg;a\n", {"text": "1,5 kg", "queue": "a"}),
        (b'"my text";queue\n"a;b";c\n', {"my text": "a;b", "queue": "c"}),
        (b'"text;queue"\nhello\n', {"text;queue": "hello"}),
        (b"text;\nhello\n", {"text;": "hello"}),
        (b"a;b,c\n1;2,3\n", {"a;b": "1;2", "c": "3"}),
    ],
    ids=["semicolons", "quoted", "one quoted name", "no second name", "commas"],
)
def test_a_header_tells_semicolons_from_commas(tmp_path: Path, content: bytes, row: dict[str, str]) -> None:
    assert rows_of(tmp_path / "a.csv", content) == [(2, row)]


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


@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_packed_files_are_read(tmp_path: Path, kind: str) -> None:
    assert rows_of(tmp_path / f"a.{kind}.gz", gzip.compress(ROW)) == [(1, {"text": "hello"})]
    assert rows_of(tmp_path / f"a.{kind}.zst", zstandard.compress(ROW)) == [(1, {"text": "hello"})]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.tsv.gz"])
def test_packed_tables_are_read(tmp_path: Path, name: str) -> None:
    assert rows_of(tmp_path / name, gzip.compress(b"text\nhello\n")) == [(2, {"text": "hello"})]


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("a.jsonl", b"", "empty_file"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "utf16_file"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16-le"), "binary_file"),
        ("a.jsonl", b"PK\x03\x04rest", "binary_file"),
        ("a.jsonl", gzip.compress(ROW), "binary_file"),
        ("a.csv", b"PAR1rest", "binary_file"),
        ("a.parquet", b"text", "binary_file"),
        ("a.parquet", b"PAR1rest", "parquet_torn"),
        ("a.jsonl.gz", b"not gzip", "compressed_torn"),
        ("a.json", b"7", "json_syntax"),
        ("a.csv", b"a,a\n1,2\n", "csv_header"),
        ("a.csv", b",b\n1,2\n", "csv_header"),
        ("a.csv", b"\xff,b\n1,2\n", "csv_header"),
        ("a.csv", b'"a\n1,2\n', "csv_header"),
        ("a.csv", ",".join(f"c{number}" for number in range(10_000)).encode(), "csv_header"),
        ("a.csv", b"a" * (MAX_ROW_BYTES + 1), "csv_header"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_row(tmp_path: Path, name: str, content: bytes, rule: str) -> None:
    ((_, found),) = rows_of(tmp_path / name, content)
    assert found == rule


@pytest.mark.parametrize(
    ("name", "content", "line", "rule"),
    [
        ("a.json", b'[{"a": 1},\n{"a": 2},\n{"a', 3, "json_syntax"),
        ("a.json", b'[{"a": 1},\n{"a": 2}]\nmore', 3, "json_syntax"),
    ],
)
def test_rows_before_the_trouble_stay(tmp_path: Path, name: str, content: bytes, line: int, rule: str) -> None:
    assert rows_of(tmp_path / name, content) == [(1, {"a": 1}), (2, {"a": 2}), (line, rule)]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_rows_before_the_tear_of_an_archive_stay(tmp_path: Path, suffix: str) -> None:
    lines = b"".join(b'{"text": "%d %d"}\n' % (number, number * 7919 % 10_007) for number in range(50_000))
    whole = gzip.compress(lines) if suffix == "gz" else zstandard.compress(lines)
    *rows, (last_line, rule) = rows_of(tmp_path / f"a.jsonl.{suffix}", whole[: len(whole) // 2])
    assert rule == "compressed_torn"
    assert 10_000 < len(rows) < 50_000
    assert rows == [(number + 1, {"text": f"{number} {number * 7919 % 10_007}"}) for number in range(len(rows))]
    assert last_line == len(rows) + 1


def test_an_invalid_element_of_an_array_costs_a_row(tmp_path: Path) -> None:
    assert rows_of(tmp_path / "a.json", b'[{"a": "\xff"},\n{"a": 1}]') == [(1, "invalid_utf8"), (2, {"a": 1})]


def test_an_oversized_element_of_an_array_costs_a_row(tmp_path: Path) -> None:
    content = b'[{"a": "' + b"x" * 2 * MAX_ROW_BYTES + b'"},\n{"a": 1}]'
    assert rows_of(tmp_path / "a.json", content) == [(1, "line_too_long"), (2, {"a": 1})]


def test_a_row_of_ten_thousand_columns_costs_a_row(tmp_path: Path) -> None:
    wide = json.dumps({f"c{number}": 1 for number in range(10_000)}).encode()
    assert rows_of(tmp_path / "a.jsonl", ROW + b"\n" + wide) == [(1, {"text": "hello"}), (2, "too_many_columns")]


def test_a_parquet_file_of_too_many_columns_is_one_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({f"c{number}": [1] for number in range(MAX_COLUMNS + 1)}), tmp_path / "a.parquet")
    (row,) = read_rows(SourceFile(tmp_path / "a.parquet", "a.parquet"))
    assert row.row == Broken("parquet_torn", "1001 columns, at most 1000; export those that are wanted")


def test_a_parquet_text_that_is_no_utf8_costs_its_row(tmp_path: Path) -> None:
    texts = pa.array([b"good", b"\xff", b"fine"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    rows = list(read_rows(SourceFile(tmp_path / "a.parquet", "a.parquet")))
    assert [row.row for row in rows] == [
        {"text": "good"},
        Broken("invalid_utf8", "a text of this row"),
        {"text": "fine"},
    ]


def test_a_long_line_inside_a_csv_costs_what_it_swallows(tmp_path: Path) -> None:
    long = b"x" * 2 * MAX_ROW_BYTES
    rows = rows_of(tmp_path / "a.csv", b'text\nok\n"open\n' + long + b"\nfine\n")
    assert rows == [(2, {"text": "ok"}), (3, "csv_syntax"), (4, "line_too_long"), (5, {"text": "fine"})]


def test_an_open_quote_swallows_no_more_than_a_row_may_have(tmp_path: Path) -> None:
    line = b"x" * 999 + b"\n"
    rows = rows_of(tmp_path / "a.csv", b'text\n"open\n' + line * 3000)
    assert rows[0] == (2, "csv_syntax")
    assert rows[-1] == (3002, {"text": "x" * 999})
    assert [number for number, _ in rows] == list(range(2, 3003))


def test_a_row_of_many_cells_over_many_lines_is_given_up_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.csv_rows.MAX_ROW_BYTES", 1000)
    rows = rows_of(tmp_path / "a.csv", b"text\n" + b'"' + b'a\n","' * 1000 + b'end"\n')
    assert rows[:200] == [(line, "csv_syntax") for line in range(2, 202)]


def test_a_file_without_permission_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tasks.source_files.opened", refuse)
    assert rows_of(tmp_path / "a.jsonl", ROW) == [(0, "unreadable_file")]


def test_a_folder_gives_its_readable_files_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/sources/rows/.hidden").mkdir(parents=True)
    for name in ("b.csv", "a.jsonl", "README.md", ".hidden/c.jsonl"):
        (tmp_path / "data/sources/rows" / name).write_bytes(ROW)
    assert [file.shown for file in find_files(source("data/sources/rows"))] == [
        "data/sources/rows/a.jsonl",
        "data/sources/rows/b.csv",
    ]


def test_files_that_no_reader_takes_are_told_and_papers_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/sources/rows").mkdir(parents=True)
    for name in ("A.JSONL", "b.ndjson", "c.jsonl.bz2", "README.md", "LICENSE", ".hidden", "make.py"):
        (tmp_path / "data/sources/rows" / name).write_bytes(ROW)
    folder = source("data/sources/rows")
    assert [file.path.name for file in find_files(folder)] == ["A.JSONL", "b.ndjson"]
    assert [row.row for file in find_files(folder) for row in read_rows(file)] == [{"text": "hello"}] * 2
    assert unread_files(folder) == ["data/sources/rows/c.jsonl.bz2"]
    assert unread_files(source("data/sources/rows/A.JSONL")) == []


def test_a_pattern_that_is_none_names_the_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceInvalid, match=r"\*\*\.jsonl: Invalid pattern.*; mend sources\.tickets\.path"):
        find_files(source("data/sources/**.jsonl"))


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


def test_a_pattern_gives_the_files_that_match_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/sources/deep/.hidden").mkdir(parents=True)
    for name in ("a.jsonl.gz", "b.jsonl", "deep/c.jsonl.gz", "deep/.hidden/d.jsonl.gz"):
        (tmp_path / "data/sources" / name).write_bytes(ROW)
    assert [file.shown for file in find_files(source("data/sources/**/*.jsonl.gz"))] == [
        "data/sources/a.jsonl.gz",
        "data/sources/deep/c.jsonl.gz",
    ]


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceInvalid, match=r"no file that this pattern matches ends in .*\.parquet"):
        find_files(source("data/sources/*.jsonl"))


def test_a_pinned_file_is_read_from_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(ROW)
    assert [file.path for file in find_files(source(str(path), sha256=hashlib.sha256(ROW).hexdigest()))] == [path]


def test_other_bytes_than_the_pinned_ones_are_refused_with_both_digests(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(ROW)
    with pytest.raises(SourceInvalid, match=f"found sha256 {hashlib.sha256(ROW).hexdigest()}, expected {'0' * 64}"):
        find_files(source(str(path), sha256="0" * 64))


def test_a_pinned_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceInvalid, match=r"a\.jsonl: no such file; mend sources\.tickets\.path"):
        find_files(source(str(tmp_path / "a.jsonl"), sha256="0" * 64))
