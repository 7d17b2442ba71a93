"""Growth over time: what covers the field and how many nuclei there are, frame by frame, and how fast both change."""
