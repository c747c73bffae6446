"""Where models are measured: one device a file."""
