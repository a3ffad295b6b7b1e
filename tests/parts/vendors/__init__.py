"""Strict imitations of the third-party vendors: each refuses what the real service refuses."""
