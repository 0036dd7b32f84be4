"""Draws what Slicer's views show of the real scene, beside the module's panel; see `make_screenshots.py`."""
