"""Models and data: what a node trains."""
