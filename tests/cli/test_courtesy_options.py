"""Courtesy on the command line: options, their keys, and what is shown of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from p2pfl.cli.node import configured, node
from p2pfl.errors import ConfigError
from tests.edge.page_nodes import living

PATIENCE_S = 60.0


def options(**given: object) -> dict[str, object]:
    return {"task": "digits-numpy", **given}


def test_options_are_keys_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        'task = "digits-numpy"\nnice = 5\n[courtesy]\nrate_bytes_per_s = 1e6\n'
        'quiet = ["22:00-07:00", "Sat 00:00-24:00"]\nonly_on_ac = true\n'
        "only_when_load_below = 0.5\n"
    )
    by_file = configured(str(file), (), {})
    by_options = configured(
        None,
        (),
        options(
            nice=5,
            rate_bytes_per_s=1e6,
            quiet_hours=("22:00-07:00", "Sat 00:00-24:00"),
            only_on_ac=True,
            only_when_load_below=0.5,
        ),
    )
    assert by_file == by_options
    assert by_file.courtesy.quiet == ("22:00-07:00", "Sat 00:00-24:00")


def test_the_help_teaches_every_option() -> None:
    text = " ".join(CliRunner().invoke(node, ["--help"]).output.split())
    for option, words in {
        "--rate BYTES/S": "sent and received together",
        "--quiet-hours HOURS": "22:00-07:00, Sat 00:00-24:00 or Mon-Fri 08:00-18:00",
        "--only-on-ac": "Train only while the device is not on battery",
        "--only-when-load-below SHARE": "0.5 is a good bound",
        "--nice N": "19 takes only what they leave",
    }.items():
        assert option in text
        assert words in text


def test_a_wrong_hour_is_said_before_anything_begins() -> None:
    with pytest.raises(ConfigError, match="'22-7' is not HH:MM-HH:MM"):
        configured(None, (), options(quiet_hours=("22-7",)))


def test_who_may_not_go_below_0_is_told_what_it_may() -> None:
    script = (
        "import os\nfrom p2pfl.cli.node import _step_back\n"
        "from p2pfl.errors import ConfigError\n"
        "os.geteuid() or os.setuid(65534)\n"
        "try:\n    _step_back(-5)\nexcept ConfigError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.stderr == ""
    assert done.stdout.startswith("nice is -5: ")
    assert "only root may go below 0, give 0 to 19" in done.stdout


def test_a_nice_node_is_nice_with_all_its_threads(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "p2pfl", "node", "digits-numpy", "--nice", "7", "--no-mdns"]
    command += ["--bind", "127.0.0.1", "--state-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("node ")
            assert psutil.Process(process.pid).nice() == 7
            for thread in psutil.Process(process.pid).threads():
                assert os.getpriority(os.PRIO_PROCESS, thread.id) == 7
        finally:
            process.terminate()
        assert process.wait(PATIENCE_S) == 0


async def test_status_shows_what_is_held_back_and_the_energy() -> None:
    from p2pfl.cli.look import readable

    async with living("anna") as anna:
        found = anna.node._answering.status()
        assert "holding" not in readable(found)
        assert "energy" not in readable(found)
        found["holding"] = ["training rests: on battery (only_on_ac)"]
        found["energy_j"] = 12_345.6
        lines = readable(found).splitlines()
    assert "holding    training rests: on battery (only_on_ac)" in lines
    assert "energy     12,346 J by this whole machine" in lines
