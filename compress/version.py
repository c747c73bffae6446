"""The version of the product, for whoever may not import the package itself."""

__version__ = "0.1.0"
