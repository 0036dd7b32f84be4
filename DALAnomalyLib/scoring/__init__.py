"""From an image and its pseudo-healthy image to the anomaly map (paper section 3.5.2)."""
