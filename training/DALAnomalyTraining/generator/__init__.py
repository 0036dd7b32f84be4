"""Paired scans of healthy brains, made on the fly on the training device from the subjects of a pack."""
