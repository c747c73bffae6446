"""The plots of a report, one a file; each returns None where its data are missing."""
