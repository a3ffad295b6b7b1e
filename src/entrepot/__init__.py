"""Entrepot: an open, self-hosted port for AI data."""

__version__ = "0.1.0"
