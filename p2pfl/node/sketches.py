"""Sketches of our weights, at moments that the whole swarm shares (`core/figures.py`).

Rule of the file: it costs next to nothing, whatever the size of the model and however many ticks
others make up: piece by piece on the event loop, and then a long rest, in which ticks pass unused.
"""

from __future__ import annotations

import asyncio

import numpy as np

from p2pfl.core.figures import SwarmFigures
from p2pfl.core.sketch import BUCKETS, sketch_seed, sketching
from p2pfl.node.vitals import Vitals, drive

_EVERY_S, _COMPARED_S = 3.0, 2.0
"""Between two ticks; and from a sketch to its comparison with the mean, which has to become known.
"""
_SILENT_S = 30.0
_REST_S_PER_WEIGHT = 5e-7
"""After a sketch: some fifty times as long as it takes on a laptop, ten times on a small device."""


async def sketches(vitals: Vitals, figures: SwarmFigures) -> None:
    """Sketch the weights at every tick, for ever; the first of the swarm makes the ticks."""
    seed = sketch_seed(vitals.config.run, vitals.layout.digest)
    heard = vitals.clock()
    while True:
        try:
            async with asyncio.timeout(_EVERY_S):
                await vitals.ticked.wait()
        except TimeoutError:
            if not figures.is_first:
                if vitals.clock() - heard > _SILENT_S:
                    figures.miss_ticks()
                continue
            figures.make_tick()
        heard = vitals.clock()
        vitals.ticked.clear()
        found = np.zeros(BUCKETS)
        await drive(sketching(vitals.state.x, seed, found))
        figures.moved(found)
        await asyncio.sleep(_COMPARED_S)
        figures.compare()
        rest_s = _REST_S_PER_WEIGHT * vitals.state.x.size - _COMPARED_S
        if rest_s > 0:
            await asyncio.sleep(rest_s)
            vitals.ticked.clear()
