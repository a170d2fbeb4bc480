"""Measures of speed and memory, as ratios against named peers in one run: `python -m benchmarks --quick`."""
