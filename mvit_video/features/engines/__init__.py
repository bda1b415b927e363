"""Engines of extraction: processes of this machine, or a Ray cluster."""
