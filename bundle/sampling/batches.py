"""Work on a stack in batches that fit memory: the size is found by trying, not guessed."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Work = Callable[[slice], Tensor]
"""Part of the stack -> its result, (items of the part, ...)."""
SIGNS = ("DefaultCPUAllocator", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""Words by which torch's plain RuntimeErrors say that memory is short; CUDA's allocator has a class of its own."""


class FittingBatches:
    """Batches of a stack, halved where memory runs out; the found size holds for everything that comes after.

    What ran out is called again with the first half of its part, so that `work` must draw nothing: noise comes from
    outside, and the result is that of any other size.

    Args:
        size: items of a batch, to begin with.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"`size` must be at least 1, got {size}.")
        self.size = size

    def __call__(self, work: Work, count: int) -> Tensor:
        """Results of all `count` items, concatenated.

        Raises:
            RuntimeError: if not even one item fits memory.
        """
        results: list[Tensor] = []
        start = 0
        while start < count:
            part = slice(start, min(start + self.size, count))
            result = self._try(work, part)
            if result is not None:
                results.append(result)
                start = part.stop
        return torch.cat(results)

    def within(self, work: Callable[[int], Tensor], count: int) -> Tensor:
        """Result of work on all `count` items that takes them in batches itself, called with their size.

        Raises:
            RuntimeError: if not even one item at a time fits memory.
        """
        while True:
            size = min(self.size, count)
            result = self._try(lambda part: work(part.stop), slice(0, size))
            if result is not None:
                return result

    def _try(self, work: Work, part: slice) -> Tensor | None:
        """The part's result; or None where memory ran out, and `size` is halved."""
        try:
            return work(part)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            length = part.stop - part.start
            if length == 1:
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                raise RuntimeError(f"one item at a time does not fit memory ({reason}).") from error
            self.size = (length + 1) // 2
        # outside `except`, whose traceback would keep the failed call's tensors alive
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        logger.warning(f"memory ran out at {length} items at once; going on with {self.size}")
        return None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the CPU or of a GPU, is short."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)
