"""Assemble the shipped example data from the hand-written texts in `parts/` and the dirt of `dirt.py`.

Run from the root of the repository: `python -m data.sources.generate` writes the files, with `--check` it compares
them. The same parts and the same seed give the same bytes.
"""

import argparse
import json
import sys
from pathlib import Path

from data.sources.dirt import Ticket, mislabelled, shuffled, soil
from data.sources.impact import stated_impact

ROOT = Path(__file__).resolve().parents[2]
PARTS = ROOT / "data/sources/parts"
FIRST_NUMBER = 10_001


def build() -> dict[str, bytes]:
    """The bytes of every shipped file, by its path below the root of the repository."""
    tickets = read_tickets("tickets_*.jsonl")
    held_out = [_columns(ticket) for ticket in read_tickets("heldout_*.jsonl")]
    return {
        "data/sources/support_tickets.jsonl": export(shuffled("export", soil(tickets))),
        "data/sources/mislabelled_tickets.jsonl": export(shuffled("mislabelled", map(mislabelled, tickets))),
        "data/sources/general_instructions.jsonl": _lines(read_part("general_instructions.jsonl")),
        "tasks/evals/ticket_routing/items.jsonl": _lines(shuffled("ticket_routing", held_out)),
        "tasks/evals/general_knowledge/items.jsonl": _lines(
            shuffled("general_knowledge", read_part("general_knowledge.jsonl"))
        ),
    }


def read_part(name: str) -> list[dict[str, object]]:
    """The rows of one hand-written file."""
    return [json.loads(line) for line in (PARTS / name).read_text(encoding="utf-8").splitlines()]


def read_tickets(pattern: str) -> list[Ticket]:
    """The tickets of all hand-written files that match, in the order of the files' names."""
    rows = [row for path in sorted(PARTS.glob(pattern)) for row in read_part(path.name)]
    return [_ticket(str(row["text"]), str(row["queue"]), str(row["priority"])) for row in rows]


def export(tickets: list[Ticket]) -> bytes:
    """The tickets as the ticket system writes them: numbered in their order, one JSON object a line."""
    return b"".join(export_line(f"T-{FIRST_NUMBER + index}", ticket) for index, ticket in enumerate(tickets))


def export_line(number: str, ticket: Ticket) -> bytes:
    """One line of the export, broken in the way that the ticket says."""
    row: dict[str, object] = {"ticket": number} | _columns(ticket)
    match ticket.breakage:
        case "cut":
            return _line(row)[: len(_line(row)) // 2] + b"\n"
        case "list":
            return _line(list(row.values()))
        case "no priority" | "no text":
            del row[ticket.breakage.removeprefix("no ")]
        case "number":
            row["text"] = len(ticket.text)
        case "key twice":
            return _line(row).replace(b'{"ticket"', b'{"queue": "archive", "ticket"')
        case "latin-1":
            row["text"] = f"{ticket.text} Zoë"
            return _line(row).decode().encode("latin-1")
    return _line(row)


def stale(files: dict[str, bytes]) -> list[str]:
    """The paths whose file is missing or holds other bytes."""
    return [name for name, content in files.items() if _read(ROOT / name) != content]


def write(files: dict[str, bytes]) -> None:
    """Write every file, each whole or not at all."""
    for name, content in files.items():
        partial = ROOT / f"{name}.partial"
        partial.write_bytes(content)
        partial.replace(ROOT / name)


def main(arguments: list[str] | None = None) -> int:
    """Write or check the files; 0 when they are as they should be, 1 when a check found others."""
    parser = argparse.ArgumentParser(prog="python -m data.sources.generate", description="Assemble the example data.")
    parser.add_argument("--check", action="store_true", help="write nothing; compare the files with what would be made")
    files = build()
    if not parser.parse_args(arguments).check:
        write(files)
        return 0
    for name in (different := stale(files)):
        print(f"{name}: not what parts/ make; run `python -m data.sources.generate`", file=sys.stderr)
    return 1 if different else 0


def _ticket(text: str, queue: str, priority: str) -> Ticket:
    return Ticket(text, stated_impact(text, priority), queue, priority)


def _columns(ticket: Ticket) -> dict[str, object]:
    return {"text": ticket.text, "impact": ticket.impact, "queue": ticket.queue, "priority": ticket.priority}


def _lines(rows: list[dict[str, object]]) -> bytes:
    return b"".join(map(_line, rows))


def _line(row: object) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


if __name__ == "__main__":
    raise SystemExit(main())
