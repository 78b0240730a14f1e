"""Expectation suites of the data, as data."""
