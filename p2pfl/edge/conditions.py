"""What a device is like: the time of day, its battery, the load of others, its energy.

    time      of the device's own zone, as its clock on the wall shows it
    battery   psutil; where there is none, or it does not tell, the device is on AC
    load      psutil: all that the processor cores did since the last look, less our own part
    energy    Linux's power capping (RAPL): what the machine's own counters say, where they may be
              read; estimated nowhere. The platform's counter ("psys") where there is one, else all
              processor packages and the memory beside them.

Rule of the file: reading only, of files that others write; what cannot be read is not known. psutil
is needed only by who asks for what it tells.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pfl.config import CourtesyConfig
from p2pfl.errors import ConfigError
from p2pfl.hours import DAY_MIN
from p2pfl.ports import Surroundings

POWERCAP = Path("/sys/class/powercap")


def check(config: CourtesyConfig) -> None:
    """See whether what is asked for can be looked at.

    Raises:
        ConfigError: psutil is needed and not installed.
    """
    if config.only_on_ac or config.only_when_load_below is not None:
        _psutil("only_on_ac" if config.only_on_ac else "only_when_load_below")


def _psutil(needed_by: str) -> Any:
    try:
        return importlib.import_module("psutil")
    except ModuleNotFoundError:
        raise ConfigError(
            f"courtesy.{needed_by} needs the package psutil: pip install psutil"
        ) from None


class Device:
    """The `Conditions` of a real device.

    Args:
        config: what will be asked.
        powercap: where Linux shows its energy counters.
        local_time: of the device's zone.

    Raises:
        ConfigError: psutil is needed and not installed.
    """

    def __init__(
        self,
        config: CourtesyConfig,
        *,
        powercap: Path = POWERCAP,
        local_time: Callable[[], time.struct_time] = time.localtime,
    ) -> None:
        self._local_time = local_time
        self._energy = Energy(powercap)
        self._batteries: Callable[[], Any] | None = None
        if config.only_on_ac:
            # psutil leaves it out where the system has nothing of the kind
            self._batteries = getattr(_psutil("only_on_ac"), "sensors_battery", None)
        self._load: _Load | None = None
        if config.only_when_load_below is not None:
            self._load = _Load(_psutil("only_when_load_below"))

    def look(self) -> Surroundings:
        """What it is like now."""
        at = self._local_time()
        return Surroundings(
            minute=at.tm_wday * DAY_MIN + 60 * at.tm_hour + at.tm_min + at.tm_sec / 60,
            is_on_battery=self._is_on_battery(),
            load=None if self._load is None else self._load.of_others(),
            energy_j=self._energy.joules(),
        )

    def _is_on_battery(self) -> bool:
        battery = self._batteries() if self._batteries is not None else None
        return battery is not None and battery.power_plugged is False


class _Load:
    """What other programs take of all cores, between two looks; psutil remembers the last one."""

    def __init__(self, psutil: Any) -> None:
        self._psutil = psutil
        self._own = psutil.Process()
        self.of_others()

    def of_others(self) -> float:
        """A share, 0 to 1."""
        cores = self._psutil.cpu_count() or 1
        everybody = self._psutil.cpu_percent(interval=None)
        own = self._own.cpu_percent(interval=None) / cores
        return float(min(max(everybody - own, 0.0), 100.0)) / 100


@dataclass(slots=True)
class _Counter:
    """One counter of the machine.

    Attributes:
        path: of its present value, in microjoules.
        range_uj: it begins again at 0 beyond that.
        last_uj: as it was read last.
    """

    path: Path
    range_uj: int
    last_uj: int


class Energy:
    """What the machine took since this was made, by its own counters.

    Args:
        powercap: the folder that Linux shows them in.
    """

    def __init__(self, powercap: Path) -> None:
        self._taken_uj = 0
        found: dict[str, list[_Counter]] = {}
        for zone in sorted(powercap.glob("intel-rapl:*")):
            with suppress(OSError, ValueError):
                name = (zone / "name").read_text().strip().partition("-")[0]
                range_uj = int((zone / "max_energy_range_uj").read_text())
                path = zone / "energy_uj"
                found.setdefault(name, []).append(_Counter(path, range_uj, _read(path)))
        # cores and uncore are parts of their package, and it of the platform
        packages = found.get("package", [])
        beside = found.get("dram", []) if packages else []
        self._counters = found.get("psys") or [*packages, *beside]

    def joules(self) -> float | None:
        """The sum, or None if the machine does not tell."""
        for counter in self._counters:
            try:
                now_uj = _read(counter.path)
            except (OSError, ValueError):
                self._counters = []
                break
            taken_uj = now_uj - counter.last_uj
            self._taken_uj += taken_uj if taken_uj >= 0 else taken_uj + counter.range_uj
            counter.last_uj = now_uj
        return self._taken_uj / 1e6 if self._counters else None


def _read(path: Path) -> int:
    return int(path.read_text())
