"""Procedural renderer of the sample pictures; see ../draw.py."""
