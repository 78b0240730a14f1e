"""One runnable module per claim: `python -m benchmarks.<name> [--quick] [--json FILE]`."""
