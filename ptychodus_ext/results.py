"""Make products from the output of a child: one after each pass, and the result."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ptychodus.api.product import Product
from ptychodus.api.reconstruct import ReconstructOutput

from ptychodus_ext.application import Application
from ptychodus_ext.convert import product_with
from ptychodus_ext.measured import GOAL, Measured
from ptychodus_ext.runs import run_child
from ptychodus_ext.words import in_words
from ptychostream.children import Output, Progress

logger = logging.getLogger("ptychostream.ptychodus")


def reconstruct_in_child(
    task: str,
    arguments: Mapping[str, Any],
    measured: Measured,
    application: Application,
    *,
    name: str,
) -> Iterator[ReconstructOutput]:
    """Yield a product after each pass if a window shows it, and the result."""
    shown, done = "", 0
    for message in run_child(task, arguments, application):
        if isinstance(message, Progress):
            done = max(done, percent(message))
            application.show_progress(done, GOAL)
        elif isinstance(message, Output):
            is_result = message.values["is_result"]
            # After Stop, ptychodus treats the next product as the last one.
            if is_result or application.wants_pictures:
                shown = "result" if is_result else "picture"
                product = _product(message, measured, name)
                application.picture_comes()
                yield ReconstructOutput(product, progress=GOAL if is_result else done)
                application.picture_is_sent()
            message.paths["result"].unlink()
    if shown == "picture":
        logger.warning("stopped before the last pass was handed over: see the one before")
    elif not shown:
        warn_of_no_result(measured.product)


def warn_of_no_result(product: Product) -> None:
    """Warn that the new product is unchanged: the one that the run began with."""
    logger.warning(
        "stopped before there was a result: the new product shows what '%s' had before",
        product.metadata.name,
    )


def _product(message: Output, measured: Measured, name: str) -> Product:
    values = message.values
    with np.load(message.paths["result"]) as arrays:
        positions = None
        if "positions" in arrays:
            positions = arrays["positions"] - np.asarray(measured.grid[2])
        misfit = arrays["misfit"]
        comment = ""
        if values["is_result"]:
            comment = _comment(name, values["misfit"], len(misfit), values["warnings"])
            logger.info("%s", comment.splitlines()[0])
        return product_with(
            measured.product,
            arrays["object"],
            arrays["probe"],
            misfit.tolist(),
            positions=positions,
            comment=comment,
        )


def _comment(name: str, misfit: float | None, passes: int, warnings: list[str]) -> str:
    """Return how well the result explains the patterns."""
    first = f"PtychoStream {name}: the patterns were not compared with the result"
    if misfit is not None:
        first = (
            f"PtychoStream {name}: R = {misfit:.4f} after {passes} passes (the part of the "
            "measured amplitude that object and probe do not explain)"
        )
    return "\n".join([first, *(f"Warning: {in_words(text)}" for text in warnings)])


def percent(message: Progress) -> int:
    """Return the value of the progress bar; its end is reached with the result."""
    return min(GOAL - 1, GOAL * message.done // max(message.total, 1))
