"""From a scan on its own grid to the standardised image on the model grid, and back."""
