"""Augmentation is a function of seed, epoch and item."""

import torch
from monai.transforms import Compose, RandGaussianNoised

from bundle.engines import AugmentedDataset

DATA = [{"image": torch.zeros(1, 4, 4)} for _ in range(3)]


def dataset(seed=0, epoch=1):
    augmented = AugmentedDataset(DATA, Compose([RandGaussianNoised(keys="image", prob=1.0)]), seed=seed)
    augmented.set_epoch(epoch)
    return augmented


def test_order_and_earlier_items_have_no_say():
    forwards = [dataset()[i]["image"] for i in (0, 1, 2)]
    one = dataset()
    backwards = [one[i]["image"] for i in (2, 1, 0)]
    assert all(torch.equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))


def test_seed_epoch_and_item_each_change_the_draw():
    reference = dataset()[0]["image"]
    for other in (dataset(seed=1)[0], dataset(epoch=2)[0], dataset()[1]):
        assert not torch.equal(reference, other["image"])
