"""Tests of the flows, the run record and the report."""
