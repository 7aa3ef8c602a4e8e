"""The proof that ships: the hostile guests and the deaths of every process of ours, tried on this machine.

`rows` is the table of what is tried, by promise; `run` tries it on each engine that is here, and `table` prints it. The
trials stand in a module for each promise: `bounded` (P1), `orphans` with its `victim` (P2), `outcomes` (P3, P4),
`inside` (P6) and `contract` (P7). `bench` is where it happens: a private directory, with nothing left behind.
"""
