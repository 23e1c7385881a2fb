"""Hunts for bytes that a reader does not bear: `python -m tests.fuzz --seconds 60`.

Every target gets the same share of the time. What is found is tried again without instruments; what
fails there as well is kept in `tests/fuzz/corpus/TARGET/`, for `test_corpus.py` to replay for good.
"""

# ruff: noqa: T201 (what it is for is to print)

from __future__ import annotations

import argparse
import logging
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.feeding import fed, scratch
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
WORK = Path("runs") / "fuzz"
_PATIENCE_S = 30.0
_SHORTEST_S = 3.0


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="of all targets together")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="give one input to --target")
    asked = parser.parse_args(words)
    names = asked.target or list(TARGETS)
    if asked.replay is not None:
        if len(names) != 1:
            parser.error("--replay needs one --target")
        return replay(names[0], asked.replay)
    if find_spec("atheris") is None:
        print("fuzzing needs atheris: pip install 'atheris>=2.3' (Linux, x86-64)", file=sys.stderr)
        return 2
    share = max(asked.seconds / len(names), _SHORTEST_S)
    kept = [path for name in names for path in hunt(name, share)]
    print(f"{len(names)} targets, {len(kept)} findings")
    for path in kept:
        name = path.parent.name
        print(f"  python -m tests.fuzz --target {name} --replay {path}")
    return 1 if kept else 0


def replay(name: str, path: Path) -> int:
    """Feed one input, without instruments."""
    logging.disable(logging.CRITICAL)
    with scratch() as place:
        finding = fed(TARGETS[name], path.read_bytes(), place)
    print("nothing is wrong" if finding is None else f"{finding.where}\n{finding.told}")
    return 0 if finding is None else 1


def hunt(name: str, seconds: float) -> list[Path]:
    """Fuzz one target; gives the findings that are confirmed, as they are kept."""
    ends = time.monotonic() + seconds
    inputs = WORK / name
    with TemporaryDirectory() as folder:
        found = Path(folder)
        if inputs.is_dir():
            shutil.copytree(inputs, found / "inputs")
        runs, coverage = 0, 0
        while (left := ends - time.monotonic()) > 1:
            before = set(found.iterdir())
            done, coverage = _hunted(name, int(left), found)
            runs += done
            if not done and set(found.iterdir()) <= before | {found / "inputs"}:
                print(f"{name}: the hunt ended without a finding, which is our mistake", flush=True)
                break
        kept = [path for path in sorted(found.iterdir()) if path.is_file()]
        confirmed = [_kept(name, path) for path in kept if _is_confirmed(name, path)]
        shutil.rmtree(inputs, ignore_errors=True)
        if (found / "inputs").is_dir():
            shutil.copytree(found / "inputs", inputs)
    told = f"{len(confirmed)} findings" if confirmed else "nothing found"
    print(f"{name}: {runs:,} inputs in {seconds:.0f} s, coverage {coverage}, {told}", flush=True)
    return confirmed


def _hunted(name: str, seconds: int, found: Path) -> tuple[int, int]:
    """One process, until its time is over or it dies; inputs tried, and coverage."""
    words = [sys.executable, "-m", "tests.fuzz.hunt", name, str(seconds), str(found)]
    with (found / "inputs.log").open("w+b") as log:
        try:
            subprocess.run(words, stderr=log, check=False, timeout=seconds + _PATIENCE_S)
        except subprocess.TimeoutExpired:
            print(f"{name}: did not end in time", flush=True)
        log.seek(0)
        text = log.read().decode(errors="replace")
    (found / "inputs.log").unlink()
    runs = re.search(r"number_of_executed_units: (\d+)", text)
    if runs is None:
        told = [line for line in text.splitlines() if not line.startswith("INFO: Instr")]
        print(f"{name}: the hunt died", *told[-20:], sep="\n  ", flush=True)
    return int(runs[1]) if runs else 0, max(map(int, re.findall(r"cov: (\d+)", text)), default=0)


def _is_confirmed(name: str, path: Path) -> bool:
    """Whether an input fails in a process without instruments, or kills it."""
    words = [sys.executable, "-m", "tests.fuzz", "--target", name, "--replay", str(path)]
    try:
        answer = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=_PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        print(f"{name}: {path.name} does not end")
        return True
    if answer.returncode:
        print(f"{name}: {answer.stdout.splitlines()[0] if answer.stdout else answer.stderr}")
    return answer.returncode != 0


def _kept(name: str, path: Path) -> Path:
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(path, folder / path.name.removeprefix("died-")[-40:]))


if __name__ == "__main__":
    sys.exit(main())
