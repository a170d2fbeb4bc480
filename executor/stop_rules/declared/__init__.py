"""Dependencies, licences and tools that manifests declare."""
