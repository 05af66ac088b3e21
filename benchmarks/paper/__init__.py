"""The page that holds the paper's tables and figures against measurements; run with ``python -m benchmarks.paper``."""
