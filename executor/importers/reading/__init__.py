"""The structure of plans: Markdown, labelled fields, ids, and JSON, YAML and CSV with positions."""
