"""The subcommands of ``image2reg``, a module per room; each is thin over the Python function it names."""
