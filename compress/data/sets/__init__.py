"""The data sets that go by a name, one family a file."""
