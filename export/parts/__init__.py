"""What families share: layers, attention, positions, text encoders, autoencoders."""
