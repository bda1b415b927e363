"""Batch programs over data sets: scan, prepare, pack."""
