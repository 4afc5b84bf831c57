"""When the window is given pictures."""

import time
from types import SimpleNamespace

import pytest

pytest.importorskip("ptychodus", reason="pip install 'ptychostream[ptychodus]'")

from ptychodus_ext.application import Application


class Tasks:
    """What ptychodus does in its window's thread, when it gets to it."""

    is_stopping = False

    def __init__(self):
        self.waiting = []

    def put_foreground_task(self, task):
        self.waiting.append(task)

    def run(self):
        for task in self.waiting:
            task()
        self.waiting = []


@pytest.fixture
def tasks():
    return Tasks()


@pytest.fixture
def application(tasks):
    application = Application()
    monitor = SimpleNamespace(is_stopping=False)
    api = SimpleNamespace(task_monitor=monitor, get_reconstruct_input=None, train=None)
    api.get_reconstruct_input = api.train = lambda: None
    application.connect(SimpleNamespace(processing_api=api, algorithm_parameter=None), tasks, [])
    application.connect_plot(object())
    return application


def test_a_picture_waits_until_the_one_before_is_shown(application, tasks):
    assert application.wants_pictures
    application.picture_comes()
    application.picture_is_sent()
    assert not application.wants_pictures
    tasks.run()
    time.sleep(0.02)
    assert application.wants_pictures


def test_a_window_that_shows_slowly_is_given_pictures_seldom(application, tasks):
    application.picture_comes()
    # As ptychodus does with a large scan.
    tasks.put_foreground_task(lambda: time.sleep(0.05))
    application.picture_is_sent()
    tasks.run()
    assert not application.wants_pictures
    time.sleep(0.6)
    assert application.wants_pictures
