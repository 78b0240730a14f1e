"""One temporary Prefect server for the whole session, and small lines to run."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows import cli
from tests.flows.real_release import make_release
from tests.flows.tiny_line import make_line


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """The address of a temporary Prefect server that flows of this session use."""
    from prefect.settings import PREFECT_API_URL  # noqa: PLC0415  seconds, and only these tests need it
    from prefect.testing.utilities import prefect_test_harness  # noqa: PLC0415

    with prefect_test_harness(server_startup_timeout=180):
        yield str(PREFECT_API_URL.value())


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make the repository of a line once: `whole` or `short`."""
    folder, made = tmp_path_factory.mktemp("lines"), dict[str, Path]()

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = make_line(folder / kind, is_short=kind == "short")
        return made[kind]

    return make


@pytest.fixture
def short_line(tmp_path: Path, lines: Callable[[str], Path], plain_git: None) -> Path:
    """A line of three stages of this test's own."""
    return Path(shutil.copytree(lines("short"), tmp_path / "repo", symlinks=True))


@pytest.fixture
def plain_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git without the configuration of whoever runs the tests: nobody has an identity."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture(scope="session")
def three_releases(tmp_path_factory: pytest.TempPathFactory, lines: Callable[[str], Path]) -> Path:
    """A repository with three releases that nothing holds a stage of; tests copy it."""
    root = tmp_path_factory.mktemp("released") / "repo"
    shutil.copytree(lines("short"), root, symlinks=True)
    for number in (1, 2, 3):
        make_release(root, number)
    return root


@pytest.fixture
def released(tmp_path: Path, three_releases: Path, plain_git: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That repository, of this test's own, as the current folder."""
    root = Path(shutil.copytree(three_releases, tmp_path / "released", symlinks=True))
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def tunegate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the command in the current folder as a shell does: its exit code and what it said, without a traceback."""
    monkeypatch.setenv("COLUMNS", "200")

    def command(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["tunegate", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return int(end.value.code or 0), said.out + said.err

    return command
