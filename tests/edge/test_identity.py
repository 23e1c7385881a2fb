"""The state directory: one node, one process, one run and model; incarnations only rise."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from p2pfl.core.weights import Entry, Layout
from p2pfl.edge.identity import (
    IDENTITY,
    LOCK,
    NAME_BYTES_MAX,
    StateDir,
    default_path,
    node_key,
    replacement,
)
from p2pfl.edge.nodekey import NODE_KEY, NodeKey
from p2pfl.errors import StateError

SMALL = Layout((Entry("w", (3, 2)), Entry("b", (2,))))
OTHER = Layout((Entry("w", (3, 3)), Entry("b", (3,))))


def opened(path: Path, run: str = "digits", layout: Layout = SMALL) -> tuple[str, int]:
    with StateDir.open(path, run=run, layout=layout) as state:
        return state.node, state.incarnation


def contents(path: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(file.relative_to(path)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in path.rglob("*")
    }


def in_child(script: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# --- identity and incarnation -------------------------------------------------------------------


def test_a_new_directory_gets_an_id_of_32_hex_digits_and_incarnation_1(tmp_path: Path) -> None:
    with StateDir.open(tmp_path / "a" / "b", run="digits", layout=SMALL) as state:
        assert len(state.node) == 32
        assert set(state.node) <= set("0123456789abcdef")
        assert state.incarnation == 1
        assert state.path == tmp_path / "a" / "b"
        assert state.journal.parent == state.path
    assert opened(tmp_path / "other")[0] != state.node


def test_every_start_keeps_the_id_and_raises_the_incarnation_by_one(tmp_path: Path) -> None:
    seen = [opened(tmp_path / "s") for _ in range(5)]
    assert len({node for node, _ in seen}) == 1
    assert [incarnation for _, incarnation in seen] == [1, 2, 3, 4, 5]


def test_the_incarnation_is_on_the_disk_while_the_node_runs_not_only_after(tmp_path: Path) -> None:
    for expected in (1, 2):
        with StateDir.open(tmp_path, run="digits", layout=SMALL):
            assert json.loads((tmp_path / IDENTITY).read_text())["incarnation"] == expected


def test_a_node_killed_right_after_opening_has_used_its_incarnation_up(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from p2pfl.core.weights import Entry, Layout
from p2pfl.edge.identity import StateDir
layout = Layout((Entry("w", (3, 2)), Entry("b", (2,))))
state = StateDir.open(Path(sys.argv[1]), run="digits", layout=layout)
os.kill(os.getpid(), signal.SIGKILL)
"""
    opened(tmp_path)
    assert in_child(script, tmp_path).returncode == -9
    assert opened(tmp_path)[1] == 3


def test_a_deleted_identity_is_a_wish_for_a_new_one(tmp_path: Path) -> None:
    first, _ = opened(tmp_path)
    (tmp_path / IDENTITY).unlink()
    second, incarnation = opened(tmp_path)
    assert second != first
    assert incarnation == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"node": 7}',
        b'{"format": 2, "node": "' + b"0" * 32 + b'"}',
    ],
)
def test_an_identity_that_is_nonsense_is_an_error_with_the_fix_and_stays(
    tmp_path: Path, data: bytes
) -> None:
    opened(tmp_path)
    (tmp_path / IDENTITY).write_bytes(data)
    before = contents(tmp_path)
    with pytest.raises(StateError, match=r"identity\.json.*delete it"):
        opened(tmp_path)
    assert contents(tmp_path) == before


def test_an_identity_of_a_later_format_is_refused_and_says_which(tmp_path: Path) -> None:
    opened(tmp_path)
    text = (tmp_path / IDENTITY).read_text()
    (tmp_path / IDENTITY).write_text(text.replace('"format": 2', '"format": 3'))
    with pytest.raises(StateError, match=r"'format' is 3: Input should be 1 or 2"):
        opened(tmp_path)


def test_any_flipped_bit_of_the_identity_is_noticed(tmp_path: Path) -> None:
    opened(tmp_path)
    good = (tmp_path / IDENTITY).read_bytes()
    for at in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[at] ^= 1 << bit
            (tmp_path / IDENTITY).write_bytes(bad)
            with pytest.raises(StateError):
                StateDir.open(tmp_path, run="digits", layout=SMALL)
    (tmp_path / IDENTITY).write_bytes(good)
    assert opened(tmp_path)[1] == 2


@pytest.mark.parametrize("kept", [0, 1, 50, -1])
def test_a_truncated_identity_is_noticed(tmp_path: Path, kept: int) -> None:
    opened(tmp_path)
    good = (tmp_path / IDENTITY).read_bytes()
    (tmp_path / IDENTITY).write_bytes(good[:kept])
    with pytest.raises(StateError):
        opened(tmp_path)


# --- the node's key -----------------------------------------------------------------------------


def old_identity(path: Path, incarnation: int = 7) -> str:
    """An identity of format 1, as it was written before nodes had keys; its id."""
    fields = {"format": 1, "node": "ab" * 16, "incarnation": incarnation, "run": "digits"}
    fields |= {"layout": SMALL.digest, "values": SMALL.size}
    checksum = hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:16]
    path.mkdir(exist_ok=True)
    data = json.dumps({**fields, "checksum": checksum}, indent=2) + "\n"
    (path / IDENTITY).write_text(data)
    return "ab" * 16


def test_the_id_is_the_fingerprint_of_a_key_that_only_its_owner_can_read(tmp_path: Path) -> None:
    with StateDir.open(tmp_path, run="digits", layout=SMALL) as state:
        file = tmp_path / NODE_KEY
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert state.node == NodeKey.load(file).node == state.key.node
        assert state.node == hashlib.sha256(state.key.public).hexdigest()[:32]


def test_the_key_is_never_readable_by_others_not_even_under_its_temporary_name(
    tmp_path: Path,
) -> None:
    left_behind = tmp_path / (NODE_KEY + ".tmp")
    left_behind.write_text("of a crash")
    left_behind.chmod(0o644)
    modes: list[int] = []

    def looked(_: str) -> None:
        modes.extend(stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir())

    with replacement(tmp_path / NODE_KEY, private=True, step=looked) as file:
        file.write(b"secret")
        looked("written")
    assert set(modes) == {0o600}


def test_a_crash_before_the_identity_names_the_key_costs_nothing(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
import p2pfl.edge.identity as identity
from p2pfl.core.weights import Entry, Layout
identity._write = lambda *_: os._exit(9)
layout = Layout((Entry("w", (3, 2)), Entry("b", (2,))))
identity.StateDir.open(Path(sys.argv[1]), run="digits", layout=layout)
"""
    assert in_child(script, tmp_path).returncode == 9
    assert sorted(file.name for file in tmp_path.iterdir()) == [LOCK, NODE_KEY]
    assert opened(tmp_path)[1] == 1
    assert opened(tmp_path)[1] == 2


def test_an_identity_of_format_1_gets_the_id_of_a_new_key_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = old_identity(tmp_path)
    node, incarnation = opened(tmp_path)
    assert incarnation == 8
    assert node != old
    assert f"{old} is now" in caplog.text
    assert opened(tmp_path) == (node, 9)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o777])
def test_a_key_that_others_can_read_is_refused_with_the_fix(tmp_path: Path, mode: int) -> None:
    opened(tmp_path)
    (tmp_path / NODE_KEY).chmod(mode)
    with pytest.raises(StateError, match=rf"node\.key has mode {mode:04o}.*chmod 600"):
        opened(tmp_path)
    (tmp_path / NODE_KEY).chmod(0o600)
    assert opened(tmp_path)[1] == 2


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 119, b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_key_is_refused_with_the_fix_and_stays(tmp_path: Path, data: bytes) -> None:
    opened(tmp_path)
    (tmp_path / NODE_KEY).write_bytes(data)
    before = contents(tmp_path)
    with pytest.raises(StateError, match=r"node\.key is damaged.*put back a copy"):
        opened(tmp_path)
    changed = {name for name, was in contents(tmp_path).items() if before.get(name) != was}
    assert changed <= {LOCK}


@pytest.mark.parametrize("kept", [1, 60, 100])
def test_a_truncated_key_is_refused(tmp_path: Path, kept: int) -> None:
    opened(tmp_path)
    good = (tmp_path / NODE_KEY).read_bytes()
    (tmp_path / NODE_KEY).write_bytes(good[:kept])
    with pytest.raises(StateError, match="damaged"):
        opened(tmp_path)


def test_a_key_of_another_kind_or_sealed_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    sealed = NodeKey.load(tmp_path / NODE_KEY).pem(b"word")
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        *pem, serialization.NoEncryption()
    )
    for data, said in ((sealed, "encrypted"), (other, "expected Ed25519")):
        (tmp_path / NODE_KEY).write_bytes(data)
        with pytest.raises(StateError, match=said):
            opened(tmp_path)


def test_a_missing_key_is_refused_with_the_fix_and_no_new_one_is_made(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / NODE_KEY).unlink()
    with pytest.raises(StateError, match=r"node\.key is gone.*put back a copy of it \(mode 0600\)"):
        opened(tmp_path)
    assert not (tmp_path / NODE_KEY).exists()
    (tmp_path / IDENTITY).unlink()
    assert opened(tmp_path)[1] == 1


def test_a_key_of_another_node_is_refused_and_names_both(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    node, other = opened(first)[0], opened(second)[0]
    (first / NODE_KEY).write_bytes((second / NODE_KEY).read_bytes())
    with pytest.raises(StateError, match=f"key of node {other}.*of node {node}"):
        opened(first)


def test_without_its_count_of_starts_a_key_is_kept_beside_and_not_used(tmp_path: Path) -> None:
    node, _ = opened(tmp_path)
    (tmp_path / IDENTITY).unlink()
    assert opened(tmp_path)[0] != node
    assert NodeKey.load(tmp_path / (NODE_KEY + ".old")).node == node


def test_a_node_that_never_ran_has_a_key_to_be_admitted_with_and_starts_with_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "new"
    key = node_key(path, run="digits")
    assert node_key(path, run="digits").node == key.node
    assert opened(path) == (key.node, 1)
    assert node_key(path, run="digits").node == key.node
    assert opened(path) == (key.node, 2)


def test_a_key_that_was_made_for_another_run_is_refused(tmp_path: Path) -> None:
    node_key(tmp_path, run="mnist")
    with pytest.raises(StateError, match=r"made for run 'mnist'.*is of run 'digits'"):
        opened(tmp_path)


def test_asking_for_the_key_of_a_running_node_disturbs_it_not(tmp_path: Path) -> None:
    with StateDir.open(tmp_path, run="digits", layout=SMALL) as state:
        before = contents(tmp_path)
        assert node_key(tmp_path, run="digits").node == state.node
        assert contents(tmp_path) == before


# --- of another run or model --------------------------------------------------------------------


def test_a_directory_of_another_model_is_refused_names_both_and_nothing_changes(
    tmp_path: Path,
) -> None:
    opened(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(StateError) as caught:
        StateDir.open(tmp_path, run="digits", layout=OTHER)
    for part in (str(tmp_path), "'digits'", SMALL.digest, OTHER.digest, "8 values", "--state-dir"):
        assert part in str(caught.value)
    assert contents(tmp_path) == before
    assert opened(tmp_path)[1] == 2


def test_a_directory_of_another_run_is_refused_names_both_and_nothing_changes(
    tmp_path: Path,
) -> None:
    opened(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(StateError, match=r"belongs to run 'digits'.*is of run 'mnist'"):
        StateDir.open(tmp_path, run="mnist", layout=SMALL)
    assert contents(tmp_path) == before


# --- one process --------------------------------------------------------------------------------


def test_a_directory_in_use_is_refused_and_names_the_process(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from p2pfl.core.weights import Entry, Layout
from p2pfl.edge.identity import StateDir
layout = Layout((Entry("w", (3, 2)), Entry("b", (2,))))
with StateDir.open(Path(sys.argv[1]), run="digits", layout=layout):
    print("open", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        before = contents(tmp_path)
        with pytest.raises(StateError, match=rf"in use by process {holder.pid}; stop it"):
            opened(tmp_path)
        assert contents(tmp_path) == before
        holder.communicate("")
    assert holder.returncode == 0
    assert opened(tmp_path)[1] == 2


def test_a_process_cannot_open_a_directory_twice_and_closing_frees_it(tmp_path: Path) -> None:
    state = StateDir.open(tmp_path, run="digits", layout=SMALL)
    with pytest.raises(StateError, match=f"process {os.getpid()}"):
        StateDir.open(tmp_path, run="digits", layout=SMALL)
    state.close()
    state.close()
    assert opened(tmp_path)[1] == 2


def test_a_stale_lock_file_of_a_dead_process_does_not_matter(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / LOCK).write_text("4194304999\n")
    assert opened(tmp_path)[1] == 2
    assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"


def test_a_refused_opening_frees_the_lock(tmp_path: Path) -> None:
    opened(tmp_path)
    text = (tmp_path / IDENTITY).read_text()
    (tmp_path / IDENTITY).write_text("{")
    with pytest.raises(StateError):
        opened(tmp_path)
    (tmp_path / IDENTITY).write_text(text)
    assert opened(tmp_path)[1] == 2


# --- places that cannot be used -----------------------------------------------------------------


def test_a_file_in_place_of_the_directory_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("mine")
    for path in (tmp_path / "f", tmp_path / "f" / "below"):
        with pytest.raises(StateError, match=r"is a file; give another with --state-dir"):
            StateDir.open(path, run="digits", layout=SMALL)
    assert (tmp_path / "f").read_text() == "mine"


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from p2pfl.core.weights import Entry, Layout
from p2pfl.edge.identity import StateDir
from p2pfl.errors import StateError
layout = Layout((Entry("w", (3, 2)), Entry("b", (2,))))
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    StateDir.open(Path(sys.argv[1]), run="digits", layout=layout)
except StateError as error:
    print(error)
"""


def test_a_directory_without_permission_is_one_clear_sentence(tmp_path: Path) -> None:
    place = tmp_path / "locked"
    place.mkdir(mode=0o555)
    answer = in_child(UNPRIVILEGED, place)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(f"state directory {place} cannot be used: no permission;")
    assert list(place.iterdir()) == []


def test_a_directory_that_cannot_grow_keeps_its_incarnation(tmp_path: Path) -> None:
    opened(tmp_path)
    script = """
import resource, sys
from pathlib import Path
from p2pfl.core.weights import Entry, Layout
from p2pfl.edge.identity import StateDir
from p2pfl.errors import StateError
layout = Layout((Entry("w", (3, 2)), Entry("b", (2,))))
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
try:
    StateDir.open(Path(sys.argv[1]), run="digits", layout=layout)
except StateError as error:
    print(error)
"""
    answer = in_child(script, tmp_path)
    assert "cannot be used: File too large" in answer.stdout, answer.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == [IDENTITY, LOCK, NODE_KEY]
    assert opened(tmp_path)[1] == 2


# --- paths --------------------------------------------------------------------------------------


def test_the_default_path_is_below_the_users_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = default_path("digits", "kitchen pi.2")
    assert path.parts[-3:] == ("p2pfl", "digits", "kitchen pi.2")


@settings(deadline=None)
@given(st.text(min_size=1, max_size=64), st.text(min_size=1, max_size=64))
@example(".", "..")
@example("../..", "/etc")
@example(".hidden", "a\0b")
@example("ä" * 64, "\U0001f600" * 64)
def test_no_run_or_name_leaves_the_default_directory(run: str, name: str) -> None:
    root, path = default_path("r", "n").parent.parent, default_path(run, name)
    assert path.parent.parent == root
    assert Path(os.path.normpath(path)) == path
    for part in (path.name, path.parent.name):
        assert not part.startswith(".")
        assert "/" not in part
        assert "\0" not in part
        assert len(part.encode()) <= NAME_BYTES_MAX


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=80), min_size=2, max_size=2, unique=True))
def test_two_names_have_two_directories(names: list[str]) -> None:
    assert default_path("r", names[0]) != default_path("r", names[1])


# --- replacement --------------------------------------------------------------------------------


def test_a_replacement_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacement(path) as file:
        file.write(b"half of the n")
        raise ZeroDivisionError
    assert contents(tmp_path).keys() == {"x"}
    assert path.read_text() == "old"


def test_a_replacement_has_its_name_only_after_its_bytes_are_on_the_disk(tmp_path: Path) -> None:
    steps: list[str] = []
    with replacement(tmp_path / "x", keep=tmp_path / "y", step=steps.append) as file:
        file.write(b"1")
    with replacement(tmp_path / "x", keep=tmp_path / "y", step=steps.append) as file:
        file.write(b"2")
    first = ["opened", "synced", "replaced", "directory synced"]
    assert steps == [*first, *first[:2], "kept", *first[2:]]
    assert ((tmp_path / "x").read_bytes(), (tmp_path / "y").read_bytes()) == (b"2", b"1")
