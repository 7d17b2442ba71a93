"""Expression signatures to nucleus images."""
