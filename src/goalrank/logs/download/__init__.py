"""Downloads of public data sets, and the folders where data lie."""
