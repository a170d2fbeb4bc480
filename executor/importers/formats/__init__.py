"""One module for each family of formats; each importer is registered as an entry point."""
