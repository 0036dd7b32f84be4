"""How well anomaly maps agree with lesion masks (paper section 4.2.2)."""
