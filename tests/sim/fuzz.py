"""Runs the fuzzer over many seeds: `python -m tests.sim.fuzz --seeds 1000 --from 0 --jobs 2`."""

# ruff: noqa: T201 (what it is for is to print)

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext

from tests.sim.swarm_fuzz import Played, play, scenario_of, told


def run(seed: int) -> tuple[int, Played]:
    """One seed, its trace left out: it would have to be sent home."""
    logging.disable(logging.WARNING)
    played = play(scenario_of(seed))
    return seed, Played(played.failures, played.event_hash)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.fuzz", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the work")
    parser.add_argument("--every", type=int, default=100, help="say how it stands so often")
    asked = parser.parse_args(words)
    failed, began = [], time.monotonic()
    for done, (seed, played) in enumerate(_played(asked), start=1):
        if played.failures:
            failed.append(seed)
            print(told(seed, played), end="\n\n", flush=True)
        if done % asked.every == 0 or done == asked.seeds:
            took = time.monotonic() - began
            print(f"{done} seeds in {took:.0f} s, {len(failed)} failed", flush=True)
    if failed:
        print("failed:", *failed)
    return 1 if failed else 0


def _played(asked: argparse.Namespace) -> Iterator[tuple[int, Played]]:
    seeds = range(asked.first, asked.first + asked.seeds)
    with ProcessPoolExecutor(asked.jobs) if asked.jobs > 1 else nullcontext() as pool:
        yield from (map(run, seeds) if pool is None else pool.map(run, seeds, chunksize=4))


if __name__ == "__main__":
    sys.exit(main())
