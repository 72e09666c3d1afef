"""Processes that are killed, and what is found after them.

One *life* is one process that runs the fixed story (`story`) with real parts: the SQLite journal, the SQLite
message store, the image folder, Pillow. It passes numbered points (`points`, `watched`) and dies by SIGKILL
at the one it was told. The painter's server (`server`) outlives it. The next life takes up what is left. When
one has come to the end, `judge` compares what lies on the disk (`evidence`) with what was promised.

`sweep` does that for every point, and in the lives after it for every point again. `planted` holds faults
that it must find. `load` is the long run of `make crash`: real time, real threads, random moments.
"""
