"""What a device is like: its clock, battery, load and energy."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from p2pfl.config import CourtesyConfig
from p2pfl.edge.conditions import Device, Energy, check
from p2pfl.errors import ConfigError

RANGE_UJ = 262_143_328_850


def counter(tree: Path, zone: str, name: str, energy_uj: int) -> Path:
    folder = tree / zone
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder / "energy_uj"


def test_energy_is_what_all_packages_and_their_memory_took_since_the_start(tmp_path: Path) -> None:
    first = counter(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = counter(tmp_path, "intel-rapl:1", "package-1", 7_000_000)
    memory = counter(tmp_path, "intel-rapl:0:1", "dram", 1_000_000)
    cores = counter(tmp_path, "intel-rapl:0:0", "core", 2_000_000)
    energy = Energy(tmp_path)
    assert energy.joules() == 0
    first.write_text("8500000\n")
    second.write_text("7500000\n")
    memory.write_text("1250000\n")
    cores.write_text("999000000\n")
    assert energy.joules() == pytest.approx(3.5 + 0.5 + 0.25)


def test_the_whole_platform_counts_once(tmp_path: Path) -> None:
    package = counter(tmp_path, "intel-rapl:0", "package-0", 0)
    platform = counter(tmp_path, "intel-rapl:1", "psys", 0)
    energy = Energy(tmp_path)
    package.write_text("1000000")
    platform.write_text("3000000")
    assert energy.joules() == 3


def test_a_counter_that_wraps_around_goes_on(tmp_path: Path) -> None:
    path = counter(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ - 1_000_000)
    energy = Energy(tmp_path)
    path.write_text("2000000")
    assert energy.joules() == pytest.approx(3)
    path.write_text("1000000")
    assert energy.joules() == pytest.approx(3 + (RANGE_UJ - 1_000_000) / 1e6)


def test_a_machine_that_does_not_tell_has_no_energy(tmp_path: Path) -> None:
    assert Energy(tmp_path / "nowhere").joules() is None
    unreadable = counter(tmp_path, "intel-rapl:0", "package-0", 1)
    unreadable.unlink()
    unreadable.mkdir()  # as root everything can be read but this
    assert Energy(tmp_path).joules() is None


def test_a_counter_that_is_taken_away_is_not_known_any_more(tmp_path: Path) -> None:
    path = counter(tmp_path, "intel-rapl:0", "package-0", 0)
    energy = Energy(tmp_path)
    path.unlink()
    assert energy.joules() is None
    assert energy.joules() is None


def test_time_is_that_of_the_device_and_a_week_begins_on_monday(tmp_path: Path) -> None:
    sunday = time.strptime("2026-11-29 22:30:30", "%Y-%m-%d %H:%M:%S")
    device = Device(CourtesyConfig(), powercap=tmp_path, local_time=lambda: sunday)
    seen = device.look()
    assert seen.minute == 6 * 1440 + 22 * 60 + 30.5
    assert (seen.is_on_battery, seen.load, seen.energy_j) == (False, None, None)


@pytest.mark.parametrize(
    ("battery", "is_on_battery"),
    [
        (None, False),
        (SimpleNamespace(power_plugged=True), False),
        (SimpleNamespace(power_plugged=None), False),
        (SimpleNamespace(power_plugged=False), True),
    ],
)
def test_only_who_runs_down_a_battery_is_on_it(
    battery: object, is_on_battery: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    device = Device(CourtesyConfig(only_on_ac=True))
    assert device.look().is_on_battery == is_on_battery


def test_a_system_without_batteries_is_on_ac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(psutil, "sensors_battery", raising=False)
    assert not Device(CourtesyConfig(only_on_ac=True)).look().is_on_battery


def test_load_is_that_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: 70.0)
    monkeypatch.setattr(psutil.Process, "cpu_percent", lambda self, interval: 160.0)
    device = Device(CourtesyConfig(only_when_load_below=0.5))
    assert device.look().load == pytest.approx(0.3)


def test_our_own_work_is_no_load() -> None:
    device = Device(CourtesyConfig(only_when_load_below=0.5))
    load = device.look().load
    assert load is not None
    assert 0 <= load <= 1


@pytest.mark.parametrize("asked", [{"only_on_ac": True}, {"only_when_load_below": 0.5}])
def test_psutil_is_named_where_it_is_missing_and_needed(
    asked: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    check(CourtesyConfig(rate_bytes_per_s=1e6, quiet=("22:00-07:00",)))
    assert Device(CourtesyConfig(quiet=("22:00-07:00",))).look().minute >= 0
    with pytest.raises(ConfigError, match=f"{next(iter(asked))} needs .* pip install psutil"):
        check(CourtesyConfig.model_validate(asked))
