"""The pages: a process of their own that reads all it shows from the server's API.

`run.py` is the process, `shell.py` what is around every page, and one module each a page
(`traffic.py`) or a piece that pages are made of (`chart.py`, `table.py`, `figure.py`, `switch.py`,
`notes.py`). `web/` is what runs in the browser.
"""
