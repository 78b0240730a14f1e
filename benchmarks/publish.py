"""Claim: of 200 publications, each with a fault at a random request, 200 end in one correct release.

A tiny model goes to a hub on this machine that speaks the Hub's HTTP API to the unmodified huggingface_hub. In every
publication one request, drawn by a seed, goes wrong in a way that is drawn too: 500, 401, 403, 409, 412, a connection
that breaks before or after the request took effect, half of an answer, a slow answer, none. A publication that gives up
is given once more, without a fault.

After every request a reader resolves the tag: it must see nothing, or the whole release. At the end the release is
downloaded by its tag and compared byte for byte, and the repository must have one commit more than before, no matter
what was sent twice.
"""

import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.harness import Claim, parse_arguments, show
from tests.faulty_publications import KINDS, Trial, publish_under_faults

COUNT, QUICK_COUNT = 200, 12
SEED = 20261129


def main() -> None:
    """Publish, print, write."""
    arguments = parse_arguments(__doc__ or "")
    count = QUICK_COUNT if arguments.quick else COUNT
    started = time.perf_counter()
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory() as scratch:
        for trial in publish_under_faults(count, SEED, Path(scratch) / "publish"):
            trials.append(trial)
            if trial.runs > 1 or trial.problems or any(trial.codes[1:]):
                print(f"{len(trials)}: {trial.fault} at {trial.endpoint}: {trial.told} {trial.problems}", flush=True)
    seconds = time.perf_counter() - started
    correct = [trial for trial in trials if trial.codes[-1] == 0 and not trial.problems]
    torn = [trial for trial in trials if any("was seen with" in problem for problem in trial.problems)]
    claims = [
        Claim(f"of {count} publications end in one correct release", len(correct), "", count, "min"),
        Claim("were visible half-published", len(torn), "", 0, "max"),
        Claim("faults that hit a request", sum(trial.endpoint != "none" for trial in trials), "", count, "min"),
        Claim("runs that the worst of them took", max(trial.runs for trial in trials), "", 2, "max"),
    ]
    kinds = {
        kind: {
            "publications": Counter(trial.fault for trial in trials)[kind],
            "given twice": sum(trial.runs > 1 for trial in trials if trial.fault == kind),
        }
        for kind in KINDS
    }
    more = {"seconds": round(seconds, 1), "seed": SEED, "faults": kinds}
    show("publications", [], claims, is_quick=arguments.quick, path=arguments.json, more=more)


if __name__ == "__main__":
    main()
