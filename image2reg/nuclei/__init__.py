"""Nuclei: finding them in a stain (`segment`) and matching what was found with the truth (`match`)."""
