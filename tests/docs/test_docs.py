"""The documentation says what the code does today."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_page_on_configuration_is_what_the_configuration_says() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], check=False)
    assert done.returncode == 0, "run: python docs/generate.py"


def test_the_page_on_configuration_names_every_key_with_a_description() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "generate.py"))["page"]()
    assert "| `done_bytes` | `67108864` | ≥ 0 |" in page
    assert "None |" not in page.replace("None: chance |", "")


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/protocol.md"])
def test_files_that_a_document_names_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([^)#:]+)\)", text)
    code = re.findall(
        r"`((?:core|node|edge|learning)/\w+\.py|(?:tests|docs|examples)/[\w/]+\.\w+)", text
    )
    for name in [*linked, *code]:
        places = [ROOT / name, ROOT / "p2pfl" / name, (ROOT / document).parent / name]
        assert any(place.exists() for place in places), f"{document} names {name}"


def test_sections_that_the_code_cites_exist() -> None:
    sections = set(re.findall(r"^## (\d)\.", (ROOT / "docs/protocol.md").read_text("utf-8"), re.M))
    for path in (ROOT / "p2pfl").rglob("*.py"):
        for cited in re.findall(r"PROTOCOL sections? (\d)", path.read_text(encoding="utf-8")):
            assert cited in sections, f"{path.name} cites section {cited}"
