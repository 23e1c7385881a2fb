"""What a node needs to go on where it was, kept on disk as safetensors.

    8 bytes   length of the header
    header    JSON, padded to 8 bytes: `__metadata__` (who, when, ages, checksum), then the tensors
    data      the weights in the layout's order, then `p2pfl:momentum` and `p2pfl:previous` if used

Rule of the file: a file counts only if every byte is what was written. The checksum (BLAKE2b, RFC
7693: fast without special instructions) covers the whole file and stands at a fixed place inside
it; it is taken with zeros in that place. The newest file and the one before are kept, and at
every instant a good one has one of the two names.

Neither way is the model copied: bytes go from the vector to the file, and from the file to the
vector, piece by piece. The format is https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Literal

import numpy as np
from pydantic import BaseModel, NonNegativeInt, TypeAdapter, ValidationError
from pydantic_core import from_json

from p2pfl import __version__
from p2pfl.core.weights import Entry, Layout, Vector, is_finite, pieces
from p2pfl.edge.identity import replacement, unwatched
from p2pfl.errors import ConfigError, StateError
from p2pfl.ports import Saved

log = logging.getLogger(__name__)

NEWEST = "checkpoint.safetensors"
PREVIOUS = "checkpoint.previous.safetensors"
FORMAT = "p2pfl-checkpoint-1"

METADATA = "__metadata__"  # the one name that safetensors itself reserves
RESERVED = "p2pfl:"  # begins what is no parameter; a parameter of such a name is refused

HEADER_BYTES_MAX = 100_000_000
"""What the safetensors library allows; a damaged length beyond it is not even read."""

_OPENING = b'{"__metadata__":{"blake2b":"'
_NO_SEAL = b"0" * 32
_SEAL = slice(len(_OPENING), len(_OPENING) + len(_NO_SEAL))


class _Tensor(BaseModel):
    dtype: Literal["F32"]
    shape: tuple[NonNegativeInt, ...]
    data_offsets: tuple[NonNegativeInt, NonNegativeInt]


_TENSORS = TypeAdapter(dict[str, _Tensor])
_STRINGS = TypeAdapter(dict[str, str])


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as it was read.

    Attributes:
        path: where it lay.
        layout: names and shapes; every dtype is float32, as the file has it.
        saved: the node's state; without momentum and previous where only the model was asked for.
        about: format, run, layout, node, incarnation, age, own_steps, cycles, saved_at (ISO 8601),
            p2pfl (version), blake2b (checksum).
    """

    path: Path
    layout: Layout
    saved: Saved
    about: Mapping[str, str]


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


# --- the format ---------------------------------------------------------------------------------


def write(
    file: BinaryIO,
    layout: Layout,
    weights: Vector,
    about: Mapping[str, str],
    flats: Mapping[str, Vector] | None = None,
    *,
    step: Callable[[str], None] = unwatched,
) -> None:
    """Write a model as safetensors into an empty file that can seek.

    Args:
        file: opened for writing.
        layout: names and shapes of the weights.
        weights: (d,) float32.
        about: the metadata; the checksum is added.
        flats: name -> (n,) float32, further tensors.
        step: called after every write.

    Raises:
        OSError: it could not be written.
    """
    flats = flats or {}
    digest = blake2b(digest_size=16)
    header = _header(layout, about, {name: flat.size for name, flat in flats.items()})
    for data in chain([header], *map(_data, (weights, *flats.values()))):
        digest.update(data)
        file.write(data)
        step("written")
    file.seek(8 + _SEAL.start)
    file.write(digest.hexdigest().encode())
    step("sealed")


def read(path: Path, *, training: bool = True) -> Checkpoint:
    """Read a checkpoint and check every byte of it.

    Args:
        path: the file.
        training: whether momentum and previous weights are kept, or only checked.

    Raises:
        OSError: it cannot be read.
        StateError: it is not, byte for byte, what was written; the text says what was found.
    """
    vectors = {}
    try:
        with path.open("rb") as file:
            header, layout, flats, about = _parsed(file, os.fstat(file.fileno()).st_size)
            digest = blake2b(header, digest_size=16)
            weights = _vector(file, layout.size, digest)
            for name, size in flats.items():
                if training:
                    vectors[name] = _vector(file, size, digest)
                else:
                    for at in pieces(size):
                        _vector(file, at.stop - at.start, digest)
        if digest.hexdigest() != about.get("blake2b"):
            raise ValueError(f"its checksum is {digest.hexdigest()}, not {about.get('blake2b')}")
        if about.get("format") != FORMAT:
            raise ValueError(f"its format is '{about.get('format')}', expected '{FORMAT}'")
        if not all(is_finite(vector) for vector in (weights, *vectors.values())):
            raise ValueError("it holds values that are not finite")
    except ValueError as error:
        raise StateError(f"{path} is damaged: {error}") from None
    momentum, previous = (vectors.get(RESERVED + name) for name in ("momentum", "previous"))
    ages = (int(about[name]) for name in ("age", "own_steps", "cycles"))
    return Checkpoint(path, layout, Saved(weights, momentum, previous, *ages), about)


def _header(layout: Layout, about: Mapping[str, str], flats: Mapping[str, int]) -> bytes:
    shapes = [(e.name, e.shape) for e in layout.entries] + [(n, (d,)) for n, d in flats.items()]
    fields: dict[str, object] = {METADATA: {"blake2b": _NO_SEAL.decode(), **about}}
    start = 0
    for name, shape in shapes:
        end = start + 4 * math.prod(shape)
        fields[name] = {"dtype": "F32", "shape": shape, "data_offsets": (start, end)}
        start = end
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _parsed(file: BinaryIO, total: int) -> tuple[bytes, Layout, dict[str, int], dict[str, str]]:
    """The header without its seal, the parameters, sizes of the further tensors, the metadata.

    Sizes are believed only if they add up to the size of the file, `total`; the metadata (but for
    the seal) only once the checksum was found right.

    Raises:
        ValueError: it is not a header that `_header` would write.
    """
    length = int.from_bytes(file.read(8), "little")
    if not _SEAL.stop < length <= min(total - 8, HEADER_BYTES_MAX):
        raise ValueError(f"its header would have {length} bytes, the file has {total}")
    text = file.read(length)
    if not text.startswith(_OPENING):
        raise ValueError("it has no header of p2pfl")
    try:
        fields = from_json(text)
        about = _STRINGS.validate_python(fields.pop(METADATA))
        tensors = _TENSORS.validate_python(fields)
    except ValidationError as error:
        raise ValueError("its header does not list float32 tensors") from error
    entries, flats, start = [], {}, 0
    for name, tensor in tensors.items():
        end = start + 4 * math.prod(tensor.shape)
        if tensor.data_offsets != (start, end):
            raise ValueError(f"'{name}' lies at {tensor.data_offsets}, expected ({start}, {end})")
        if name.startswith(RESERVED):
            flats[name] = math.prod(tensor.shape)
        else:
            entries.append(Entry(name, tensor.shape))
        start = end
    if 8 + length + start != total:
        raise ValueError(f"it has {total} bytes, expected {8 + length + start}")
    header = length.to_bytes(8, "little") + text[: _SEAL.start] + _NO_SEAL + text[_SEAL.stop :]
    return header, Layout(tuple(entries)), flats, about


def _data(vector: Vector) -> Iterator[bytes]:
    for at in pieces(vector.size):
        # a copy of one piece: what is hashed is what is written, whatever the owner does meanwhile
        yield np.asarray(vector[at], "<f4").tobytes()


def _vector(file: BinaryIO, size: int, digest: blake2b) -> Vector:
    vector = np.empty(size, "<f4")
    for at in pieces(size):
        room = vector[at].data.cast("B")
        if file.readinto(room) != room.nbytes:  # type: ignore[attr-defined]
            raise ValueError("it became shorter while it was read")
        digest.update(room)
    return vector.astype(np.float32, copy=False)
