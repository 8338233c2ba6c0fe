"""What every room stands on: time, errors, paths, threads, progress, and small pages."""
