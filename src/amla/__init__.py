"""AMLA: neural architecture construction, and fair comparison of architecture-search algorithms."""
