"""What the user takes away: files of volumes, DICOM objects, a report, a table, diagnostics."""
