"""Answers as one HTML file: no network, readable on a phone and in print, complete with scripting off.

`page` composes parts (a title, a figure, a table, and what made them); `parts` makes them of results and answers.
"""
