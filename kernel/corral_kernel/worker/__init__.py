"""The worker process: one loaded model, behind a socket.

Its threads: the reader always reads the channel; text threads render, tokenize and compile, under
deadlines; the main thread owns the engine, runs the loop and writes every frame.
"""
