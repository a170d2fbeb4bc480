"""The parent process of every command of a run: a fork server that supervises whole process trees.

It reads one JSON request per line from stdin and forks a keeper for each; the keeper writes one JSON result line to
stdout. It is single-threaded, so fork is safe. `processes.py` defines requests and results for its only client.

Invariants: a keeper ends only when no process of its command is left, keepers hold the lock, and a keeper kills
everything as soon as the coordinator (the client's process) or the supervisor has ended. Hence the holder of the lock
knows that no command of an earlier run is alive. If a keeper is killed, its processes become children of the
supervisor (both are subreapers), which kills them. A simultaneous SIGKILL of both defeats this.

A run waits for the start, so these modules import only each other, `executor.process.redact` and as little of the
standard library as possible: typing would cost a fifth of the start, pathlib more than all other imports together. All
imports happen before the first request: no command with secrets may run without the redactor.
"""
