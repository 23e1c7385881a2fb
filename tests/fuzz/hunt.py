"""One target under atheris, in a process of its own: `-m tests.fuzz.hunt NAME SECONDS FOLDER`.

Rule of the file: libFuzzer ends at what kills it; an exception does not, it is written down and the
hunt goes on. Of inputs that find the same mistake the shortest is kept.
"""

# ruff: noqa: T201 (what it is for is to print)

from __future__ import annotations

import faulthandler
import logging
import sys
import time
import warnings
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import atheris

# what is instrumented must not be there yet; libraries of which many bytes come through us as well
with atheris.instrument_imports(
    include=["p2pfl", "tomllib", "zipfile", "json", "gzip", "csv", "networkx.readwrite.graphml"]
):
    import networkx.readwrite.graphml  # noqa: F401 (imported by its reader later on)
    import numpy as np

    from tests.fuzz.feeding import LONGEST, Finding, fed, scratch
    from tests.fuzz.targets import TARGETS
    from tests.fuzz.trees import changed

_SLOW_S = 3.0
"""Instrumented code is slower; whether an input is slow is judged by the replay."""

_EVERY_S = 10.0
_LATE_S = 20.0


def main(name: str, seconds: str, folder: str) -> None:
    target, found = TARGETS[name], Path(folder)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    shortest: dict[str, tuple[int, Path]] = {}
    runs, said = 0, time.monotonic()
    places = ExitStack()
    place = places.enter_context(scratch())

    def keep(data: bytes, finding: Finding) -> None:
        known = shortest.get(finding.where)
        if known is not None and known[0] <= len(data):
            return
        if known is not None:
            known[1].unlink()
        else:
            print(f"{name}: {finding.where}", flush=True)
        path = found / sha256(data).hexdigest()[:16]
        path.write_bytes(data)
        shortest[finding.where] = (len(data), path)

    def one(data: bytes) -> None:
        nonlocal runs, said
        finding = fed(target, data, place, seconds=_SLOW_S)
        if finding is not None:
            keep(data, finding)
        runs += 1
        now = time.monotonic()
        if now - said > _EVERY_S:
            said = now
            print(f"{name}: {runs:,} inputs, {len(shortest)} findings", flush=True)

    def mutated(data: bytes, longest: int, seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        if target.is_tree is not None and rng.random() < 0.5:
            tree = changed(target.is_tree, data, rng)
            if tree is not None and len(tree) <= longest:
                return tree
        blind: bytes = atheris.Mutate(data, longest)
        return blind

    corpus = found / "inputs"
    corpus.mkdir(exist_ok=True)
    seeds = target.seeds()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    longest = min(LONGEST, max(4096, 2 * max(map(len, seeds))))
    words = [
        sys.argv[0],
        str(corpus),
        f"-max_total_time={seconds}",
        f"-max_len={longest}",
        f"-artifact_prefix={found}/died-",
        "-timeout=15",
        "-rss_limit_mb=2048",
        "-reload=0",
        "-print_final_stats=1",
        "-len_control=0",
    ]
    # a hunt that sticks outside of an input's own time tells where
    faulthandler.dump_traceback_later(float(seconds) + _LATE_S, exit=True)
    atheris.Setup(words, one, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
