"""`ptychostream reconstruct STORE --model_path RUN -o OUT`."""

from collections.abc import Sequence
from pathlib import Path

from ptychostream.cli.aliases import expand_aliases
from ptychostream.cli.common import log_to, logger, make_parser, parse, say
from ptychostream.config import PyTorchExecutionConfig


def run(words: Sequence[str]) -> None:
    """Reconstruct a store with a trained network.

    Parameters
    ----------
    words : sequence of str
        The command's arguments.
    """
    from ptychostream.config import write_yaml
    from ptychostream.datasets.store import open_group_store
    from ptychostream.evaluation.figures import draw_losses, draw_object
    from ptychostream.inference import choose_experiment, reconstruct
    from ptychostream.persistence import load_bundle
    from ptychostream.persistence.product import object_pixel_size_m
    from ptychostream.persistence.result import save_result

    parser = make_parser(
        "reconstruct",
        "Reconstruct a store with a trained network.",
    )
    parser.add_argument("store", type=Path, help="the store")
    parser.add_argument("--model_path", type=Path, required=True, help="folder of wts.h5.zip")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--experiment", type=int, help="which experiment, if there are several")
    parser.add_argument(
        "--refine_passes", type=int, default=2, help="passes over the patterns after stitching"
    )
    parser.add_argument(
        "--align_phases", type=bool, default=True, help="find the patches' phases by overlap"
    )
    parser.add_class_arguments(PyTorchExecutionConfig, "execution")
    options = parse(parser, expand_aliases("reconstruct", words))
    execution = parser.instantiate(options).execution
    bundle, store = load_bundle(options.model_path), open_group_store(options.store)
    choose_experiment(bundle, store, options.experiment)
    out: Path = options.out
    log_to(out, "reconstruct.log")
    result = reconstruct(
        bundle,
        store,
        execution=execution,
        experiment=options.experiment,
        align_phases=options.align_phases,
        refine_passes=options.refine_passes,
    )
    logger.info("%s", ", ".join(f"{name} {time:.1f} s" for name, time in result.seconds.items()))
    written = save_result(result, out)
    pixel, is_assumed = object_pixel_size_m(result.metadata, store.N)
    written += draw_object(
        result.object, result.coverage, out, pixel_size_m=None if is_assumed else pixel
    )
    if bundle.history.get("train_loss"):
        written.append(draw_losses(bundle.history, out / "losses.png"))
    write_yaml(bundle.config, out / "config.yaml")
    speed = result.num_patches / max(sum(result.seconds.values()), 1e-9)
    say(
        f"{result.num_patches} patches in {sum(result.seconds.values()):.1f} s "
        f"({speed:.0f} a second), {result.num_clipped} reach beyond the grid\n"
        f"wrote {', '.join(path.name for path in written)} and config.yaml to {out}\n"
        f"next: ptychostream evaluate {out / 'object.npz'} --reference FILE"
    )
