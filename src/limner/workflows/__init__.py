"""When it happens: the drivers of the machines, and the ports they speak through."""
