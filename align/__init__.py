"""gptsim-align: preference and safety alignment for video world models."""

__version__ = "0.1.0"
