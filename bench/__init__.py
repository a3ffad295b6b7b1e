"""The benchmark: Entrepot beside its peers, on one machine, over loopback. See README.md."""
