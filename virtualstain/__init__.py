"""Label-free stacks (brightfield, phase) to predicted fluorescence."""
