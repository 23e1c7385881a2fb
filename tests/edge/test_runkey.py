"""Run keys as text: what was written is read again, what was mistyped is found, nothing leaks."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2pfl.edge import keytext
from p2pfl.edge.certificates import authority_certificate, pem
from p2pfl.edge.keytext import ADMISSION, KINDS, REQUEST, RUN, Kind
from p2pfl.edge.nodekey import NodeKey, fingerprint, grouped, parse_node, parse_request
from p2pfl.edge.runkey import RunKey
from p2pfl.errors import ConfigError

LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
KINDS_AND_BYTES = st.sampled_from(KINDS).flatmap(
    lambda kind: st.tuples(st.just(kind), st.binary(min_size=kind.nbytes, max_size=kind.nbytes))
)


# --- text ----------------------------------------------------------------------------------------


@given(KINDS_AND_BYTES)
def test_what_was_written_is_read_again(kind_and_bytes: tuple[Kind, bytes]) -> None:
    kind, data = kind_and_bytes
    text = keytext.write(kind, data)
    assert text.startswith(kind.prefix + "-")
    assert not set(text.removeprefix(kind.prefix)) & set("ILOUilou")
    assert keytext.read(kind, text) == data


@given(KINDS_AND_BYTES, st.randoms(use_true_random=False))
def test_case_dashes_blanks_and_letters_that_look_like_digits_do_not_count(
    kind_and_bytes: tuple[Kind, bytes], random: object
) -> None:
    kind, data = kind_and_bytes
    text = keytext.write(kind, data)
    head, body = text[: len(kind.prefix)], text[len(kind.prefix) :]
    for typed in (
        text.lower(),
        text.upper(),
        text.replace("-", " "),
        text.replace("-", ""),
        f"  {text.replace('-', '–')}\n",
        head + body.replace("0", "o").replace("1", "l"),
        head + body.replace("0", "O").replace("1", "I"),
    ):
        assert keytext.read(kind, typed) == data


@given(st.text(max_size=500))
@example("")
@example("p2pfl-run-")
@example("p2pfl-run-" + "ß" * 32)
@example("p2pfl-run-" + "０" * 32)
@example("p2pfl-run-" + "\ud800" * 32)
@example("p2pfl-admit-" + "0" * 32)
@example("p2pfl-run-" + "0" * 100_000)
def test_any_text_is_a_key_or_a_config_error(text: str) -> None:
    for kind in KINDS:
        for typed in (text, kind.prefix + "-" + text):
            try:
                data = keytext.read(kind, typed)
            except ConfigError as error:
                assert kind.what in str(error) or "expected" in str(error)
            else:
                assert keytext.read(kind, keytext.write(kind, data)) == data


@given(KINDS_AND_BYTES, st.data())
def test_one_wrong_letter_is_found_and_its_place_named_without_the_key(
    kind_and_bytes: tuple[Kind, bytes], data: st.DataObject
) -> None:
    kind, secret = kind_and_bytes
    text = keytext.write(kind, secret)
    places = [at for at in range(len(kind.prefix), len(text)) if text[at] != "-"]
    nth = data.draw(st.integers(0, len(places) - 1))
    at = places[nth]
    wrong = data.draw(st.sampled_from([letter for letter in LETTERS if letter != text[at]]))
    with pytest.raises(ConfigError) as caught:
        keytext.read(kind, text[:at] + wrong + text[at + 1 :])
    said = str(caught.value)
    assert "typo" in said
    if kind.check_bytes >= 4:
        assert f"letter {nth % 4 + 1} of group {nth // 4 + 1}" in said
    groups = text.removeprefix(kind.prefix + "-").split("-")
    assert not any(group in said for group in groups)


@given(KINDS_AND_BYTES, st.data())
def test_two_swapped_letters_are_found(
    kind_and_bytes: tuple[Kind, bytes], data: st.DataObject
) -> None:
    kind, secret = kind_and_bytes
    bare = keytext.write(kind, secret).removeprefix(kind.prefix).replace("-", "")
    at = data.draw(st.integers(0, len(bare) - 2))
    swapped = bare[:at] + bare[at + 1] + bare[at] + bare[at + 2 :]
    if swapped == bare:
        return
    with pytest.raises(ConfigError, match="typo"):
        keytext.read(kind, kind.prefix + swapped)


def test_a_letter_that_no_key_contains_is_named_by_its_place() -> None:
    text = RunKey.new().text
    with pytest.raises(ConfigError, match=r"letter 3 of group 1 is 'U'"):
        RunKey.parse(text[:12] + "u" + text[13:])


def test_a_cut_key_says_how_much_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"28 letters after 'p2pfl-run-', expected 32"):
        RunKey.parse(RunKey.new().text[:-5])


def test_keys_of_different_kinds_are_not_taken_for_each_other() -> None:
    run, admission, request = RunKey.new(), RunKey.new(ADMISSION), NodeKey.new().request
    with pytest.raises(ConfigError, match="stays offline, on no node; a node takes --cert"):
        RunKey.parse(admission.text)
    with pytest.raises(ConfigError, match=r"this is a run key .*, expected an admission key"):
        RunKey.parse(run.text, ADMISSION)
    with pytest.raises(ConfigError, match=r"this is an admission request"):
        RunKey.parse(request)
    # renamed, its checksum is wrong
    with pytest.raises(ConfigError, match="typo"):
        RunKey.parse(admission.text.replace("admit", "run"))


# --- what a key is -------------------------------------------------------------------------------


def test_a_key_of_known_bytes_has_this_text_tag_and_certificate_for_ever() -> None:
    # a changed derivation would keep old and new versions of p2pfl apart
    key = RunKey(bytes(range(16)))
    assert key.text == "p2pfl-run-000G-40R4-0M30-E209-185G-R38E-1YKM-QC9V"
    assert key.tag == "0a186a26d73def1e"
    first = pem(authority_certificate(key.authority))
    assert first == pem(authority_certificate(RunKey.parse(key.text).authority))
    assert RunKey(bytes(range(16)), ADMISSION).tag != key.tag


def test_a_key_does_not_show_itself_where_it_is_logged() -> None:
    key = RunKey.new()
    assert key.secret.hex() not in repr(key)
    assert str(key.secret) not in f"{key!r} {key}"


# --- files ---------------------------------------------------------------------------------------


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_key_file_may_have_comments_and_blank_lines(tmp_path: Path) -> None:
    key = RunKey.new()
    file = written(tmp_path / "run.key", f"\n# of the kitchen\n  {key.text}  \nmore\n")
    assert RunKey.load(file) == key


def test_a_key_file_that_others_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    RunKey.load(written(tmp_path / "a", RunKey.new().text))
    assert caplog.text == ""
    RunKey.load(written(tmp_path / "b", RunKey.new().text, 0o644))
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "holds no key"),
        (b"# only this\n", "holds no key"),
        (b"\xff\xfe", "is not text"),
        (b"hello\n", "does not begin with 'p2pfl-run-'"),
        (b"\0" * 100, "does not begin with"),
    ],
)
def test_a_key_file_that_holds_none_names_itself(tmp_path: Path, data: bytes, said: str) -> None:
    file = tmp_path / "run.key"
    file.write_bytes(data)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=said) as caught:
        RunKey.load(file)
    assert str(file) in str(caught.value)


def test_a_key_file_that_is_none_names_itself(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ConfigError, match=f"key file {path}: "):
            RunKey.load(path)


# --- ids and requests ----------------------------------------------------------------------------


@given(st.binary(min_size=32, max_size=32))
def test_an_id_is_read_with_and_without_its_blanks(public: bytes) -> None:
    node = fingerprint(public)
    for text in (node, grouped(node), grouped(node).upper(), f" {grouped(node)}\n"):
        assert parse_node(text) == node


@given(st.text())
def test_any_text_is_an_id_or_a_config_error(text: str) -> None:
    try:
        assert len(parse_node(text)) == 32
    except ConfigError as error:
        assert "32 hex digits" in str(error)


def test_a_request_holds_the_key_and_an_id_alone_is_refused_with_the_fix() -> None:
    key = NodeKey.new()
    assert parse_request(key.request) == key.public
    assert parse_request(key.request.lower().replace("-", " ")) == key.public
    with pytest.raises(ConfigError, match=r"only the fingerprint.*p2pfl-join"):
        parse_request(grouped(key.node))
    assert keytext.kind_of(key.request) is REQUEST
    assert keytext.kind_of(RunKey.new().text) is RUN


def test_a_key_file_of_the_commands_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    NodeKey.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
