"""Arrays and rows on disk while an import runs, so that a log may be larger than memory."""
