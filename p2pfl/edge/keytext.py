"""Keys as text that a person can read out, type and carry: letters, and a checksum over them.

    p2pfl-run-7Q4M-0ZKD-...      five bits a letter, four letters a group

Crockford's base 32: no I, L, O or U; who types an O or an l means 0 or 1. Case, dashes and blanks
do not count. Rule of the file: any text gives the bytes it was made of, or a `ConfigError` that
says which letter is wrong, and never the letters of a key themselves: errors end up in logs.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from itertools import product

from p2pfl.errors import ConfigError

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MEANT = str.maketrans("OIL", "011")
_GROUP = 4
_TEXT_MAX = 400


@dataclass(frozen=True, slots=True)
class Kind:
    """What a text is of.

    Attributes:
        prefix: what the text begins with, as in `p2pfl-run`.
        nbytes, check_bytes: of what it holds, and of its checksum; together a multiple of five.
        what: its name in sentences.
    """

    prefix: str
    nbytes: int
    check_bytes: int
    what: str

    @property
    def letters(self) -> int:
        """How many letters follow the prefix."""
        return (self.nbytes + self.check_bytes) * 8 // 5


RUN = Kind("p2pfl-run", 16, 4, "run key")
ADMISSION = Kind("p2pfl-admit", 16, 4, "admission key")
REQUEST = Kind("p2pfl-join", 32, 3, "admission request")
KINDS = (RUN, ADMISSION, REQUEST)


def write(kind: Kind, data: bytes) -> str:
    """The text of `data`, (kind.nbytes,)."""
    number = int.from_bytes(data + _check(kind, data))
    letters = [_LETTERS[number >> 5 * at & 31] for at in reversed(range(kind.letters))]
    groups = ("".join(letters[at : at + _GROUP]) for at in range(0, kind.letters, _GROUP))
    return "-".join((kind.prefix, *groups))


def read(kind: Kind, text: str) -> bytes:
    """The bytes that a text was made of.

    Raises:
        ConfigError: it is of another kind, or has a typo.
    """
    letters = _letters(kind, text)
    for at, letter in enumerate(letters):
        if letter not in _LETTERS:
            raise ConfigError(
                f"{kind.what}: {_place(at)} is {letter!r}, which no key contains; "
                "type it again as it was printed"
            )
    if len(letters) != kind.letters:
        raise ConfigError(
            f"{kind.what}: {len(letters)} letters after '{kind.prefix}-', expected {kind.letters}; "
            "copy all of it"
        )
    found = _checked(kind, letters)
    if found is None:
        typo = _typo(kind, letters)
        where = f"a typo, probably at {typo}" if typo else "several typos: its checksum is wrong"
        raise ConfigError(f"{kind.what}: {where}; type it again as it was printed")
    return found


def _letters(kind: Kind, text: str) -> str:
    """What follows the prefix, upper case, without dashes and blanks."""
    if len(text) > _TEXT_MAX:
        raise ConfigError(f"{kind.what}: {len(text)} characters, expected {kind.letters} letters")
    found = kind_of(text)
    if found is None:
        raise ConfigError(
            f"{kind.what}: it does not begin with '{kind.prefix}-'; give the whole text as printed"
        )
    if found is not kind:
        raise ConfigError(f"this is {_article(found)}, expected {_article(kind)}")
    return _bare(text).removeprefix(_bare(kind.prefix)).translate(_MEANT)


def kind_of(text: str) -> Kind | None:
    """What a text is of, as its beginning says."""
    bare = _bare(text[:_TEXT_MAX])
    return next((kind for kind in KINDS if bare.startswith(_bare(kind.prefix))), None)


def _bare(text: str) -> str:
    """Upper case, without dashes and blanks."""
    return "".join(
        char for char in text if not char.isspace() and unicodedata.category(char) != "Pd"
    ).upper()


def _article(kind: Kind) -> str:
    return f"{'a' if kind is RUN else 'an'} {kind.what} ({kind.prefix}-...)"


def _check(kind: Kind, data: bytes) -> bytes:
    return hashlib.sha256(kind.prefix.encode() + data).digest()[: kind.check_bytes]


def _checked(kind: Kind, letters: str) -> bytes | None:
    number = 0
    for letter in letters:
        number = number << 5 | _LETTERS.index(letter)
    whole = number.to_bytes(kind.nbytes + kind.check_bytes)
    data, check = whole[: kind.nbytes], whole[kind.nbytes :]
    return data if check == _check(kind, data) else None


def _typo(kind: Kind, letters: str) -> str | None:
    """Which one letter, or which two neighbours, would have to be others."""
    for at in range(kind.letters - 1):
        swapped = letters[:at] + letters[at + 1] + letters[at] + letters[at + 2 :]
        if _checked(kind, swapped) is not None:
            return f"{_place(at)} and the one after it (swapped)"
    for at, letter in product(range(kind.letters), _LETTERS):
        if _checked(kind, letters[:at] + letter + letters[at + 1 :]) is not None:
            return _place(at)
    return None


def _place(at: int) -> str:
    return f"letter {at % _GROUP + 1} of group {at // _GROUP + 1}"
