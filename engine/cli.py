"""The command line: `flagdit generate | export | build | inspect | verify | plan | bench | calibrate`."""

from __future__ import annotations

import io
import sys
from importlib.metadata import entry_points
from typing import Annotated

import typer

from flagdit.engine.commands import bench, build, calibrate, generate, inspect, plan, verify
from flagdit.engine.commands.terminal import complain
from flagdit.engine.errors import FlagditError
from flagdit.engine.version import version_of

app = typer.Typer(
    name="flagdit",
    help="Flow-based diffusion transformers as compiled engines, with region-adaptive sampling.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.command()(generate.generate)
app.command()(build.build)
app.command()(inspect.inspect)
app.command()(verify.verify)
app.command()(plan.plan)
app.command()(bench.bench)
app.command()(calibrate.calibrate)
for point in entry_points(group="flagdit.commands"):  # what other flagdit packages add, such as export
    app.command(point.name)(point.load())


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"flagdit {version_of('flagdit')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; what a user can mend is one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a pipe has no letter for costs no table that hours were for
    try:
        app()
    except FlagditError as error:
        complain(error)
        sys.exit(2)
