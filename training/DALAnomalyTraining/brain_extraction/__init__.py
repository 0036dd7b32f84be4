"""Training of the brain extraction network on synthetic and real heads."""
