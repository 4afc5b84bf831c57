"""The same batches for TensorFlow: channels last, as PtychoPINN's networks take them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from tensordict import TensorDict

from ptychostream.datasets.batches.loader import GroupLoader, make_loader
from ptychostream.datasets.batches.scaling import scales_of
from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store.group_store import GroupStore
from ptychostream.errors import BackendUnavailableError, ConfigurationError
from ptychostream.ptychopinn.labels import cut_labels
from ptychostream.ptychopinn.spec import dictionary_of_store, group_normalisation, objects_of

if TYPE_CHECKING:
    import tensorflow

Form = Literal["training", "dictionary"]


def as_tf_dataset(
    store: GroupStore,
    groups: Groups,
    *,
    form: Form = "training",
    batch_size: int = 16,
    shuffle: bool = True,
    seed: int = 0,
    nphotons: float = 1e9,
    memory_budget: str | int = "1 GiB",
    drop_last: bool = False,
) -> "tensorflow.data.Dataset":
    """Stream a store's groups as a TensorFlow dataset: the batches of `make_loader`, in its layout.

    Each time the dataset is iterated over is a new epoch, with an order of its own.

    `form`: `training` gives pairs for `Model.fit`: inputs (X · s, local offsets) and targets
        (object, X · s, (X · s)²), where X is the amplitude at a mean energy of (N/2)² and s the
        intensity scale, `scales_of(store, nphotons).intensity_scale`. `dictionary` gives the
        specification's keys, as `to_spec_dict` does.
    `shuffle`: whether the order is random; else it is that of the group table.
    `nphotons`: mean photons per pattern, for data that carry no photon counts.
    Returns, of `training`, (((B, N, N, C) float32, (B, 1, 2, C) float32), ((B, N, N, 1) complex64,
        (B, N, N, C) float32, (B, N, N, C) float32)); the object is the true patch around the
        group's centre, one where it is not known. Of `dictionary`: as `to_spec_dict`, without
        `objectGuess`, and without `Y` where labels are not known.
    """
    if form not in ("training", "dictionary"):
        raise ConfigurationError(f"form={form!r} is unknown; there are 'training' and 'dictionary'")
    try:
        import tensorflow as tf
    except ImportError as error:
        raise BackendUnavailableError(
            f"as_tf_dataset needs TensorFlow, which can't be imported ({error}); "
            "pip install 'ptychostream[tensorflow]'"
        ) from error
    loader = make_loader(
        store,
        groups,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        memory_budget=memory_budget,
        drop_last=drop_last,
        scales=scales_of(store, nphotons),
    )
    convert = _training(store) if form == "training" else _dictionary(store, groups)
    example = convert(_first_group(store, groups))
    signature = tf.nest.map_structure(
        lambda part: tf.TensorSpec((None, *part.shape[1:]), part.dtype), example
    )
    epochs = _Epochs(loader, convert)
    dataset = tf.data.Dataset.from_generator(epochs, output_signature=signature)
    # Keras uses this number to show progress and to end an epoch.
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(loader)))
    return dataset.prefetch(tf.data.AUTOTUNE)


class _Epochs:
    """Begins a new epoch each time it is called."""

    def __init__(self, loader: GroupLoader, convert: Callable[[TensorDict], Any]) -> None:
        self._loader, self._convert, self._next = loader, convert, 0

    def __call__(self) -> Iterator[Any]:
        self._loader.set_epoch(self._next)
        self._next += 1
        for batch in self._loader:
            yield self._convert(batch)


def _training(store: GroupStore) -> Callable[[TensorDict], Any]:
    """Make a function from a batch to inputs and targets."""
    objects = objects_of(store)

    def convert(batch: TensorDict) -> Any:
        # Normalised amplitude times the intensity scale is the amplitude in √photons.
        scaled = _channels_last(batch["diffraction"] * batch["physics_scale"])
        offsets = _channels_last(batch["coords_relative"])
        obj = _centre_patches(store, batch["nn_indices"].numpy(), objects)
        return (scaled, offsets), (obj, scaled, np.square(scaled))

    return convert


def _dictionary(store: GroupStore, groups: Groups) -> Callable[[TensorDict], Any]:
    """Make a function from a batch to PtychoPINN's dictionary."""
    factors = group_normalisation(store, groups)
    objects = objects_of(store)

    def convert(batch: TensorDict) -> Any:
        spec = dictionary_of_store(
            store,
            _channels_last(batch["diffraction"]),
            batch["nn_indices"].numpy(),
            factors=factors,
            objects=objects,
        )
        # Tensors only: the object is one for all groups, and labels may not be known.
        del spec["objectGuess"]
        return {name: value for name, value in spec.items() if value is not None}

    return convert


def _channels_last(values: Any) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.moveaxis(values.numpy(), 1, -1))


def _centre_patches(
    store: GroupStore,
    members: NDArray[np.int64],
    objects: list[NDArray[np.complex64] | None],
) -> NDArray[np.complex64]:
    """Cut the object (B, N, N, 1) around each group's centre; one where it is not known."""
    experiment = store.experiment_id[members[:, 0]]
    centres = store.positions[members].mean(axis=1)
    patches = np.ones((len(members), store.N, store.N, 1), np.complex64)
    for number, obj in enumerate(objects):
        rows = experiment == number
        if obj is not None and rows.any():
            patches[rows] = cut_labels(obj, centres[rows, None], store.N)
    return patches


def _first_group(store: GroupStore, groups: Groups) -> TensorDict:
    """Read one group, to learn shapes and types."""
    one = replace(groups, nn_indices=groups.nn_indices[:1])
    return next(iter(make_loader(store, one, batch_size=1, shuffle=False)))
