"""What benchmarks compare with, each run in an environment of its own."""
