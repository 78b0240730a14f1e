"""Overlays over params.yaml, and variants as models of their own that share the base."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.git import git, show_file
from flows.record import read_run
from flows.registry import champion, stage_holder
from flows.release_section import asks_for_approval
from flows.retrain import retrain
from flows.run_record import RunRecord
from flows.variants import VARIANTS, chosen_params, chosen_text, release_names, variant_names
from tasks.errors import ParamsInvalid
from tasks.params import load_params
from tasks.yaml_files import read_yaml
from tests.flows.real_release import NAME
from tests.flows.test_retrain import is_clean, outcomes, tags
from tests.flows.tiny_line import ROOT
from tests.flows.tiny_repo import commit

Tunegate = Callable[..., tuple[int, str]]
BASE_RUN, CUSTOMER_RUN, AGAIN = "20260102-030405-aaaa", "20260102-040506-bbbb", "20260102-050607-cccc"
CUSTOMER = f"{NAME}-customer"
SMALL = "# small\nlora:\n  r: 8\n  lora_alpha: 16\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the default parameters and an overlay."""
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    put(tmp_path, "customer", SMALL)
    return tmp_path


def put(root: Path, variant: str, text: str) -> Path:
    path = root / VARIANTS / f"{variant}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_an_overlay_changes_what_it_names_and_the_release_gets_a_name_of_its_own(root: Path) -> None:
    below, over = load_params(root / "params.yaml"), chosen_params(root, variant="customer")
    assert below.lora is not None
    lora = below.lora.model_copy(update={"r": 8, "lora_alpha": 16})
    release = below.release.model_copy(update={"name": CUSTOMER})
    assert over == below.model_copy(update={"lora": lora, "release": release})


def test_the_text_that_a_run_takes_says_the_same_and_keeps_the_comments(root: Path, tmp_path: Path) -> None:
    text = chosen_text(root, variant="customer")
    assert text is not None
    merged = tmp_path / "merged.yaml"
    merged.write_text(text, encoding="utf-8")
    assert load_params(merged) == chosen_params(root, variant="customer")
    assert "# QLoRA" not in text
    assert "target_modules: all-linear # attention-qv | attention | all-linear | names of layers\n" in text


def test_an_overlay_may_add_keys_where_names_are_free(root: Path, tmp_path: Path) -> None:
    limits = "timeout_seconds: 60, retries: 0, retry_delay_seconds: 1"
    put(root, "customer", f"run:\n  by_stage:\n    train: {{{limits}}}\n")
    text = chosen_text(root, variant="customer")
    assert text is not None
    merged = tmp_path / "merged.yaml"
    merged.write_text(text, encoding="utf-8")
    found = load_params(merged)
    assert found == chosen_params(root, variant="customer")
    assert found.run.limits("train").timeout_seconds == 60


def test_a_list_is_taken_whole(root: Path) -> None:
    put(root, "customer", "clean:\n  refusal_phrases: [no]\n  language:\n    allowed: [en, de]\n")
    clean, below = chosen_params(root, variant="customer").clean, load_params(root / "params.yaml").clean
    assert clean.language is not None
    assert below.language is not None
    assert (clean.refusal_phrases, clean.language.allowed) == (["no"], ["en", "de"])
    assert clean.language.min_confidence == below.language.min_confidence


def test_an_overlay_lies_over_another_file_too(root: Path) -> None:
    other = root / "other.yaml"
    other.write_text((root / "params.yaml").read_text().replace("name: support-router", "name: other"))
    assert chosen_params(root, other, "customer").release.name == "other-customer"
    assert "name: other-customer\n" in (chosen_text(root, other, "customer") or "")


def test_a_repository_on_the_hub_is_the_variants_own(root: Path) -> None:
    text = (root / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("target: folder", "target: hub").replace(
        "  repo_id: null\n  private", "  repo_id: a/b\n  private"
    )
    (root / "params.yaml").write_text(text, encoding="utf-8")
    assert chosen_params(root, variant="customer").release.repo_id == "a/b-customer"
    put(root, "customer", "release:\n  repo_id: c/d\n  name: mine\n")
    release = chosen_params(root, variant="customer").release
    assert (release.repo_id, release.name) == ("c/d", "mine")


@pytest.mark.parametrize(
    ("overlay", "found"),
    [
        ("# a\nlora:\n  r: many\n", "  line 3: lora.r: Input should be a valid integer; found 'many'"),
        ("lora:\n  rr: 8\n", "  line 2: lora.rr: Extra inputs are not permitted; found 8; did you mean `r`?"),
        ("lora: 3\n", "  line 1: lora: Input should be "),
        ("train:\n  method: full\n", "1 problem(s), nothing was started\n  line 1: (whole file): "),
        ("sources:\n  - name: x\n", "  line 2: sources.0.path: Field required"),
    ],
)
def test_what_is_wrong_is_told_by_the_line_of_the_overlay(root: Path, overlay: str, found: str) -> None:
    put(root, "customer", overlay)
    with pytest.raises(ParamsInvalid) as refusal:
        chosen_params(root, variant="customer")
    assert str(refusal.value).startswith("params/variants/customer.yaml: ")
    assert found in str(refusal.value)


def test_what_is_wrong_below_is_told_by_params_yaml(root: Path) -> None:
    text = (root / "params.yaml").read_text(encoding="utf-8").replace("confidence: 0.95", "confidence: high")
    (root / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ParamsInvalid, match=r"params\.yaml: 1 problem(?s:.)*gate\.confidence"):
        chosen_params(root, variant="customer")


def test_the_base_model_is_no_variants_own(root: Path) -> None:
    put(root, "customer", "lora:\n  r: 8\nbase_model:\n  dtype: float32\n")
    with pytest.raises(ParamsInvalid, match=r"customer\.yaml: line 3: base_model: all variants share the base"):
        chosen_params(root, variant="customer")


@pytest.mark.parametrize("name", ["../customer", "/etc/passwd", "", "A", "a/b", ".hidden", "x" * 65, "customer\n"])
def test_a_name_that_is_a_path_is_refused(root: Path, name: str) -> None:
    with pytest.raises(ParamsInvalid, match="a name is lower-case letters"):
        chosen_params(root, variant=name)


def test_a_variant_that_is_not_there_is_told_with_the_nearest(root: Path) -> None:
    with pytest.raises(ParamsInvalid, match=r"no params/variants/custmer\.yaml; did you mean 'customer'\?"):
        chosen_params(root, variant="custmer")


def test_a_link_out_of_the_folder_is_refused(root: Path) -> None:
    outside = root / "outside.yaml"
    outside.write_text(SMALL, encoding="utf-8")
    (root / VARIANTS / "linked.yaml").symlink_to(outside)
    with pytest.raises(ParamsInvalid, match=r"linked\.yaml: a link that leads out of params/variants"):
        chosen_params(root, variant="linked")


@pytest.mark.parametrize(("name", "owner"), [(NAME, "params.yaml"), ("taken", "variant other")])
def test_two_models_of_one_name_are_refused(root: Path, name: str, owner: str) -> None:
    put(root, "other", "release:\n  name: taken\n")
    put(root, "customer", f"release:\n  name: {name}\n")
    with pytest.raises(ParamsInvalid, match=f"release.name: {name} is that of {owner}"):
        chosen_params(root, variant="customer")


def test_an_overlay_that_is_broken_keeps_no_other_variant_back(root: Path) -> None:
    put(root, "broken", "lora: [\n")
    assert variant_names(root) == ["broken", "customer"]
    assert release_names(root) == {"customer": CUSTOMER}
    assert chosen_params(root, variant="customer").release.name == CUSTOMER


@pytest.mark.parametrize("path", sorted((ROOT / VARIANTS).glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_variants_are_right(path: Path) -> None:
    assert chosen_params(ROOT, variant=path.stem).release.name == f"{NAME}-{path.stem}"


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory, lines: Callable[[str], Path], prefect_server: str
) -> SimpleNamespace:
    """A whole line whose stages depend on the parameters as the real ones do: run, run as a variant, and that again."""
    root = tmp_path_factory.mktemp("both") / "repo"
    subprocess.run(["cp", "-a", str(lines("whole")), str(root)], check=True)
    real: dict[str, dict[str, object]] = read_yaml(ROOT / "dvc.yaml").value["stages"]  # type: ignore[assignment]
    wired = json.loads((root / "dvc.yaml").read_text(encoding="utf-8"))
    for name, stage in wired["stages"].items():
        stage["params"] = real[name]["params"]
    (root / "dvc.yaml").write_text(json.dumps(wired), encoding="utf-8")
    put(root, "customer", SMALL)
    commit(root, "a variant")
    runs = {run: go(root, run, variant) for run, variant in {BASE_RUN: None, CUSTOMER_RUN: "customer"}.items()}
    return SimpleNamespace(root=root, runs=runs)


def go(root: Path, run_id: str, variant: str | None) -> RunRecord:
    retrain(str(root), run_id, variant=variant, return_state=True)
    return read_run(root, run_id)


@pytest.fixture
def at_home(both: SimpleNamespace, tmp_path: Path, plain_git: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That repository, of this test's own, as the current folder."""
    root = Path(shutil.copytree(both.root, tmp_path / "repo", symlinks=True))
    monkeypatch.chdir(root)
    return root


def test_the_base_and_what_was_measured_of_it_are_shared_and_the_adapter_is_not(both: SimpleNamespace) -> None:
    found = outcomes(both.runs[CUSTOMER_RUN])
    shared = ("base", "ingest", "clean", "dedup", "benchmark_items", "split", "validate", "evaluate_base")
    assert {found[stage] for stage in shared} == {"restored"}
    assert found["train"] == "executed"


def test_a_variant_has_its_own_releases_champion_and_record(both: SimpleNamespace) -> None:
    root, record = both.root, both.runs[CUSTOMER_RUN]
    assert (both.runs[BASE_RUN].variant, record.variant, record.status) == (None, "customer", "passed")
    assert sorted(tags(root)) == sorted(
        f"{name}{end}" for name in (NAME, CUSTOMER) for end in ("@v0.0.1", "#production#1")
    )
    assert champion(root, NAME, "production")[0].run == BASE_RUN
    assert champion(root, CUSTOMER, "production")[0].run == CUSTOMER_RUN
    compared = json.loads(show_file(root, f"run/{CUSTOMER_RUN}", "data/champion/champion.json") or "")
    assert compared["release"] is None  # not the base's release: another model
    assert record.params["lora"]["r"] == 8
    assert (root / "registry" / CUSTOMER / "v0.0.1" / "model.safetensors").is_file()
    assert is_clean(root)


def test_list_show_status_and_verify_name_variants(at_home: Path, tunegate: Tunegate) -> None:
    listed = {line.split()[0]: line.split()[1] for line in tunegate("audit", "list")[1].splitlines() if "2026" in line}
    assert listed[CUSTOMER_RUN] == "customer"
    assert listed[BASE_RUN] != "customer"
    assert "variant:  customer\n" in tunegate("audit", "show", CUSTOMER_RUN)[1]
    said = tunegate("status")[1]
    assert f"production: {NAME}@v0.0.1\n" in said
    assert f"variant customer: production is {CUSTOMER}@v0.0.1\n" in said
    code, said = tunegate("audit", "verify")
    assert (code, said.count("ok       ")) == (0, 2)
    git(at_home, "tag", f"{CUSTOMER}@v9.0.0", "main")
    code, said = tunegate("audit", "verify")
    assert code == 3
    assert f"DIFFERS  {CUSTOMER}@v9.0.0 names " in said


def test_releases_of_a_variant_are_promoted_and_rolled_back_apart_from_the_base(
    at_home: Path, tunegate: Tunegate
) -> None:
    put(at_home, "customer", SMALL + "release:\n  stage: staging\n")
    commit(at_home, "stage")
    for words in (("v0.0.1", "--variant", "customer"), (f"{CUSTOMER}@v0.0.1",), (CUSTOMER_RUN,)):
        code, said = tunegate("promote", *words)
        assert (code, f"staging is {CUSTOMER}@v0.0.1" in said) == (0, True), said
    held = stage_holder(at_home, CUSTOMER, "staging")
    assert held is not None
    assert held.tag == f"{CUSTOMER}@v0.0.1"
    assert stage_holder(at_home, NAME, "staging") is None
    code, said = tunegate("rollback", "--variant", "customer")
    assert code == 3
    assert f"no release of {CUSTOMER} held staging before" in said
    code, said = tunegate("promote", BASE_RUN, "--variant", "customer")
    assert code == 2
    assert f"--variant customer: {BASE_RUN} is of params.yaml; leave --variant out" in said


def test_a_variant_may_ask_for_the_approval_of_another_person(at_home: Path, tunegate: Tunegate) -> None:
    put(at_home, "customer", SMALL + "release:\n  require_approval: true\n")
    assert not asks_for_approval(at_home)
    assert asks_for_approval(at_home, "customer")
    assert tunegate("promote", BASE_RUN)[0] == 0
    code, said = tunegate("promote", CUSTOMER_RUN, "--stage", "staging")
    assert (code, stage_holder(at_home, CUSTOMER, "staging")) == (3, None)
    assert f"run {CUSTOMER_RUN}: " in said


def test_of_a_variant_that_is_gone_releases_can_still_be_promoted(at_home: Path, tunegate: Tunegate) -> None:
    (at_home / VARIANTS / "customer.yaml").unlink()
    code, said = tunegate("promote", f"{CUSTOMER}@v0.0.1", "--stage", "staging")
    assert (code, f"staging is {CUSTOMER}@v0.0.1" in said) == (0, True), said
    assert tunegate("run", "--variant", "customer")[0] == 2


def test_a_broken_overlay_leaves_an_invalid_record(at_home: Path) -> None:
    put(at_home, "customer", "lora:\n  r: many\n")
    state = retrain(str(at_home), AGAIN, variant="customer", return_state=True)
    record = read_run(at_home, AGAIN)
    assert (state.is_failed(), record.status, record.variant) == (True, "invalid", "customer")
    assert "params/variants/customer.yaml: 1 problem" in record.reason
    assert is_clean(at_home)
