"""What every output says of itself."""

MARK = "SYNTHETIC, NOT FOR DIAGNOSIS"
MODEL = "knee_xray_to_mri_latent_diffusion"
"""Name of the bundle in the files that it writes."""
