"""The latent space: vectors, nearest neighbours and a map."""
