"""The graph of a Keras model: which layer is computed from which, read from its description."""

from collections.abc import Iterator
from typing import Any

#: Names and class that the network gives its activations and the layer that joins them.
_AMPLITUDE, _PHASE, _JOINS = "amp", "phi", ("obj", "CombineComplexLayer")
_MOST_LAYERS = 2000


class Graph:
    """Layers of a Keras model and what each is computed from.

    `classes`: class of each layer by its name.
    `parents`: layers that each takes its input from, in their order.
    """

    def __init__(self, described: Any) -> None:
        layers = described["config"]["layers"]
        if len(layers) > _MOST_LAYERS:
            raise ValueError(f"{len(layers)} layers")
        names = [layer.get("name") or layer["config"]["name"] for layer in layers]
        self.classes: dict[str, str] = {
            name: layer["class_name"] for name, layer in zip(names, layers, strict=True)
        }
        self.parents = {
            name: tuple(dict.fromkeys(_histories(layer.get("inbound_nodes", []))))
            for name, layer in zip(names, layers, strict=True)
        }
        self._upward: dict[str, frozenset[str]] = {}

    def upward(self, name: str) -> frozenset[str]:
        """Return a layer and all layers that it is computed from."""
        if name not in self._upward:
            # A placeholder, so that the recursion ends if the graph has a cycle.
            self._upward[name] = frozenset({name})
            above = [self.upward(parent) for parent in self.parents[name]]
            self._upward[name] = frozenset({name}).union(*above)
        return self._upward[name]

    def convolutions(self, name: str) -> frozenset[str]:
        """Return the convolutions among a layer and all layers that it is computed from."""
        return frozenset(n for n in self.upward(name) if self.classes[n] == "Conv2D")


def parts_of(graph: Graph) -> dict[str, frozenset[str]]:
    """Separate the convolutions of encoder and decoders: both decoders share the encoder."""
    joined = [n for n, kind in graph.classes.items() if n == _JOINS[0] or kind == _JOINS[1]]
    if len(joined) != 1 or len(graph.parents[joined[0]]) != 2:
        raise ValueError(f"no layer '{_JOINS[0]}' joins amplitude and phase")
    sides = graph.parents[joined[0]]
    if _AMPLITUDE not in graph.upward(sides[0]):
        sides = sides[::-1]
    if _AMPLITUDE not in graph.upward(sides[0]) or _PHASE not in graph.upward(sides[1]):
        raise ValueError(f"no layers '{_AMPLITUDE}' and '{_PHASE}' lead to '{joined[0]}'")
    amplitude, phase = map(graph.convolutions, sides)
    shared = amplitude & phase
    return {"encoder": shared, "amplitude": amplitude - shared, "phase": phase - shared}


def _histories(node: Any) -> Iterator[str]:
    """Find the layers that a description of inputs names, in Keras 3's form or Keras 2's."""
    if isinstance(node, dict):
        if "keras_history" in node:
            yield str(node["keras_history"][0])
        else:
            for value in node.values():
                yield from _histories(value)
    elif isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and type(node[1]) is type(node[2]) is int:
            yield node[0]
            node = node[3:]
        for value in node:
            yield from _histories(value)
