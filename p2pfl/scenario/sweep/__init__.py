"""A sweep: one scenario at every point of a grid, with many seeds, and what that shows together.

    axis      one --over: a key of the scenario and the values it takes
    cell      one value of every axis, hence one scenario
    run       a cell with a seed; cells share their seeds, so that they differ in nothing else
    question  everything that decides the answers but the seeds; its digest names the folder

Of every cell and figure stand the mean over seeds and its 95 % confidence interval.

    grid.py       axes, cells and runs
    question.py   whether two sweeps ask the same
    interval.py   means and their confidence intervals
    results.py    a row for every cell
    tables.py     rows in words, for CSV, a page and JSON
    picture.py    rows as curves

Rule of the room: it plans and counts, it runs nothing (`pool.py` does).
"""

from p2pfl.scenario.sweep.grid import Axis, Cell, Run, Sweep, axis, planned
from p2pfl.scenario.sweep.interval import Estimate, estimate, plus_minus, student_t
from p2pfl.scenario.sweep.picture import draw
from p2pfl.scenario.sweep.question import differences
from p2pfl.scenario.sweep.results import (
    USUAL,
    Row,
    Summary,
    figures,
    known_figures,
    left_s,
    passed,
    rows,
    shown,
)
from p2pfl.scenario.sweep.tables import (
    MARKDOWN,
    PICTURE,
    RUNS,
    TABLE,
    as_json,
    finite,
    markdown,
    run_table,
    said,
    share,
    table,
    title,
)

__all__ = [
    "MARKDOWN",
    "PICTURE",
    "RUNS",
    "TABLE",
    "USUAL",
    "Axis",
    "Cell",
    "Estimate",
    "Row",
    "Run",
    "Summary",
    "Sweep",
    "as_json",
    "axis",
    "differences",
    "draw",
    "estimate",
    "figures",
    "finite",
    "known_figures",
    "left_s",
    "markdown",
    "passed",
    "planned",
    "plus_minus",
    "rows",
    "run_table",
    "said",
    "share",
    "shown",
    "student_t",
    "table",
    "title",
]
