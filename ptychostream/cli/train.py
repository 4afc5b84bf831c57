"""`ptychostream train STORE -o RUN`."""

import argparse
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields
from functools import partial
from pathlib import Path
from shlex import quote

from jsonargparse import ArgumentParser, Namespace

from ptychostream.cli.aliases import expand_aliases
from ptychostream.cli.common import (
    add_cache_options,
    log_to,
    logger,
    new_parser,
    path_or_url,
    say,
    sole_writer,
)
from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.errors import StoreExistsError


def make_parser() -> ArgumentParser:
    """Describe the command line of `ptychostream train`."""
    parser = new_parser(
        "train",
        "Train a network on a store. N is the store's own unless given.",
    )
    parser.add_argument("store", type=path_or_url, help="the store")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the results")
    add_cache_options(parser)
    parser.add_argument("--validation", type=path_or_url, help="store that the loss is watched on")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the unfinished run in --out, with the configuration that it wrote",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="take the place of the run that --out holds"
    )
    parser.add_class_arguments(TrainingConfig, None, fail_untyped=True)
    parser.add_class_arguments(PyTorchExecutionConfig, "execution")
    parser.set_defaults({"model.N": None, "backend": "pytorch"})
    return parser


def prepare(words: Sequence[str], parser: ArgumentParser) -> list[str]:
    """Replace older names of options, and prepend the options of the run that is resumed."""
    return _with_written_configuration(expand_aliases("train", words))


def run(options: Namespace, parser: ArgumentParser) -> None:
    """Train a network on a store."""
    from ptychostream.datasets.store import open_group_store

    # Paths on the command line take precedence over those in a YAML file.
    options.train_data_file, options.output_dir = options.store, options.out
    options.test_data_file = options.validation or options.test_data_file
    if options.model.N is None:
        options.model.N = open_group_store(options.store).N
    ready = parser.instantiate(options)
    out: Path = options.out
    if not options.resume and not options.overwrite:
        _refuse_to_replace(out)
    chosen = {item.name: getattr(ready, item.name) for item in fields(TrainingConfig)}
    config = TrainingConfig(**chosen)
    train_into(
        config,
        ready.execution,
        out,
        resume=options.resume,
        overwrite=options.overwrite,
        cache_folder=options.cache,
        cache_limit=options.cache_limit,
    )


def _refuse_to_replace(out: Path) -> None:
    """Refuse to overwrite a model, or a run that can be resumed, without `--overwrite`."""
    from ptychostream.launcher import is_first_process

    kept = [name for name in ("wts.h5.zip", "checkpoints/last.ckpt") if (out / name).exists()]
    if kept and is_first_process():
        raise StoreExistsError(
            f"'{out}' holds a run already ({kept[0]}); choose another folder, go on with it by "
            "--resume, or give it up by --overwrite"
        )


def _with_written_configuration(words: list[str]) -> list[str]:
    """Prepend the options that a run wrote to those of the command line that resumes it."""
    if "--resume" not in words:
        return words
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("-o", "--out", type=Path)
    out = finder.parse_known_args(words)[0].out
    if out is None or not (out / "config.yaml").is_file():
        return words
    written = ["--config", str(out / "config.yaml")]
    if (out / "execution.yaml").is_file():
        written += ["--execution", str(out / "execution.yaml")]
    return written + words


def train_into(
    config: TrainingConfig,
    execution: PyTorchExecutionConfig,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    cache_folder: Path | None = None,
    cache_limit: str = "20 GiB",
) -> None:
    """Train, and write archive, configuration, losses, picture and log into a folder.

    `resume`: whether to resume the run in the folder.
    """
    from ptychostream.config import write_yaml
    from ptychostream.datasets.store import open_group_store
    from ptychostream.evaluation.figures import draw_losses
    from ptychostream.launcher import is_first_process
    from ptychostream.persistence import save_bundle
    from ptychostream.persistence.open_archive import ARCHIVE_NAME
    from ptychostream.training.checkpoints import find_checkpoint
    from ptychostream.training.checks import check_data, check_supported
    from ptychostream.training.train import train

    check_supported(config, execution)
    assert config.train_data_file is not None
    opened = partial(open_group_store, cache_folder=cache_folder, cache_limit=cache_limit)
    store = opened(config.train_data_file)
    held_out = config.test_data_file
    validation = None if held_out is None else opened(held_out)
    check_data(config, store, validation)
    first = is_first_process()
    # One process of several writes to the folder.
    with sole_writer(out) if first else nullcontext():
        checkpoint = find_checkpoint(out) if resume else None
        if first:
            if overwrite and not resume:
                # An unfinished new run beside the old model would look finished.
                shutil.rmtree(out / "checkpoints", ignore_errors=True)
                for name in (ARCHIVE_NAME, "losses.png"):
                    (out / name).unlink(missing_ok=True)
            log_to(out, "train.log", append=resume)
            write_yaml(config, out / "config.yaml")
            write_yaml(execution, out / "execution.yaml")
        try:
            bundle = train(
                config, store, validation=validation, execution=execution, resume_from=checkpoint
            )
        except KeyboardInterrupt:
            if first and (out / "checkpoints" / "last.ckpt").is_file():
                logger.warning(
                    "go on with: ptychostream train %s -o %s --resume",
                    quote(str(config.train_data_file)),
                    quote(str(out)),
                )
            raise
        if not first:
            return
        archive = save_bundle(bundle, out)
        draw_losses(bundle.history, out / "losses.png")
    say(
        f"wrote {archive}, config.yaml, execution.yaml, losses.png and train.log\n"
        f"next: ptychostream reconstruct {quote(str(config.train_data_file))} "
        f"--model_path {quote(str(out))} -o result\n"
        "where patterns overlap well, and below 10,000 photons a pattern, the solver alone, "
        "without --model_path, does as well"
    )
