"""The control plane: what a person or program may ask of a server, one file a noun."""
