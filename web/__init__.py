"""What every request passes: checks, the reader of bodies, the writer of answers and errors."""
