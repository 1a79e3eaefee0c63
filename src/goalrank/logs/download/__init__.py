"""Downloads of public data sets, and data folders."""
