"""`tunegate audit lineage`: the way of a release, as facts and as a picture."""

import json
from collections.abc import Callable
from pathlib import Path

from flows.git import git
from flows.lineage import Lineage, Node, _escaped, mermaid
from tasks.digests import digest_file
from tests.flows.fake_run import passed_record
from tests.flows.real_release import NAME, RUNS

Tunegate = Callable[..., tuple[int, str]]


def test_a_release_is_told_from_its_sources_to_production(released: Path, tunegate: Tunegate) -> None:
    for version in ("v0.0.1", "v0.0.2"):
        assert tunegate("promote", version, "--stage", "production", "--why", "went well")[0] == 0
    found = json.loads(tunegate("audit", "lineage", "v0.0.1", "--json")[1])
    nodes = {node["id"]: node for node in found["nodes"]}
    edges = {(edge["source"], edge["target"]) for edge in found["edges"]}
    assert (found["release"], found["run_id"]) == (f"{NAME}@v0.0.1", RUNS[0])
    assert nodes["release"]["title"] == f"{NAME}@v0.0.1"
    assert nodes["base model"]["title"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert nodes["approval of merged_model"]["digest"] == nodes["release"]["digest"]
    assert nodes["place production"]["facts"]["holds it now"] == "no"
    assert nodes["place production"]["facts"]["said"] == f"Promote {NAME}@v0.0.1 to production"
    assert edges >= {("source support_tickets", "ingest")}
    assert {edge for edge in edges if "approval" in "".join(edge) or "release" in edge} == {
        ("gate", "approval of adapter"), ("approval of adapter", "merge"), ("merge", "approval of merged_model"),
        ("approval of merged_model", "release"), ("merge", "release"), ("release", "place production"),
    }  # fmt: skip
    assert {edge[0] for edge in edges} | {edge[1] for edge in edges} <= nodes.keys()
    later = json.loads(tunegate("audit", "lineage", RUNS[1], "--json")[1])
    assert {node["id"]: node for node in later["nodes"]}["place production"]["facts"]["holds it now"] == "yes"


def test_a_source_in_git_has_the_digest_of_the_bytes_that_the_run_read(released: Path, tunegate: Tunegate) -> None:
    found = json.loads(tunegate("audit", "lineage", "v0.0.3", "--json")[1])
    sources = [node for node in found["nodes"] if node["kind"] == "source"]
    assert sources
    for node in sources:
        assert node["digest"] == digest_file(released / node["facts"]["path"])


def test_who_signed_off_stands_before_the_release(released: Path, tunegate: Tunegate) -> None:
    git(released, "config", "user.name", "Grace")
    git(released, "config", "user.email", "grace@example.org")
    assert tunegate("approve", RUNS[2], "--why", "tried ten tickets")[0] == 0
    said = tunegate("audit", "lineage", "v0.0.3")[1]
    assert said.startswith("flowchart LR\n")
    assert '{{"signed off<br/>' in said
    assert "<br/>Grace #lt;grace@example.org#gt;" in said


def test_a_picture_can_be_written_to_a_file(released: Path, tunegate: Tunegate) -> None:
    assert tunegate("audit", "lineage", "v0.0.1", "-o", "lineage.mmd") == (0, "lineage.mmd\n")
    assert (released / "lineage.mmd").read_text(encoding="utf-8").startswith("flowchart LR\n")


def test_a_label_can_say_anything_without_breaking_the_picture() -> None:
    assert _escaped('a "quoted"\n<b> #1') == "a #quot;quoted#quot; #lt;b#gt; #35;1"
    node = Node(id="x", kind="stage", title='a"]', digest=None, facts={})
    picture = mermaid(Lineage(release="r", run_id="i", commit="c", nodes=(node,), edges=()))
    assert picture == 'flowchart LR\n    n0["a#quot;]"]\n'


def test_what_is_no_release_is_said(released: Path, tunegate: Tunegate) -> None:
    assert passed_record().release is not None
    code, said = tunegate("audit", "lineage", "v9.9.9")
    assert (code, "no such release" in said) == (2, True)
