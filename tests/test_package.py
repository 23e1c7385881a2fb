"""The package as a script sees it."""

import subprocess
import sys

import pytest

import p2pfl


@pytest.mark.parametrize("name", p2pfl.__all__)
def test_what_scripts_use_is_in_the_package(name):
    assert getattr(p2pfl, name).__name__ == name


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, p2pfl; print(sorted({'numpy', 'torch', 'aiohttp'} & sys.modules.keys()))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nope"):
        p2pfl.nope  # noqa: B018
