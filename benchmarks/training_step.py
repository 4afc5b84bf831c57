"""How much of a training step is the step: the loader's share, and the CNN's own overhead.

Ratios of processor time on one thread, all threads of the loader included, so that other work
on the machine counts for nothing; each from the smallest of several interleaved runs.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch.nn import functional

import ptychostream as ps
from ptychostream.datasets.batches.scaling import scales_of
from ptychostream.training.module import PinnModule
from ptychostream.training.run import training_groups
from ptychostream.training.train import initial_model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--compile", action="store_true", help="and with torch.compile: minutes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("network    gridsize  step (ms)  patterns/s  (loader + step)/step  step/convolutions")
    with tempfile.TemporaryDirectory() as folder:
        number = options.batches * options.batch_size
        scan = ps.simulate_scan(num_positions=number, N=64, nphotons=1e6)
        store = ps.build_group_store(scan, Path(folder) / "s.zarr")
        for architecture in ("unrolled", "cnn"):
            for gridsize in (1, 2):
                report(store, folder, architecture, gridsize, options)


def report(store, folder, architecture, gridsize, options):
    config = ps.TrainingConfig(
        model=ps.ModelConfig(N=64, architecture=architecture, gridsize=gridsize, n_filters_scale=1),
        batch_size=options.batch_size,
        output_dir=Path(folder),
        neighbor_count=7,
    )
    model = initial_model(config, store, seed=0)
    # As `fit` does it.
    model.generator.to(memory_format=torch.channels_last)
    module = PinnModule(
        model, config, ps.PyTorchExecutionConfig(), monitor="train_loss", loaders={}
    )
    optimizer = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)
    loader = ps.make_loader(
        store,
        training_groups(config, store),
        batch_size=options.batch_size,
        scales=scales_of(store),
        num_threads=1,
    )
    in_memory = list(loader)

    def step(batch):
        loss = module._loss("train", batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def timed(batches):
        began = time.process_time()
        for batch in batches:
            step(batch)
        return (time.process_time() - began) / len(in_memory)

    def with_loader():
        loader.set_epoch(loader.state_dict()["epoch"] + 1)
        # As in a first epoch: the window is read and decoded again.
        loader._resident = None
        return timed(loader)

    calls = convolutions_of(model, in_memory[0]) if architecture == "cnn" else []
    timed(in_memory)
    alone, both, bare = [], [], []
    for _ in range(options.repeats):
        alone.append(timed(in_memory))
        both.append(with_loader())
        bare.append(time_of(calls))
    rate = options.batch_size * gridsize**2 / min(alone)
    share = f"{min(alone) / min(bare):.2f}" if calls else "-"
    print(
        f"{architecture:9}  {gridsize:8}  {1e3 * min(alone):9.1f}  {rate:10.0f}  "
        f"{min(both) / min(alone):20.3f}  {share:>17}",
        flush=True,
    )
    if options.compile:
        model.generator.compile()
        began = time.perf_counter()
        timed(in_memory)
        compiling = time.perf_counter() - began
        compiled = min(timed(in_memory) for _ in range(options.repeats))
        print(
            f"compiled over eager: {compiled / min(alone):.2f} after {compiling:.0f} s", flush=True
        )


def convolutions_of(model, batch):
    """Note the input of each convolution in one step."""
    calls = []

    def note(layer, inputs, _):
        calls.append((layer, inputs[0].detach().clone(memory_format=torch.preserve_format)))

    hooks = [
        layer.register_forward_hook(note)
        for layer in model.modules()
        if isinstance(layer, torch.nn.Conv2d)
    ]
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()
    return calls


def time_of(calls):
    """Run the convolutions alone, forward and backward; the first needs no slope of its input."""
    began = time.process_time()
    for number, (layer, inputs) in enumerate(calls):
        x = inputs.requires_grad_(number > 0)
        weight, bias = layer.weight.detach().requires_grad_(), layer.bias.detach().requires_grad_()
        y = functional.conv2d(x, weight, bias, padding=layer.padding)
        wanted = [part for part in (x, weight, bias) if part.requires_grad]
        torch.autograd.grad(y, wanted, torch.ones_like(y))
    return time.process_time() - began


if __name__ == "__main__":
    main()
