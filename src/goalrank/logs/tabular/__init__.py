"""Tables of any shape: files found and opened, columns recognised, times and ids read without loss."""
