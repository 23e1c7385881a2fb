"""The grid: axes, the cells where they meet, and the runs that are to be done.

    axis      one --over: a key of the scenario and the values it takes
    cell      one value of every axis, hence one scenario
    run       a cell with a seed; cells share their seeds, so that they differ in nothing else

Rule of the file: it plans, it runs nothing; every scenario is validated before the first run. Runs
are ordered seed by seed, so that a sweep that was broken off knows something of every cell.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import p2pfl
from p2pfl.configuring import plain
from p2pfl.errors import ConfigError
from p2pfl.scenario.load import load
from p2pfl.scenario.spec import Bound, Scenario
from p2pfl.scenario.sweep.question import DECIDING, digest_of, files_of, meaning

_ID_MAX = 80


@dataclass(frozen=True, slots=True)
class Axis:
    """One key and the values it takes.

    Attributes:
        key: dotted, as in `--set`.
        texts: the values as they were written.
        values: the same as TOML reads them.
    """

    key: str
    texts: tuple[str, ...]
    values: tuple[Any, ...]

    @property
    def is_numeric(self) -> bool:
        """Whether its values can stand on a scale."""
        return all(isinstance(value, int | float) for value in self.values) and not any(
            isinstance(value, bool) for value in self.values
        )

    def __str__(self) -> str:
        return f"{self.key}={','.join(self.texts)}"


def axis(text: str) -> Axis:
    """The axis of a `KEY=V,V,...`; a comma inside brackets or quotes separates nothing.

    Raises:
        ConfigError: there is no key, no value, the same value twice, or the key is the seed.
    """
    key, equals, rest = text.partition("=")
    key, texts = key.strip(), _split(rest)
    if not equals or not key or not all(texts):
        raise ConfigError(f"--over {text}: expected KEY=VALUE,VALUE, as in nodes=16,64,256")
    if key == "seed":
        raise ConfigError(f"--over {text}: seeds are counted, not listed; give --seeds N")
    values = tuple(plain(part) for part in texts)
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ConfigError(f"--over {text}: {texts[place]} stands there twice")
    return Axis(key, texts, values)


def _split(text: str) -> tuple[str, ...]:
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
        elif sign == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += sign
    return tuple(part.strip() for part in parts)


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the grid.

    Attributes:
        values: key and value of every axis.
        scenario: what that makes of the scenario; its seed is the first one.
        changes: what `p2pfl run --set` needs to do the same.
    """

    values: tuple[tuple[str, Any], ...]
    scenario: Scenario
    changes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.values) or self.scenario.name


@dataclass(frozen=True, slots=True)
class Run:
    """One cell with one seed.

    Attributes:
        id: a name for its folder, unique in the sweep.
        command: what does it alone.
    """

    id: str
    cell: Cell
    seed: int
    command: str

    @property
    def scenario(self) -> Scenario:
        """What is run."""
        return self.cell.scenario.model_copy(update={"seed": self.seed})

    def __str__(self) -> str:
        return f"{self.cell} seed={self.seed}"


@dataclass(frozen=True)
class Sweep:
    """The whole grid.

    Attributes:
        text: the scenario as it was asked for.
        cells: in the order of the axes, the last one fastest.
        files: digests of the files that the scenarios name, as they were when this was planned.
    """

    text: str
    axes: tuple[Axis, ...]
    changes: tuple[str, ...]
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    files: Mapping[str, str]

    @property
    def name(self) -> str:
        """Of the scenario."""
        return self.cells[0].scenario.name

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """All of them, seed by seed."""
        ids = _distinct([_slug(cell) for cell in self.cells])
        return tuple(
            Run(f"{name}-seed{seed}", cell, seed, self._command(cell, seed))
            for seed in self.seeds
            for name, cell in zip(ids, self.cells, strict=True)
        )

    def _command(self, cell: Cell, seed: int) -> str:
        changes = itertools.chain.from_iterable(("--set", change) for change in cell.changes)
        return shlex.join(["p2pfl", "run", self.text, "--seed", str(seed), *changes])

    @cached_property
    def question(self) -> dict[str, Any]:
        """What decides the answers, as JSON values; seeds only say how often it is asked."""
        return {
            "scenario": self.text,
            "over": [str(axis) for axis in self.axes],
            "set": list(self.changes),
            "p2pfl": p2pfl.__version__,
            "files": dict(self.files),
            "cells": {str(cell): digest_of(meaning(cell.scenario)) for cell in self.cells},
        }

    @property
    def digest(self) -> str:
        """Of the question; how it was worded makes no difference."""
        return digest_of([self.question[part] for part in DECIDING])[:8]

    def bounds(self) -> dict[str, Bound | None]:
        """Figures of which something is expected, with the bound where it is the same in all."""
        found: dict[str, Bound | None] = {}
        for cell in self.cells:
            for name, bound in cell.scenario.expect.bounds().items():
                found[name] = bound if found.get(name, bound) == bound else None
        return found


def planned(text: str, over: Sequence[str], changes: Sequence[str] = (), seeds: int = 1) -> Sweep:
    """The grid of a scenario; every cell is validated.

    Args:
        text: path or name of the scenario.
        over: `KEY=V,V,...` each.
        changes: `KEY=VALUE` each, for all cells.
        seeds: how many, counted from the scenario's own.

    Raises:
        ConfigError: there is no such scenario, a key is unknown or given twice, or a value cannot
            be used.
    """
    axes = tuple(axis(one) for one in over)
    keys = [change.partition("=")[0].strip() for change in changes]
    for place, one in enumerate(axes):
        if one.key in (other.key for other in axes[:place]):
            raise ConfigError(f"--over {one.key} is given twice; list its values in one")
        if one.key in keys:
            raise ConfigError(f"'{one.key}' is in --over and in --set; it can only be in one")
    load(text, changes)  # what is wrong already without the axes is no fault of theirs
    cells = []
    for words in itertools.product(*(one.texts for one in axes)):
        swept = [f"{one.key}={word}" for one, word in zip(axes, words, strict=True)]
        try:
            scenario = load(text, [*changes, *swept])
        except ConfigError as error:
            raise ConfigError(f"--over {' '.join(swept)}: {error}") from None
        values = tuple((one.key, plain(word)) for one, word in zip(axes, words, strict=True))
        cells.append(Cell(values, scenario, (*changes, *swept)))
    first = cells[0].scenario.seed
    return Sweep(
        text=text,
        axes=axes,
        changes=tuple(changes),
        cells=tuple(cells),
        seeds=tuple(range(first, first + seeds)),
        files=files_of(cell.scenario for cell in cells),
    )


def _slug(cell: Cell) -> str:
    parts = (f"{key.rpartition('.')[2]}={value}" for key, value in cell.values)
    text = re.sub(r"[^A-Za-z0-9=.+-]+", "_", ",".join(parts).replace(",", "-"))
    return text[:_ID_MAX].strip(".") or cell.scenario.name


def _distinct(names: list[str]) -> list[str]:
    """Names of folders, also where letters' case is not told apart; doubles get their place."""
    lower = [name.lower() for name in names]
    return [
        f"{name}-{place}" if lower.count(name.lower()) > 1 else name
        for place, name in enumerate(names, 1)
    ]
