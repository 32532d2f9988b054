"""Reading ahead: blocks of images are decoded by a few threads while the caller works on earlier ones."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Answer = TypeVar("Answer")

#: From so many pixels on, what Pillow does to an image (without the GIL) outweighs what is Python about it.
LARGE_AREA = 128 * 128


def workers() -> int:
    """Threads to decode large images with: as many as there are processors for us, at most 8."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, usable)


def read_ahead(
    read: Callable[[Task], Answer], tasks: Iterable[Task], *, threads: int, ahead: int
) -> Generator[Answer, None, None]:
    """``read(task)`` of every task, in order, with at most ``ahead`` of them done or under way before they are asked.

    An error of ``read`` is raised where its answer would have come. A caller that stops early leaves nothing running.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="amla-images")
    pending: deque[Future[Answer]] = deque()
    try:
        for task in tasks:
            pending.append(pool.submit(read, task))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
