"""The structure of plans: Markdown, fields in words, ids, JSON, YAML and CSV with places."""
