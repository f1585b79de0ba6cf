"""What is told to those who watch: the metrics, one table of them, and what every line of a log says."""
