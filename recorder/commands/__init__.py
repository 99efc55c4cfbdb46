"""The recorder's commands, one module each; found by recorder.cli."""
