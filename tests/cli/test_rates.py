"""A rate is what people write, and never eight times or a thousandth of it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.cli.node import configured, node
from p2pfl.cli.rates import bytes_per_s


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1000000", 1e6),
        ("1_000_000", 1e6),
        ("1e6", 1e6),
        ("0", 0.0),
        ("500k", 5e5),
        ("500kB", 5e5),
        ("500 KB/s", 5e5),
        ("1MB", 1e6),
        ("1mb", 1e6),
        ("1 MB/s", 1e6),
        ("1.5M", 1.5e6),
        (".5 MB / s", 5e5),
        ("1G", 1e9),
        ("1GB/s", 1e9),
        ("100KiB", 102_400.0),
        ("1MiB", 1_048_576.0),
        ("1 mib/s", 1_048_576.0),
        ("2Mi", 2_097_152.0),
        ("1GiB", 1_073_741_824.0),
        ("70000 B/s", 70_000.0),
        ("70000/s", 70_000.0),
    ],
)
def test_a_rate_is_read_as_people_write_it(text: str, rate: float) -> None:
    assert bytes_per_s(text) == rate


@pytest.mark.parametrize(
    "text",
    ["", " ", "MB", "/s", "1TB", "1XB", "fast", "1MB/h", "1,5MB", "1 2MB", "1MB/s/s", "1e", "½MB"],
)
def test_what_is_no_rate_is_told_what_one_is(text: str) -> None:
    with pytest.raises(ValueError, match="is no rate; give bytes per second, as in 1000000, 500kB"):
        bytes_per_s(text)


@pytest.mark.parametrize(
    "text",
    [
        *("8Mbit", "8 Mbit/s", "8Mbps", "64kbits", "1 Mibit/s", "10Mbits/s", "1 Mbit / s"),
        *("8Mb", "10Mb/s", "1 Gb / s", "64Kb", "2Mib"),
    ],
)
def test_bits_are_refused_and_not_taken_for_bytes(text: str) -> None:
    with pytest.raises(ValueError, match=r"counts bits; give bytes .* \(8 bits are a byte\)"):
        bytes_per_s(text)


def test_a_rate_that_nobody_could_bear_names_the_option_and_the_least() -> None:
    done = CliRunner().invoke(node, ["digits-numpy", "--rate", "10KB"])
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert "'--rate': '10KB' must be 0 (no bound) or at least 65536 (64KiB)" in said


@pytest.mark.parametrize("text", ["-1MB", "1e999", "nan", "inf"])
def test_a_rate_is_a_finite_number_of_at_least_0(text: str) -> None:
    with pytest.raises(ValueError, match="is no rate"):
        bytes_per_s(text)


@given(st.text())
def test_any_text_is_a_rate_or_a_clear_error(text: str) -> None:
    try:
        assert bytes_per_s(text) >= 0
    except ValueError as error:
        assert "give bytes per second" in str(error)


def test_the_option_takes_units_and_an_error_names_it() -> None:
    done = CliRunner().invoke(node, ["--rate", "a lot"])
    assert done.exit_code == 2
    assert "Invalid value for '--rate': 'a lot' is no rate; give bytes per second" in done.output


def test_the_file_and_set_keep_plain_numbers() -> None:
    given_ = {"task": "digits-numpy"}
    config = configured(None, ("courtesy.rate_bytes_per_s=1e6",), given_)
    assert config.courtesy.rate_bytes_per_s == 1e6
