"""What the scenarios in bench.d/ are made of: servers to start, load to put on them, figures to take."""
