"""What a process asks of its garbage collector."""

import gc

from voxload.process import YOUNG_MAX, tidy_garbage


def test_many_new_objects_are_left_alone_and_few_are_looked_through():
    gc.collect()
    gc.disable()
    try:
        cycle = []
        cycle.append(cycle)
        del cycle
        tidy_garbage()
        assert gc.get_count()[0] < 100
        frozen = gc.get_freeze_count()
        kept = [[] for _ in range(YOUNG_MAX + 2000)]
        tidy_garbage()
        assert gc.get_freeze_count() >= frozen + len(kept)
    finally:
        gc.unfreeze()
        gc.enable()
