"""The native API: one file for each noun; HTTP on one side, the control plane on the other."""
