"""The `dal-anomaly` command line: a thin layer of files, progress and exit codes over `DALAnomalyLib`."""
