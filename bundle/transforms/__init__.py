"""MONAI transforms for films, volumes and readings."""
