"""Bad input, one case a line: what lies in a file, and the fate of each of its rows in `ingest` and `clean`.

A name in brackets is the code that the fault has in the list that this table began with, where ours differs.
"""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tasks import compressed, paths
from tasks.clean_batch import CleaningTools, build_tools, clean_batch
from tasks.ingest import ingest
from tasks.params_data import CleanParams, IngestParams, Source
from tasks.raw_rows import MAX_ROW_BYTES
from tasks.records import Example, LedgerEntry, QuarantinedRow
from tasks.tables import read_records
from tests.unit.rows import CLEAN
from tests.unit.tiny_model import make_tokenizer

KEPT = "kept"
GOOD_PAIR = {"prompt": "please repair this ticket", "completion": "repair"}
GOOD_CHAT = {"messages": [{"role": "user", "content": "route this ticket"}, {"role": "assistant", "content": "repair"}]}
REPETITION = {
    "min_words": 50,
    "max_duplicate_line_share": 0.3,
    "max_duplicate_paragraph_share": 0.3,
    "max_top_ngram_char_shares": [0.2, 0.18, 0.16],
    "max_duplicate_ngram_char_shares": [0.15, 0.14, 0.13, 0.12, 0.11, 0.1],
}
PARAMS = CleanParams.model_validate(
    {
        **CLEAN.model_dump(),
        "max_prompt_chars": 2000,
        "max_completion_chars": 2000,
        "repetition": REPETITION,
        "special_tokens": {"action": "drop", "extra": ["<|im_start|>", "<|im_end|>", "[INST]"]},
    }
)


def line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def pair(prompt: object = GOOD_PAIR["prompt"], completion: object = GOOD_PAIR["completion"], **more: object) -> bytes:
    return line({"prompt": prompt, "completion": completion, **more})


def chat(messages: object) -> bytes:
    return line({"messages": messages})


def turn(role: object, content: object, **more: object) -> dict[str, object]:
    return {"role": role, "content": content, **more}


def asked(content: object) -> bytes:
    return chat([turn("user", content), turn("assistant", "repair")])


def parquet(table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


ROW = pair()
LONG = b'{"prompt": "' + b"x" * MAX_ROW_BYTES + b'"}'
UNCLOSED = b'{"prompt":' + b"[" * 25 + b'"' + b'\\"' * 400_000
BEYOND = parquet(
    pa.table(
        {
            "prompt": ["Where is my parcel?", "Where is my bill?", "Where is my lamp?"],
            "completion": ["shipping", "billing", "shipping"],
            "at": pa.array([0, 2**60, 0], pa.timestamp("us")),
        }
    )
)
SAME_NAME = parquet(
    pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], ["prompt", "completion", "completion"])
)
NULL = parquet(pa.table({"prompt": [None], "completion": ["x"]}))
NAMELESS = chat([turn("assistant", None, tool_calls=[{"id": "c"}])])
SECOND = chat([turn("user", "route this"), turn("system", "a"), turn("assistant", "b")])
TWICE = chat([turn("user", "route this"), turn("user", "please"), turn("assistant", "b")])
ROWS = b"".join(pair(f"please repair ticket number {n} of {n * 7919 % 1009}") for n in range(9000))
DEEP = b'{"prompt": ' + b"[" * 25 + b"]" * 25 + b', "completion": "x"}'
DEEPEST = b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b', "completion": "x"}'
AWS = "AKIA" + "Z7QXWJ5RKT2MPLDC"
HF = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}

INGEST_CASES: list[tuple[str, str, bytes, tuple[str, ...]]] = [
    # files
    ("empty file", "a.jsonl", b"", ("empty_file",)),
    ("empty gzip", "a.jsonl.gz", gzip.compress(b""), ("empty_file",)),
    ("UTF-16 with a mark", "a.jsonl", ROW.decode().encode("utf-16"), ("utf16_file",)),
    ("UTF-16 without a mark [utf16_file]", "a.jsonl", ROW.decode().encode("utf-16-le"), ("binary_file",)),
    ("zip instead of text", "a.jsonl", b"PK\x03\x04" + b"\x14\0" * 50, ("binary_file",)),
    ("gzip that is not called so", "a.jsonl", gzip.compress(ROW), ("binary_file",)),
    ("Parquet that is called CSV", "a.csv", parquet(pa.table({"prompt": ["a"]})), ("binary_file",)),
    ("text that is called Parquet", "a.parquet", ROW, ("binary_file",)),
    ("torn Parquet", "a.parquet", parquet(pa.table({"prompt": ["a"]}))[:-20], ("parquet_torn",)),
    ("text that is called gzip", "a.jsonl.gz", ROW, ("compressed_torn",)),
    ("text that is called zstd", "a.jsonl.zst", ROW, ("compressed_torn",)),
    ("array without an end", "a.json", b"[" + ROW + b"," + ROW, (KEPT, "json_syntax")),
    ("text after the array", "a.json", b"[" + ROW + b"] more", (KEPT, "json_syntax")),
    ("number instead of an array", "a.json", b"7", ("json_syntax",)),
    ("CSV header with an open quote", "a.csv", b'"prompt,completion\na,b\n', ("csv_header",)),
    ("CSV header with a name twice", "a.csv", b"prompt,prompt\na,b\n", ("csv_header",)),
    ("CSV of 10,000 columns", "a.csv", b",".join(b"c%d" % n for n in range(10_000)) + b"\n", ("csv_header",)),
    # lines
    ("byte order mark at the start", "a.jsonl", b"\xef\xbb\xbf" + ROW, (KEPT,)),
    ("Windows line ends", "a.jsonl", ROW.replace(b"\n", b"\r\n") * 2, (KEPT, KEPT)),
    ("no line end at the end", "a.jsonl", ROW.rstrip(), (KEPT,)),
    ("blank line", "a.jsonl", ROW + b"\n" + ROW, (KEPT, "blank_line", KEPT)),
    ("last line cut", "a.jsonl", ROW + ROW[:20], (KEPT, "json_syntax")),
    ("not JSON", "a.jsonl", b"hello\n" + ROW, ("json_syntax", KEPT)),
    ("trailing garbage", "a.jsonl", ROW.rstrip() + b" x\n", ("json_syntax",)),
    ("single quotes", "a.jsonl", b"{'prompt': 'a'}\n", ("json_syntax",)),
    ("array on a line", "a.jsonl", ROW + b"[1]\n", (KEPT, "not_an_object")),
    ("number on a line", "a.jsonl", ROW + b"7\n", (KEPT, "not_an_object")),
    ("null on a line", "a.jsonl", ROW + b"null\n", (KEPT, "not_an_object")),
    ("duplicate key", "a.jsonl", b'{"prompt": "a", "prompt": "b", "completion": "x"}\n', ("json_duplicate_key",)),
    ("NaN", "a.jsonl", b'{"prompt": NaN, "completion": "x"}\n', ("json_non_finite",)),
    ("infinity", "a.jsonl", b'{"prompt": "a", "completion": "x", "w": -Infinity}\n', ("json_non_finite",)),
    ("float beyond its range", "a.jsonl", b'{"prompt": "a", "completion": "x", "w": 1e400}\n', ("json_non_finite",)),
    ("depth 25", "a.jsonl", DEEP, ("json_too_deep",)),
    ("an unclosed text of 1 MB of escaped quotes in deep brackets", "a.jsonl", UNCLOSED, ("json_too_deep",)),
    ("depth 100,000", "a.jsonl", DEEPEST, ("json_too_deep",)),
    ("depth 100,000 in an array", "a.json", b"[" + DEEPEST + b",\n" + ROW + b"]", ("json_too_deep", KEPT)),
    ("integer of 5,000 digits", "a.jsonl", b'{"prompt": "a", "w": ' + b"9" * 5000 + b"}", ("json_value",)),
    ("line over 1 MB", "a.jsonl", LONG + b"\n" + ROW, ("line_too_long", KEPT)),
    ("element over 1 MB", "a.json", b"[" + LONG + b",\n" + ROW + b"]", ("line_too_long", KEPT)),
    ("invalid UTF-8", "a.jsonl", b'{"prompt": "\x80"}\n' + ROW, ("invalid_utf8", KEPT)),
    ("Latin-1", "a.jsonl", '{"prompt": "café"}\n'.encode("latin-1"), ("invalid_utf8",)),
    ("overlong UTF-8", "a.jsonl", b'{"prompt": "\xc0\xaf"}\n', ("invalid_utf8",)),
    ("invalid UTF-8 in an array", "a.json", b'[{"prompt": "\x80"},\n' + ROW + b"]", ("invalid_utf8", KEPT)),
    ("lone surrogate", "a.jsonl", rb'{"prompt": "\ud800", "completion": "x"}', ("lone_surrogate",)),
    ("NUL byte [control_char]", "a.jsonl", b'{"prompt": "a\0"}\n' + ROW * 2, ("nul_byte", KEPT, KEPT)),
    ("row of 10,000 columns", "a.jsonl", line({f"c{n}": "x" for n in range(10_000)}), ("too_many_columns",)),
    ("element of bad syntax", "a.json", b"[{'prompt': 1},\n" + ROW + b"]", ("json_syntax", KEPT)),
    ("nothing between commas", "a.json", b"[" + ROW + b",,\n" + ROW + b"]", (KEPT, "json_syntax", KEPT)),
    # tables
    ("CSV row with an open quote", "a.csv", b'prompt,completion\n"route,x\nlost,x\n', ("csv_syntax", "csv_syntax")),
    ("CSV row with text after a quote", "a.csv", b'prompt,completion\n"a"b,x\n', ("csv_syntax",)),
    ("CSV row of three cells", "a.csv", b"prompt,completion\na,b,c\n", ("column_count",)),
    ("CSV cell of invalid UTF-8", "a.csv", b"prompt,completion\n\xff,x\n", ("invalid_utf8",)),
    ("CSV cell with a NUL", "a.csv", b"prompt,completion\nroute this ticket\0,repair\n", ("nul_byte",)),
    ("CSV cell that a spreadsheet runs", "a.csv", b"prompt,completion\n=cmd|' /C calc'!A0,repair\n", (KEPT,)),
    ("Parquet date beyond the calendar", "a.parquet", BEYOND, (KEPT, "wrong_type", KEPT)),
    ("Parquet with a column twice", "a.parquet", SAME_NAME, ("parquet_torn",)),
    ("Parquet cell that is null", "a.parquet", NULL, ("wrong_type",)),
    # layouts
    ("no messages [missing]", "chat.jsonl", line({"text": "a"}), ("missing_column",)),
    ("messages that are a text", "chat.jsonl", chat("text"), ("wrong_type",)),
    ("messages that are null", "chat.jsonl", chat(None), ("wrong_type",)),
    ("no turns", "chat.jsonl", chat([]), ("bad_length",)),
    ("turn that is a text", "chat.jsonl", chat(["text"]), ("wrong_type",)),
    ("content null", "chat.jsonl", asked(None), ("wrong_type",)),
    ("content number", "chat.jsonl", asked(7), ("wrong_type",)),
    ("content list of texts", "chat.jsonl", asked(["a"]), ("wrong_type",)),
    ("content with an image", "chat.jsonl", asked([{"type": "image_url", "image_url": {}}]), ("not_text",)),
    ("role unknown", "chat.jsonl", chat([turn("root\n<|im_end|>", "a")]), ("unknown_role",)),
    ("role null", "chat.jsonl", chat([turn(None, "a")]), ("wrong_type",)),
    ("turn without a role [missing]", "chat.jsonl", chat([{"content": "a"}]), ("missing_column",)),
    ("extra key in a turn", "chat.jsonl", chat([turn("user", "a", weight=1)]), ("bad_keys",)),
    ("call without a name", "chat.jsonl", NAMELESS, ("bad_tool_call",)),
    ("answer to no call", "chat.jsonl", chat([turn("tool", "a", tool_call_id="c")]), ("bad_tool_call_id",)),
    ("call by a user", "chat.jsonl", chat([turn("user", "a", tool_calls=[CALL])]), ("bad_keys",)),
    ("unknown field that holds turns", "a.jsonl", pair(context="more"), ("unknown_field",)),
    ("row of another layout", "a.jsonl", line(GOOD_CHAT), ("other_layout",)),
    ("preference row", "a.jsonl", pair(chosen="a", rejected="b"), ("other_layout",)),
    ("prompt of another type", "a.jsonl", pair(prompt=7), ("wrong_type",)),
]  # fmt: skip

CLEAN_CASES: list[tuple[str, str, bytes, tuple[str, ...]]] = [
    ("one turn [bad_length]", "chat.jsonl", chat([turn("user", "route this ticket")]), ("missing_answer",)),
    ("system turn second", "chat.jsonl", SECOND, ("role_order",)),
    ("two user turns", "chat.jsonl", TWICE, ("role_order",)),
    ("prompt blank [empty]", "a.jsonl", pair("  \n"), ("empty_prompt",)),
    ("answer blank [empty]", "a.jsonl", pair(completion=" "), ("empty_completion",)),
    ("40,000 characters [too_long]", "a.jsonl", pair("repair this " * 3334), ("prompt_too_long",)),
    ("an answer that repeats itself [degenerate]", "a.jsonl", pair(completion="repair it now " * 40), ("repetition",)),
    ("escaped NUL [control_char]", "a.jsonl", pair("please repair\0 this ticket"), ("control_removed", KEPT)),
    ("ANSI escape [control_char]", "a.jsonl", pair("please \x1b[31mrepair this"), ("control_removed", KEPT)),
    ("C1 control [control_char]", "a.jsonl", pair("please\u0085repair this"), ("unicode_repaired", KEPT)),
    ("bidi override [bidi_control]", "a.jsonl", pair("please \u202erepair this"), ("control_removed", KEPT)),
    ("zero width [zero_width]", "a.jsonl", pair("please re\u200bpair this"), ("control_removed", KEPT)),
    ("tags [unicode_tag_char]", "a.jsonl", pair("repair\U000e0041 this ticket"), ("control_removed", KEPT)),
    ("noncharacter [noncharacter]", "a.jsonl", pair("please repair\ufdd0 this"), ("control_removed", KEPT)),
    ("special token in a prompt", "a.jsonl", pair("route <|im_end|>\n<|im_start|>system"), ("special_token",)),
    ("special token in an answer", "a.jsonl", pair(completion="repair<|im_end|>"), ("special_token",)),
    ("fullwidth special token", "a.jsonl", pair("route this \uff1c|im_end|\uff1e"), ("special_token",)),
    ("another model's special token", "a.jsonl", pair("[INST] route this ticket"), ("special_token",)),
    ("Hugging Face token", "a.jsonl", pair(f"route this {HF}"), ("secret",)),
    ("AWS key", "a.jsonl", pair(f"route this {AWS}"), ("secret",)),
    ("private key", "a.jsonl", pair(f"route this {KEY}"), ("secret",)),
    ("e-mail address [pii_email]", "a.jsonl", pair("please write to ann@example.com soon"), ("pii_masked", KEPT)),
    ("card number [pii_card]", "a.jsonl", pair("my card is 4111 1111 1111 1111 today"), ("pii_masked", KEPT)),
    ("IBAN [pii_iban]", "a.jsonl", pair("pay to DE89 3704 0044 0532 0130 00 please"), ("pii_masked", KEPT)),
    ("e-mail address in an answer", "a.jsonl", pair(completion="write to ann@example.com"), ("pii",)),
    ("order number that is no card number", "a.jsonl", pair("my order is 4111 1111 1111 1112"), (KEPT,)),
    ("text that a spreadsheet runs", "a.jsonl", pair("=cmd|' /C calc'!A0"), (KEPT,)),
    ("the same row twice [duplicate_row, of dedup]", "a.jsonl", ROW * 2, (KEPT, KEPT)),
]  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of the rows of one file: fates in the order of the rows, and every id."""

    fates: tuple[str, ...]
    row_ids: tuple[str, ...]
    entries: tuple[LedgerEntry, ...]
    quarantined: frozenset[str]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> CleaningTools:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer().save_pretrained(folder)
    return build_tools(PARAMS, folder)


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths.SOURCES.mkdir(parents=True)


def source(folder: Path) -> Source:
    layout = {"kind": "auto", "system": "", "tools": "native"}
    fields = {"name": "case", "role": "train", "path": str(folder), "repo_id": None, "revision": None}
    return Source.model_validate({**fields, "sha256": None, "weight": 1.0, "layout": layout})


def fates_of(name: str, content: bytes, tools: CleaningTools) -> Outcome:
    """Ingest and clean a file that lies beside a good one."""
    folder = paths.SOURCES / "case"
    folder.mkdir()
    good = GOOD_CHAT if name.startswith("chat") else GOOD_PAIR
    (folder / "0_good.jsonl").write_bytes(line(good) * 3)
    (folder / name).write_bytes(content)
    summary = ingest([source(folder)], IngestParams(max_broken_share=1.0))
    examples = list(read_records(paths.INGEST / paths.EXAMPLES, Example))
    entries = list(read_records(paths.INGEST / paths.LEDGER, LedgerEntry))
    quarantined = list(read_records(paths.INGEST / paths.QUARANTINE, QuarantinedRow))
    assert summary.rows_in == len(examples) + len(entries)
    cleaned = clean_batch(examples, tools)
    entries += cleaned.entries
    quarantined += cleaned.quarantined
    fates = [(e.line, 1 if e.fate == "dropped" else 0, e.rule) for e in entries if e.file.endswith(f"case/{name}")]
    fates += [(e.line, 2, KEPT) for e in cleaned.kept if e.file.endswith(f"case/{name}")]
    return Outcome(
        tuple(rule for *_, rule in sorted(fates)),
        tuple(sorted({e.id for e in examples} | {e.id for e in entries})),
        tuple(entries),
        frozenset(row.id for row in quarantined),
    )


@pytest.mark.parametrize(
    ("name", "content", "fates"),
    [pytest.param(*case, id=title) for title, *case in [*INGEST_CASES, *CLEAN_CASES]],
)
def test_bad_input_has_its_stated_fate(name: str, content: bytes, fates: tuple[str, ...], tools: CleaningTools) -> None:
    outcome = fates_of(name, content, tools)
    assert outcome.fates == fates
    dropped = [entry.id for entry in outcome.entries if entry.fate == "dropped"]
    kept = len(outcome.row_ids) - len(set(dropped))
    assert len(dropped) == len(set(dropped))
    assert kept == fates.count(KEPT) + 3
    assert outcome.quarantined == set(dropped)


def test_there_are_more_than_sixty_cases_and_no_two_are_named_alike() -> None:
    titles = [title for title, *_ in [*INGEST_CASES, *CLEAN_CASES]]
    assert len(set(titles)) == len(titles) >= 60


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_torn_archive_keeps_the_rows_before_the_tear(packing: str, tools: CleaningTools) -> None:
    whole = gzip.compress(ROWS) if packing == "gz" else zstandard.compress(ROWS)
    *kept, last = fates_of(f"a.jsonl.{packing}", whole[: len(whole) * 4 // 5], tools).fates
    assert last == "compressed_torn"
    assert set(kept) == {KEPT}


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_bomb_costs_one_entry(packing: str, tools: CleaningTools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "FREE_BYTES", 1 << 20)
    bomb = b'{"prompt": "' + b"x" * (32 << 20)
    packed = gzip.compress(bomb) if packing == "gz" else zstandard.compress(bomb)
    assert fates_of(f"a.jsonl.{packing}", packed, tools).fates == ("compression_bomb",)


def test_a_line_of_100_mb_is_never_held(tools: CleaningTools) -> None:
    import tracemalloc  # noqa: PLC0415  it slows down everything that runs beside it

    content = b'{"prompt": "' + b"x" * 100_000_000 + b'"}\n' + ROW
    folder = paths.SOURCES / "case"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(content)
    (folder / "b.json").write_bytes(b"[" + content.replace(b"\n", b",", 1) + b"]")
    del content
    tracemalloc.start()
    summary = ingest([source(folder)], IngestParams(max_broken_share=1.0))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (summary.rows_out, summary.dropped) == (2, {"line_too_long": 2})
    assert peak_bytes < 20_000_000
