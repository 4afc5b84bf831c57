"""`ptychostream completion SHELL`: what the shell needs to complete our commands."""

import shtab
from jsonargparse import ArgumentParser, Namespace

from ptychostream._version import __version__
from ptychostream.cli.common import new_parser, path_or_url
from ptychostream.cli.main import COMMANDS, find_command


def make_parser() -> ArgumentParser:
    """Describe the command line of `ptychostream completion`."""
    parser = new_parser(
        "completion",
        "Print a script that lets a shell complete commands, options, choices and files.",
    )
    shells = ["bash", "zsh", "fish", "tcsh", "powershell"]
    parser.add_argument("shell", choices=shells, help="which shell")
    return parser


def run(options: Namespace, parser: ArgumentParser) -> None:
    """Print a shell's completion script."""
    print(whole_parser().get_completion_script(f"shtab-{options.shell}"))


def whole_parser() -> ArgumentParser:
    """Put the parsers of all commands into one."""
    program = ArgumentParser(prog="ptychostream", version=f"ptychostream {__version__}")
    commands = program.add_subcommands()
    for name, summary in COMMANDS.items():
        parser = find_command(name).make_parser()
        for action in parser._actions:
            if action.type is path_or_url:
                action.complete = shtab.FILE
        commands.add_subcommand(name, parser, help=summary)
    return program
