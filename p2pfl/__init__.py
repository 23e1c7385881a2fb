"""Put a node on every device you have; they find each other and train one model together."""

__version__ = "0.1.0"
