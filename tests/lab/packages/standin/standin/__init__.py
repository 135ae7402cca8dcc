"""Groundwork lab stand-in, not Kubernetes: programs that behave as recordings of the real ones do."""
