"""Publications to a Hub that goes wrong once in each of them, at a request that is drawn, watched by a reader."""

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.digests import file_digests
from tasks.publish_bundle import Bundle
from tests.hub_client import REPO, TOKEN, Client, hub_client, make_bundle
from tests.loopback_hub import Kind, LoopbackHub, loopback_hub

KINDS: tuple[Kind, ...] = ("500", "reset", "lost", "401", "403", "409", "moved", "slow", "cut", "hang")
TIMEOUT_SECONDS = 1.0
RELEASES_OF_A_REPOSITORY = 10
"""So that first releases are among the trials, and later ones that replace a tree."""
HUBS_OWN = ".gitattributes"


@dataclass(frozen=True)
class Trial:
    """One publication, and a second one where the first gave up; `problems` is what a reader or the end found wrong."""

    fault: Kind
    endpoint: str
    runs: int
    codes: tuple[int, ...]
    told: str
    problems: tuple[str, ...]


def publish_under_faults(count: int, seed: int, folder: Path, kinds: tuple[Kind, ...] = KINDS) -> Iterator[Trial]:
    """Publish `count` releases of a tiny model, one fault in each.

    Args:
        count: how many releases.
        seed: draws the kind of each fault and the number of the request that it hits.
        folder: for the models and the client's files.
        kinds: what may go wrong.

    Yields:
        What became of each.
    """
    draw = random.Random(seed)  # noqa: S311  a draw, not a secret
    (folder / "home").mkdir(parents=True)
    with loopback_hub(TOKEN) as hub, hub_client(hub.url, folder / "home") as client:
        requests = _requests_of_a_publication(hub, client, folder)
        for number in range(count):
            if number % RELEASES_OF_A_REPOSITORY == 0:
                hub.reset()
            bundle = make_bundle(folder, f"v0.1.{number}", b"weights %d" % number)
            trial = _try(hub, client, bundle, (draw.randrange(requests), draw.choice(kinds)))
            yield replace(trial, problems=(*trial.problems, *_read_back(client, bundle, folder / "read")))


def _requests_of_a_publication(hub: LoopbackHub, client: Client, folder: Path) -> int:
    done = client.publish(make_bundle(folder, "v0.0.1", b"first"), timeout_seconds=TIMEOUT_SECONDS)
    assert done.code == 0, done.told
    return len(hub.requests)


def _try(hub: LoopbackHub, client: Client, bundle: Bundle, fault_at: tuple[int, Kind]) -> Trial:
    seen: list[str] = []
    before = len(hub.repositories[REPO].commits) if REPO in hub.repositories else 1  # the Hub's own first commit
    hub.requests.clear()
    hub.fault_at, hub.watch = fault_at, lambda: seen.extend(_half_published(hub, bundle))
    runs = [client.publish(bundle, timeout_seconds=TIMEOUT_SECONDS)]
    hub.fault_at = None
    endpoint = hub.requests[fault_at[0]][0] if fault_at[0] < len(hub.requests) else "none"
    if runs[0].code:
        runs.append(client.publish(bundle, timeout_seconds=TIMEOUT_SECONDS))
    repository = hub.repositories[REPO]
    made = len(repository.commits) - before
    if made != 1:
        seen.append(f"{made} commits and not one")
    told = " | ".join(run.told.strip() for run in runs if run.told)
    return Trial(fault_at[1], endpoint, len(runs), tuple(run.code for run in runs), told, tuple(dict.fromkeys(seen)))


def _half_published(hub: LoopbackHub, bundle: Bundle) -> list[str]:
    """What somebody who resolves the tag of the release now sees of it that is not the whole release."""
    repository = hub.repositories.get(REPO)
    if repository is None or bundle.release.version not in repository.tags:
        return []
    tree = repository.commits[repository.tags[bundle.release.version]]
    found = {name: blob.sha256 for name, blob in tree.items() if name != HUBS_OWN}
    return [] if found == bundle.digests else [f"tag {bundle.release.version} was seen with {sorted(found)}"]


def _read_back(client: Client, bundle: Bundle, folder: Path) -> list[str]:
    """What is wrong with the release as a reader gets it by its tag."""
    done = client.call("download", revision=bundle.release.version, folder=str(folder))
    found = file_digests(Path(done.answer)) if done.code == 0 and done.answer else {}
    shutil.rmtree(folder, ignore_errors=True)
    found.pop(HUBS_OWN, None)
    return [] if found == bundle.digests else [f"read back {sorted(found)}: {done.told.strip()}"]
