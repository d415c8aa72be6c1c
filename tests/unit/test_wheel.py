"""The timing wheel: order, exactness, far deadlines, periodic callbacks."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxload.clock import monotonic_ns
from voxload.ring import native_alarm
from voxload.timer import AlarmTimer, DescriptorTimer, WheelTimer
from voxload.wheel import LOOK_SLOTS, SLOT_NS, SLOTS, Wheel

MS = 1_000_000


def drive(wheel: Wheel, until_ns: int) -> None:
    while (due_ns := wheel.next_due_ns()) is not None and due_ns <= until_ns:
        wheel.advance(due_ns)
    wheel.advance(until_ns)


@given(st.lists(st.integers(0, 10_000 * MS), max_size=60), st.integers(0, 5 * MS))
def test_every_deadline_runs_once_never_early_at_most_a_slot_late(dues, start_ns):
    wheel, clock, ran = Wheel(start_ns), [start_ns], []
    for due_ns in dues:
        wheel.at(due_ns, lambda due: ran.append((due, clock[0])) or 0)
    assert len(wheel) == len(dues)
    while (now_ns := wheel.next_due_ns()) is not None:
        clock[0] = now_ns
        wheel.advance(now_ns)
    assert sorted(due for due, _ in ran) == sorted(dues)
    for due_ns, at_ns in ran:
        assert at_ns >= due_ns
        assert at_ns - max(due_ns, start_ns) <= 2 * SLOT_NS
    assert len(wheel) == 0


def test_a_period_does_not_drift():
    wheel, seen = Wheel(0), []

    def tick(due_ns):
        seen.append(due_ns)
        return due_ns + 20 * MS if len(seen) < 500 else 0

    wheel.at(20 * MS + 123_456, tick)
    drive(wheel, 20_000 * MS)
    assert seen == [20 * MS + 123_456 + n * 20 * MS for n in range(500)]


def test_a_stalled_driver_runs_all_that_is_overdue_in_order_of_slots():
    wheel, seen = Wheel(0), []
    for due_ms in (900, 5, 3000, 40, 2500):
        wheel.at(due_ms * MS, lambda due: seen.append(due // MS) or 0)
    wheel.advance(2600 * MS)
    assert seen == [5, 40, 900, 2500]
    wheel.advance(3000 * MS)
    assert seen[-1] == 3000


def test_a_periodic_callback_catches_up_after_a_stall():
    wheel, seen = Wheel(0), []
    wheel.at(20 * MS, lambda due: seen.append(due) or due + 20 * MS)
    wheel.advance(2000 * MS)
    assert len(seen) == 100


def test_deadlines_beyond_the_horizon_wait_in_the_heap():
    wheel, seen = Wheel(0), []
    far_ns = (SLOTS * 3 + 17) * SLOT_NS
    wheel.at(far_ns, lambda due: seen.append(due) or 0)
    assert wheel.next_due_ns() == far_ns
    wheel.advance(far_ns - SLOT_NS)
    assert seen == []
    wheel.advance(far_ns)
    assert seen == [far_ns]


def test_the_heap_is_looked_at_for_many_deadlines_at_once():
    looks, seen = [], []

    class Watched(Wheel):
        def _admit(self):
            super()._admit()
            looks.append(self.slots.tick)

    wheel, dues = Watched(0), [3000 * MS + n * 4 * MS for n in range(250)]
    for due_ns in dues:
        wheel.at(due_ns, lambda due: seen.append(due) or 0)
    for tick in range(8192):
        wheel.advance(tick * SLOT_NS)
    assert seen == dues
    assert 1000 * MS // (LOOK_SLOTS * SLOT_NS) <= len(looks) <= 1000 * MS // (LOOK_SLOTS * SLOT_NS) + 2


def test_the_timer_is_woken_by_an_earlier_deadline():
    now, armed = [0], []

    class Handle:
        def cancel(self):
            armed.clear()

    def call_later(delay_s, callback):
        armed[:] = [(delay_s, callback)]
        return Handle()

    wheel, ran = Wheel(0), []
    timer = WheelTimer(wheel, lambda: now[0], call_later)
    timer.start()
    assert armed == []
    wheel.at(500 * MS, lambda due: ran.append(due) or 0)
    assert armed[0][0] == 0.5
    wheel.at(100 * MS, lambda due: ran.append(due) or 0)
    assert armed[0][0] == 0.1
    now[0] = 100 * MS
    armed.pop()[1]()
    assert ran == [100 * MS]
    assert armed[0][0] == 0.4
    timer.stop()
    assert armed == []


def alarm(wheel, loop):
    return WheelTimer.on_loop(wheel, monotonic_ns, loop)


def descriptor(wheel, loop):
    return WheelTimer(wheel, monotonic_ns, DescriptorTimer(loop))


both_timers = pytest.mark.parametrize("make", [alarm, descriptor])


def test_where_it_was_compiled_the_alarm_drives_a_wheel_by_the_machines_clock():
    class Loop:
        call_later = None

        def add_reader(self, fd, callback):
            pass

    assert isinstance(WheelTimer.on_loop(Wheel(0), monotonic_ns, Loop()), AlarmTimer) == (native_alarm is not None)


@both_timers
def test_a_timer_of_the_kernel_drives_a_wheel(make):
    async def run():
        wheel, late_ns, done = Wheel(monotonic_ns()), [], asyncio.Event()
        timer = make(wheel, asyncio.get_running_loop())

        def tick(due_ns):
            late_ns.append(monotonic_ns() - due_ns)
            if len(late_ns) < 50:
                return due_ns + 3 * MS
            done.set()
            return 0

        timer.start()
        wheel.at(monotonic_ns() + 3 * MS, tick)
        await asyncio.wait_for(done.wait(), 20)
        timer.stop()
        timer.stop()
        assert min(late_ns) >= 0

    asyncio.run(run())


@both_timers
def test_near_far_and_overdue_deadlines_run_in_real_time_in_order_and_not_early(make):
    async def run():
        start_ns = monotonic_ns()
        wheel = Wheel(start_ns - 2_000 * MS)  # so that what is due in 60 ms is beyond its horizon
        seen, done = [], asyncio.Event()
        timer = make(wheel, asyncio.get_running_loop())

        def note(due_ns):
            seen.append((due_ns, monotonic_ns()))
            if due_ns == dues[-1]:
                done.set()
            return 0

        dues = [start_ns + each * MS for each in (-1_900, -20, 3, 4, 40, 60, 61, 90, 150, 151)]
        for due_ns in reversed(dues):
            wheel.at(due_ns, note)
        assert len(wheel._far) == 5
        timer.start()
        await asyncio.sleep(0.01)
        wheel.at(dues[-1] - 100 * MS, lambda due: wheel.at(due + 5 * MS, note) or 0)  # sooner than the next one
        await asyncio.wait_for(done.wait(), 20)
        timer.stop()
        assert [due for due, _ in seen] == sorted([*dues, dues[-1] - 95 * MS])
        assert all(at_ns >= due_ns for due_ns, at_ns in seen)
        assert len(wheel) == 0

    asyncio.run(run())


@both_timers
@pytest.mark.parametrize("told", [True, False])
def test_an_exception_of_a_callback_stops_no_timer(make, told):
    async def run():
        loop = asyncio.get_running_loop()
        failures, errors, seen, done = [], [], [], asyncio.Event()
        loop.set_exception_handler(lambda _, context: errors.append(str(context["exception"])))
        wheel = Wheel(monotonic_ns())
        wheel.failed = (lambda callback, error: failures.append(str(error))) if told else None
        timer = make(wheel, loop)
        timer.start()

        def breaks(due_ns):
            raise ValueError("broken")

        wheel.at(monotonic_ns() + 2 * MS, breaks)
        wheel.at(monotonic_ns() + 6 * MS, lambda due: seen.append(due) or done.set() or 0)
        await asyncio.wait_for(done.wait(), 20)
        timer.stop()
        assert (failures, errors) == (["broken"], []) if told else ([], ["broken"])
        assert len(seen) == 1

    asyncio.run(run())


@both_timers
def test_a_callback_may_stop_the_timer(make):
    async def run():
        wheel, seen, done = Wheel(monotonic_ns()), [], asyncio.Event()
        timer = make(wheel, asyncio.get_running_loop())

        def last(due_ns):
            timer.stop()
            done.set()
            return due_ns + 2 * MS

        timer.start()
        wheel.at(monotonic_ns() + 2 * MS, last)
        wheel.at(monotonic_ns() + 8 * MS, lambda due: seen.append(due) or 0)
        await asyncio.wait_for(done.wait(), 20)
        await asyncio.sleep(0.02)
        assert not seen
        assert len(wheel) == 2

    asyncio.run(run())


def test_a_callback_that_raises_is_dropped_and_told():
    wheel, seen, failures = Wheel(0), [], []
    wheel.failed = lambda callback, error: failures.append(str(error))

    def bad(due_ns):
        raise ValueError("no")

    for _ in range(3):
        wheel.at(5 * MS, bad)
        wheel.at(5 * MS, lambda due: seen.append(due) or 0)
    wheel.advance(10 * MS)
    assert (len(seen), failures) == (3, ["no"] * 3)
