"""Formats of other programs and beamlines, one a file."""
