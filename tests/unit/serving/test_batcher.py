"""The micro-batcher: images are counted one by one, batches keep their maximum, and an idle server is never full."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import pytest

from lpt.packs.engine import Output
from lpt.packs.prediction import Prepared
from lpt.serving.batcher import ClosedError, Job, MicroBatcher, QueueFullError


class Network:
    """A runner whose images are numbers; it returns them as scores, and fails at negative ones."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def run(self, batch: Sequence[Prepared], *, attention: bool = False) -> list[Output]:
        self.entered.set()
        assert self.gate.wait(30)
        numbers = cast(list[int], list(batch))
        self.batches.append(numbers)
        if min(numbers) < 0:
            raise ValueError("a negative image")
        return [Output(np.array([number], np.float32), (), None) for number in numbers]


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def batcher() -> Iterator[MicroBatcher]:
    batcher = MicroBatcher(24, lambda runner: 8)
    batcher.start()
    yield batcher
    batcher.close()


def put(batcher: MicroBatcher, network: Network, numbers: Sequence[int], **options: Any) -> Job:
    job = batcher.accept(len(numbers))
    for place, number in enumerate(numbers):
        job.put(place, network, cast(Prepared, number), **options)
    return job


def hold(batcher: MicroBatcher, network: Network, number: int = 0) -> Job:
    """Let the network be busy with an image, so that what comes now waits."""
    network.gate.clear()
    network.entered.clear()
    job = put(batcher, network, [number])
    assert network.entered.wait(30)
    return job


def numbers_of(job: Job) -> list[int]:
    return [int(output.scores[0]) for _, output in job.future.result(timeout=30)]


def test_images_of_a_request_are_counted_one_by_one(batcher: MicroBatcher, network: Network) -> None:
    hold(batcher, network)
    job = put(batcher, network, range(1, 21))
    assert batcher.queued == 20
    network.gate.set()
    assert numbers_of(job) == list(range(1, 21))
    assert [len(batch) for batch in network.batches] == [1, 8, 8, 4]


def test_a_batch_takes_what_waits_of_all_requests_and_never_exceeds_its_maximum(
    batcher: MicroBatcher, network: Network
) -> None:
    hold(batcher, network)
    jobs = [put(batcher, network, range(5 * number, 5 * number + 5)) for number in range(4)]
    network.gate.set()
    assert [numbers_of(job) for job in jobs] == [list(range(5 * number, 5 * number + 5)) for number in range(4)]
    assert [len(batch) for batch in network.batches] == [1, 8, 8, 4]
    assert [number for batch in network.batches[1:] for number in batch] == list(range(20))  # first come, first served


def test_an_idle_batcher_is_never_full_and_never_waits(batcher: MicroBatcher, network: Network) -> None:
    for _ in range(30):
        assert numbers_of(put(batcher, network, range(24))) == list(range(24))
        assert batcher.queued == 0
    assert numbers_of(put(batcher, network, [7])) == [7]


def test_a_full_queue_refuses_whole_requests_until_there_is_room(batcher: MicroBatcher, network: Network) -> None:
    hold(batcher, network)
    waiting = put(batcher, network, range(20))
    with pytest.raises(QueueFullError) as error:
        batcher.accept(5)
    assert (error.value.waiting, error.value.seconds >= 1) == (20, True)
    last = put(batcher, network, [1, 2, 3, 4])
    network.gate.set()
    assert (len(numbers_of(waiting)), numbers_of(last)) == (20, [1, 2, 3, 4])


def test_images_of_a_cancelled_request_leave_the_queue(batcher: MicroBatcher, network: Network) -> None:
    hold(batcher, network)
    gone, kept = put(batcher, network, range(10)), put(batcher, network, range(100, 110))
    late = batcher.accept(4)
    gone.cancel()
    late.cancel()
    assert batcher.queued == 10
    late.put(0, network, cast(Prepared, 55))  # decoded after nobody wants it any more
    network.gate.set()
    assert numbers_of(kept) == list(range(100, 110))
    assert network.batches == [[0], list(range(100, 108)), [108, 109]]
    assert gone.future.cancelled()
    assert late.future.cancelled()


def test_only_the_request_of_the_culprit_fails(batcher: MicroBatcher, network: Network) -> None:
    hold(batcher, network)
    first, bad, last = (put(batcher, network, numbers) for numbers in ([1, 2], [3, -4], [5]))
    network.gate.set()
    assert (numbers_of(first), numbers_of(last)) == ([1, 2], [5])
    with pytest.raises(ValueError, match="negative"):
        bad.future.result(timeout=30)
    assert batcher.queued == 0
    assert numbers_of(put(batcher, network, [6])) == [6]


def test_a_runner_that_loses_an_image_fails_its_request_only(batcher: MicroBatcher, network: Network) -> None:
    class Losing(Network):
        def run(self, batch: Sequence[Prepared], *, attention: bool = False) -> list[Output]:
            return super().run(batch, attention=attention)[1:]

    with pytest.raises(ValueError, match="zip"):
        put(batcher, Losing(), [1, 2]).future.result(timeout=30)
    assert numbers_of(put(batcher, network, [3])) == [3]


def test_predictors_and_attention_do_not_share_a_batch(batcher: MicroBatcher, network: Network) -> None:
    other = Network()
    hold(batcher, network)
    jobs = [
        put(batcher, network, [1]),
        put(batcher, other, [2]),
        put(batcher, network, [3], attention=True),
        put(batcher, network, [4]),
    ]
    network.gate.set()
    assert [numbers_of(job) for job in jobs] == [[1], [2], [3], [4]]
    assert (network.batches, other.batches) == ([[0], [1, 4], [3]], [[2]])


def test_what_was_accepted_is_finished_when_it_closes(network: Network) -> None:
    batcher = MicroBatcher(24, lambda runner: 8)
    batcher.start()
    hold(batcher, network)
    job = put(batcher, network, range(12))
    closing = threading.Thread(target=batcher.close)
    closing.start()
    network.gate.set()
    closing.join(30)
    assert numbers_of(job) == list(range(12))
    assert not batcher.alive
    with pytest.raises(ClosedError):
        batcher.accept(1)


def test_many_threads_lose_no_image(batcher: MicroBatcher, network: Network) -> None:
    """Requests are accepted, decoded, cancelled and answered at the same time; the queue is empty in the end."""
    wrong: list[object] = []

    def ask(seed: int) -> None:
        for turn in range(40):
            numbers = [1000 * seed + turn, 1000 * seed + turn + 500]
            try:
                job = put(batcher, network, numbers)
            except QueueFullError as error:
                wrong.append(error)
                continue
            if turn % 5 == 0:
                job.cancel()
            elif numbers_of(job) != numbers:
                wrong.append(numbers)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert batcher.queued == 0
    assert max(map(len, network.batches)) <= 8
