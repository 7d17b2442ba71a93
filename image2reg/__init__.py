"""Nuclei, chromatin embedding, gene linking, mechanism retrieval and screens: the core that both feeds share."""
