"""The typed Python client of a server."""
