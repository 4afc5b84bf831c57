"""A store that takes the place of another one: there is never none, and opening it never fails."""

import threading

import pytest

import ptychostream as ps
from ptychostream import exchange


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_store_is_opened_at_any_moment_while_it_is_overwritten(
    tiny_scan, tmp_path, monkeypatch, can_exchange
):
    if not can_exchange:
        monkeypatch.setattr(exchange, "exchange", lambda first, second: False)
    target = tmp_path / "s.zarr"
    scan = tiny_scan.select(range(16))
    ps.build_group_store(scan, target, progress=False)
    is_done, errors, opened = threading.Event(), [], []

    def read():
        while not is_done.is_set():
            try:
                opened.append(ps.open_group_store(target).num_patterns)
            except Exception as error:
                errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(6):
            ps.build_group_store(scan, target, overwrite=True, progress=False)
    finally:
        is_done.set()
        thread.join()
    assert not errors
    assert set(opened) == {16}
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


def test_a_replacement_that_was_killed_between_two_renamings_is_undone(tiny_scan, tmp_path):
    scan = tiny_scan.select(range(16))
    store = ps.build_group_store(scan, tmp_path / "s.zarr", progress=False)
    store.path.replace(tmp_path / ".s.zarr.replaced-0123-kept")
    with pytest.raises(ps.errors.StoreExistsError, match="exists"):
        ps.build_group_store(scan, tmp_path / "s.zarr", progress=False)
    assert ps.open_group_store(tmp_path / "s.zarr").num_patterns == 16
