"""Where a release comes from and where it went: sources, stages, approvals, people, production; as a graph of facts."""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from flows import registry
from flows.git import git, show_bytes, show_file
from flows.releases import Released
from flows.reproduce import Stage, read_stages
from flows.run_record import RunRecord
from flows.sign_off import newest_revision, read_sign_offs
from tasks import paths
from tasks.files import parse_json
from tasks.records import Champion, Record

NodeKind = Literal["source", "base", "stage", "approval", "release", "place"]
CONSUMERS = {"data": "train", "adapter": "merge", "merged_model": "release"}
"""What starts only with an approval of this subject."""
MAKERS = {"data": "validate", "adapter": "gate", "merged_model": "merge"}


class Node(Record):
    """One thing on the way; `digest` is that of its bytes, None where no record has one."""

    id: str
    kind: NodeKind
    title: str
    digest: str | None
    facts: dict[str, str]


class Edge(Record):
    """One thing went into another."""

    source: str
    target: str


class Lineage(Record):
    """The way of one release."""

    release: str
    run_id: str
    commit: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def lineage(root: Path, released: Released) -> Lineage:
    """The way of a release, from its run's record, git and the registry."""
    record, stages = released.record, _stages(root, released.commit)
    ran = [stage for stage in stages if record.stage(stage.name) is not None]
    nodes = [
        *_inputs(root, released),
        *(_stage_node(record, stage) for stage in ran),
        *_approvals(root, released),
        _release_node(released),
        *_places(root, released),
    ]
    known = {node.id for node in nodes}
    edges = (edge for edge in _edges(released, ran, nodes) if {edge.source, edge.target} <= known)
    return Lineage(
        release=released.tag, run_id=record.run_id, commit=released.commit, nodes=tuple(nodes),
        edges=tuple(dict.fromkeys(edges)),
    )  # fmt: skip


def _stages(root: Path, commit: str) -> list[Stage]:
    """The stages of the line as the run's commit has them."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dvc.yaml").write_bytes(show_bytes(root, commit, "dvc.yaml") or b"stages: {}\n")
        return read_stages(Path(folder))


def _inputs(root: Path, released: Released) -> Iterator[Node]:
    params = released.record.params
    listed = params.get("sources")
    for source in listed if isinstance(listed, list) else ():
        if isinstance(source, dict):
            yield _source(root, released.commit, source)
    base = params.get("base_model")
    if isinstance(base, dict):
        origin = base.get("origin")
        facts = {key: str(value) for key, value in (origin.items() if isinstance(origin, dict) else ())}
        yield Node(id="base model", kind="base", title=str(base.get("name")), digest=None, facts=facts)
    champion = _champion(root, released.commit)
    if champion is not None and champion.release is not None:
        yield Node(
            id="champion", kind="release", title=champion.release, digest=None, facts={"run": champion.run or ""}
        )


def _source(root: Path, commit: str, source: dict[str, JsonValue]) -> Node:
    """A source, with the digest of its file where git has it, else the one that the parameters ask for."""
    content = show_bytes(root, commit, str(source.get("path"))) if source.get("path") else None
    pinned = source.get("sha256")
    digest = hashlib.sha256(content).hexdigest() if content is not None else str(pinned) if pinned else None
    facts = {
        key: str(source[key])
        for key in ("role", "path", "weight", "repo_id", "revision")
        if source.get(key) is not None
    }
    return Node(
        id=f"source {source.get('name')}", kind="source", title=str(source.get("name")), digest=digest, facts=facts
    )


def _champion(root: Path, commit: str) -> Champion | None:
    text = show_file(root, commit, paths.CHAMPION.as_posix())
    return None if text is None else parse_json(text, Champion, f"{commit[:12]}:{paths.CHAMPION}")


def _stage_node(record: RunRecord, stage: Stage) -> Node:
    own = record.stage(stage.name)
    digests = own.output_digests if own is not None else {}
    facts = {"outcome": own.outcome if own is not None else "", **digests}
    if stage.name == "gate" and record.verdict is not None:
        facts["verdict"] = record.verdict.verdict
    return Node(id=stage.name, kind="stage", title=stage.name, digest=next(iter(digests.values()), None), facts=facts)


def _approvals(root: Path, released: Released) -> Iterator[Node]:
    record = released.record
    for subject, approval in record.approvals.items():
        facts = {"decision": approval.decision, "by": approval.approved_by}
        yield Node(
            id=f"approval of {subject}",
            kind="approval",
            title=f"{subject} approved",
            digest=approval.digest,
            facts=facts,
        )
    revision = newest_revision(root, record.run_id, released.commit)
    for number, entry in enumerate(read_sign_offs(root, revision, record.run_id), start=1):
        is_rejection = entry.approval.decision == "refused"
        facts = {"by": entry.approval.approved_by, "at": entry.at, "why": entry.why}
        yield Node(
            id=f"sign-off {number}",
            kind="approval",
            title="rejected" if is_rejection else "signed off",
            digest=entry.approval.digest,
            facts=facts,
        )


def _release_node(released: Released) -> Node:
    release = released.release
    facts = {"target": release.target, "location": release.location, "commit": released.commit}
    return Node(id="release", kind="release", title=released.tag, digest=release.digest, facts=facts)


def _places(root: Path, released: Released) -> Iterator[Node]:
    """Every stage of the registry that the release was given to, with when, by whom, and whether it has it still."""
    name = released.release.name
    tags = git(root, "tag", "--list", f"{name}#*").split()
    for stage in sorted({tag.split("#")[1].rstrip("!") for tag in tags}):
        given = [change for change in registry.stage_history(root, name, stage) if not change.is_withdrawal]
        own = [change for change in given if registry.version_at(root, name, change.commit) == released.tag]
        if not own:
            continue
        tag = f"{name}#{stage}#{own[-1].number}"
        at, by = git(root, "tag", "--list", "--format=%(creatordate:iso-strict)%00%(taggername)", tag).split("\0")
        holder = registry.stage_holder(root, name, stage)
        holds = "yes" if holder is not None and holder.tag == released.tag else "no"
        yield Node(
            id=f"place {stage}", kind="place", title=stage, digest=None,
            facts={"at": at, "by": by, "said": own[-1].subject, "holds it now": holds},
        )  # fmt: skip


def _edges(released: Released, stages: list[Stage], nodes: list[Node]) -> Iterator[Edge]:
    for node in nodes:
        if node.kind == "source":
            yield Edge(source=node.id, target="ingest")
        elif node.id.startswith("sign-off "):
            yield Edge(source=node.id, target="release")
        elif node.kind == "place":
            yield Edge(source="release", target=node.id)
    yield Edge(source="base model", target="base")
    yield Edge(source="champion", target="gate")
    for stage in stages:
        for maker in stages:
            if maker is not stage and stage.deps_among(maker.outs):
                yield Edge(source=maker.name, target=stage.name)
    for subject in released.record.approvals:
        yield Edge(source=MAKERS[subject], target=f"approval of {subject}")
        yield Edge(source=f"approval of {subject}", target=CONSUMERS[subject])
    yield Edge(source="merge", target="release")


SHAPES: dict[NodeKind, tuple[str, str]] = {
    "source": ("[(", ")]"), "base": ("[(", ")]"), "stage": ("[", "]"), "approval": ("{{", "}}"),
    "release": ("([", "])"), "place": (">", "]"),
}  # fmt: skip


def mermaid(found: Lineage) -> str:
    """The picture: text that GitHub, GitLab and many editors draw."""
    number = {node.id: f"n{place}" for place, node in enumerate(found.nodes)}
    lines = ["flowchart LR"]
    for node in found.nodes:
        before, after = SHAPES[node.kind]
        told = [node.title, *([node.digest[:12]] if node.digest else [])]
        told += [node.facts[key] for key in ("verdict", "by") if key in node.facts]
        told += ["holds it now"] if node.facts.get("holds it now") == "yes" else []
        lines.append(f'    {number[node.id]}{before}"{"<br/>".join(map(_escaped, told))}"{after}')
    lines += [f"    {number[edge.source]} --> {number[edge.target]}" for edge in found.edges]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """A text inside a label: Mermaid takes entities with `#` in place of `&`."""
    text = " ".join(text.split()).replace("#", "#35;")
    return text.replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
