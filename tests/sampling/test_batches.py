"""Batches that fit memory: the size is found, kept, and changes nothing in the result."""

import pytest
import torch
from small_network import set_zero_layers, small_unet

from bundle.networks import FilmToVolume
from bundle.sampling import DiffusionSchedule, FittingBatches, FlowSchedule
from bundle.sampling.batches import out_of_memory

CPU = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."
SHORT = {"python": MemoryError(), "cpu": RuntimeError(CPU), "cuda": torch.cuda.OutOfMemoryError("CUDA out of memory.")}


def limited(largest, error, sizes):
    """A function of a part that fails, as memory does, above `largest` items."""

    def work(part):
        sizes.append(part.stop - part.start)
        if sizes[-1] > largest:
            raise error
        return 2.0 * torch.arange(part.start, part.stop)

    return work


@pytest.mark.parametrize("error", SHORT.values(), ids=SHORT)
def test_the_batch_is_halved_until_it_fits_and_stays_so(error):
    """20 -> 10 -> 5 at a limit of 6: four batches of 5, and nothing larger is tried again."""
    sizes = []
    batches = FittingBatches(50)
    assert batches(limited(6, error, sizes), 20).tolist() == [2.0 * item for item in range(20)]
    assert sizes == [20, 10, 5, 5, 5, 5]
    sizes.clear()
    batches(limited(6, error, sizes), 20)
    assert sizes == [5, 5, 5, 5], "the found size holds for what comes after"


def test_memory_that_runs_out_midway_keeps_what_is_done():
    sizes, largest = [], [8]

    def work(part):
        sizes.append((part.start, part.stop))
        if part.stop - part.start > largest[0]:
            raise MemoryError
        largest[0] = 3  # another program takes memory
        return torch.arange(part.start, part.stop)

    assert FittingBatches(8)(work, 12).tolist() == list(range(12))
    assert sizes == [(0, 8), (8, 12), (8, 10), (10, 12)]


def test_other_errors_pass_and_one_item_too_many_is_said():
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not out_of_memory(ValueError("out of memory"))
    with pytest.raises(ZeroDivisionError):
        FittingBatches(4)(lambda part: 1 / 0, 4)
    with pytest.raises(RuntimeError, match="mat1"):
        FittingBatches(4)(limited(0, RuntimeError("mat1"), []), 4)
    with pytest.raises(RuntimeError, match="one item at a time does not fit memory"):
        FittingBatches(4)(limited(0, SHORT["cpu"], []), 4)
    with pytest.raises(ValueError, match="`size` must be at least 1"):
        FittingBatches(0)


@pytest.mark.parametrize("stage", ["denoiser", "decoder"])
@pytest.mark.parametrize("schedule", ["flow", "ancestral"])
def test_a_volume_does_not_depend_on_the_size_that_fits(small_network, monkeypatch, schedule, stage):
    """The step is repeated with the same noise, wherever in the volume memory runs out."""
    if schedule == "ancestral":
        small_network.schedule = DiffusionSchedule(num_train_timesteps=1000, eta=1.0, prediction_type="v_prediction")
    small_network.noise_correlation = "correlated"
    small_network.slice_batch = small_network.decode_batch = 6
    film = torch.linspace(-1, 1, 16).expand(2, 1, 16, 16)
    whole = small_network(film, seed=5)
    part = small_network.denoiser if stage == "denoiser" else small_network.autoencoder.decoder
    sizes, plain = [], part.forward

    def forward(first, *others, **conditions):
        sizes.append(len(first))
        if len(sizes) > 1 and len(first) > 2:  # the first call fits: memory runs out on the way
            raise RuntimeError(CPU)
        return plain(first, *others, **conditions)

    monkeypatch.setattr(part, "forward", forward)
    torch.testing.assert_close(small_network(film, seed=5), whole, atol=1e-5, rtol=0)
    assert sizes[:3] == [6, 6, 3]
    assert set(sizes[3:]) == {2}, "the second knee begins with the size that the first one found"


def test_slices_that_see_each_other_go_on_with_smaller_batches_between(small_network, monkeypatch):
    """The stack stays whole; the blocks that treat slices alone take fewer at once, and the volume is the same."""
    torch.manual_seed(0)
    network = FilmToVolume(
        autoencoder=small_network.autoencoder,
        unet=small_unet(8, depth_mixing={"num_head_channels": 16}),
        film_encoder=small_network.denoiser.film_encoder,
        schedule=small_network.schedule,
        image_size=16,
        slices=6,
        sampling_steps=2,
    ).eval()
    set_zero_layers(network.denoiser)
    film = torch.linspace(-1, 1, 16).expand(1, 1, 16, 16)
    with torch.no_grad():
        whole = network(film, seed=5)
        sizes, middle = [], network.denoiser.unet.middle_block
        plain = middle.forward

        def forward(hidden_states, **others):
            sizes.append(len(hidden_states))
            if len(hidden_states) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return plain(hidden_states=hidden_states, **others)

        monkeypatch.setattr(middle, "forward", forward)
        torch.testing.assert_close(network(film, seed=5), whole, atol=1e-4, rtol=0)
        assert sizes == [6, 3, 2, 2, 2, 2, 2, 2]
        plain = lambda **_: (_ for _ in ()).throw(MemoryError)  # noqa: E731
        with pytest.raises(RuntimeError, match="one item at a time"):
            network(film, seed=5)


GUIDED = {
    "flow": FlowSchedule(),
    "ddim": DiffusionSchedule(num_train_timesteps=1000),
    "ancestral": DiffusionSchedule(num_train_timesteps=1000, prediction_type="v_prediction", eta=1.0),
    "dpm_solver": DiffusionSchedule(num_train_timesteps=1000, solver="dpm_solver", spacing="log_snr"),
}


@pytest.mark.parametrize("name", GUIDED)
def test_guidance_works_with_every_sampler(small_network, name):
    """At scale 0 the film says nothing, at 1 the plain volume comes out, and beyond it another."""
    small_network.schedule = GUIDED[name]
    film = torch.linspace(-1, 1, 16).expand(1, 1, 16, 16)
    volumes = {}
    for scale in (0.0, 0.999999, 1.0, 4.0):
        small_network.guidance_scale = scale
        volumes[scale] = small_network(film, steps=3)
    torch.testing.assert_close(volumes[0.999999], volumes[1.0], atol=1e-3, rtol=0)
    assert not torch.allclose(volumes[4.0], volumes[1.0], atol=1e-3)
    small_network.guidance_scale = 0.0
    assert torch.equal(volumes[0.0], small_network(film.flip(-1), steps=3))
