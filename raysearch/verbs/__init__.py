"""What `raysearch VERB` does, one function a verb: its arguments are the command line, its docstring the help."""
