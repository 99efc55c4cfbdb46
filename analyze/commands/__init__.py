"""The analysis commands, one module each; imported when they are invoked."""
