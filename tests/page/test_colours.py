"""The colours of the page: readable by the rules of WCAG 2.2 AA, in both themes, for every eye."""

from __future__ import annotations

import itertools
import re
from functools import cache

import pytest

from tests.page.mock import ASSETS

TEXT, PICTURE = 4.5, 3.0
"""Least contrast of text, and of what is needed to understand a picture (1.4.3, 1.4.11)."""
LINE_ALPHA = 0.6
THEMES = ("light", "dark")
SCALE = [f"scale-{step}" for step in range(6)]
Colour = tuple[float, float, float]


@cache
def colours(theme: str) -> dict[str, Colour]:
    """The variables of page.css."""
    css = (ASSETS / "page.css").read_text()
    head = r":root \{" if theme == "light" else r':root\[data-theme="dark"\] \{'
    block = re.search(head + r"(.*?)\}", css, re.DOTALL)
    assert block is not None
    found = re.findall(r"--([a-z0-9-]+): #([0-9a-f]{6});", block[1])
    assert len(found) > 20
    return {name: _parts(digits) for name, digits in found}


def _parts(digits: str) -> Colour:
    red, green, blue = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
    return red, green, blue


def luminance(colour: Colour) -> float:
    """Relative luminance as WCAG defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Colour, other: Colour) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def mixed(one: Colour, other: Colour, part: float) -> Colour:
    red, green, blue = (a + (b - a) * part for a, b in zip(one, other, strict=True))
    return red, green, blue


def test_contrast_knows_black_on_white() -> None:
    assert contrast((0, 0, 0), (1, 1, 1)) == pytest.approx(21)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(
    ("paper", "inks"),
    [
        ("card", ["ink", "soft", "accent", "good", "warn", "bad"]),
        ("paper", ["ink", "soft", "good", "bad"]),
        ("raised", ["ink", "soft", "warn", "bad"]),
        ("chosen", ["ink", "soft", "warn", "bad"]),
        ("held", ["ink", "warn"]),
    ],
)
def test_text_can_be_read(theme: str, paper: str, inks: list[str]) -> None:
    known = colours(theme)
    ratios = {ink: round(contrast(known[ink], known[paper]), 2) for ink in inks}
    assert min(ratios.values()) >= TEXT, ratios


@pytest.mark.parametrize("theme", THEMES)
def test_pictures_and_borders_stand_out(theme: str) -> None:
    known = colours(theme)
    card = known["card"]
    shown = {
        name: known[name] for name in ("mean", "worst", "bar", "accent", "bad", "warn", "good")
    }
    shown |= {"border": known["edge"], "line of a node": mixed(card, known["node"], LINE_ALPHA)}
    for (a, one), (b, other) in itertools.pairwise((name, known[name]) for name in SCALE):
        for part in (0.0, 0.25, 0.5, 0.75, 1.0):
            shown[f"{a} to {b} at {part}"] = mixed(one, other, part)
    ratios = {name: round(contrast(colour, card), 2) for name, colour in shown.items()}
    assert min(ratios.values()) >= PICTURE, ratios
    assert contrast(known["edge"], known["paper"]) >= PICTURE


@pytest.mark.parametrize("theme", THEMES)
def test_accuracy_is_told_by_lightness_so_that_no_eye_needs_hues(theme: str) -> None:
    """CIE L*: who sees no red, no green, no blue or no colour still sees the order."""

    def lightness(colour: Colour) -> float:
        y = luminance(colour)
        return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y

    steps = [lightness(colours(theme)[name]) for name in SCALE]
    apart = [b - a for a, b in itertools.pairwise(steps)]
    assert all(step <= -5 for step in apart) or all(step >= 5 for step in apart), apart
    assert abs(steps[-1] - steps[0]) > 40


def test_both_themes_name_the_same_colours() -> None:
    assert colours("light").keys() == colours("dark").keys()


def test_no_colour_is_written_outside_the_two_themes() -> None:
    css = (ASSETS / "page.css").read_text()
    rules = css.split("* { box-sizing", 1)[1]
    assert not re.findall(r"#[0-9a-f]{3,8}\b|rgb\(|hsl\(", rules)
    for path in ASSETS.glob("*.js"):
        assert not re.findall(r'"#[0-9a-fA-F]{3,8}"', path.read_text()), path.name
