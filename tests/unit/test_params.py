import re
from pathlib import Path

import pytest

from tasks.errors import ParamsInvalid
from tasks.params import Params, PathOrigin, load_params
from tests.contract.imports import ROOT

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def load(tmp_path: Path, text: str) -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return load_params(path)


@pytest.mark.parametrize(
    "path", [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))], ids=lambda p: p.name
)
def test_every_shipped_params_file_parses(path: Path) -> None:
    assert load_params(path).gate.rules


def test_a_scientific_number_is_a_number_as_it_is_for_dvc(tmp_path: Path) -> None:
    assert load(tmp_path, TEXT.replace("learning_rate: 7e-4", "learning_rate: 2e-4")).train.learning_rate == 0.0002


def test_all_problems_are_reported_at_once_with_line_key_found_and_the_nearest_name(tmp_path: Path) -> None:
    broken = TEXT.replace("lora_dropout: 0.0", "lora_droput: 0.0").replace("  r: 16", "  r: sixteen")
    with pytest.raises(ParamsInvalid) as caught:
        load(tmp_path, broken)
    text = str(caught.value)
    line = broken.splitlines().index("  r: sixteen") + 1
    assert f"line {line}: lora.r: Input should be a valid integer; found 'sixteen'" in text
    assert "lora.lora_droput: Extra inputs are not permitted; found 0.0; did you mean `lora_dropout`?" in text
    assert "2 problem(s), nothing was started" in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("learning_rate: 7e-4", 'learning_rate: "7e-4"', r"train.learning_rate: Input should be a valid number"),
        ("learning_rate: 7e-4", "learning_rate: .nan", r"train.learning_rate: Input should be a finite number"),
        ("learning_rate: 7e-4", "learning_rate: 0", r"train.learning_rate: Input should be greater than 0"),
        ("  r: 16", "  r: 0", r"lora.r: Input should be greater than or equal to 1"),
        ("promote: true", "promote: yes", r"release.promote: Input should be a valid boolean; found 'yes'"),
        ("path: data/sources/support", "path: ../sources/support", r"any other path has no `\.\.`"),
        ("path: data/sources/support", "path: /data/sources/support", r"an absolute path needs sha256"),
        ("sha256: null #", f"sha256: {'a' * 64} #", r"sha256 pins one file by its absolute path"),
        ("weight: 1.0 #", "weight: 0 #", r"sources.0.weight: Input should be greater than 0"),
        (
            "role: train #",
            "role: dev #",
            r"sources.0.role: Input should be 'train', 'replay', 'test' or 'seen_by_base'",
        ),
        ("max_tokens: 256", "max_tokens: 300", r"clean.max_tokens \(300\) must not be above train.max_length \(256\)"),
        ("test_share: 0.12", "test_share: 0.0", r"test_share 0 needs a source with role `test`"),
        ("allowed: [en]", "allowed: [english]", r"clean.language.allowed.0: String should match pattern"),
        ("runner: native", "runner: spark", r"engine.runner: Input should be 'native' or 'ray'"),
        ("path: data/sources/support", "path: data/other/support", r"must lie in data/sources"),
        ("target: folder", "target: hub", r"target `hub` needs repo_id"),
        ("metric: acc\n", "metric: acc\n      limit: 3\n", r"gate.rules.1.limit: Extra inputs"),
        ("range: [0, 1] #", "range: [1, 0] #", r"gate.rules.0: range: the least value comes first, found 1 and 0"),
        ("range: [0, 1] #", "range: [0, 1, 2] #", r"gate.rules.0.range: List should have at most 2 items"),
        ("min_value: 0.33", "min_value: 33", r"gate.rules.0: min_value 33 lies outside range, 0 to 1"),
        ("max: 0.2\n", "max: null\n", r"gate.measured.0: give min or max, or take the rule out"),
        ("figure: pii_share", "figure: latency", r"gate.measured.2.figure: Input should be 'adapter_bytes'"),
        ("tie: candidate", "tie: both", r"gate.tie: Input should be 'candidate' or 'champion'"),
        (
            "max_loss_from_base: 0.05",
            "max_loss_from_base: -0.05",
            r"gate.rules.1.max_loss_from_base: Input should be g",
        ),
        ("- benchmark: general_knowledge", "- benchmark: arc_easy", r"'arc_easy' is not in evaluate.benchmarks"),
        ("name: support-router", "name: ../escape", r"release.name: String should match pattern"),
        ("bands: 32", "bands: 33", r"num_hashes must be a multiple of bands"),
        (
            "method: qlora",
            "method: nola",
            r"train.method: PEFT has no nola; it stores LoRA as seeds and",
        ),
    ],
)
def test_a_wrong_value_names_its_key_and_what_was_expected(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(ParamsInvalid, match=message):
        load(tmp_path, TEXT.replace(old, new, 1))


PATH_ORIGIN = "  origin:\n    source: path\n"
PACKAGE_ORIGIN = TEXT[TEXT.index("  origin:\n") : TEXT.index("sources:\n")].rstrip() + "\n"


def problems(tmp_path: Path, text: str) -> list[str]:
    """The lines that `load_params` gives for `text`, the path of the file cut off, `LINE` for the number of a line."""
    with pytest.raises(ParamsInvalid) as caught:
        load(tmp_path, text)
    first, *others = str(caught.value).splitlines()
    return [first.partition("params.yaml: ")[2], *(re.sub(r"^  line \d+", "LINE", line) for line in others)]


def test_the_members_of_a_union_make_one_problem_that_names_all_that_would_be_right(tmp_path: Path) -> None:
    assert problems(tmp_path, TEXT.replace("target_modules: all-linear", "target_modules: all_linear")) == [
        "1 problem(s), nothing was started",
        (
            "LINE: lora.target_modules: Input should be 'attention-qv', 'attention' or 'all-linear' or a valid list; "
            "found 'all_linear'"
        ),
    ]


def test_an_entry_of_a_list_in_a_union_is_named_by_its_index(tmp_path: Path) -> None:
    found = problems(tmp_path, TEXT.replace("target_modules: all-linear", "target_modules: [q_proj, 2]"))
    assert "LINE: lora.target_modules.1: Input should be a valid string; found 2" in found


@pytest.mark.parametrize("key", ["package", "hub", "path", "template", "auto", "messages"])
def test_an_unknown_section_called_like_a_member_of_a_union_keeps_its_name_and_line(tmp_path: Path, key: str) -> None:
    text = TEXT + f"{key}: {{x: 1}}\n"
    with pytest.raises(ParamsInvalid) as caught:
        load(tmp_path, text)
    line = len(text.splitlines())
    assert f"  line {line}: {key}: Extra inputs are not permitted; found {{'x': 1}}" in str(caught.value)


def test_the_chosen_member_of_a_union_is_no_part_of_a_key(tmp_path: Path) -> None:
    assert problems(tmp_path, TEXT.replace(PACKAGE_ORIGIN, PATH_ORIGIN + "    pth: x\n")) == [
        "1 problem(s), nothing was started",
        "LINE: base_model.origin.pth: Extra inputs are not permitted; found 'x'; did you mean `path`?",
    ]


def test_a_key_called_like_the_chosen_member_does_not_swallow_the_keys_beside_it(tmp_path: Path) -> None:
    assert problems(tmp_path, TEXT.replace(PACKAGE_ORIGIN, PATH_ORIGIN + "    path: 1\n    pth: 1\n")) == [
        "2 problem(s), nothing was started",
        "LINE: base_model.origin.path: Input should be a valid string; found 1",
        "LINE: base_model.origin.pth: Extra inputs are not permitted; found 1; did you mean `path`?",
    ]


def test_a_key_called_like_the_chosen_member_is_kept(tmp_path: Path) -> None:
    text = TEXT.replace("      kind: template\n", "      kind: template\n      template: {template: 1}\n")
    count, problem = problems(tmp_path, text)
    assert count == "1 problem(s), nothing was started"
    assert "LINE: sources.0.layout.template: Extra inputs are not permitted; found {'template': 1}" in problem


def test_a_key_that_is_right_elsewhere_is_to_be_removed(tmp_path: Path) -> None:
    assert "LINE: dedup.r: Extra inputs are not permitted; found 1; remove it" in problems(
        tmp_path, TEXT.replace("  bands: 32\n", "  bands: 32\n  r: 1\n")
    )


@pytest.mark.parametrize("path", ["models/base", "./base", "../base", "~/base", ""])
def test_a_base_model_in_a_folder_needs_an_absolute_path(tmp_path: Path, path: str) -> None:
    count, problem = problems(tmp_path, TEXT.replace(PACKAGE_ORIGIN, PATH_ORIGIN + f'    path: "{path}"\n'))
    assert count == "1 problem(s), nothing was started"
    assert problem == (
        f"LINE: base_model.origin.path: must be an absolute path, found '{path}': a run happens in a copy of the "
        "workspace elsewhere; write the folder's full path, from `/`"
    )


def test_a_base_model_in_a_folder_may_lie_on_another_machine(tmp_path: Path) -> None:
    params = load(tmp_path, TEXT.replace(PACKAGE_ORIGIN, PATH_ORIGIN + "    path: /no/such/folder\n"))
    assert params.base_model.origin == PathOrigin(source="path", path="/no/such/folder")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping"),
        ("- a\n- b\n", "expected a mapping"),
        ("a: &x 1\nb: *x\n", "line 1: anchors and aliases are not allowed"),
        ("a: !!python/object:os.system 1\n", "line 1: the tag .* is not allowed"),
        ("a: 1\na: 2\n", "not valid YAML: line 2: found duplicate key"),
        ("a:\n\t- 1\n", "not valid YAML: line 2"),
        ("a: " + "[" * 30 + "]" * 30 + "\n", "nested deeper than 20"),
        ("a: " + "x" * 300_000 + "\n", "bytes, expected at most"),
    ],
)
def test_a_file_that_is_no_plain_mapping_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ParamsInvalid, match=message):
        load(tmp_path, text)


def test_bytes_that_are_not_utf8_name_their_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ParamsInvalid, match="line 2: not UTF-8"):
        load_params(tmp_path / "params.yaml")


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ParamsInvalid, match="no such file; run from the root of the workspace"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("key", "public", "message"),
    [
        ("key.pem", "null", "signing_key and public_key go together"),
        ("null", "release.pub", "signing_key and public_key go together"),
        ("key.pem", "/keys/release.pub", "must be a path inside the workspace"),
    ],
)
def test_keys_to_sign_with_come_in_pairs_and_the_public_one_lies_in_the_workspace(
    tmp_path: Path, key: str, public: str, message: str
) -> None:
    text = TEXT.replace("signing_key: null", f"signing_key: {key}").replace("public_key: null", f"public_key: {public}")
    with pytest.raises(ParamsInvalid, match=message):
        load(tmp_path, text)


def test_a_key_in_the_parameters_is_refused_and_not_shown(tmp_path: Path) -> None:
    pasted = TEXT.replace("signing_key: null", 'signing_key: "-----BEGIN EC PRIVATE KEY-----\\nc2VjcmV0\\n"')
    with pytest.raises(ParamsInvalid, match="never the key itself") as refused:
        load(tmp_path, pasted)
    assert "c2VjcmV0" not in str(refused.value)
