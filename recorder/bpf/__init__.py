"""What every source of eBPF programs needs: compile, load, attach, read. It knows nothing of what they record.

compiler.py     builds C text in a child process, with stub headers (headers.py), struct offsets of the running kernel
                (btf.py) and the distribution's bcc (bcc_loader.py); the descriptors come over
syscalls.py     attaching, iterating, emptying maps: bpf(2)
ring.py         a ring buffer of records, read in bulk as arrays
clock.py        the kernel's clock against the wall's
namespaces.py   running something in every network namespace
"""
