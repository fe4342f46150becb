"""What PSNR becomes where 8-bit differences wrap round, beside the right one."""

from __future__ import annotations

import numpy as np

PEAK = 255.0


def wrapped_psnr(y_pred: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """PSNR of two 8-bit images as it is, and as `((a - b) ** 2).mean()` gives it without leaving uint8.

    NumPy subtracts and squares uint8 modulo 256: a difference of 16 squares to 0, one of 17 to 33, and no square
    exceeds 255. The mean of such squares is about 100 for any two unlike images, which is 28 dB.

    Args:
        y_pred: synthesised image, uint8.
        y: real image, uint8, same shape.

    Returns:
        (PSNR, wrapped PSNR), dB with peak 255; infinite for a mean of 0.

    Raises:
        ValueError: on other types or unequal shapes.
    """
    if y_pred.dtype != np.uint8 or y.dtype != np.uint8 or y_pred.shape != y.shape:
        raise ValueError(
            f"`y_pred` and `y` must be uint8 of one shape, got {y_pred.dtype} {y_pred.shape} and {y.dtype} {y.shape}."
        )
    squares = np.square(y_pred.astype(float) - y.astype(float)).mean(), np.square(y_pred - y).mean()
    with np.errstate(divide="ignore"):
        right, wrapped = (float(10 * np.log10(PEAK**2 / square)) for square in squares)
    return right, wrapped
