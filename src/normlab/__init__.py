"""The laboratory for normalization layers in convolutional networks."""

__version__ = "0.1.0"
