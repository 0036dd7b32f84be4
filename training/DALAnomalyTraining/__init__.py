"""Training of the DAL network: from label maps and healthy scans to a model file.

Reading packs, generating pairs and training need torch, numpy and lightning alone; only `prepare` reads images.
"""
