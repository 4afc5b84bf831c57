"""Several processes that solve for one object together, and what they tell each other."""

import os
from collections.abc import Iterator, Mapping
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
    added over the processes; those of the object only where their parts of it overlap (see
    `tiles`). As an update is large, a scan of any size needs few of these.

    `number`, `size`: which process this is, from 0 on, and how many there are.
    """

    def __init__(self, number: int = 0, size: int = 1) -> None:
        self.number, self.size = number, size

    def add(self, *sums: Tensor) -> None:
        """Replace each tensor by its sum over all processes, in place."""
        if self.size > 1:
            for each in sums:
                # NCCL adds what is on the device, gloo what is in memory.
                there = each.to(_device()).contiguous()
                distributed.all_reduce(_as_real(there))
                if there is not each:
                    each.copy_(there)

    def most(self, value: float) -> float:
        """Return the largest of the processes' values."""
        if self.size == 1:
            return value
        box = torch.tensor(value, dtype=torch.float64, device=_device())
        distributed.all_reduce(box, distributed.ReduceOp.MAX)
        return float(box)

    def total(self, value: float) -> float:
        """Return the sum of the processes' values."""
        if self.size == 1:
            return value
        box = torch.tensor(value, dtype=torch.float64, device=_device())
        self.add(box)
        return float(box)

    def swap(self, gives: Mapping[int, Tensor], takes: Mapping[int, Tensor]) -> None:
        """Give tensors to other processes by their numbers, and fill those taken from others."""
        if not (gives or takes):
            return
        there = {peer: torch.empty_like(takes[peer], device=_device()) for peer in takes}
        work = [
            distributed.P2POp(send, _as_real(tensor), peer)
            for send, tensors in ((distributed.isend, gives), (distributed.irecv, there))
            for peer, tensor in sorted(tensors.items())
        ]
        for each in distributed.batch_isend_irecv(work):
            each.wait()
        for peer, tensor in takes.items():
            tensor.copy_(there[peer])

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


def _as_real(tensor: Tensor) -> Tensor:
    """Return a tensor as it is sent: contiguous, real numbers, where the backend wants it."""
    there = tensor.to(_device()).contiguous()
    return torch.view_as_real(there) if there.is_complex() else there


def _device() -> str:
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"
