"""The documentation says what the code does today."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys

import pytest
from pydantic import BaseModel

from p2pfl.config import DeviceConfig
from p2pfl.scenario import spec
from tests.docs.reading import DOCUMENTS, ROOT

GENERATED = runpy.run_path(str(ROOT / "docs" / "generate.py"))


def test_the_pages_on_keys_are_what_the_models_say() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], check=False)
    assert done.returncode == 0, "run: python docs/generate.py"


def test_the_page_on_configuration_names_every_key_with_a_description() -> None:
    page = GENERATED["page"]()
    assert "| `done_bytes` | `67108864` | ≥ 0 |" in page
    assert "None |" not in page.replace("None: chance |", "")


def test_the_page_on_scenarios_names_every_key_of_every_table() -> None:
    page = GENERATED["scenario_page"]()
    for name, model, _ in GENERATED["TABLES"]:
        table = page.split(f"## `{name}`\n")[1].split("\n## ")[0]
        for key, field in model.model_fields.items():
            is_table = f"[[{name.strip('[]')}.{key}]]" in page
            assert is_table or f"| `{field.alias or key}` |" in table, f"{name} {key}"
    assert "| `offline` | share | `0.3` | ≥ 0, < 1 |" in page
    assert "| `kill` |  | `none` | *who* |" in page
    assert "None" not in page


def test_every_table_of_a_scenario_has_its_place_on_the_page() -> None:
    page = GENERATED["scenario_page"]()
    for name in re.findall(r"^    (\[+[\w.]+\]+)", spec.__doc__ or "", re.M):
        assert f"## `{name}`" in page, name


def test_every_figure_that_can_be_expected_is_explained() -> None:
    page = (ROOT / "docs/scenarios.md").read_text(encoding="utf-8")
    for name in spec.Expect.model_fields:
        assert re.search(rf"^\| `{name}` \| ", page, re.M), name
    for kind in spec.FAULTS:
        assert f"`{kind}`" in page, kind


@pytest.mark.parametrize(
    "document",
    [*DOCUMENTS, "CONTRIBUTING.md", "SECURITY.md"],
)
def test_files_that_a_document_names_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([^)#:]+)\)", text)
    code = re.findall(
        r"`((?:core|node|edge|learning|sim)/\w+\.py|(?:tests|docs|examples)/[\w/]+\.\w+)", text
    )
    for name in [*linked, *code]:
        places = [ROOT / name, ROOT / "p2pfl" / name, (ROOT / document).parent / name]
        assert any(place.exists() for place in places), f"{document} names {name}"


def test_sections_that_the_code_cites_exist() -> None:
    sections = set(re.findall(r"^## (\d)\.", (ROOT / "docs/protocol.md").read_text("utf-8"), re.M))
    for path in (ROOT / "p2pfl").rglob("*.py"):
        for cited in re.findall(r"PROTOCOL sections? (\d)", path.read_text(encoding="utf-8")):
            assert cited in sections, f"{path.name} cites section {cited}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_keys_that_a_document_names_exist(document: str) -> None:
    tables = {
        name: field.annotation.model_fields
        for name, field in DeviceConfig.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    text = (ROOT / document).read_text(encoding="utf-8")
    for table, key in re.findall(rf"`({'|'.join(tables)})\.(\w+)[`=]", text):
        assert key in tables[table], f"{document} names {table}.{key}"
