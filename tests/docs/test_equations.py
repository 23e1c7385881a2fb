"""Every test that the documentation names exists."""

from __future__ import annotations

import ast
import functools
import re

import pytest

from tests.docs.reading import DOCUMENTS, ROOT

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@functools.cache
def functions_of(path: str) -> frozenset[str]:
    """Names of the test functions of a file, those in classes as well."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_test_that_a_document_names_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for path, name in NAMED.findall(text):
        assert (ROOT / path).is_file(), f"{document} names {path}"
        assert name in functions_of(path), f"{document} names {name}, which is not in {path}"


def test_every_equation_has_its_tests() -> None:
    page = (ROOT / "docs/equations.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", page, flags=re.M)[1:]
    assert len(sections) > 10
    for section in sections:
        assert NAMED.search(section), section.splitlines()[0]
