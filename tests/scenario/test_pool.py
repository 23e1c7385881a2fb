"""Real workers: what a run that fails costs, what stays, and that no process does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

import p2pfl
from p2pfl.errors import ConfigError, NetworkError
from p2pfl.scenario.pool import ERROR, QUESTION, SUMMARY, Folder, Outcome, cluster, locally, on_ray
from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.sweep import Sweep, planned

SCENARIO = 'nodes = 4\ntask = "averaging"\n[duration]\ncycles = 5\n'
PATIENCE_S = 60.0


# --- runs made up for tests; the workers import them from here ------------------------------------


def fine(scenario: Scenario) -> Mapping[str, Any]:
    return {
        "ok": scenario.seed < 3,
        "figures": {
            "mean_accuracy": 0.9 + scenario.seed / 100,
            "consensus_distance": 1.0 / scenario.nodes,
            "recovery_s": float("inf"),
            "process": float(os.getpid()),
            "threads": float(os.environ["OMP_NUM_THREADS"]),
        },
        "wall_s": 0.1,
        "event_hash": "ab",
        "seed": scenario.seed,
    }


def slow(scenario: Scenario) -> Mapping[str, Any]:
    time.sleep(0.4)  # noqa: TID251 (a run that takes its time)
    return fine(scenario)


def endless(scenario: Scenario) -> Mapping[str, Any]:
    time.sleep(600)  # noqa: TID251
    return fine(scenario)


def moody(scenario: Scenario) -> Mapping[str, Any]:
    """Seed 1 raises, seed 2 crashes."""
    if scenario.seed == 1:
        raise ExceptionGroup("tasks", [ValueError("no luck today")])
    if scenario.seed == 2:
        os.abort()
    return fine(scenario)


# --- helpers ------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


def grid(file: Path, *over: str, seeds: int = 1) -> Sweep:
    return planned(str(file), over, (), seeds)


def family() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


# --- on this machine ----------------------------------------------------------------------------


async def test_workers_share_the_runs_and_compute_with_one_thread(file: Path) -> None:
    outcomes: list[Outcome] = []
    sweep = grid(file, "nodes=4,8", seeds=3)
    before = family()
    await locally(sweep.runs, 2, outcomes.append, slow)
    assert sorted(one.run.id for one in outcomes) == sorted(run.id for run in sweep.runs)
    answers = [one.summary for one in outcomes]
    assert all(one is not None for one in answers)
    figures = [one["figures"] for one in answers if one is not None]
    assert len({one["process"] for one in figures}) == 2
    assert {one["threads"] for one in figures} == {1.0}
    assert family() == before


async def test_a_run_that_raises_or_crashes_costs_nothing_else(file: Path) -> None:
    outcomes: dict[int, Outcome] = {}
    sweep = grid(file, seeds=5)
    await locally(sweep.runs, 1, lambda one: outcomes.update({one.run.seed: one}), moody)
    assert sorted(outcomes) == [0, 1, 2, 3, 4]
    assert [seed for seed, one in outcomes.items() if one.summary is None] == [1, 2]
    assert outcomes[1].reason == "ValueError: no luck today"
    assert "Traceback" in outcomes[1].log
    assert outcomes[2].reason.startswith("killed by SIGABRT")


async def test_a_sweep_that_is_cancelled_leaves_no_process(file: Path) -> None:
    before = family()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2.0):
            await locally(grid(file, seeds=4).runs, 2, print, endless)
    assert family() == before


def lost(scenario: Scenario) -> Mapping[str, Any]:
    raise AssertionError


async def test_what_workers_cannot_find_is_one_sentence(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = grid(file).runs
    with pytest.raises(ConfigError, match="is no function of a module"):
        await locally(runs, 1, print, lambda scenario: {})
    monkeypatch.setattr(lost, "__module__", "nowhere_at_all")
    with pytest.raises(ExceptionGroup) as raised:
        await locally(runs, 1, print, lost)
    words = "a worker ended before it began: ModuleNotFoundError"
    assert raised.group_contains(NetworkError, match=words)


# --- what stays ---------------------------------------------------------------------------------


def test_what_is_done_stays_and_what_failed_is_tried_again(file: Path) -> None:
    path, sweep = file.parent / "out", grid(file, seeds=3)
    first, second, third = sweep.runs
    with Folder.opened(path, sweep) as folder:
        folder.keep(Outcome(first, {"figures": {"recovery_s": float("inf")}, "ok": True}))
        folder.keep(Outcome(second, None, "oh no", "oh no, at length"))
    with Folder.opened(path, sweep) as folder:
        done = folder.done(sweep.runs)
        assert list(done) == [first.id]
        assert done[first.id]["figures"] == {"recovery_s": "inf"}
        assert done[first.id]["command"] == first.command
        assert (folder.of(second) / ERROR).read_text() == "oh no, at length\n"
        folder.keep(Outcome(second, {"figures": {}}))
        assert not (folder.of(second) / ERROR).exists()
        assert list(folder.done(sweep.runs)) == [first.id, second.id]
        (folder.of(third)).mkdir()
        (folder.of(third) / SUMMARY).write_text('{"figures": {"mean')
        assert third.id not in folder.done(sweep.runs)


def test_more_seeds_are_the_same_question(file: Path) -> None:
    path = file.parent / "out"
    sweep = grid(file, seeds=1)
    with Folder.opened(path, sweep) as folder:
        folder.keep(Outcome(sweep.runs[0], {"figures": {}}))
    more = grid(file, seeds=3)
    with Folder.opened(path, more) as folder:
        assert list(folder.done(more.runs)) == [sweep.runs[0].id]


def test_another_question_is_refused_and_nothing_is_changed(file: Path) -> None:
    path = file.parent / "out"
    with Folder.opened(path, grid(file, "nodes=4,8")):
        pass
    before = (path / QUESTION).read_text()
    words = "out holds the answers to another question: --over was nodes=4,8, now it is nodes=4,9"
    with pytest.raises(ConfigError, match=words), Folder.opened(path, grid(file, "nodes=4,9")):
        pass
    assert (path / QUESTION).read_text() == before


def test_a_folder_of_something_else_is_left_alone(file: Path) -> None:
    with (
        pytest.raises(ConfigError, match="is not empty and holds no sweep"),
        Folder.opened(file.parent, grid(file)),
    ):
        pass
    assert [one.name for one in file.parent.iterdir()] == ["tiny.toml"]
    (file.parent / "out").mkdir()
    (file.parent / "out" / QUESTION).write_text("[1")
    with (
        pytest.raises(ConfigError, match=r"sweep\.json cannot be read"),
        Folder.opened(file.parent / "out", grid(file)),
    ):
        pass


def test_two_sweeps_do_not_work_in_one_folder(file: Path) -> None:
    sweep, path = grid(file), file.parent / "out"
    with (
        Folder.opened(path, sweep),
        pytest.raises(ConfigError, match="another sweep works in"),
        Folder.opened(path, sweep),
    ):
        pass


# --- on a Ray cluster ---------------------------------------------------------------------------


def test_without_ray_the_command_that_installs_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'p2pfl-node\[ray\]'"), cluster("auto"):
        pass


class RayError(Exception):
    pass


class Ray:
    """As much of Ray as `on_ray` uses; answers are numbers, and seed 1 fails.

    Args:
        version: of p2pfl, on the cluster.
        is_endless: no task is ever done.
    """

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, version: str = p2pfl.__version__, *, is_endless: bool = False) -> None:
        self.version, self.is_endless = version, is_endless
        self.seeds: list[int] = []
        self.cancelled: list[int] = []

    def remote(self, **options: Any) -> Any:
        assert options["num_cpus"] == 1
        return lambda task: SimpleNamespace(remote=self.ask)

    def ask(self, runner: str, line: str, folder: str) -> int:
        assert runner.endswith("test_pool:fine")
        self.seeds.append(json.loads(line).get("seed", 0))
        return len(self.seeds) - 1

    def wait(self, answers: list[int], timeout: float) -> tuple[list[int], list[int]]:
        return ([], answers) if self.is_endless else (answers[:1], answers[1:])

    def get(self, answer: int) -> tuple[str, str, float]:
        if self.seeds[answer] == 1:
            raise RayError("Traceback\nValueError: no luck today")
        return self.version, json.dumps({"figures": {"seed": self.seeds[answer]}}), 0.5

    def cancel(self, answer: int, *, force: bool) -> None:
        self.cancelled.append(answer)


async def test_a_task_that_fails_or_is_of_another_version_is_a_failed_run(file: Path) -> None:
    outcomes: dict[int, Outcome] = {}
    sweep = grid(file, seeds=3)
    await on_ray(Ray(), sweep.runs, 2, lambda one: outcomes.update({one.run.seed: one}), fine)
    assert outcomes[0].summary == {"figures": {"seed": 0}}
    assert (outcomes[1].summary, outcomes[1].reason) == (None, "ValueError: no luck today")
    other = Ray(version="0.0.1")
    await on_ray(other, sweep.runs[:1], None, lambda one: outcomes.update({9: one}), fine)
    assert outcomes[9].reason.startswith("there is p2pfl 0.0.1 on the cluster")


async def test_cancelling_cancels_the_tasks(file: Path) -> None:
    ray = Ray(is_endless=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await on_ray(ray, grid(file, seeds=5).runs, 3, print, fine)
    assert ray.cancelled == [0, 1, 2]


@pytest.mark.skipif(find_spec("ray") is None, reason="needs ray: pip install 'p2pfl-node[ray]'")
def test_an_address_where_nobody_answers_is_one_sentence() -> None:
    with (
        pytest.raises(NetworkError, match=r"--ray 127\.0\.0\.1:1: nobody answers there"),
        cluster("127.0.0.1:1"),
    ):
        pass
