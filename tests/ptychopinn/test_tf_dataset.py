"""The real TensorFlow is fed from a store; without it, the error says what to install."""

import sys

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.batches.scaling import scales_of
from ptychostream.errors import BackendUnavailableError, ConfigurationError
from ptychostream.ptychopinn.tf_dataset import as_tf_dataset


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow", reason="needs the extra `tensorflow`")


@pytest.mark.parametrize("gridsize", [1, 2])
def test_its_batches_are_those_of_the_loader(tf, tiny_store, gridsize):
    groups = tiny_store.groups(gridsize, 6)
    dataset = as_tf_dataset(tiny_store, groups, batch_size=24, seed=5)
    loader = ps.make_loader(tiny_store, groups, batch_size=24, seed=5)
    assert int(dataset.cardinality()) == len(loader) == 3
    scale = scales_of(tiny_store).intensity_scale[0]
    for epoch in range(2):
        loader.set_epoch(epoch)
        for (inputs, targets), batch in zip(dataset, loader, strict=True):
            number, members = len(batch), gridsize**2
            assert [tuple(part.shape) for part in (*inputs, *targets)] == [
                (number, 16, 16, members),
                (number, 1, 2, members),
                (number, 16, 16, 1),
                (number, 16, 16, members),
                (number, 16, 16, members),
            ]
            assert [part.dtype for part in inputs] == [tf.float32] * 2
            assert [part.dtype for part in targets] == [tf.complex64, tf.float32, tf.float32]
            normalised = np.moveaxis(ps.PtychoPINN.network_input(batch).numpy(), 1, -1)
            np.testing.assert_allclose(inputs[0], normalised * scale, rtol=1e-5)
            offsets = np.moveaxis(batch["coords_relative"].numpy(), 1, -1)
            np.testing.assert_array_equal(inputs[1], offsets)
            np.testing.assert_array_equal(targets[1], inputs[0])
            # These data are counts: the targets are what was measured.
            counts = tiny_store.diffraction(batch["nn_indices"].numpy())
            np.testing.assert_allclose(
                np.moveaxis(targets[2].numpy(), -1, 1).reshape(counts.shape), counts, rtol=1e-5
            )


def test_the_object_is_that_around_the_groups_centre(tf, tiny_store):
    groups = tiny_store.groups(1)
    dataset = as_tf_dataset(tiny_store, groups, batch_size=64, shuffle=False)
    ((_, (obj, *_)),) = list(dataset)
    expected = ps.to_spec_dict(tiny_store, groups)["Y"]
    np.testing.assert_allclose(obj, expected, atol=1e-6)


def test_each_epoch_has_an_order_of_its_own_and_every_group(tf, tiny_store):
    groups = tiny_store.groups(2, 6)
    dataset = as_tf_dataset(tiny_store, groups, form="dictionary", batch_size=10)
    epochs = [np.concatenate([batch["nn_indices"] for batch in dataset]) for _ in range(2)]
    assert not np.array_equal(*epochs)
    for seen in epochs:
        np.testing.assert_array_equal(np.unique(seen[:, 0]), np.arange(64))


@pytest.mark.parametrize("which", ["tiny_store", "two_experiments"])
def test_dictionaries_are_the_specifications(tf, request, which):
    store = request.getfixturevalue(which)
    groups = store.groups(2, 6)
    dataset = as_tf_dataset(store, groups, form="dictionary", batch_size=20, shuffle=False)
    batches = list(dataset)
    expected = ps.to_spec_dict(store, groups)
    assert batches[0].keys() == expected.keys() - {"objectGuess"}
    for name in batches[0]:
        together = np.concatenate([batch[name] for batch in batches])
        assert together.dtype == expected[name].dtype
        np.testing.assert_array_equal(together, expected[name], err_msg=name)


def test_a_keras_model_learns_from_it(tf, tiny_store):
    groups = tiny_store.groups(2, 6)
    dataset = as_tf_dataset(tiny_store, groups, batch_size=16)
    diffraction = tf.keras.Input((16, 16, 4))
    offsets = tf.keras.Input((1, 2, 4))
    moved = tf.keras.layers.Dense(4)(tf.keras.layers.Flatten()(offsets))
    amplitude = tf.keras.layers.Conv2D(4, 3, padding="same")(diffraction)
    amplitude = tf.keras.layers.Add()([amplitude, tf.keras.layers.Reshape((1, 1, 4))(moved)])
    model = tf.keras.Model([diffraction, offsets], amplitude)
    model.compile(tf.keras.optimizers.Adam(1e-2), "mae")
    pairs = dataset.map(lambda inputs, targets: (inputs, targets[1]))
    losses = model.fit(pairs, epochs=4, verbose=0, shuffle=False).history["loss"]
    assert losses[-1] < losses[0]


def test_without_an_object_the_target_is_one(tf, tiny_scan, tmp_path):
    from dataclasses import replace

    blind = replace(tiny_scan, object_guess=None)
    store = ps.build_group_store(blind, tmp_path / "s.zarr", progress=False)
    _, (obj, *_) = next(iter(as_tf_dataset(store, store.groups(1))))
    assert (obj.numpy() == 1).all()
    assert "Y" not in next(iter(as_tf_dataset(store, store.groups(1), form="dictionary")))


def test_without_tensorflow_the_error_says_what_to_install(tiny_store, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'ptychostream\[tensorflow\]'"):
        as_tf_dataset(tiny_store, tiny_store.groups(1))


def test_a_form_without_a_name_is_refused(tiny_store):
    with pytest.raises(ConfigurationError, match="'training' and 'dictionary'"):
        as_tf_dataset(tiny_store, tiny_store.groups(1), form="pairs")
