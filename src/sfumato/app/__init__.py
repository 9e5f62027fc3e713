"""Floor 9: the command line, its Python mirror, and the catalog that names every part."""
