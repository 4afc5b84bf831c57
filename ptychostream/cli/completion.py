"""`ptychostream completion SHELL`: what the shell needs to complete our commands."""

import importlib
from collections.abc import Sequence

from ptychostream.cli.common import make_parser, parse, parser_of
from ptychostream.cli.main import COMMANDS

_BASH = """\
_ptychostream() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}"
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands} --help --version" -- "$word"))
        return
    fi
    case "$word" in -*) ;; *) return ;; esac
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
}}
complete -o default -F _ptychostream ptychostream
"""


def run(words: Sequence[str]) -> None:
    """Print a shell's completion script."""
    parser = make_parser(
        "completion", "Print a script that lets a shell complete commands, options and files."
    )
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help="which shell")
    options = parse(parser, words)
    flags = {name: command_flags(name) for name in COMMANDS}
    print(fish_script(flags) if options.shell == "fish" else bash_script(flags, options.shell))


def command_flags(name: str) -> list[str]:
    """List the long options of a command."""
    parser = parser_of(importlib.import_module(f"ptychostream.cli.{name}").run)
    return sorted(
        flag
        for action in parser._actions
        for flag in action.option_strings
        if flag.startswith("--") and not flag.endswith("+")
    )


def bash_script(flags: dict[str, list[str]], shell: str) -> str:
    """Write the script for bash, which zsh understands after two lines more."""
    cases = "\n".join(
        f'        {name}) COMPREPLY=($(compgen -W "{" ".join(options)}" -- "$word")) ;;'
        for name, options in flags.items()
    )
    script = _BASH.format(commands=" ".join(flags), cases=cases)
    if shell == "zsh":
        return (
            "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"
            + script
        )
    return script


def fish_script(flags: dict[str, list[str]]) -> str:
    """Write the script for fish."""
    lines = []
    for name, options in flags.items():
        lines.append(
            f'complete -c ptychostream -n __fish_use_subcommand -f -a {name} -d "{COMMANDS[name]}"'
        )
        lines += [
            f'complete -c ptychostream -n "__fish_seen_subcommand_from {name}" '
            f"-l {option.removeprefix('--')}"
            for option in options
        ]
    return "\n".join(lines)
