"""The network from film to volume, and its parts."""

from bundle.networks.autoencoder import LatentDiffusionAutoencoder
from bundle.networks.cae_generator import CAEGenerator
from bundle.networks.conditioning import TwoPathUNet
from bundle.networks.denoiser import Denoiser
from bundle.networks.film_encoder import FilmEncoder
from bundle.networks.film_pyramid import FilmPyramid
from bundle.networks.generator import FilmToVolume
from bundle.networks.mean_head import MeanHead
from bundle.networks.reconstruction import Reconstruction
from bundle.networks.siamese_gap import SiameseGAP

__all__ = [
    "CAEGenerator",
    "Denoiser",
    "FilmEncoder",
    "FilmPyramid",
    "FilmToVolume",
    "LatentDiffusionAutoencoder",
    "MeanHead",
    "Reconstruction",
    "SiameseGAP",
    "TwoPathUNet",
]
