"""The names of the window, in labels, tooltips and log."""

import logging
import re

import pytest

pytest.importorskip("ptychodus", reason="pip install 'ptychostream[ptychodus]'")

from ptychodus.api.settings import SettingsRegistry

from ptychodus_ext.labels import LABELS
from ptychodus_ext.library import PtychoStreamLibrary
from ptychodus_ext.settings import StreamSettings
from ptychodus_ext.words import explained, in_words


def _settings():
    return [setting for group in StreamSettings(SettingsRegistry()) for setting, _ in group]


def test_every_setting_has_a_name_in_words():
    names = {setting.field: LABELS[setting.field] for setting in _settings()}
    assert not [name for name in names.values() if re.search(r"[a-z]_|[a-z][A-Z]", name)]
    assert set(names) == set(LABELS)


def test_no_tooltip_has_the_name_of_a_field_or_of_nothing():
    fields = {setting.field for setting in _settings() if "_" in setting.field}
    choices = {choice for setting in _settings() for choice in setting.choices}
    for setting in _settings():
        text = explained(setting.field, setting.meaning, is_choice=bool(setting.choices))
        words = set(re.findall(r"\w+", text))
        assert not (words & {*fields, "None", "True", "False"}) - choices, text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "it has not converged; go on from this result with --start, or give more --passes",
            "it has not converged; go on from this result with “Start from” at product, or give "
            "more “Passes”",
        ),
        (
            "Lower --execution.learning_rate, or set --intensity_scale_trainable false",
            "Lower “Learning rate”, or set “Learn the intensity scale” not ticked",
        ),
        (
            "leave such patterns out: build with --leave_out '[3,9]'",
            "leave such patterns out by the limits of the total counts when diffraction data are "
            "loaded",
        ),
        (
            "If it lies in the corner, build with --swap_quadrants true",
            "If it lies in the corner, put it into the middle before the data are loaded",
        ),
        ("no store '/store_path/middle_trim.zarr'", "no store '/store_path/middle_trim.zarr'"),
    ],
)
def test_advice_for_the_command_line_is_advice_for_the_window(said, shown):
    assert in_words(said) == shown


def test_the_log_of_the_window_has_the_words_of_the_window(caplog):
    PtychoStreamLibrary(SettingsRegistry())
    with caplog.at_level(logging.WARNING):
        logging.getLogger("ptychostream.ptychodus").warning("set --gradient_clip_val %d", 1)
    assert caplog.messages == ["set “Limit for gradients” 1"]
