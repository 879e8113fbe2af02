"""Long work that needs native code, and therefore a process of its own.

A task on loaded models runs in worker processes like any other, which the scheduler starts for the
task alone (`private.PrivateModel`): so the memory budget, eviction, load timeouts, the watchdog,
the end with the server and the end of a client hold for it without a second kind of process.
Of a comparison, `compare`, `comparing`, `answers` and `shelf` are the server's side, `scoring` and
`distributions` the worker's.

A task on files, which is a converter's or a quantizer's, has a process of another kind: it works
once, in its main thread, and ends. `process` is the server's side, `working` the other, and
`messages` are what they say to each other.

Of either kind so many work at once; the others wait for their `turns`.
"""
