"""Jobs end in the order of the seconds that they cost, on a clock that survives."""

from pathlib import Path

from amla import artifacts
from amla.executors.runner import ATTEMPT, RESULT
from amla.executors.simulated import SimulatedExecutor
from amla.spec.trial import Cost, Job, Result
from amla.testing import tiny


def costing(folder: Path, number: int, seconds: float) -> Job:
    """A job that has left its result, so that its cost is known beforehand."""
    job = tiny.job(str(folder / f"{number:04d}"), number=number)
    artifacts.write(job.folder, RESULT, Result(cost=Cost(seconds=seconds, simulated=True)).to_json().encode())
    artifacts.write_json(job.folder, ATTEMPT, 0)
    return job


def ended(executor: SimulatedExecutor, handles: dict[int, str]) -> list[int]:
    states = executor.poll(list(handles.values()))
    found = [number for number, handle in handles.items() if states[handle].state == "done"]
    for number in found:
        del handles[number]
    return found


def test_the_order_is_that_of_the_clock(tmp_path: Path) -> None:
    executor = SimulatedExecutor()
    handles = {n: executor.submit(costing(tmp_path, n, seconds)) for n, seconds in enumerate([30.0, 10.0, 20.0])}
    assert ended(executor, handles) == [1]
    handles[3] = executor.submit(costing(tmp_path, 3, 5.0))  # from 10 to 15
    assert ended(executor, handles) == [3]
    handles[4] = executor.submit(costing(tmp_path, 4, 15.0))  # from 15 to 30
    assert [ended(executor, handles) for _ in range(2)] == [[2], [0, 4]]


def test_the_clock_survives_its_executor(tmp_path: Path) -> None:
    first = SimulatedExecutor()
    handles = {n: first.submit(costing(tmp_path, n, seconds)) for n, seconds in enumerate([10.0, 25.0])}
    assert ended(first, handles) == [0]
    second = SimulatedExecutor()
    handles[2] = second.submit(costing(tmp_path, 2, 20.0))  # from 10 to 30: after the one that ends at 25
    assert [ended(second, handles) for _ in range(2)] == [[1], [2]]


def test_looking_again_changes_nothing(tmp_path: Path) -> None:
    executor = SimulatedExecutor()
    handles = [executor.submit(costing(tmp_path, n, seconds)) for n, seconds in enumerate([10.0, 20.0])]
    once = executor.poll(handles)
    assert executor.poll(handles) == once
    assert executor.poll([]) == {}


def test_experiments_have_clocks_of_their_own(tmp_path: Path) -> None:
    executor = SimulatedExecutor()
    handles = {n: executor.submit(costing(tmp_path / str(n), n, seconds)) for n, seconds in enumerate([30.0, 10.0])}
    assert ended(executor, handles) == [0, 1]
