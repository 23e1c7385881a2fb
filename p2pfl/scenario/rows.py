"""Rows of a CSV file that a scenario names, with what is wrong in it as one sentence.

Rule of the file: a mistake names the file, the line, the value and what is allowed.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pfl.errors import ConfigError
from p2pfl.scenario.spec import named


@dataclass(frozen=True, slots=True)
class Row:
    """One line.

    Attributes:
        where: file and line, for an error's text.
        values: text by column, without blanks around it.
    """

    where: str
    values: dict[str, str]

    def number(self, column: str, *, least: float, inclusive: bool = True) -> float:
        """A finite number in a column.

        Raises:
            ConfigError: it is not one, or below `least`.
        """
        text = self.values[column]
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not (least <= value < float("inf")) or (value == least and not inclusive):
            bound = f">= {least:g}" if inclusive else f"> {least:g}"
            raise ConfigError(f"{self.where}: {column} is '{text}', expected a number {bound}")
        return value

    def node(self, nodes: int) -> int:
        """The place of the node in the column `node`, as `n3` or `3`.

        Raises:
            ConfigError: it is none of n1 .. n`nodes`.
        """
        text = self.values["node"]
        try:
            return named((text if text.startswith("n") else f"n{text}",), nodes)[0]
        except ConfigError as error:
            raise ConfigError(f"{self.where}: node {error}") from None


def rows(path: str, needed: Sequence[str]) -> list[Row]:
    """The lines of a CSV file whose first one names its columns.

    Args:
        path: of the file.
        needed: columns it must have; others may be there.

    Raises:
        ConfigError: it cannot be read, lacks a column, has a line that is too short, or no line.
    """
    found: list[Row] = []
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [column.strip() for column in reader.fieldnames or ()]
            reader.fieldnames = columns
            for column in needed:
                if column not in columns:
                    has = ", ".join(columns) or "nothing"
                    raise ConfigError(f"{path}: has no column '{column}', its first line is {has}")
            for line in reader:
                where = f"{path}, line {reader.line_num}"
                if any(line[column] is None for column in needed):
                    raise ConfigError(f"{where}: too short, expected {', '.join(columns)}")
                values = {c: (line[c] or "").strip() for c in columns}
                found.append(Row(where, values))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (csv.Error, ValueError) as error:
        # bytes that are not UTF-8, or a path that no file can have
        raise ConfigError(f"{path}: not CSV: {error}") from None
    if not found:
        raise ConfigError(f"{path}: has no line below the first")
    return found
