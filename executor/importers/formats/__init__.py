"""One module per family of formats; each importer is registered as an entry point."""
