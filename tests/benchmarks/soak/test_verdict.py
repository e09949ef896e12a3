from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.soak.record import Fault, Idle, Record, Sample
from benchmarks.soak.verdict import demands, growth, percentile

MIB = 2**20


def sample(at: float, *, server_mib: float = 60, engine_pid: int = 7, engine_mib: float = 200) -> Sample:
    return Sample(at, int(server_mib * MIB), 10, engine_pid, int(engine_mib * MIB), 4, 3, 0, 0.5, int(at) * 100, 0, 0)


def good_run() -> Record:
    """Ten minutes in which nothing went wrong."""
    record = Record(samples=[sample(float(at)) for at in range(600)], idle=[Idle(8, 4), Idle(8, 4)])
    record.gaps = [(at / 10, 0.01) for at in range(6000)]
    record.answers["chat"] = 100
    return record


def unmet(record: Record) -> list[str]:
    return [demand.name.split()[0] + " " + demand.name.split()[1] for demand in demands(record) if not demand.met]


def test_a_good_run_meets_every_demand() -> None:
    assert not unmet(good_run())


def test_a_wrong_answer_fails_it() -> None:
    record = good_run()
    record.wrong.append("no")
    assert unmet(record) == ["no wrong"]


def test_a_run_without_answers_shows_nothing() -> None:
    record = good_run()
    record.answers.clear()
    assert unmet(record) == ["no wrong"]


def test_a_leak_of_the_server_fails_it() -> None:
    record = good_run()
    record.samples = [sample(each.at, server_mib=60 + each.at / 40) for each in record.samples]
    assert unmet(record) == ["the server's"]


def test_a_leak_of_the_engine_fails_it_and_what_each_needs_at_first_does_not() -> None:
    def run(leak: float) -> Record:
        record = good_run()
        lived = [each.at - 300 * (each.at >= 300) for each in record.samples]
        record.samples = [
            replace(
                sample(each.at, engine_pid=1 + int(each.at // 300), engine_mib=200 + min(age, 60) / 10 + age * leak),
                restarts=1,
            )
            for each, age in zip(record.samples, lived, strict=True)
        ]
        record.faults = [Fault("SIGKILL", 300, 301, 303)]
        return record

    assert not unmet(run(leak=0))
    assert unmet(run(leak=0.02)) == ["the longest"]


def test_descriptors_that_are_left_fail_it() -> None:
    record = good_run()
    record.idle[1] = Idle(9, 4)
    assert unmet(record) == ["as many"]


def test_an_engine_that_stays_away_and_one_that_dies_by_itself_fail_it() -> None:
    away, died = good_run(), good_run()
    away.faults = [Fault("SIGKILL", 300, 301, None)]
    died.samples[-1] = replace(died.samples[-1], restarts=1)
    assert unmet(away) == unmet(died) == ["every fault"]


def test_growing_gaps_fail_it() -> None:
    record = good_run()
    record.gaps += [(590.0, 0.02)] * 100
    assert unmet(record) == ["the 99th"]


def test_percentile() -> None:
    assert percentile([], 0.5) == 0
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile(range(1, 101), 1.0) == 100


def test_growth_is_that_of_the_last_two_thirds() -> None:
    assert growth([(x, 3 * x) for x in range(10)]) == pytest.approx(18)
    assert growth([(x, min(x, 3)) for x in range(10)]) == pytest.approx(0)
    assert growth([(1, 5)]) == growth([]) == 0


def test_only_what_overlaps_a_fault_is_excused() -> None:
    record = Record(faults=[Fault("SIGKILL", 10, 11, 15)])
    assert not record.excuses(5, 9)
    assert record.excuses(5, 10)
    assert record.excuses(12, 13)
    assert record.excuses(14, 99)
    assert not record.excuses(16, 99)
    record.faults.append(Fault("SIGSTOP", 20))
    assert record.excuses(16, 99)
