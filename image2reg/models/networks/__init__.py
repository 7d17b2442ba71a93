"""Networks that more than one package builds: (B, C, *spatial) to (B, K, *spatial), `dims` and `divisor` stated."""
