"""Read the weights of PtychoPINN's Keras network into ours, by h5py: without TensorFlow.

Layers are identified by their position in the network's graph, not by the numbers in their names,
which depend on what else was built in the same process.
"""

import io
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ptychostream.config import ModelConfig
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.models.generators.autoencoder import Autoencoder, Decoder
from ptychostream.persistence.entries import Members
from ptychostream.persistence.open_archive import DESCRIPTION_BYTES
from ptychostream.persistence.ptychopinn.keras_graph import Graph, parts_of

_GRAPH, _NUMBERS = "config.json", "model.weights.h5"
#: Folders of the layers' weights, as Keras 3 and Keras 2 name them.
_FOLDERS = ("layers", "_layer_checkpoint_dependencies")
#: Axes of a kernel.
_KERNEL = ("rows", "columns", "input", "output")


class Place(NamedTuple):
    """Position of a convolution in the graph, unique within a part of the network.

    `depth`: convolutions up to it, itself included.
    """

    depth: int
    channels_in: int
    channels_out: int


def import_weights(data: bytes, config: ModelConfig, origin: str) -> dict[str, Tensor]:
    """Read the weights of a `.keras` file as those of our CNN."""
    with Members(data, origin) as members:
        try:
            graph = Graph(json.loads(members.read(_GRAPH, at_most=DESCRIPTION_BYTES)))
            parts = parts_of(graph)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            members.refuse(_GRAPH, f"does not describe PtychoPINN's network: {error}", error)
        numbers = members.read(_NUMBERS)
    origin = f"{origin}: member '{_NUMBERS}'"
    try:
        with h5py.File(io.BytesIO(numbers), "r") as file:
            return _assign(graph, parts, _groups(file, graph, origin), config, origin)
    except DataContractError:
        raise
    # Errors of h5py for damaged descriptions of types and sizes.
    except (OSError, LookupError, RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise DataContractError(f"{origin} can't be read: {error}") from error


def layout(network: Autoencoder) -> dict[str, dict[Place, str]]:
    """Return the position of each convolution of our CNN.

    Returns for `encoder`, `amplitude` and `phase`: our name of the layer at each position.
    """
    encoder = list(_numbered("encoder", _pairs(network.encoder), 0))
    places = {"encoder": _placed(network, encoder)}
    for part in ("amplitude", "phase"):
        decoder = getattr(network, part)
        assert isinstance(decoder, Decoder)
        levels = list(_numbered(f"{part}.levels", _pairs(decoder.levels), len(encoder)))
        last = len(encoder) + len(levels)
        if not decoder.pad_object:
            ends = [("full.first", 1), ("full.second", 2), ("full_last", 3)]
        elif decoder.probe_big:
            ends = [("inner", 1), ("outer.first", 1), ("outer.second", 2), ("outer_last", 3)]
        else:
            ends = [("inner", 1)]
        named = [*levels, *((f"{part}.{name}", last + after) for name, after in ends)]
        places[part] = _placed(network, named)
    return places


def _pairs(levels: nn.Module) -> list[str]:
    return [f"{i}.{which}" for i in range(len(list(levels.children()))) for which in _PAIR]


_PAIR = ("first", "second")


def _numbered(prefix: str, names: list[str], after: int) -> Iterator[tuple[str, int]]:
    for depth, name in enumerate(names, start=after + 1):
        yield f"{prefix}.{name}", depth


def _placed(network: nn.Module, named: list[tuple[str, int]]) -> dict[Place, str]:
    places = {}
    for name, depth in named:
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        out, into = layer.weight.shape[:2]
        places[Place(depth, into, out)] = name
    return places


def _groups(file: h5py.File, graph: Graph, origin: str) -> dict[str, h5py.Group]:
    """Find each convolution's group: by the name in it or, in older files, by its number."""
    named = next((name for name in _FOLDERS if name in file), None)
    if named is None:
        raise KeyError("it has no layers")
    folder = _folder(file, named, origin)
    convolutions = [name for name, kind in graph.classes.items() if kind == "Conv2D"]
    found = {}
    for key in folder:
        if not re.fullmatch(r"conv2d(_\d+)?", key):
            continue
        variables = _folder(_folder(folder, key, origin), "vars", origin)
        number = int(key.partition("_")[2] or 0)
        by_number = convolutions[number] if number < len(convolutions) else key
        found[str(variables.attrs.get("name", by_number))] = variables
    return found


def _assign(
    graph: Graph,
    parts: dict[str, frozenset[str]],
    groups: dict[str, h5py.Group],
    config: ModelConfig,
    origin: str,
) -> dict[str, Tensor]:
    try:
        with torch.device("meta"):
            places = layout(Autoencoder(config))
    except ConfigurationError as error:
        raise DataContractError(f"{origin} has no network to go to: {error}") from error
    weights = {}
    for part, ours in places.items():
        theirs = parts[part]
        if len(theirs) != len(ours):
            raise DataContractError(
                f"{origin} has {len(theirs)} convolutions in its {part}, but N={config.N}, "
                f"pad_object={config.pad_object}, probe_big={config.probe_big} has {len(ours)}"
            )
        for name in sorted(theirs):
            if name not in groups:
                raise DataContractError(f"{origin} has no weights of layer '{name}'")
            shape = _dataset(groups[name], "0", origin).shape
            if shape is None or len(shape) != len(_KERNEL):
                raise DataContractError(
                    f"{origin}: '{groups[name].name}/0' has shape {shape}, expected the four axes "
                    f"{', '.join(_KERNEL)}"
                )
            # Parallel paths meet only after their last convolutions.
            place = Place(len(graph.convolutions(name)), *shape[2:])
            if place not in ours:
                raise DataContractError(
                    f"{origin}: layer '{name}' of the {part}, {shape} at depth {place.depth}, has "
                    f"no place in the network of gridsize={config.gridsize}, "
                    f"n_filters_scale={config.n_filters_scale}"
                )
            kernel = _array(groups[name], "0", (3, 3, *place[1:]), origin)
            bias = _array(groups[name], "1", (place.channels_out,), origin)
            # Keras has rows, columns, input, output; PyTorch output, input, rows, columns.
            weights[f"{ours[place]}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
            weights[f"{ours[place]}.bias"] = torch.from_numpy(bias)
    return weights


def _hard(group: h5py.Group, name: str) -> Any:
    """Return an item of this file itself; links, which may point anywhere, are refused."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise RuntimeError(f"'{group.name}/{name}' is a link")
    return group[name]


def _folder(group: h5py.Group, name: str, origin: str) -> h5py.Group:
    found = _hard(group, name)
    if not isinstance(found, h5py.Group):
        _refuse_kind(found, origin, "group")
    return found


def _dataset(group: h5py.Group, name: str, origin: str) -> h5py.Dataset:
    found = _hard(group, name)
    if not isinstance(found, h5py.Dataset):
        _refuse_kind(found, origin, "dataset")
    return found


def _refuse_kind(found: Any, origin: str, expected: str) -> NoReturn:
    raise DataContractError(
        f"{origin}: '{found.name}' is a {type(found).__name__.lower()}, expected a {expected}"
    )


def _array(
    group: h5py.Group, name: str, shape: tuple[int, ...], origin: str
) -> NDArray[np.float32]:
    dataset = _dataset(group, name, origin)
    if dataset.external or dataset.is_virtual:
        raise DataContractError(f"{origin}: '{group.name}/{name}' lies in another file")
    if dataset.shape != shape or dataset.dtype.kind != "f":
        raise DataContractError(
            f"{origin}: '{group.name}/{name}' is {dataset.dtype}{dataset.shape}, expected {shape}"
        )
    return np.asarray(dataset[()], dtype=np.float32)
