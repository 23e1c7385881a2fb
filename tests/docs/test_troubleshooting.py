"""The page on troubleshooting quotes what p2pfl really says, and leaves out nothing it can find."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfl.edge.doctor import _HOW
from p2pfl.edge.interfaces import Verdict
from tests.docs.reading import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
FOUND = PAGE.split("## What it may find")[1].split("## Symptoms")[0]
"""What the doctor may find."""
SYMPTOMS = PAGE.split("## Symptoms")[1].split("## Exit codes")[0]
HOLE = "\0"
"""Where a text of ours has a value."""


def texts(path: Path) -> Iterator[str]:
    """Every text in a file, f-strings with holes; those of enums and tables too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            parts = (v.value if isinstance(v, ast.Constant) else HOLE for v in node.values)
            yield "".join(map(str, parts))


SAID = [text for path in (ROOT / "p2pfl").rglob("*.py") for text in texts(path)]


def is_said(quoted: str) -> bool:
    """Whether the pieces between "..." stand in one text of ours, in their order.

    What an interface is skipped for is a text of its own, so it may be the last piece.
    """
    pieces = [re.escape(piece.strip()) for piece in quoted.split("...") if piece.strip()]
    pattern = re.compile(".*".join(pieces), re.S)
    if any(pattern.search(text) for text in SAID):
        return True
    head, colon, tail = quoted.rpartition(": ")
    return bool(colon) and is_said(head) and any(tail == text for text in SAID)


def quoted(part: str) -> list[str]:
    """The first cells of tables: what p2pfl says."""
    return re.findall(r"^\| `(.+?)` \| ", part, re.M)


@pytest.mark.parametrize("text", quoted(FOUND))
def test_the_doctor_says_what_the_page_quotes(text: str) -> None:
    assert is_said(text)


@pytest.mark.parametrize("text", quoted(SYMPTOMS))
def test_what_is_quoted_of_status_and_errors_is_said(text: str) -> None:
    text = re.sub(r"^(left out|faults of|suspended|denied) \.\.\. ?", "", text)
    text = re.sub(r"^version is 3, expected 2$", "version is ..., expected", text)
    assert not text or is_said(text)


def test_no_way_to_fail_and_no_reason_to_skip_is_left_out() -> None:
    said = [text.split("...")[0].strip() for text in quoted(FOUND)]
    for outcome, text in _HOW.items():
        if outcome != "node":
            assert any(text.startswith(one) for one in said if one), text
    for verdict in Verdict:
        assert verdict is Verdict.USED or f"is skipped: {verdict}`" in FOUND, verdict


def test_everything_the_doctor_can_find_wrong_stands_on_the_page() -> None:
    """Of each finding that is not `ok`, a part of its text that is not a value."""
    tree = ast.parse((ROOT / "p2pfl/edge/doctor.py").read_text(encoding="utf-8"))
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for call in ast.walk(function):
            if _is_finding(call) and not _is_ok(call):
                text = _text(call.args[2], function)
                pieces = [piece for piece in re.split(r"[\0:;(]", text) if len(piece.strip()) > 8]
                assert not pieces or any(piece.strip(" ,") in FOUND for piece in pieces), text


def _is_finding(node: ast.AST) -> bool:
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return is_call and node.func.id == "Finding" and len(node.args) > 2


def _is_ok(call: ast.Call) -> bool:
    verdict = call.args[1]
    return isinstance(verdict, ast.Constant) and verdict.value == "ok"


def _text(node: ast.expr, function: ast.AST) -> str:
    """What a finding says; a name is what was assigned to it last above."""
    if isinstance(node, ast.Name):
        assigned = [
            one
            for one in ast.walk(function)
            if isinstance(one, ast.Assign)
            and isinstance(one.targets[0], ast.Name)
            and one.targets[0].id == node.id
            and one.lineno < node.lineno
        ]
        latest = max(assigned, key=lambda one: one.lineno, default=None)
        return "" if latest is None else _text(latest.value, function)
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = (v.value if isinstance(v, ast.Constant) else HOLE for v in node.values)
        return "".join(map(str, parts))
    return ""


def test_the_instruments_find_what_is_not_said() -> None:
    assert is_said("no interface is usable")
    assert is_said("... is skipped: VPN or tunnel")
    assert not is_said("... is skipped: tired")
    assert not is_said("the doctor is out")
