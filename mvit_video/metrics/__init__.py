"""Arithmetic on scores, segments and boxes: accuracy, average precision, calibration, intervals, views."""
