"""`ptychostream convert OLD.zip NEW.zip`, and the way back."""

from pathlib import Path
from shlex import quote

from jsonargparse import ArgumentParser, Namespace

from ptychostream.cli.common import new_parser, say
from ptychostream.errors import ConfigurationError, StoreExistsError


def make_parser() -> ArgumentParser:
    """Describe the command line of `ptychostream convert`."""
    parser = new_parser(
        "convert",
        "Make one of our model archives from an archive of PtychoPINN's TensorFlow backend "
        "(TensorFlow is not needed) or of its PyTorch port (with --probe), from a checkpoint, or "
        "from an older archive of ours. With a NEW that ends in .weights.h5 the other way round: "
        "weights that the Keras model loads.",
    )
    parser.add_argument("old", type=Path, help="archive, its folder, or checkpoint")
    parser.add_argument("new", type=Path, help="archive to write, ending in .zip, or .weights.h5")
    parser.add_argument(
        "--probe",
        help="FILE[::PATH] of the probe that OLD was trained with, where OLD is an archive of "
        "PtychoPINN's PyTorch port: those hold none",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace NEW if it exists")
    return parser


def run(options: Namespace, parser: ArgumentParser) -> None:
    """Make one of our archives from another model file, or Keras weights from ours."""
    new: Path = options.new
    to_keras = new.name.endswith(".weights.h5")
    if new.suffix != ".zip" and not to_keras:
        raise ConfigurationError(f"'{new}' must end in .zip, or in .weights.h5")
    if new.exists() and not options.overwrite:
        raise StoreExistsError(f"'{new}' exists; choose another name, or add --overwrite")
    # Imported late: PyTorch takes a second to import.
    from ptychostream.persistence.archive import load_bundle, write_archive

    probe = None
    if options.probe is not None:
        from ptychostream.datasets.sources.probes import read_probe_file

        probe = read_probe_file(options.probe)
    bundle = load_bundle(options.old, restore=None, probe_guess=probe)
    if to_keras:
        from ptychostream.persistence.ptychopinn.keras_export import export_weights

        say(f"wrote {export_weights(bundle, new)}\nnext, in Keras: model.load_weights('{new}')")
        return
    write_archive(bundle, new)
    model = bundle.config.model
    say(
        f"wrote {new}: {model.architecture}, N {model.N}, gridsize {model.gridsize}\n"
        f"next: ptychostream reconstruct STORE --model_path {quote(str(new))} -o result"
    )
