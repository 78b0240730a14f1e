"""Prefect deployments of the scheduled flow, as a prefect.yaml has them: installed for a work pool, or served here."""

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect.cli.deploy._models import ConcurrencyLimitSpec, DeploymentConfig, PrefectYamlModel, RawScheduleConfig
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ParameterTypeError
from prefect.flows import serve
from prefect.settings import get_current_settings
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from flows.scheduled import scheduled_retrain
from tasks.errors import ParamsInvalid, Unavailable
from tasks.yaml_files import read_yaml

ROOT_VARIABLE = "TUNEGATE_ROOT"
"""The variable by which a prefect.yaml names the workspace, so that no machine's path stands in it."""
SCHEDULE_KEYS = frozenset({"cron", "interval", "timezone"})
"""What a schedule may have: `tunegate serve` would leave out the others that Prefect knows."""
MODULE, FUNCTION = "flows/scheduled.py", "scheduled_retrain"


def read_deployments(file: Path, names: Sequence[str] = ()) -> list[DeploymentConfig]:
    """The deployments of a prefect.yaml, checked by Prefect's own models and by the flow that they start.

    Args:
        file: the file.
        names: those that are meant; all when there are none.

    Raises:
        ParamsInvalid: there is no such file, Prefect cannot read it, an entry starts another flow or has other
            parameters than it, or there is none of a name.
    """
    try:
        found = PrefectYamlModel.model_validate(read_yaml(file).value).deployments
    except ValidationError as error:
        raise ParamsInvalid(f"{file}: Prefect cannot read it: {error}") from None
    problems = [problem for entry in found for problem in _problems(entry)]
    known = [entry.name for entry in found]
    unknown = [name for name in names if name not in known]
    problems += [f"no deployment {name}: expected one of {', '.join(map(str, known))}" for name in unknown]
    if problems or not found:
        raise ParamsInvalid("\n".join([f"{file}: nothing was installed", *(problems or ["it has no deployments"])]))
    return [entry for entry in found if not names or entry.name in names]


def _problems(entry: DeploymentConfig) -> list[str]:
    """What is wrong with a deployment that Prefect's models let pass."""
    found = [] if entry.name else ["a deployment without a name"]
    if entry.entrypoint != f"{MODULE}:{FUNCTION}":
        found.append(f"{entry.name}: entrypoint {entry.entrypoint!r}: expected {MODULE}:{FUNCTION}")
    try:
        scheduled_retrain.validate_parameters(entry.parameters)
    except (ParameterTypeError, TypeError, ValueError) as error:
        found.append(f"{entry.name}: parameters: {error}")
    for item in entry.schedules or []:
        if unknown := sorted(getattr(item, "model_fields_set", set()) - SCHEDULE_KEYS):
            found.append(f"{entry.name}: schedules: {', '.join(unknown)}: expected {', '.join(sorted(SCHEDULE_KEYS))}")
        try:
            _schedule(item)
        except (TypeError, ValueError) as error:
            found.append(f"{entry.name}: schedules: {error}")
    return found


def install(root: Path, file: Path, names: Sequence[str]) -> list[str]:
    """Install deployments on the server that is configured, by Prefect's own `prefect deploy`; returns their names.

    Raises:
        ParamsInvalid: as `read_deployments`.
        Unavailable: no server is configured, or it would not take them.
    """
    _require_server()
    wanted = [str(entry.name) for entry in read_deployments(file, names)]
    chosen = [word for name in wanted for word in ("--name", name)]
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(file), *chosen]
    environment = {ROOT_VARIABLE: str(root)} | dict(os.environ)
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"prefect deploy: {(done.stderr.strip() or done.stdout.strip())[-2000:]}")
    return wanted


def serve_here(root: Path, file: Path, names: Sequence[str]) -> None:
    """Run deployments in this process, one run at a time, until it is stopped.

    Raises:
        ParamsInvalid: as `read_deployments`.
        Unavailable: no server is configured.
    """
    _require_server()
    serve(*(served(root, entry) for entry in read_deployments(file, names)), limit=1, print_starting_message=False)


def served(root: Path, entry: DeploymentConfig) -> RunnerDeployment:
    """A deployment for Prefect's runner in this process; the work pool of the file is not used."""
    made = scheduled_retrain.to_deployment(
        name=str(entry.name),
        schedules=[_schedule(item) for item in entry.schedules or []],
        paused=entry.paused,
        concurrency_limit=_limit(entry.concurrency_limit),
        parameters=entry.parameters | {"root": str(root)},
        description=entry.description,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(made, RunnerDeployment)  # noqa: S101  outside an event loop it is no coroutine
    return made


def _schedule(item: Any) -> CronSchedule | IntervalSchedule:
    """A schedule of the file for Prefect's runner.

    Raises:
        TypeError: it is of another kind.
        ValueError: it has no time zone, or no time that Prefect understands.
    """
    if not isinstance(item, RawScheduleConfig):
        raise TypeError(f"{item!r}: expected `cron` or `interval`, and a `timezone`")
    zone = item.timezone or "UTC"
    if item.cron is not None:
        return CronSchedule(cron=item.cron, timezone=zone)
    if isinstance(item.interval, timedelta):
        return IntervalSchedule(interval=item.interval, timezone=zone)
    raise ValueError("rrule: expected `cron` or `interval`")


def _limit(found: int | ConcurrencyLimitSpec | None) -> int | ConcurrencyLimitConfig | None:
    if found is None or isinstance(found, int):
        return found
    strategy = ConcurrencyLimitStrategy(found.collision_strategy or "ENQUEUE")
    return ConcurrencyLimitConfig(limit=found.limit or 1, collision_strategy=strategy)


def _require_server() -> None:
    if get_current_settings().api.url is None:
        raise Unavailable(
            "no Prefect server is configured, and schedules need one that stays: start it by `prefect server start`, "
            "set PREFECT_API_URL to http://127.0.0.1:4200/api, and give the command again"
        )
