"""The process under which every command of a run lives: a fork server that looks after whole process trees.

It reads one JSON request a line from stdin, forks a keeper for each, and the keeper writes one JSON result line to
stdout. It is single-threaded, so that fork is safe. `processes.py` is its only client and describes requests and
results.

What holds at any moment: a keeper ends only when nothing of its command is left, keepers hold the lock, and a keeper
kills everything as soon as the coordinator (the client's process) or the supervisor is gone. Hence whoever has
the lock knows that no command of an earlier run is alive. If a keeper is killed, its processes become children of
the supervisor (both are subreapers) and are killed by it. Killing both at once with SIGKILL defeats this.

A run waits for the start, so the modules here import each other, `executor.process.redact` and as little of the
standard library as possible: typing would cost a fifth of the start, pathlib more than all other imports together.
All of that is imported before the first request: without the redactor no command may run whose output has secrets.
"""
