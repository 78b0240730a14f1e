"""Claim: ten times the documents per CPU second of datatrove and of text-dedup, at half their peak memory or less.

The contestants get the same documents and the same parameters: word 3-grams, 128 permutations, 32 bands of 4. Ours is
the stage `dedup` as a run starts it, with every rule on and one worker; theirs are their own MinHash pipelines in one
process, each in an environment that is made under .tunegate/peers from benchmarks/peers/*.txt. Whole processes are
measured, in turns.

A document has the length and the words of an Alpaca row, in lower case and without punctuation, so that everybody sees
the same words. Each of its words is replaced with probability one half by one drawn from all words: two documents made
from one row then share about one 3-gram in thirty. A tenth of the documents are planted near duplicates of others
(some words replaced, true Jaccard similarity of the 3-grams 0.8 or more), a tenth are hard negatives (0.4 to 0.68).
Recall and precision are those of the removed documents against these labels.
"""

import dataclasses
import gzip
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Claim, Timing, parse_arguments, show
from benchmarks.scaled_alpaca import REALDATA
from tasks import paths
from tasks.near_duplicates import jaccard, ngrams
from tasks.records import Example, LedgerEntry
from tasks.tables import EXAMPLE_SCHEMA, read_records, writing

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".tunegate/peers"
NGRAM_WORDS, NUM_HASHES, BANDS, SEED = 3, 128, 32, 1
MIN_WORDS = 20
SIZES = (50_000, 200_000)
LARGE = 1_000_000
QUICK_SIZE = 5_000
REPETITIONS = 1
"""CPU seconds of whole processes: what separates the contestants is many times what separates two runs of one."""
DUPLICATE_SHARE = NEGATIVE_SHARE = 0.1
MIN_DUPLICATE, MAX_NEGATIVE, MIN_NEGATIVE = 0.8, 0.68, 0.4
ANSWER = "An answer in prose, which is not a label, since it has more than eight words."


WATCH = """
import json, os, sys, time
started = time.perf_counter()
process = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(process, 0)
with open(sys.argv[1], "w") as file:
    json.dump([time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss], file)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Starts a command from a small process, since a child counts the memory of the one that it was forked from."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """One run of one contestant: the whole process, and what it removed."""

    wall: float
    cpu: float
    peak_gib: float
    removed: frozenset[int]


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments(__doc__ or "")
    sizes = (QUICK_SIZE,) if arguments.quick else SIZES
    contestants = {"tunegate": run_tunegate, "datatrove": run_datatrove, "text-dedup": run_text_dedup}
    for name in ("datatrove", "text_dedup"):
        make_environment(name)
    claims: list[Claim] = []
    timings: list[Timing] = []
    with tempfile.TemporaryDirectory() as folder:
        warm_up(Path(folder), contestants)
        for size in sizes:
            found = compare(Path(folder) / str(size), size, contestants)
            timings += [
                Timing(f"{name}, {size:,}", tuple(run.wall for run in runs), tuple(run.cpu for run in runs))
                for name, (runs, _) in found.items()
            ]
            claims += claims_of(size, found)
        if not arguments.quick:
            claims += large_claims(Path(folder) / "large", timings)
    show("near duplicates", timings, claims, is_quick=arguments.quick, path=arguments.json)


def compare(
    folder: Path, size: int, contestants: Mapping[str, Callable[[Path], Measured]]
) -> dict[str, tuple[list[Measured], dict[int, int]]]:
    """Run the contestants in turn on the same documents; their runs, and the labels."""
    labels = write_documents(folder, size)
    runs: dict[str, list[Measured]] = {name: [] for name in contestants}
    for _ in range(REPETITIONS):
        for name, contestant in contestants.items():
            runs[name].append(contestant(folder))
    table = Table(
        "contestant", "documents/CPU s", "peak GiB", "removed", "recall", "precision", title=f"{size:,} documents"
    )
    for name, found in runs.items():
        recall, precision = quality(found[-1].removed, labels)
        rate, peak = f"{size / median_cpu(found):,.0f}", f"{peak_of(found):.2f}"
        table.add_row(name, rate, peak, f"{len(found[-1].removed):,}", f"{recall:.4f}", f"{precision:.4f}")
    Console().print(table)
    return {name: (found, labels) for name, found in runs.items()}


def median_cpu(runs: list[Measured]) -> float:
    """The median of the CPU seconds."""
    return statistics.median(run.cpu for run in runs)


def peak_of(runs: list[Measured]) -> float:
    """The largest peak."""
    return max(run.peak_gib for run in runs)


def claims_of(size: int, found: Mapping[str, tuple[list[Measured], dict[int, int]]]) -> Iterator[Claim]:
    """What is claimed of one size."""
    ours, labels = found["tunegate"]
    recall, precision = quality(ours[-1].removed, labels)
    yield Claim(f"recall, {size:,}", recall, "", 0.98, "min")
    yield Claim(f"precision, {size:,}", precision, "", 0.995, "min")
    for name in ("datatrove", "text-dedup"):
        theirs, _ = found[name]
        yield Claim(f"documents per CPU s over {name}, {size:,}", median_cpu(theirs) / median_cpu(ours), "x", 10, "min")
        yield Claim(f"peak memory over {name}, {size:,}", peak_of(ours) / peak_of(theirs), "x", 0.5, "max")


def large_claims(folder: Path, timings: list[Timing]) -> list[Claim]:
    """A million documents, ours only."""
    labels = write_documents(folder, LARGE)
    run = run_tunegate(folder)
    recall, precision = quality(run.removed, labels)
    timings.append(Timing(f"tunegate, {LARGE:,}", (run.wall,), (run.cpu,)))
    return [
        Claim(f"recall, {LARGE:,}", recall, "", 0.98, "min"),
        Claim(f"precision, {LARGE:,}", precision, "", 0.995, "min"),
        Claim(f"peak memory, {LARGE:,}", run.peak_gib, "GiB", 4, "max"),
    ]


def quality(removed: frozenset[int], labels: Mapping[int, int]) -> tuple[float, float]:
    """Recall and precision; of every planted cluster all but one document should go, no matter which."""
    sizes: dict[int, int] = {}
    gone: dict[int, int] = {}
    for document, original in labels.items():
        sizes[original] = sizes.get(original, 1) + 1
        gone[original] = gone.get(original, original in removed) + (document in removed)
    right = sum(min(count, sizes[original] - 1) for original, count in gone.items())
    return right / (sum(sizes.values()) - len(sizes)), right / len(removed) if removed else 0.0


# documents


def write_documents(folder: Path, size: int) -> dict[int, int]:
    """Write FOLDER/documents.parquet for the peers and a workspace for the stage; planted duplicates by original."""
    folder.mkdir(parents=True)
    chance = random.Random(size)  # noqa: S311  documents, no secrets
    labels: dict[int, int] = {}
    texts = list(documents(chance, size, labels))
    order = list(range(size))
    chance.shuffle(order)
    names = pa.array([f"d{place:07d}" for place in order])
    column = pa.array([texts[place] for place in order])
    pq.write_table(pa.table({"id": names, "text": column}), folder / "documents.parquet")
    write_workspace(folder, names, column)
    return labels


def documents(chance: random.Random, size: int, labels: dict[int, int]) -> Iterator[str]:
    """Base documents, then planted duplicates (noted in `labels`), then hard negatives."""
    rows, pool = source_rows()
    duplicates, negatives = int(size * DUPLICATE_SHARE), int(size * NEGATIVE_SHARE)
    base: list[list[str]] = []
    for place in range(size - duplicates - negatives):
        row = rows[place % len(rows)]
        base.append([word if chance.random() < 0.5 else chance.choice(pool) for word in row])
        yield " ".join(base[-1])
    originals = chance.sample(range(len(base)), duplicates + negatives)
    for number, original in enumerate(originals[:duplicates]):
        labels[len(base) + number] = original
        yield near_duplicate(base[original], pool, chance)
    for original in originals[duplicates:]:
        yield hard_negative(base[original], pool, chance)


def source_rows() -> tuple[list[list[str]], list[str]]:
    """Alpaca's rows of at least `MIN_WORDS` words, and all their words; without Alpaca, rows of made-up words."""
    path = REALDATA / "alpaca/alpaca_data.json"
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        texts = ["".join(sign if sign.isalpha() else " " for sign in " ".join(row.values()).lower()) for row in found]
    else:
        print(f"no Alpaca in {REALDATA}: the documents are made of made-up words")
        chance = random.Random(0)  # noqa: S311  documents, no secrets
        made_up = ["".join(chance.choices("abcdefghijklmnop", k=chance.randint(2, 9))) for _ in range(30_000)]
        texts = [" ".join(chance.choices(made_up, k=chance.randint(MIN_WORDS, 100))) for _ in range(50_000)]
    rows = [words for text in texts if len(words := text.split()) >= MIN_WORDS]
    return rows, [word for row in rows for word in row]


def near_duplicate(words: list[str], pool: list[str], chance: random.Random) -> str:
    """A text with some words replaced and a similarity of 0.8 or more; with a word more at its end if that fails."""
    edits = chance.randint(1, max(1, len(words) // 27))
    text = edited(words, edits, pool, chance)
    return text if MIN_DUPLICATE <= similarity(words, text) < 1 else " ".join([*words, chance.choice(pool)])


def hard_negative(words: list[str], pool: list[str], chance: random.Random) -> str:
    """A text with so many words replaced that its similarity is below 0.68, and still 0.4 if that can be had."""
    for edits in range(1, len(words)):
        for _ in range(3):
            text = edited(words, edits, pool, chance)
            if MIN_NEGATIVE <= similarity(words, text) <= MAX_NEGATIVE:
                return text
    return edited(words, len(words) // 2, pool, chance)


def edited(words: list[str], edits: int, pool: list[str], chance: random.Random) -> str:
    """The words with some of them replaced."""
    changed = list(words)
    for place in chance.sample(range(len(words)), edits):
        changed[place] = chance.choice(pool)
    return " ".join(changed)


def similarity(words: list[str], text: str) -> float:
    """The true Jaccard similarity."""
    return jaccard(ngrams(" ".join(words), NGRAM_WORDS), ngrams(text, NGRAM_WORDS))


def write_workspace(folder: Path, names: pa.Array, texts: pa.Array) -> None:
    """The stage's input and parameters; a document is the user turn of an example."""
    text = (ROOT / paths.PARAMS).read_text(encoding="utf-8").replace("  workers: 0 ", "  workers: 1 ")
    (folder / paths.PARAMS).write_text(text, encoding="utf-8")
    with writing(folder / paths.CLEAN / paths.EXAMPLES, Example) as writer:
        for start in range(0, len(texts), 4096):
            rows = [
                {
                    "id": name.as_py(),
                    "source": "benchmark",
                    "role": "train",
                    "file": "documents.parquet",
                    "line": start + place,
                    "messages": [
                        {"role": "user", "content": content.as_py()},
                        {"role": "assistant", "content": ANSWER},
                    ],
                    "repeat": 1,
                }
                for place, (name, content) in enumerate(
                    zip(names[start : start + 4096], texts[start : start + 4096], strict=True)
                )
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=EXAMPLE_SCHEMA))


# contestants


def make_environment(name: str) -> None:
    """A virtual environment with the pinned requirements of a peer, unless it is there."""
    folder, requirements = PEERS / name, ROOT / f"benchmarks/peers/{name}.txt"
    done = folder / "requirements.txt"
    if done.exists() and done.read_text(encoding="utf-8") == requirements.read_text(encoding="utf-8"):
        return
    venv.create(folder, with_pip=True, clear=True)
    subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
    shutil.copyfile(requirements, done)


def warm_up(folder: Path, contestants: Mapping[str, Callable[[Path], Measured]]) -> None:
    """Let everybody compile their modules once, on a few documents."""
    write_documents(folder / "warm", 500)
    for contestant in contestants.values():
        contestant(folder / "warm")


def measure(command: list[str], folder: Path, **environment: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak GiB of one process; none of the contestants starts another."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    usage, output = folder / "usage.json", folder / "output.txt"
    with output.open("w", encoding="utf-8") as file:
        watched = [sys.executable, "-I", "-S", "-c", WATCH, str(usage), *command]
        done = subprocess.run(watched, cwd=folder, env=kept | environment, stdout=file, stderr=file, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{output.read_text(encoding='utf-8')[-2000:]}")
    wall, cpu, peak_kib = json.loads(usage.read_text(encoding="utf-8"))
    return wall, cpu, peak_kib / 2**20


def run_tunegate(folder: Path) -> Measured:
    """The stage `dedup`."""
    shutil.rmtree(folder / paths.DEDUP, ignore_errors=True)
    figures = measure([sys.executable, "-m", "tasks.dedup"], folder, PYTHONPATH=str(ROOT))
    entries = read_records(folder / paths.DEDUP / paths.LEDGER, LedgerEntry)
    return Measured(*figures, frozenset(int(entry.id[1:]) for entry in entries))


def run_datatrove(folder: Path) -> Measured:
    """Its four steps."""
    for name in ("signatures", "buckets", "removed", "out", "logs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    script = str(ROOT / "benchmarks/peers/run_datatrove.py")
    numbers = [str(number) for number in (NGRAM_WORDS, BANDS, NUM_HASHES // BANDS, SEED)]
    figures = measure([str(PEERS / "datatrove/bin/python"), script, str(folder), *numbers], folder)
    kept = set()
    for path in (folder / "out").glob("*.jsonl.gz"):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            kept |= {json.loads(line)["id"] for line in file}
    return Measured(*figures, removed_of(folder, kept))


def run_text_dedup(folder: Path) -> Measured:
    """Its command `text_dedup.minhash`, with its faster hash."""
    for name in ("cache", "kept"):
        shutil.rmtree(folder / name, ignore_errors=True)
    options = {
        "path": "parquet",
        "data_files": str(folder / "documents.parquet"),
        "split": "train",
        "cache_dir": str(folder / "cache"),
        "output": str(folder / "kept"),
        "column": "text",
        "ngram": str(NGRAM_WORDS),
        "min_length": "1",
        "num_perm": str(NUM_HASHES),
        "b": str(BANDS),
        "r": str(NUM_HASHES // BANDS),
        "hash_func": "xxh3",
        "num_proc": "1",
    }
    command = [str(PEERS / "text_dedup/bin/python"), "-m", "text_dedup.minhash"]
    command += [part for name, value in options.items() for part in (f"--{name}", value)]
    figures = measure(command, folder, HF_HOME=str(folder / "cache"), HF_HUB_OFFLINE="1")
    kept: set[str] = set()
    for path in (folder / "kept").glob("*.arrow"):
        with pa.ipc.open_stream(path) as stream:
            kept |= set(stream.read_all()["id"].to_pylist())
    return Measured(*figures, removed_of(folder, kept))


def removed_of(folder: Path, kept: set[str]) -> frozenset[int]:
    """The documents that are not among those that were kept."""
    names = pq.read_table(folder / "documents.parquet", columns=["id"])["id"].to_pylist()
    return frozenset(int(name[1:]) for name in names if name not in kept)


if __name__ == "__main__":
    main()
