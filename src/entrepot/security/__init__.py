"""The doors: who may come in, what they may do, how secrets are kept, and where connections may go."""
