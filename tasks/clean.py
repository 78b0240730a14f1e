"""Stage `clean`: data/ingest/examples.parquet, data/base/tokenizer -> data/clean/.

Writes examples.parquet, ledger.parquet, quarantine.parquet and summary.json. Row groups go through the workers one by
one and come back in order, so the bytes are the same however many there are; no more than a few groups are held.
"""

from collections import Counter
from pathlib import Path

from tasks import paths
from tasks.clean_groups import clean_groups
from tasks.entry import run_stage
from tasks.files import write_json
from tasks.params import load_params
from tasks.params_data import CleanParams, EngineParams
from tasks.records import DataSummary, Example, LedgerEntry, QuarantinedRow
from tasks.summaries import Tally, print_summary
from tasks.tables import count_rows, writing


def main() -> None:
    """Clean the ingested examples."""
    params = load_params()
    print_summary(clean(paths.INGEST / paths.EXAMPLES, paths.BASE_TOKENIZER, paths.CLEAN, params.clean, params.engine))


def clean(source: Path, tokenizer: Path, folder: Path, params: CleanParams, engine: EngineParams) -> DataSummary:
    """Clean the table `source` into the four files of `folder`.

    Args:
        source: a table of examples.
        tokenizer: the base model's tokenizer, a folder.
        folder: where examples, ledger, quarantine and summary go.
        params: the rules.
        engine: where the workers run.

    Raises:
        FileInvalid: `source` or `tokenizer` cannot be read.
    """
    tally, kept = Tally(), Counter[str]()
    with (
        writing(folder / paths.EXAMPLES, Example) as examples,
        writing(folder / paths.LEDGER, LedgerEntry) as ledger,
        writing(folder / paths.QUARANTINE, QuarantinedRow) as quarantine,
    ):
        for cleaned in clean_groups(source, tokenizer, params, engine):
            examples.write_table(cleaned.examples)
            ledger.write_table(cleaned.ledger)
            quarantine.write_table(cleaned.quarantine)
            tally.dropped.update(cleaned.tally.dropped)
            tally.changed.update(cleaned.tally.changed)
            kept.update(cleaned.kept)
    summary = tally.summary("clean", count_rows(source), kept=kept)
    write_json(folder / paths.SUMMARY, summary)
    return summary


if __name__ == "__main__":
    run_stage(main)
