"""The same ports in memory and virtual time."""
