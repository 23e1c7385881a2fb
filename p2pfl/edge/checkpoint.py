"""The checkpoints of one state directory: where a node goes on after a crash.

Rule of the file: the newest file and the one before are kept, and at every instant a good one has
one of the two names; a file counts only if `sealed.read` finds every byte as it was written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from p2pfl import __version__
from p2pfl.core.weights import Layout
from p2pfl.edge.identity import replacement, unwatched
from p2pfl.edge.sealed import FORMAT, METADATA, RESERVED, Checkpoint, read, write
from p2pfl.errors import ConfigError, StateError
from p2pfl.ports import Saved

log = logging.getLogger(__name__)

NEWEST = "checkpoint.safetensors"
PREVIOUS = "checkpoint.previous.safetensors"


class Checkpoints:
    """The two checkpoints of one state directory: the `Store` of a real node."""

    def __init__(
        self,
        directory: Path,
        layout: Layout,
        *,
        run: str,
        node: str,
        incarnation: int,
        wall: Callable[[], float] = time.time,
        step: Callable[[str], None] = unwatched,
    ) -> None:
        """Nothing is read or written yet.

        Args:
            directory: exists, and nobody else writes to it.
            layout: of the model.
            run, node, incarnation: of this node, for the metadata.
            wall: seconds since 1970.
            step: called after every operation on the disk with its name.

        Raises:
            ConfigError: a parameter has a name that cannot be written.
        """
        for name in (entry.name for entry in layout.entries):
            if name.startswith(RESERVED) or name == METADATA or not name.isprintable():
                raise ConfigError(f"parameter name {name!r} cannot be saved; rename it")
        self._newest = directory / NEWEST
        self._previous = directory / PREVIOUS
        self._layout = layout
        self._about = {"format": FORMAT, "run": run, "layout": layout.digest, "node": node}
        self._about |= {"incarnation": str(incarnation), "p2pfl": __version__}
        self._wall = wall
        self._step = step
        # a save that was cancelled at shutdown may still run in its thread when the last one comes
        self._saving = Lock()
        self._newest_is_good: bool | None = None

    def load(self) -> Saved | None:
        """The newest state that can be read, or None if none was ever saved.

        Raises:
            StateError: every file there is damaged, or the newest is of another run or model.
        """
        found = newest(self._newest.parent)
        self._newest_is_good = found is not None and found.path == self._newest
        if found is None:
            return None
        theirs, ours = ((who["run"], who["layout"]) for who in (found.about, self._about))
        if theirs != ours:
            raise StateError(
                f"{found.path} is of run '{theirs[0]}', model {theirs[1]}, but this node is of run "
                f"'{ours[0]}', model {ours[1]}; give another --state-dir, or delete that file"
            )
        sizes = found.saved.weights.size, self._layout.size
        if sizes[0] != sizes[1]:
            raise StateError(
                f"{found.path} is damaged: it has {sizes[0]} values, expected {sizes[1]}; "
                "delete that file"
            )
        return found.saved

    def save(self, saved: Saved) -> None:
        """Write a checkpoint atomically; the present one becomes the previous.

        The vectors are read piece by piece: one that changes meanwhile is saved as a mixture of
        before and after, in a sound file.

        Raises:
            OSError: it could not be written; the previous one is intact, nothing is left behind.
            ConfigError: a vector has the wrong length; nothing was touched.
        """
        extra = {"momentum": saved.momentum, "previous": saved.previous}
        flats = {RESERVED + name: flat for name, flat in extra.items() if flat is not None}
        for flat in (saved.weights, *flats.values()):
            if flat.shape != (self._layout.size,):
                raise ConfigError(f"vector is {flat.shape}, expected {self._layout.size} values")
        ages = {"age": saved.age, "own_steps": saved.own_steps, "cycles": saved.cycles}
        when = datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="seconds")
        about = self._about | {k: str(v) for k, v in ages.items()} | {"saved_at": when}
        with self._saving:
            # a damaged newest file must not push the good previous one out
            keep = self._previous if self._is_newest_good() else None
            with replacement(self._newest, keep=keep, step=self._step) as file:
                write(file, self._layout, saved.weights, about, flats, step=self._step)
            self._newest_is_good = True

    def _is_newest_good(self) -> bool:
        if self._newest_is_good is None:
            try:
                read(self._newest, training=False)
                self._newest_is_good = True
            except (OSError, StateError):
                self._newest_is_good = False
        return self._newest_is_good


def newest(directory: Path, *, training: bool = True) -> Checkpoint | None:
    """The newest good checkpoint of a directory, None if there is none at all.

    Safe while a node writes there. `training` as in `read`.

    Raises:
        StateError: there are checkpoints, and none of them is good.
    """
    reasons = []
    for path in (directory / NEWEST, directory / PREVIOUS):
        try:
            found = read(path, training=training)
        except FileNotFoundError:
            continue
        except (OSError, StateError) as error:
            reasons.append(str(error))
            continue
        if path.name == PREVIOUS:
            reason = reasons[0] if reasons else f"{directory / NEWEST} is missing"
            log.warning("%s; the previous checkpoint is used, age %d", reason, found.saved.age)
        return found
    if reasons:
        raise StateError(
            f"no checkpoint can be used: {'; '.join(reasons)}; delete the checkpoint files of "
            f"{directory} to start without history (the node then adopts a neighbour's model)"
        )
    return None
