"""Number formats: one a file."""
