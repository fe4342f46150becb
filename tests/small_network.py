"""Networks of the compact one's shape, a hundredth of its size, and their parts: on a 16 x 16 x 6 grid."""

import torch
from monai.networks.nets import AutoencoderKL

from bundle.networks import FilmEncoder, FilmPyramid, FilmToVolume, MeanHead, TwoPathUNet
from bundle.sampling import FlowSchedule


def small_autoencoder():
    return AutoencoderKL(
        2,
        1,
        1,
        num_res_blocks=(1, 1, 1),
        channels=(8, 8, 8),
        attention_levels=(False, False, False),
        latent_channels=4,
        norm_num_groups=4,
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )


def small_encoder():
    return FilmEncoder(image_size=16, patch_size=8, width=16, layers=1, heads=2, output_dim=16, context_dim=16)


def small_generator(*, in_channels=8, depth_mixing=None, **options):
    """Film to volume without a mean head; some of its layers are at zero."""
    return FilmToVolume(
        autoencoder=small_autoencoder(),
        unet=small_unet(in_channels, depth_mixing=depth_mixing),
        film_encoder=small_encoder(),
        schedule=FlowSchedule(),
        image_size=16,
        slices=6,
        sampling_steps=2,
        **options,
    )


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
