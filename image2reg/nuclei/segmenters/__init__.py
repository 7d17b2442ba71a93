"""Segmenters behind one interface, an image and a nucleus diameter to labels: see `interface` and `catalogue`."""
