"""A detection run from a request to a folder of results, shared by the command line and 3D Slicer.

`python -m DALAnomalyLib.job REQUEST.json` runs one in a process of its own. No file imports torch before it is needed.
"""
