"""Where ptychodus finds the extension: show it, install it, remove it.

A wheel installs the file; an editable installation can't, and neither can one in another folder
than ptychodus.
"""

import shutil
import sys
from collections.abc import Sequence
from importlib import metadata, util
from pathlib import Path

from ptychodus_ext.compatibility import installed_version
from ptychostream.errors import ConfigurationError, MissingFileError, PtychoStreamError

#: The file through which ptychodus finds the extension, below a `site-packages` or the sources.
PLUGIN = Path("ptychodus/plugins/ptychostream.py")


def plugin_folder() -> Path:
    """Find the folder in which ptychodus looks for plugins."""
    installed_version()
    # Located without importing it, which would take seconds.
    spec = util.find_spec("ptychodus")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "plugins"


def describe() -> str:
    """Return whether ptychodus finds the extension, in a sentence."""
    try:
        target = plugin_folder() / PLUGIN.name
    except PtychoStreamError as error:
        return str(error)
    if target.is_file():
        return f"ptychodus {metadata.version('ptychodus')} finds it: '{target}'"
    return (
        f"ptychodus {metadata.version('ptychodus')} does not find it: run "
        "`ptychostream doctor --install-plugin`, or start `ptychodus-stream` instead of `ptychodus`"
    )


def _source() -> Path:
    return Path(__file__).resolve().parent.parent / PLUGIN


def install_plugin() -> str:
    """Let ptychodus find the extension."""
    source, target = _source(), plugin_folder() / PLUGIN.name
    if target.exists() and target.resolve() == source:
        return f"nothing to do: {describe()}"
    if not source.is_file():
        # A wheel in the folder of ptychodus: source and target are the same.
        raise MissingFileError(
            f"'{source}' was removed from the installation; reinstall it: "
            "pip install --force-reinstall --no-deps ptychostream"
        )
    target.unlink(missing_ok=True)
    try:
        # A link breaks when the sources are removed; a copy would fail at each start.
        target.symlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
    return f"installed '{target}'"


def remove_plugin() -> str:
    """Undo `install_plugin`."""
    target = plugin_folder() / PLUGIN.name
    if not target.is_symlink() and not target.exists():
        return "nothing to do: ptychodus does not find it"
    if not target.is_symlink() and target.resolve() == _source():
        raise ConfigurationError(
            f"'{target}' belongs to the installed package; remove both: pip uninstall ptychostream"
        )
    target.unlink()
    return f"removed '{target}'"


def main(words: Sequence[str]) -> int:
    """Run `python -m ptychodus_ext.install [--install | --remove]`."""
    actions = {"": describe, "--install": install_plugin, "--remove": remove_plugin}
    action = actions.get(" ".join(words))
    if action is None:
        print("usage: python -m ptychodus_ext.install [--install | --remove]", file=sys.stderr)
        return 2
    try:
        print(action())
    except (PtychoStreamError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
