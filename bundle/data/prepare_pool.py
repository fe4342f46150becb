"""Many knees in parallel processes, of which one may die over a bad file without ending the run."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import torch
from monai.utils import optional_import

from bundle.data.oai_index import KneePair
from bundle.data.prepare_knee import Outcome

tqdm, _ = optional_import("tqdm", name="tqdm")

KILLED = "its files end the process that reads them: damaged in a way no decoder survives, or too large for memory"


def run(pairs: Sequence[KneePair], work: Callable[[KneePair], Outcome], workers: int | None) -> Iterator[Outcome]:
    """Outcomes of `work`, in the order in which they come, with a bar of progress.

    A process that dies takes its pool with it. The knees that were at work are then tried one by one, each in a process
    of its own, so that the bad one is known; the others go on.

    Args:
        pairs: knees.
        work: gives a knee's outcome; must survive pickling.
        workers: processes; None means one a core, 1 none but this.
    """
    with tqdm(total=len(pairs), desc="knees", unit="knee") as bar:
        for outcome in map(work, pairs) if workers == 1 else _parallel(list(pairs), work, workers):
            bar.update()
            yield outcome


def _parallel(left: list[KneePair], work: Callable[[KneePair], Outcome], workers: int | None) -> Iterator[Outcome]:
    count = max(1, min(workers or os.cpu_count() or 1, len(left)))
    while left:
        done = set()
        try:
            for outcome in _pool(left, work, count):
                done.add(outcome.pair.name)
                yield outcome
        except BrokenProcessPool:
            left = [pair for pair in left if pair.name not in done]
            # jobs start in order, so those that were at work are the first that have not ended
            for suspect in left[:count]:
                try:
                    yield from _pool([suspect], work, 1)
                except BrokenProcessPool:
                    yield Outcome(suspect, reason=KILLED)
            left = left[count:]
        else:
            return


def _pool(pairs: list[KneePair], work: Callable[[KneePair], Outcome], count: int) -> Iterator[Outcome]:
    # forked where that is sound: importing torch anew takes seconds a process; with one thread no pool is inherited
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(count, context, _start, (os.getpid(),)) as pool:
        jobs = [pool.submit(work, pair) for pair in pairs]
        try:
            for job in as_completed(jobs):
                yield job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start(parent: int) -> None:
    """One thread a process; and a process whose parent was killed ends instead of waiting for ever."""
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
