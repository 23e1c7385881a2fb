"""`p2pfl node TASK`: one node on this device, until stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from p2pfl.cli.completion import codecs, partitions, rules, runs, tasks
from p2pfl.cli.keys import KEY_HELP
from p2pfl.cli.rates import rate_option
from p2pfl.config import CourtesyConfig, DeviceConfig, GossipConfig
from p2pfl.configuring import changed, from_mapping, put
from p2pfl.errors import ConfigError
from p2pfl.toml import parsed

if TYPE_CHECKING:
    from p2pfl.cli.assemble import Assembled, Prepared

_NESTED = {
    "cycles": "stop",
    "minutes": "stop",
    "target_accuracy": "stop",
    "codec": "gossip",
    "rate_bytes_per_s": "courtesy",
    "only_on_ac": "courtesy",
    "only_when_load_below": "courtesy",
}
_QUIET_HOURS = "courtesy.quiet"
"""`--quiet` is about what is printed, so the option has another name than the key."""
_AGAIN = " May be given again."
_REPORT_S = 5.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _doc(name: str, model: Any = DeviceConfig) -> str:
    """An option's help is the description of its field, so that they cannot differ."""
    if name in _NESTED:
        model = DeviceConfig.model_fields[_NESTED[name]].annotation
    return _sentence(model.model_fields[name].description)


def _sentence(text: str | None) -> str:
    return text[:1].upper() + text[1:] + "." if text else ""


_CODECS = get_args(GossipConfig.model_fields["codec"].annotation)
_CODEC = f"{_doc('codec').removesuffix('.')}: {', '.join(_CODECS)}."


@click.command(
    epilog="""\b
Examples:
  p2pfl node digits --run kitchen --shard 1/3         on the first laptop
  p2pfl node digits --run kitchen --shard 2/3         on the second
  p2pfl node my_task.py --peer 192.168.1.5:4000       if mDNS does not reach
  p2pfl node digits --config node.toml --set gossip.codec=int8
  p2pfl node digits --run kitchen --key-file run.key  only who has the key
  p2pfl node digits --rate 1MB --quiet-hours 22:00-07:00 --only-on-ac
"""
)
@click.argument("task", required=False, shell_complete=tasks)
@click.option("--run", metavar="NAME", shell_complete=runs, help=_doc("run"))
@click.option("--name", metavar="TEXT", help=_doc("name") + " Default: this device's host name.")
@click.option("--bind", metavar="ADDRESS", help=_doc("bind"))
@click.option("--port", type=int, help=_doc("port"))
@click.option("--peer", "peers", multiple=True, metavar="HOST:PORT", help=_doc("peers") + _AGAIN)
@click.option("--mdns/--no-mdns", default=None, help=_doc("mdns"))
@click.option(
    "--interface",
    "interfaces",
    multiple=True,
    metavar="NAME",
    help=_doc("interfaces") + _AGAIN,
)
@click.option("--trust", type=click.Choice(["cooperative", "byzantine"]), help=_doc("trust"))
@click.option("--key", metavar="TEXT", help=KEY_HELP)
@click.option("--key-file", metavar="FILE", help=_doc("key_file"))
@click.option("--cert", metavar="FILE", help=_doc("cert"))
@click.option("--run-cert", metavar="FILE", help=_doc("run_cert"))
@click.option("--deny", multiple=True, metavar="NODE-ID", help=_doc("deny") + _AGAIN)
@click.option("--deny-list", metavar="FILE", help=_doc("deny_list"))
@click.option("--page", metavar="HOST:PORT", help=_doc("page"))
@click.option("--no-page", "page", flag_value="off", help="The same as --page off.")
@click.option("--tensorboard", metavar="DIR", help=_doc("tensorboard"))
@click.option("--state-dir", metavar="DIR", help=_doc("state_dir"))
@click.option(
    "--rate",
    "rate_bytes_per_s",
    callback=rate_option,
    metavar="BYTES/S",
    help=_doc("rate_bytes_per_s") + " With or without a unit: 500kB, 1MB/s, 2MiB.",
)
@click.option(
    "--quiet-hours",
    multiple=True,
    metavar="HOURS",
    help=_sentence(CourtesyConfig.model_fields["quiet"].description) + _AGAIN,
)
@click.option("--only-on-ac", is_flag=True, default=None, help=_doc("only_on_ac"))
@click.option(
    "--only-when-load-below",
    type=float,
    metavar="SHARE",
    help=_doc("only_when_load_below") + " 0.5 is a good bound.",
)
@click.option("--nice", type=int, metavar="N", help=_doc("nice"))
@click.option("--cycles", type=int, help=_doc("cycles"))
@click.option("--minutes", type=float, help=_doc("minutes"))
@click.option("--target-accuracy", type=float, help=_doc("target_accuracy"))
@click.option("--topology", metavar="RULE", shell_complete=rules, help=_doc("topology"))
@click.option("--codec", metavar="NAME", shell_complete=codecs, help=_CODEC)
@click.option("--shard", metavar="I/N", help=_doc("shard"))
@click.option("--partition", metavar="RULE", shell_complete=partitions, help=_doc("partition"))
@click.option("--data-seed", type=int, help=_doc("data_seed"))
@click.option("--seed", type=int, help=_doc("seed"))
@click.option("--threads", type=int, help=_doc("threads"))
@click.option("--learning-rate", type=float, help=_doc("learning_rate"))
@click.option("--batch-size", type=int, help=_doc("batch_size"))
@click.option("--step-s", type=float, help=_doc("step_s"))
@click.option("--advertise", metavar="HOST:PORT", help=_doc("advertise"))
@click.option(
    "--config",
    "config_file",
    metavar="FILE",
    help="TOML file; every option can stand in it, options given here win.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any key of the TOML file." + _AGAIN,
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def node(
    config_file: str | None,
    settings: tuple[str, ...],
    quiet: bool,
    key: str | None,
    **options: Any,
) -> None:
    """Run one node on this device until stopped.

    TASK says what is learnt: `digits`, `digits-numpy`, `breast-cancer`, `mnist5k`, or the path of
    your own Python file (make one with `p2pfl init my_task.py`). The node finds others of the same
    --run on this network by itself, trains on its own data, and mixes models with them. Ctrl-C
    stops it cleanly; started again, it goes on where it was.
    """
    from p2pfl.cli.assemble import prepared

    config = configured(config_file, settings, options)
    _step_back(config.nice)
    try:
        ready = prepared(config, key)
    except KeyboardInterrupt:
        click.echo("stopped while the task was being loaded; nothing was written", err=True)
        sys.exit(130)
    reason = asyncio.run(_live(ready, quiet=quiet))
    if not quiet:
        _say(f"stopped: {reason}")
    with suppress(OSError):
        sys.stdout.flush()
    # everything is saved and said: a step that nobody awaits, and a model library that takes
    # seconds to take itself apart, must not hold the exit up
    os._exit(0)


def configured(
    config_file: str | None, settings: tuple[str, ...], options: dict[str, Any]
) -> DeviceConfig:
    """The configuration from a TOML file, `--set` and options, the later ones winning.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong.
    """
    values: dict[str, Any] = {"name": socket.gethostname()[:64] or "node"}
    where = "options"
    if config_file is not None:
        where = f"{config_file} and options"
        try:
            values |= parsed(Path(config_file).read_bytes())
        except OSError as error:
            fix = "give the path of a TOML file"
            raise ConfigError(f"--config {config_file}: {error.strerror}; {fix}") from None
        except ConfigError as error:
            raise ConfigError(f"--config {config_file}: {error}") from None
    for setting in settings:
        put(values, *changed(setting))
    quiet_hours = options.pop("quiet_hours", ())
    if quiet_hours:
        put(values, _QUIET_HOURS, quiet_hours)
    for name, value in options.items():
        if value is not None and value != ():
            put(values, f"{_NESTED[name]}.{name}" if name in _NESTED else name, value)
    if "task" not in values:
        raise ConfigError(
            "no TASK given; try `p2pfl node digits`, or your own file from `p2pfl init my_task.py`"
        )
    from p2pfl.core.graph import topology

    if str(values.get("topology", "")).endswith((".toml", ".graphml")):
        values["topology"] = topology(values["topology"]).text
    return from_mapping(values, DeviceConfig, where=where)


def _step_back(nice: int) -> None:
    """Before training makes its threads: each takes over what its maker is.

    On Linux niceness is of a thread, and numpy has made some when it was imported.

    Raises:
        ConfigError: the system does not permit it.
    """
    if nice == 0:
        return
    threads = Path("/proc/self/task")
    try:
        ours = os.nice(nice)
        for thread in threads.iterdir() if threads.exists() else ():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), ours)
    except OSError as error:
        raise ConfigError(
            f"nice is {nice}: {(error.strerror or str(error)).lower()}; only root may go below 0, "
            "give 0 to 19"
        ) from None


async def _live(ready: Prepared, *, quiet: bool) -> str:
    from p2pfl.cli.assemble import assembled, journalled

    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()

    def end() -> None:
        """The first signal ends it in order; a later one ends it now."""
        for number in _SIGNALS:
            loop.add_signal_handler(number, os._exit, 130)
        task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, end)
    with suppress(asyncio.CancelledError):
        async with assembled(ready) as being, asyncio.TaskGroup() as tasks:
            telling = None if quiet else tasks.create_task(_tell(being, ready), name="tell")
            try:
                return await journalled(being)
            finally:
                if telling is not None:
                    telling.cancel()
    return "by a signal"


async def _tell(being: Assembled, ready: Prepared) -> None:
    """Say who we are, then one line now and then."""
    from p2pfl.cli.assemble import state_path
    from p2pfl.edge.nodekey import grouped

    vitals = being.node.vitals
    again = f", continuing at age {vitals.state.age}" if vitals.state.age else ""
    _say(
        f"node {vitals.id[:8]} '{vitals.config.name}' of run '{vitals.config.run}': "
        f"{vitals.layout.size:,} weights{again}\n"
        f"id:     {grouped(vitals.id)}\n"
        f"trust:  {_trust(ready)}\n"
        f"state:  {state_path(ready.config)}\n"
        f"{_page(being, ready)}"
        f"status: {_status(ready, vitals.transport.address)}   (Ctrl-C stops)"
    )
    while True:
        await asyncio.sleep(_REPORT_S)
        measured = vitals.measured
        accuracy = (
            f"accuracy {measured.accuracy:.3f}"
            if measured and measured.accuracy is not None
            else ""
        )
        _say(
            f"cycle {vitals.cycles}  age {vitals.state.age}  {accuracy}  "
            f"peers {len(vitals.members.alive()) - 1}  "
            f"exchanges {sum(vitals.tally.asked.values()) + sum(vitals.tally.answered.values())}  "
            f"staleness {vitals.tally.staleness:.2f}"
            + "".join(f"\n  {sentence}" for sentence in vitals.holding)
        )


def _trust(ready: Prepared) -> str:
    """Who can take part, in a sentence."""
    if ready.passed.tag is None:
        return (
            "OPEN: anybody on this network can read this run's models and join it, under any id; "
            "`p2pfl run-key new` makes a key"
        )
    if ready.passed.run_key is None:
        return f"only nodes that were admitted by the key of {ready.passed.tag}, over TLS"
    return f"only who has the key {ready.passed.tag}, over TLS"


def _page(being: Assembled, ready: Prepared) -> str:
    """A line that says where the page is, if there is one."""
    from p2pfl.cli.assemble import pages

    found = pages(being, ready.config)
    if not found:
        return ""
    once = "" if ready.passed.tag is None else "   (opens once, within 10 minutes)"
    return f"page:   {'  '.join(found)}{once}\n"


def _status(ready: Prepared, address: str) -> str:
    """Where, or how, to ask for the status."""
    address = _readable(address)
    if ready.passed.tag is None:
        return f"http://{address}/v1/status"
    if ready.passed.run_key is None:
        return f"p2pfl status https://{address} --cert ... --state-dir ..."
    return f"p2pfl status https://{address} --key-file ..."


class _Talk:
    """Prints lines for people.

    Nobody may be there any more to read them, or a disk may be full: that ends no node. The reader
    who went away knows; of a full disk one line is said elsewhere.
    """

    def __init__(self) -> None:
        self._is_unheard = False

    def say(self, text: str) -> None:
        try:
            click.echo(text)
        except BrokenPipeError:
            pass
        except OSError as error:
            if not self._is_unheard:
                self._is_unheard = True
                with suppress(OSError):
                    reason = error.strerror or error
                    click.echo(
                        f"p2pfl: standard output cannot be written: {reason}; the node goes on",
                        err=True,
                    )


_say = _Talk().say


def _readable(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"localhost:{port}" if host in ("[::]", "0.0.0.0") else address  # noqa: S104
