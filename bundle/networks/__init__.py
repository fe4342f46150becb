"""The network from film to volume, and its parts."""
