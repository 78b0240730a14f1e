"""The files of schedules pass Prefect's own models, and are what its server and its runner take."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.cli.deploy._models import PrefectYamlModel
from prefect.client.orchestration import get_client
from prefect.server.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.deployments import install, read_deployments, served
from tasks.errors import ParamsInvalid, Unavailable
from tasks.yaml_files import read_yaml
from tests.contract.imports import ROOT

FILES = [ROOT / "prefect.yaml", ROOT / "deploy/docker.yaml", ROOT / "deploy/kubernetes.yaml"]


def changed(folder: Path, old: str, new: str) -> Path:
    text = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    assert old in text
    file = folder / "prefect.yaml"
    file.write_text(text.replace(old, new), encoding="utf-8")
    return file


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_file_has_only_keys_that_prefect_knows_and_passes_our_check(file: Path) -> None:
    value = read_yaml(file).value
    model = PrefectYamlModel.model_validate(value)
    assert set(value) <= set(PrefectYamlModel.model_fields)
    raws = value["deployments"]
    assert isinstance(raws, list)
    for entry, raw in zip(model.deployments, raws, strict=True):
        assert set(raw) <= set(type(entry).model_fields)
    assert [entry.name for entry in read_deployments(file)] == [entry.name for entry in model.deployments]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_schedule_has_a_time_zone_and_one_run_at_a_time(file: Path) -> None:
    (entry,) = read_deployments(file)
    made = served(ROOT, entry)
    (schedule,) = made.schedules or []
    assert getattr(schedule.schedule, "cron", None) == "0 3 * * 1"
    assert getattr(schedule.schedule, "timezone", None) == "UTC"
    assert made.concurrency_limit == 1
    assert made.parameters["root"] == str(ROOT)


def test_an_interval_in_seconds_is_one_for_prefect(tmp_path: Path) -> None:
    (entry,) = read_deployments(changed(tmp_path, 'cron: "0 3 * * 1"', "interval: 7200"))
    (schedule,) = served(tmp_path, entry).schedules or []
    assert getattr(schedule.schedule, "interval", None) == timedelta(hours=2)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('cron: "0 3 * * 1"', 'cron: "61 3 * * 1"', "weekly: schedules: "),
        ("timezone: UTC", "timezone: Mars/North", "weekly: schedules: "),
        ('cron: "0 3 * * 1"', 'crno: "0 3 * * 1"', "crno"),
        ("timezone: UTC", "timezone: UTC\n        active: false", "weekly: schedules: active: expected cron, interval"),
        ("on_busy: null", "on_busy: wait", "weekly: parameters: "),
        ("root: .", "rooot: .", "weekly: parameters: "),
        ("scheduled_retrain", "retrain", "weekly: entrypoint 'flows/scheduled.py:retrain'"),
        ("name: weekly", "nmae: weekly", "a deployment without a name"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ParamsInvalid, match=re.escape(said)):
        read_deployments(changed(tmp_path, old, new))


def test_a_deployment_that_is_not_there_and_a_file_that_is_not_are_told(tmp_path: Path) -> None:
    with pytest.raises(ParamsInvalid, match="no deployment daily: expected one of weekly"):
        read_deployments(FILES[0], ["daily"])
    with pytest.raises(ParamsInvalid, match="no such file"):
        read_deployments(tmp_path / "none.yaml")


def test_the_kubernetes_pool_is_one_for_prefect_and_has_what_the_deployment_sets() -> None:
    template = json.loads((ROOT / "deploy/kubernetes_pool.json").read_text(encoding="utf-8"))
    made = WorkPoolCreate(name="tunegate-kubernetes", type="kubernetes", base_job_template=template)
    (entry,) = read_deployments(FILES[2])
    assert entry.work_pool is not None
    assert set(entry.work_pool.job_variables) <= set(made.base_job_template["variables"]["properties"])


def test_without_a_server_nothing_is_installed_and_it_is_said_how_to_start_one() -> None:
    with temporary_settings({PREFECT_API_URL: None}), pytest.raises(Unavailable, match="prefect server start"):
        install(ROOT, FILES[0], [])


def test_prefect_deploy_takes_the_file_and_the_server_has_schedule_parameters_and_workspace(
    prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with get_client(sync_client=True) as client:
        client.request("POST", "/work_pools/", json={"name": "tunegate", "type": "process"})
        assert install(ROOT, FILES[0], []) == ["weekly"]
        found = client.read_deployment_by_name("scheduled-retrain/weekly")
    assert found.work_pool_name == "tunegate"
    assert found.parameters == {"root": ".", "on_busy": None, "variant": None, "release": True}
    assert [getattr(item.schedule, "cron", None) for item in found.schedules] == ["0 3 * * 1"]
    assert found.global_concurrency_limit is not None
    assert found.global_concurrency_limit.limit == 1
    assert found.concurrency_options is not None
    assert found.concurrency_options.collision_strategy.value == "ENQUEUE"
    (step,) = found.pull_steps or []
    directory = step["prefect.deployments.steps.set_working_directory"]["directory"]
    assert directory == str(ROOT)
