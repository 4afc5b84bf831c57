"""What the solver makes of a store's own patterns, as labels: no truth is needed."""

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.config import PyTorchExecutionConfig
from ptychostream.datasets.store import GroupStore
from ptychostream.geometry import ObjectGrid
from ptychostream.models.pinn import PtychoPINN
from ptychostream.progress import ShouldStop
from ptychostream.solver.start import SolverStart, make_solver, solver_options

logger = logging.getLogger(__name__)


def solved_objects(
    store: GroupStore,
    model: PtychoPINN,
    execution: PyTorchExecutionConfig,
    *,
    seed: int,
    should_stop: ShouldStop | None = None,
) -> list[NDArray[np.complex64]]:
    """Solve for the object (H, W) of each experiment, lit by the model's probe.

    The grids begin at position (0, 0), as labels are cut.
    """
    objects = []
    for experiment in range(store.num_experiments):
        with torch.no_grad():
            probe = model.scaled_probe(torch.tensor([experiment]))[0].cpu().numpy()
        options = solver_options(
            store,
            experiment,
            # The labels belong to the probe that the network is given.
            refine_probe=False,
            seed=seed,
            memory_budget=execution.memory_budget,
            num_threads=execution.num_workers,
        )
        solver = make_solver(store, experiment, options, SolverStart(probe=probe))
        for _ in solver.run(should_stop=should_stop):
            pass
        positions = store.positions[store.experiment_id == experiment]
        width, height = (int(np.ceil(far)) + store.N // 2 + 1 for far in positions.max(axis=0))
        objects.append(solver.object_on(ObjectGrid(height, width)))
        logger.info(
            "experiment %d of %d solved for labels: misfit %.3g",
            experiment + 1,
            store.num_experiments,
            solver.misfit[-1] if solver.misfit else float("nan"),
        )
    return objects
