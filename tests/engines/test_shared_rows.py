"""The latent cache: made by all ranks together, whole or not there, and not made twice after a kill."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch

from bundle.engines import share
from bundle.engines.shared_rows import LOCK, shared_rows

ROWS = 7
FORK = multiprocessing.get_context("fork")


def row(index):
    return np.full((2, 3), index + 1, dtype=np.float16)


def expected():
    return np.stack([row(index) for index in range(ROWS)])


def dies_at(path, index, made):
    def make(number):
        if number == index:
            os.kill(os.getpid(), signal.SIGKILL)
        made.append(number)
        return row(number)

    shared_rows(path, count=ROWS, make=make)


@pytest.mark.parametrize("index", [0, 4])
def test_a_killed_encoding_leaves_no_cache_and_goes_on_where_it_stopped(tmp_path, index):
    path = tmp_path / "latents-0.npy"
    process = FORK.Process(target=dies_at, args=(path, index, []))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not path.exists()
    made = []
    rows = shared_rows(path, count=ROWS, make=lambda number: made.append(number) or row(number))
    assert made == ([0, *range(1, ROWS)] if index == 0 else [4, 5, 6])
    assert np.array_equal(rows, expected())
    assert [file.name for file in tmp_path.iterdir() if file.name != LOCK] == ["latents-0.npy"]
    shared_rows(path, count=ROWS, make=lambda _: pytest.fail("made again"))


def one_of_many(path, queue):
    made = []
    rows = shared_rows(path, count=ROWS, make=lambda number: time.sleep(0.05) or made.append(number) or row(number))
    queue.put((made, np.array(rows)))


def test_runs_that_share_a_folder_take_turns(tmp_path):
    """Three processes that know nothing of each other: one makes every row, the others find them."""
    queue = FORK.Queue()
    runs = [FORK.Process(target=one_of_many, args=(tmp_path / "latents-0.npy", queue)) for _ in range(3)]
    for run in runs:
        run.start()
    found = [queue.get(timeout=60) for _ in runs]
    for run in runs:
        run.join()
    assert sorted(made for made, _ in found) == [[], [], list(range(ROWS))]
    assert all(np.array_equal(rows, expected()) for _, rows in found)


def one_of_two(rank, folder, queue):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    made = []
    rows = shared_rows(folder / "latents-0.npy", count=ROWS, make=lambda number: made.append(number) or row(number))
    queue.put((rank, made, np.array(rows), list(share(range(ROWS)))))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_ranks_make_each_row_once_and_both_see_all(tmp_path):
    queue = FORK.Queue()
    ranks = [FORK.Process(target=one_of_two, args=(rank, tmp_path, queue)) for rank in range(2)]
    for process in ranks:
        process.start()
    (_, first, rows, share0), (_, second, others, share1) = sorted(
        (queue.get(timeout=60) for _ in ranks), key=lambda found: found[0]
    )
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    assert first == [0, 2, 4, 6]
    assert second == [1, 3, 5]
    assert np.array_equal(rows, expected())
    assert np.array_equal(others, expected())
    assert [*share0, *share1] == list(range(ROWS)), "neighbours stay together, nobody is counted twice"


def test_nothing_to_encode_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="`count` must be at least 1, got 0"):
        shared_rows(tmp_path / "latents-0.npy", count=0, make=row)
    assert not list(tmp_path.iterdir())
