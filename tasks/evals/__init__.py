"""The benchmarks that ship with the project, as lm-eval task definitions: one folder each."""
