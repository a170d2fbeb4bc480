"""Forges with pull requests over HTTP: GitHub, GitLab, Forgejo."""
