"""The parts of every request: checks, the reader of bodies, the writer of answers and errors."""
