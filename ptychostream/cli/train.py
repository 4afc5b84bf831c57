"""`ptychostream train STORE -o RUN`."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ptychostream.cli.aliases import expand_aliases
from ptychostream.cli.common import log_to, make_parser, parse, say
from ptychostream.config import PyTorchExecutionConfig, TrainingConfig


def run(words: Sequence[str]) -> None:
    """Train a network on a store.

    Parameters
    ----------
    words : sequence of str
        The command's arguments.
    """
    from ptychostream.datasets.store import open_group_store

    parser = make_parser(
        "train",
        "Train a network on a store. N is the store's own unless given.",
    )
    parser.add_argument("store", type=Path, help="the store")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--validation", type=Path, help="store that the loss is watched on")
    parser.add_class_arguments(TrainingConfig, None, fail_untyped=True)
    parser.add_class_arguments(PyTorchExecutionConfig, "execution")
    parser.set_defaults({"model.N": None, "backend": "pytorch"})
    options = parse(parser, expand_aliases("train", words))
    # What the command line says of data and results counts, whatever a YAML file says.
    options.train_data_file, options.output_dir = options.store, options.out
    options.test_data_file = options.validation or options.test_data_file
    if options.model.N is None:
        options.model.N = open_group_store(options.store).N
    ready = parser.instantiate(options)
    out: Path = options.out
    chosen = {item.name: getattr(ready, item.name) for item in fields(TrainingConfig)}
    config = TrainingConfig(**chosen)
    train_into(config, ready.execution, out)


def train_into(config: TrainingConfig, execution: PyTorchExecutionConfig, out: Path) -> None:
    """Train, and write archive, configuration, losses, picture and log into a folder.

    Parameters
    ----------
    config : TrainingConfig
        `train_data_file` and `test_data_file` are stores.
    execution : PyTorchExecutionConfig
        Where and how fast.
    out : Path
        The folder.
    """
    from ptychostream.config import write_yaml
    from ptychostream.datasets.store import open_group_store
    from ptychostream.evaluation.figures import draw_losses
    from ptychostream.persistence import save_bundle
    from ptychostream.training import check_data, check_supported, train

    check_supported(config, execution)
    assert config.train_data_file is not None
    store = open_group_store(config.train_data_file)
    held_out = config.test_data_file
    validation = None if held_out is None else open_group_store(held_out)
    check_data(config, store, validation)
    log_to(out, "train.log")
    write_yaml(config, out / "config.yaml")
    write_yaml(execution, out / "execution.yaml")
    bundle = train(config, store, validation=validation, execution=execution)
    archive = save_bundle(bundle, out)
    draw_losses(bundle.history, out / "losses.png")
    say(
        f"wrote {archive}, config.yaml, execution.yaml, losses.png and train.log\n"
        f"next: ptychostream reconstruct {config.train_data_file} --model_path {out} -o result"
    )
