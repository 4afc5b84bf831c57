"""`ptychostream convert OLD.zip NEW.zip`."""

from collections.abc import Sequence
from pathlib import Path

from ptychostream.cli.common import make_parser, parse, say
from ptychostream.errors import ConfigurationError, StoreExistsError


def run(words: Sequence[str]) -> None:
    """Make one of our archives from another model file.

    Parameters
    ----------
    words : sequence of str
        The command's arguments.

    Raises
    ------
    ConfigurationError
        If the new name does not end in .zip.
    StoreExistsError
        If the new file exists and `--overwrite` is not given.
    """
    parser = make_parser(
        "convert",
        "Make one of our model archives from an archive of the TensorFlow backend (TensorFlow is "
        "not needed), from a checkpoint, or from an older archive of ours.",
    )
    parser.add_argument("old", type=Path, help="archive, its folder, or checkpoint")
    parser.add_argument("new", type=Path, help="archive to write, ending in .zip")
    parser.add_argument("--overwrite", action="store_true", help="replace NEW if it exists")
    options = parse(parser, words)
    new: Path = options.new
    if new.suffix != ".zip":
        raise ConfigurationError(f"'{new}' must end in .zip")
    if new.exists() and not options.overwrite:
        raise StoreExistsError(f"'{new}' exists; choose another name, or add --overwrite")
    # Imported late: PyTorch takes a second to import.
    from ptychostream.persistence.archive import load_bundle, write_archive

    bundle = load_bundle(options.old, restore=None)
    write_archive(bundle, new)
    model = bundle.config.model
    say(
        f"wrote {new}: {model.architecture}, N {model.N}, gridsize {model.gridsize}\n"
        f"next: ptychostream reconstruct STORE --model_path {new} -o result"
    )
