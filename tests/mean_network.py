"""The small network with a mean head, a film pyramid, or both."""

import torch

from bundle.networks import FilmPyramid, FilmToVolume, MeanHead, TwoPathUNet


def small_head(**options):
    settings = {"image_size": 16, "readings_width": 66, "channels": (8, 8, 16, 16), "groups": 4, "knots": 6}
    return MeanHead(**{**settings, **options})


def small_pyramid():
    return FilmPyramid(widths=(4, 8, 8, 16), unet_channels=(32, 32), groups=4)


def small_unet(in_channels, covariates=0, **more):
    return TwoPathUNet(
        readings_width=66,
        covariates_width=covariates,
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=4,
        num_res_blocks=(1, 1),
        channels=(32, 32),
        attention_levels=(False, True),
        norm_num_groups=8,
        num_head_channels=16,
        with_conditioning=True,
        cross_attention_dim=16,
        use_flash_attention=True,
        **more,
    )


def network_like(small_network, *, mean=False, pyramid=False, film_latent=True, covariates=0):
    """The small network's autoencoder, encoder and grid with a new denoiser, its last layer not at zero."""
    torch.manual_seed(0)
    network = FilmToVolume(
        autoencoder=small_network.autoencoder,
        unet=small_unet(4 * (1 + mean + film_latent), covariates),
        film_encoder=small_network.denoiser.film_encoder,
        schedule=small_network.schedule,
        image_size=16,
        slices=6,
        sampling_steps=2,
        mean_head=small_head(covariates_width=covariates) if mean else None,
        film_pyramid=small_pyramid() if pyramid else None,
        film_latent=film_latent,
    )
    set_zero_layers(network.denoiser.unet)
    return network.eval()


def set_zero_layers(module):
    """Draw what starts at zero and would hide an effect."""
    for parameter in module.parameters():
        if not parameter.abs().max():
            torch.nn.init.normal_(parameter, std=0.1)
