"""Arithmetic on scores: accuracy, average precision, calibration, intervals, views."""
