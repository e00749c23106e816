"""Lists: pages by cursor position, never by offset; filters; search."""
