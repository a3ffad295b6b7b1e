"""What the command line asks of a server: one file for each noun. Nothing here is loaded when no server is meant."""
