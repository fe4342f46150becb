"""The network from film to volume, and its parts."""

from bundle.networks.autoencoder import LatentDiffusionAutoencoder
from bundle.networks.conditioning import TwoPathUNet
from bundle.networks.film_encoder import FilmEncoder
from bundle.networks.generator import Denoiser, FilmToVolume
from bundle.networks.reconstruction import Reconstruction

__all__ = ["Denoiser", "FilmEncoder", "FilmToVolume", "LatentDiffusionAutoencoder", "Reconstruction", "TwoPathUNet"]
