"""The paper's configuration: its sizes, and the same networks, narrow, at work."""

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from bundle.engines.losses import AutoencoderLoss
from bundle.networks import Reconstruction

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
NARROW = {
    "image_size": 64,
    "slices": 4,
    "sampling_steps": 2,
    "network_def#autoencoder#channels": [32, 32, 64, 64],
    "network_def#unet#channels": [64, 128, 256, 256],
    "network_def#unet#num_head_channels": [8, 16, 32, 32],
    "network_def#unet#cross_attention_dim": 64,
    "network_def#film_encoder#image_size": 28,
    "network_def#film_encoder#width": 64,
    "network_def#film_encoder#layers": 2,
    "network_def#film_encoder#heads": 4,
    "network_def#film_encoder#output_dim": 48,
    "network_def#film_encoder#context_dim": 64,
}


def parser(base, changes=None):
    result = ConfigParser()
    result.read_config([str(CONFIGS / f"{base}.json"), str(CONFIGS / "paper.json")])
    for name, value in (changes or {}).items():
        result[name] = value
    return result


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("base", ["train", "inference"])
def test_the_papers_networks_have_the_published_number_of_parameters(base):
    """zero123.md 1 and 3; the heads are 2 x (in -> 1280 -> 1280) beside the checkpoint's UNet."""
    with torch.device("meta"):
        network = parser(base).get_parsed_content("network_def")
    unet = network.denoiser.unet
    heads = 320 * 1280 + 66 * 1280 + 2 * (1280 + 1280 * 1280 + 1280)
    assert count(network.autoencoder) == 83_653_863
    assert count(unet) == 859_532_484 + heads
    assert count(network.denoiser.film_encoder.tower) == 303_966_208
    assert count(network.denoiser.film_encoder.projection) == 768 * 768 + 768
    assert network.grid.shape == (256, 256, 50)
    if base == "train":  # the two figures that docs/scaling.md computes memory from
        trained = sum(p.numel() for p in network.denoiser.parameters() if p.requires_grad)
        assert (count(network), trained) == (1_251_519_147, 841_899_076)


def test_the_papers_rate_is_the_base_rate_times_the_batch():
    """design.md 3.15: 1e-6 is ldm's base rate; 64 slices make 6.4e-5 of it, unless told not to."""
    assert parser("train").get_parsed_content("learning_rate") == pytest.approx(6.4e-5)
    assert parser("train", {"scale_lr": False}).get_parsed_content("learning_rate") == 1e-6


@pytest.fixture
def narrow():
    torch.manual_seed(0)
    return parser("train", NARROW).get_parsed_content("network_def")


def test_the_papers_configuration_makes_a_volume_when_narrow(narrow):
    film = torch.linspace(-1, 1, 64).expand(1, 1, 64, 64)
    with torch.no_grad():
        volume = narrow.eval()(film)
    assert volume.shape == (1, 1, 64, 64, 4)
    assert volume.isfinite().all()


def test_the_papers_configuration_trains_a_step_when_narrow(narrow):
    """Ten steps on one batch lower the loss, and the frozen tower stays as it was."""
    denoiser, latent = narrow.denoiser.train(), torch.randn(2, 4, 8, 8)
    tower = narrow.denoiser.film_encoder.tower
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    trained = [p for p in denoiser.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    losses = []
    for _ in range(10):
        prediction = denoiser(
            latent,
            torch.tensor([100.0, 1500.0]),
            depth=torch.tensor([0.2, 0.8]),
            readings=torch.ones(2, 66),
            film_latent=latent.flip(0),
            film=torch.rand(2, 1, 64, 64),
        )
        loss = (prediction - latent).square().mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in trained)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in tower.state_dict().items())


def test_a_grey_image_trains_the_colour_autoencoder_as_three_equal_channels(narrow):
    """Mean over three channels of equal targets: the loss by hand; encoding grey is encoding it repeated."""
    module, loss = Reconstruction(narrow.autoencoder), AutoencoderLoss(kl_weight=0.0, pixel_loss="mse")
    image = torch.rand(2, 1, 32, 32)
    output = module(image, torch.zeros(2, 4, 4, 4))
    assert output[0].shape == (2, 3, 32, 32)
    expected = torch.stack([(output[0][:, c] - image[:, 0]).square().mean() for c in range(3)]).mean()
    torch.testing.assert_close(loss(output, image), expected)
    torch.testing.assert_close(
        narrow.autoencoder.encode(image)[0], narrow.autoencoder.encode(image.repeat(1, 3, 1, 1))[0]
    )
