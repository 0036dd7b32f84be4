"""The part of DALAnomaly that knows 3D Slicer: nodes, display, worker process, panel."""
