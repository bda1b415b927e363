"""Robustness: one model tested in several settings, over the videos that all of them could score."""
