"""Several processes that solve for one object together, each with its own share of the patterns."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar, cast

import torch
from torch import Tensor, distributed

from ptychostream.launcher import launched_as

#: Longest wait for another process: one may read patterns while others are done.
_PATIENCE = timedelta(hours=12)

Value = TypeVar("Value")


class Ranks:
    """One process, or one of several that make the same updates from different patterns.

    An update needs only sums over its patterns: each process adds up its own, and the sums are
    added over the processes. As an update is large, a scan of any size needs few of these.

    Attributes
    ----------
    number, size : int
        Which process this is, from 0 on, and how many there are.
    """

    def __init__(self, number: int = 0, size: int = 1) -> None:
        self.number, self.size = number, size

    def add(self, *sums: Tensor) -> None:
        """Replace each tensor by its sum over all processes, in place."""
        if self.size > 1:
            for each in sums:
                # NCCL adds what is on the device, gloo what is in memory.
                there = each.to(_device())
                distributed.all_reduce(torch.view_as_real(there) if there.is_complex() else there)
                if there is not each:
                    each.copy_(there)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.size == 1:
            return flag
        count = torch.tensor(float(flag), device=_device())
        self.add(count)
        return bool(count > 0)

    def of_first(self, value: Value) -> Value:
        """Return the first process's value."""
        if self.size == 1:
            return value
        box: list[object] = [value]
        distributed.broadcast_object_list(box, device=torch.device(_device()))
        return cast(Value, box[0])


@contextmanager
def joined_ranks(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun or srun started; yield one alone where none did."""
    ranks = Ranks(*launched_as())
    if ranks.size == 1:
        yield ranks
        return
    for name, other in (("RANK", "SLURM_PROCID"), ("WORLD_SIZE", "SLURM_NTASKS")):
        os.environ.setdefault(name, os.environ.get(other, "0"))
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield ranks
    finally:
        distributed.destroy_process_group()


def _device() -> str:
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"
