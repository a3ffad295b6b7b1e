"""The published API families: translators to the control plane, which decide nothing."""
