"""What is handed out of a back-test: HTML to read and print, CSV and parquet to compute with, JSON with all of it."""
