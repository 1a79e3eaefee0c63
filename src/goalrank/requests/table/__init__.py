"""The requests table: columns, validation, Parquet files and partitions."""
