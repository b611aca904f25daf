"""The ServEase appointment service."""

__version__ = "0.1.0"
