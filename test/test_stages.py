"""Images go through decoding, describing and matching side by side, and never queue."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest
from live_node import localizer, map_street, street
from std_srvs.srv import Trigger

from d2vpr_ros.localize import State
from d2vpr_ros.nodes import localizer as node
from d2vpr_ros.nodes.answering import Answering
from d2vpr_ros.nodes.stages import Stages


class Gate:
    """A step that says what it has in hand and waits to be let on."""

    def __init__(self) -> None:
        self.entered, self.let_on = threading.Semaphore(0), threading.Semaphore(0)
        self.items: list[object] = []

    def __call__(self, item: object) -> object:
        self.items.append(item)
        self.entered.release()
        assert self.let_on.acquire(timeout=30)
        return item


def test_the_next_item_is_in_the_first_step_while_one_is_in_the_second() -> None:
    first, second = Gate(), Gate()
    stages = Stages({"first": first, "second": second})
    stages.put("a")
    first.let_on.release()
    assert second.entered.acquire(timeout=30)
    stages.put("b")
    assert first.entered.acquire(timeout=30) and first.entered.acquire(timeout=30)
    assert (first.items, second.items) == (["a", "b"], ["a"])
    for gate in (first, second):
        gate.let_on.release()
    stages.stop()


def test_a_slow_step_leaves_out_all_but_the_newest_of_each_source() -> None:
    slow = Gate()
    stages = Stages({"slow": slow})
    stages.put("a")
    assert slow.entered.acquire(timeout=30)
    for item, source in (("b", 0), ("c", 0), ("left", 1), ("d", 0)):
        stages.put(item, source)
    for _ in range(3):
        slow.let_on.release()
    for _ in range(2):
        assert slow.entered.acquire(timeout=30)
    stages.stop()
    assert slow.items == ["a", "left", "d"]


def test_stopping_waits_for_what_is_in_hand_and_drops_the_rest() -> None:
    first, second = Gate(), Gate()
    stages = Stages({"first": first, "second": second})
    stages.put("a")
    assert first.entered.acquire(timeout=30)
    stages.put("b")
    stopping = threading.Thread(target=stages.stop)
    stopping.start()
    first.let_on.release()
    stopping.join(30)
    assert not stopping.is_alive()
    assert (first.items, second.items) == (["a"], [])
    stages.stop()


def test_a_step_that_gives_nothing_ends_an_items_way() -> None:
    last = Gate()
    stages = Stages({"even": lambda item: item if item % 2 == 0 else None, "last": last})
    stages.put(1)
    stages.put(2, 1)
    assert last.entered.acquire(timeout=30)
    last.let_on.release()
    stages.stop()
    assert last.items == [2]


def test_the_node_localizes_and_stops_with_a_thread_for_each_step(
    tmp_path: Path, domain_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "Answering", partial(Answering, overlap=True))
    picture = street()
    names = {"decode", "describe", "localize"}
    with localizer(map_street(tmp_path / "street.d2map", picture), picture) as (_, robot):
        assert names <= {thread.name for thread in threading.enumerate()}
        assert all(answer.width > 0 for answer in robot.drive(first_m=8, images=8))
        robot.wait_until(lambda: robot.diagnostics().get("state") == State.LOCALIZED)
        assert robot.call(Trigger, "~/reload_map").success
        assert robot.drive(first_m=17, images=1)[0].width > 0
    assert not names & {thread.name for thread in threading.enumerate()}
